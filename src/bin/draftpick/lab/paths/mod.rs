//! Whole paths: a small chain of laws or recorded drafts, verified step by step.

mod draws;
mod lengths;
mod round;
mod sources;

use anyhow::{Context, ensure};
use axum::Router;
use axum::routing::get;
use draftpick::path::Chain;
use draftpick::{Pmf, Token};
use serde::Deserialize;

use crate::solve::law;

/// The largest vocabulary of a chain: a tree whose nodes can still be told apart.
const MAX_TOKENS: usize = 4;
/// The longest path of a chain, and of drafts after a text.
const MAX_LENGTH: usize = 3;
const MAX_TEXT_LENGTH: usize = 5;
/// The most paths.
const MAX_PATHS: usize = 4;

pub fn routes() -> Router {
    Router::new()
        .route("/api/paths/round", get(sources::chain))
        .route("/api/paths/recorded", get(sources::recorded))
        .route("/api/paths/text", get(sources::text))
        .route("/api/paths/lengths", get(lengths::answer))
        .route("/api/paths/draws", get(draws::answer))
}

/// A chain as the page has it: the laws at the start and after each token, and what is drafted.
#[derive(Deserialize)]
struct Given {
    /// Laws separated by semicolons, their weights by commas.
    p: String,
    q: String,
    paths: usize,
    length: usize,
}

impl Given {
    fn chain(&self) -> anyhow::Result<Chain> {
        check_paths(self.paths)?;
        check_length(self.length, MAX_LENGTH)?;
        let (draft, target) = (rows("p", &self.p)?, rows("q", &self.q)?);
        let vocab = draft[0].vocab();
        ensure!((2..=MAX_TOKENS).contains(&vocab), "{vocab} tokens; the page takes chains of 2 to {MAX_TOKENS}");
        for (name, rows) in [("p", &draft), ("q", &target)] {
            let wanted = vocab + 1;
            ensure!(
                rows.len() == wanted,
                "{name} has {} laws; {vocab} tokens take {wanted}: one at the start, one after each token",
                rows.len()
            );
            if let Some(row) = rows.iter().position(|law| law.vocab() != vocab) {
                anyhow::bail!("law {row} of {name} is over {} tokens, the first of p over {vocab}", rows[row].vocab());
            }
        }
        let row = |prefix: &[Token]| prefix.last().map_or(0, |&token| token as usize + 1);
        Chain::new(self.length, |prefix| (draft[row(prefix)].clone(), target[row(prefix)].clone())).context("the chain")
    }
}

fn rows(name: &'static str, list: &str) -> anyhow::Result<Vec<Pmf>> {
    let rows = list.split(';').enumerate();
    rows.map(|(row, list)| law(name, list, true).with_context(|| format!("law {row}"))).collect()
}

fn check_paths(paths: usize) -> anyhow::Result<()> {
    ensure!((1..=MAX_PATHS).contains(&paths), "{paths} paths; the page takes 1 to {MAX_PATHS}");
    Ok(())
}

fn check_length(length: usize, most: usize) -> anyhow::Result<()> {
    ensure!((1..=most).contains(&length), "paths of {length} tokens; the page takes 1 to {most}");
    Ok(())
}
