//! How many drafted tokens each verifier keeps of the paths of a chain, on average over everything that can be drafted.

use axum::Json;
use axum::extract::Query;
use draftpick::lp::path_optimum;
use draftpick::path::{Chain, Verifier};
use serde::Serialize;

use super::Given;
use crate::lab::Refused;

/// The most multisets of paths for which the linear program is solved: more would take longer than one waits for a page.
const MAX_MULTISETS: usize = 120;

#[derive(Serialize)]
pub struct Answer {
    verifiers: Vec<Length>,
    /// The most that any lossless verifier keeps; `None` where that program is too large for a page.
    optimum: Option<f64>,
    length: usize,
}

#[derive(Serialize)]
struct Length {
    name: String,
    expected: f64,
}

pub async fn answer(Query(given): Query<Given>) -> Result<Json<Answer>, Refused> {
    let chain = given.chain()?;
    let lengths = Verifier::all(given.paths).into_iter().map(|verifier| {
        Ok(Length { name: verifier.name(), expected: verifier.expected_accepted(&chain, given.paths)? })
    });
    Ok(Json(Answer {
        verifiers: lengths.collect::<anyhow::Result<_>>()?,
        optimum: is_small(&chain, given.paths).then(|| path_optimum(&chain, given.paths)).transpose()?,
        length: chain.length(),
    }))
}

fn is_small(chain: &Chain, drafts: usize) -> bool {
    let paths = chain.vocab().pow(chain.length() as u32);
    // Multisets of K of n paths: (n + K − 1 choose K).
    let multisets = (0..drafts).fold(1, |choices, i| choices * (paths + i) / (i + 1));
    multisets <= MAX_MULTISETS
}
