//! Drafts drawn and one of them picked, as often as the page asks.

use anyhow::{Context, ensure};
use axum::Json;
use axum::extract::Query;
use draftpick::{Coin, Problem, Rule, Selection, Token};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use super::Refused;
use super::problem::Given;
use crate::regions::{Region, regions};

/// The most draws of one request.
const MAX_DRAWS: usize = 100_000;

#[derive(Deserialize)]
pub struct Wanted {
    // Not flattened: in a query that turns numbers into text.
    p: String,
    q: String,
    k: usize,
    rule: String,
    draws: usize,
    seed: u64,
}

#[derive(Serialize)]
pub struct Answer {
    /// How often each token was put out.
    counts: Vec<u32>,
    /// How often a draft was accepted.
    accepted: u32,
    last: Last,
}

/// The last draw, step by step.
#[derive(Serialize)]
struct Last {
    drafts: Vec<Token>,
    /// The drafts' labels, where the rule goes by them.
    labels: Option<Vec<f64>>,
    /// The draft that was accepted.
    draft: Option<usize>,
    output: Token,
}

pub async fn answer(Query(wanted): Query<Wanted>) -> Result<Json<Answer>, Refused> {
    let Wanted { p, q, k, rule, draws, seed } = wanted;
    let problem = Given { p, q, k }.problem()?;
    let rule: Rule = rule.parse()?;
    Ok(Json(answer_to(&problem, rule, draws, seed)?))
}

fn answer_to(problem: &Problem, rule: Rule, draws: usize, seed: u64) -> anyhow::Result<Answer> {
    ensure!((1..=MAX_DRAWS).contains(&draws), "{draws} draws; the page takes 1 to {MAX_DRAWS}");
    ensure!(rule.takes(problem.k()), "{rule} does not take {} drafts", problem.k());
    let selector = rule.prepare(problem);
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut counts, mut accepted, mut last) = (vec![0; problem.draft().vocab()], 0, None);
    let regions = (rule == Rule::Optimal).then(|| regions(problem));
    for _ in 0..draws {
        let drafts = crate::measure::draw(problem, &*selector, &mut rng)?;
        let coins: Vec<Coin> = (0..drafts.len() + 2).map(|_| rng.random()).collect();
        let selection = selector.select(&drafts, &coins)?;
        let output = selection.token(&drafts);
        counts[output as usize] += 1;
        let draft = match selection {
            Selection::Draft(place) => Some(place),
            _ => None,
        };
        accepted += u32::from(draft.is_some());
        let labels = regions.as_ref().map(|regions| labels(regions, &drafts, &coins));
        last = Some(Last { drafts, labels, draft, output });
    }
    Ok(Answer { counts, accepted, last: last.context("nothing was drawn")? })
}

/// The label of each draft: the point at its coin's share of its token's region, the gaps closed.
fn labels(regions: &[Region], drafts: &[Token], coins: &[Coin]) -> Vec<f64> {
    let label = |(&token, coin): (&Token, &Coin)| {
        let region = &regions[token as usize];
        let segments = &regions[region.shares_with.unwrap_or(token) as usize].segments;
        let mut at = coin.get() * segments.iter().map(|(lo, hi)| hi - lo).sum::<f64>();
        for (lo, hi) in segments {
            if at < hi - lo {
                return lo + at;
            }
            at -= hi - lo;
        }
        segments.last().map_or(0.0, |(_, hi)| *hi)
    };
    drafts.iter().zip(coins).map(label).collect()
}
