//! One problem, with everything that the page shows of it.

use anyhow::{Context, ensure};
use axum::Json;
use axum::extract::Query;
use draftpick::{Pmf, Problem, Rule, bound};
use serde::{Deserialize, Serialize};

use super::{MAX_DRAFTS, MAX_TOKENS, Refused};
use crate::regions::{Region, regions};
use crate::solve::law;

/// The two laws as the page has them, and the number of drafts.
#[derive(Deserialize)]
pub struct Given {
    pub p: String,
    pub q: String,
    pub k: usize,
}

impl Given {
    /// The problem: the numbers are weights, so that a bar can be dragged without the others jumping first.
    pub fn problem(&self) -> anyhow::Result<Problem> {
        ensure!((1..=MAX_DRAFTS).contains(&self.k), "k is {}; the page takes 1 to {MAX_DRAFTS} drafts", self.k);
        let (draft, target) = (law("p", &self.p, true)?, law("q", &self.q, true)?);
        ensure!(draft.vocab() <= MAX_TOKENS, "{} tokens; the page takes up to {MAX_TOKENS}", draft.vocab());
        Problem::new(draft, target, self.k).context("the two laws")
    }
}

#[derive(Serialize)]
pub struct Answer {
    p: Vec<f64>,
    q: Vec<f64>,
    k: usize,
    optimum: f64,
    /// The set that proves it: its tuples can only be served by its own tokens.
    cut: Vec<u32>,
    /// The sets that can be the tightest: one token more at a time, by `p/q` descending.
    cuts: Vec<Set>,
    regions: Vec<Region>,
    /// What is put out where the selected draft is rejected; all 0 if that cannot be.
    residual: Vec<f64>,
    /// `joint[x][y]`: the draft x is selected and y is put out.
    joint: Vec<Vec<f64>>,
    ks: Vec<usize>,
    growth: Vec<f64>,
    guarantee: Vec<f64>,
    rules: Vec<Curve>,
    polytope: Option<Polytope>,
}

/// What a rule attains, for each of `ks`.
#[derive(Serialize)]
struct Curve {
    name: &'static str,
    values: Vec<f64>,
}

/// A set `H`: the tokens of the sets before it and `token`.
#[derive(Serialize)]
struct Set {
    token: u32,
    p: f64,
    q: f64,
    /// `1 + q(H) − p(H)^k`: no rule accepts more.
    value: f64,
}

/// Two tokens: what can be accepted of each. Together it is at most 1, of one at most its `q`.
#[derive(Serialize)]
struct Polytope {
    /// What the layout accepts of each.
    accepted: [f64; 2],
    /// A token can be put out from the drafts at most if any of them is it.
    most: [f64; 2],
}

pub async fn answer(Query(given): Query<Given>) -> Result<Json<Answer>, Refused> {
    Ok(Json(answer_to(&given.problem()?)?))
}

fn answer_to(problem: &Problem) -> anyhow::Result<Answer> {
    let (p, q, k) = (problem.draft(), problem.target(), problem.k());
    let cut = bound::min_cut(problem);
    let regions = regions(problem);
    let missing: Vec<f64> = regions.iter().map(|region| (region.target - region.selected).max(0.0)).collect();
    let total: f64 = missing.iter().sum();
    // Below this it is the rounding of the layout, not something that can be drawn.
    let residual: Vec<f64> = missing.iter().map(|mass| if total > 1e-12 { mass / total } else { 0.0 }).collect();
    let joint = regions.iter().enumerate().map(|(x, region)| {
        let kept = region.selected.min(region.target);
        let given_up = region.selected - kept;
        (0..regions.len()).map(|y| given_up * residual[y] + if x == y { kept } else { 0.0 }).collect()
    });
    let joint = joint.collect();
    let ks: Vec<usize> = (1..=MAX_DRAFTS).collect();
    let rules = [Rule::Recursive, Rule::KSeq, Rule::Optimal].map(|rule| curve(rule, p, q, &ks));
    let polytope = (p.vocab() == 2).then(|| {
        let accepted = |token: usize| regions[token].selected.min(regions[token].target);
        let any = |token: usize| 1.0 - (1.0 - p.as_slice()[token]).powi(k as i32);
        Polytope { accepted: [accepted(0), accepted(1)], most: [any(0), any(1)] }
    });
    Ok(Answer {
        p: p.as_slice().to_vec(),
        q: q.as_slice().to_vec(),
        k,
        optimum: cut.acceptance,
        cut: cut.tokens,
        cuts: sets(problem),
        regions,
        residual,
        joint,
        growth: bound::growth(p, q, &ks)?,
        guarantee: ks.iter().map(|&k| bound::guarantee(k)).collect::<Result<_, _>>()?,
        rules: rules.into_iter().collect::<anyhow::Result<_>>()?,
        ks,
        polytope,
    })
}

fn curve(rule: Rule, p: &Pmf, q: &Pmf, ks: &[usize]) -> anyhow::Result<Curve> {
    let value = |&k: &usize| Ok(rule.prepare(&Problem::new(p.clone(), q.clone(), k)?).acceptance().value);
    Ok(Curve { name: rule.name(), values: ks.iter().map(value).collect::<anyhow::Result<_>>()? })
}

/// All sets by the order in which `H` grows: a minimising set is one of them (`draftpick::bound`).
fn sets(problem: &Problem) -> Vec<Set> {
    let (p, q) = (problem.draft().as_slice(), problem.target().as_slice());
    let mut tokens: Vec<usize> = (0..p.len()).collect();
    tokens.sort_by(|&a, &b| (p[b] * q[a]).total_cmp(&(p[a] * q[b])));
    let mut set = (0.0, 0.0);
    let grown = tokens.into_iter().map(|token| {
        set = (set.0 + p[token], set.1 + q[token]);
        Set { token: token as u32, p: set.0, q: set.1, value: 1.0 + set.1 - set.0.powi(problem.k() as i32) }
    });
    grown.collect()
}

/// Every rule with `k` drafts.
#[derive(Serialize)]
pub struct Rules {
    k: usize,
    optimum: f64,
    rules: Vec<Attained>,
}

#[derive(Serialize)]
struct Attained {
    name: &'static str,
    description: &'static str,
    /// `None`: the rule does not take so many drafts.
    acceptance: Option<f64>,
    /// The standard error of an estimate; 0 if the acceptance is exact.
    error: f64,
}

pub async fn rules(Query(given): Query<Given>) -> Result<Json<Rules>, Refused> {
    let problem = given.problem()?;
    let attained = |rule: Rule| {
        let acceptance = rule.takes(given.k).then(|| rule.prepare(&problem).acceptance());
        Attained {
            name: rule.name(),
            description: rule.description(),
            acceptance: acceptance.map(|acceptance| acceptance.value),
            error: acceptance.map_or(0.0, |acceptance| acceptance.standard_error),
        }
    };
    let rules = Rule::ALL.into_iter().map(attained).collect();
    Ok(Json(Rules { k: given.k, optimum: bound::alpha_star(&problem), rules }))
}
