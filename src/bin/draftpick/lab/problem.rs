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

/// Two tokens: all selection laws there are, by the probability `m` of the first token.
#[derive(Serialize)]
struct Polytope {
    /// The first token is selected at least if all drafts are it, at most if any is.
    least: f64,
    most: f64,
    /// The one of the layout.
    selected: f64,
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
        let share = p.as_slice()[0];
        let power = |x: f64| x.powi(k as i32);
        Polytope { least: power(share), most: 1.0 - power(1.0 - share), selected: regions[0].selected }
    });
    Ok(Answer {
        p: p.as_slice().to_vec(),
        q: q.as_slice().to_vec(),
        k,
        optimum: cut.acceptance,
        cut: cut.tokens,
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
