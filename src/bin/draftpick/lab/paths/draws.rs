//! Rounds of a chain drawn as often as the page asks, each text continued by the target to one token more than the paths.

use anyhow::ensure;
use axum::Json;
use axum::extract::Query;
use draftpick::Token;
use draftpick::path::{Chain, PathVerifier, RoundCoins, Row, Verifier};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use super::{Given, sources};
use crate::lab::Refused;

/// The most rounds of one request.
const MAX_DRAWS: u64 = 10_000;

#[derive(Deserialize)]
pub struct Wanted {
    p: String,
    q: String,
    paths: usize,
    length: usize,
    verifier: String,
    draws: u64,
    seed: u64,
}

#[derive(Serialize)]
pub struct Answer {
    /// How often each text of `length + 1` tokens came out, in lexicographic order.
    counts: Vec<u32>,
    /// What the target wants of each.
    target: Vec<f64>,
    /// How often 0, 1, … drafted tokens were kept.
    kept: Vec<u32>,
}

pub async fn answer(Query(wanted): Query<Wanted>) -> Result<Json<Answer>, Refused> {
    let Wanted { p, q, paths, length, verifier, draws, seed } = wanted;
    let chain = Given { p, q, paths, length }.chain()?;
    let verifier: Verifier = verifier.parse()?;
    Ok(Json(draw(&chain, paths, verifier, draws, seed)?))
}

fn draw(chain: &Chain, paths: usize, verifier: Verifier, draws: u64, seed: u64) -> anyhow::Result<Answer> {
    ensure!((1..=MAX_DRAWS).contains(&draws), "{draws} draws; the page takes 1 to {MAX_DRAWS}");
    let texts = chain.sequences(chain.length() + 1);
    let mut counts = vec![0; texts.len()];
    let mut kept = vec![0; chain.length() + 1];
    // What follows a round is no part of it and has coins of its own.
    let mut rng = StdRng::seed_from_u64(seed);
    for start in 0..draws {
        // The first of them is the round that the page explains.
        let coins = RoundCoins { seed, start };
        let round = sources::draft(chain, paths, &coins)?;
        let outcome = verifier.verify(&round, &coins)?;
        kept[outcome.accepted(&round)] += 1;
        let mut text = outcome.tokens(&round);
        while text.len() <= chain.length() {
            text.push(chain.target(&text).draw(rng.random()));
        }
        counts[place(&text, chain.vocab())] += 1;
    }
    let target = texts.iter().map(|text| chain.target_probability(text)).collect();
    Ok(Answer { counts, target, kept })
}

/// Of a text among all of its length, in lexicographic order.
fn place(text: &[Token], vocab: usize) -> usize {
    text.iter().fold(0, |place, &token| place * vocab + token as usize)
}
