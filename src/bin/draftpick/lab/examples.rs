//! Laws to start from: rows of the recorded scores, and what the embedded pair says after a text.

use anyhow::ensure;
use axum::Json;
use axum::extract::Query;
use draftpick::Pmf;
use draftpick::trace::Trace;
use serde::{Deserialize, Serialize};

use super::{MAX_TOKENS, Refused, pair};

/// The tokens that are shown one by one if the page does not say.
const DEFAULT_TOP: usize = 7;

/// The likeliest tokens, and the rest as one.
#[derive(Serialize)]
pub struct Laws {
    names: Vec<String>,
    p: Vec<f64>,
    q: Vec<f64>,
    /// The number of rows to choose from; 0 for a text.
    rows: usize,
}

#[derive(Deserialize)]
pub struct Row {
    row: usize,
    top: Option<usize>,
}

pub async fn trace(Query(Row { row, top }): Query<Row>) -> Result<Json<Laws>, Refused> {
    let trace = Trace::embedded();
    let rows = trace.rows();
    if row >= rows {
        return Err(anyhow::anyhow!("row {row}; there are {rows}").into());
    }
    let (p, q) = (trace.draft(row)?, trace.target(row)?);
    Ok(Json(Laws { rows, ..likeliest(&p, &q, top, pair::name)? }))
}

/// The tokens most likely under either law, at most `top`, and all others as one token: what a rule does on the
/// shortened problem is not what it does on the whole, and the page says so.
fn likeliest(p: &Pmf, q: &Pmf, top: Option<usize>, name: impl Fn(u32) -> String) -> anyhow::Result<Laws> {
    let top = top.unwrap_or(DEFAULT_TOP);
    ensure!((1..MAX_TOKENS).contains(&top), "top is {top}; it must be 1 to {}", MAX_TOKENS - 1);
    let (p, q) = (p.as_slice(), q.as_slice());
    let mut tokens: Vec<u32> = (0..p.len() as u32).collect();
    let weight = |token: u32| p[token as usize].max(q[token as usize]);
    tokens.sort_by(|&a, &b| weight(b).total_cmp(&weight(a)));
    let shown = &tokens[..top.min(tokens.len())];
    let rest = &tokens[shown.len()..];
    let gather = |law: &[f64]| {
        let mut masses: Vec<f64> = shown.iter().map(|&token| law[token as usize]).collect();
        masses.extend((!rest.is_empty()).then(|| rest.iter().map(|&token| law[token as usize]).sum::<f64>()));
        masses
    };
    let mut names: Vec<String> = shown.iter().map(|&token| name(token)).collect();
    names.extend((!rest.is_empty()).then(|| format!("{} others", rest.len())));
    Ok(Laws { names, p: gather(p), q: gather(q), rows: 0 })
}

#[derive(Deserialize)]
pub struct Text {
    text: String,
    /// After how many tokens of the text; all of them if it does not say.
    position: Option<usize>,
    top: Option<usize>,
}

/// What follows a text, or the first of its tokens.
#[derive(Serialize)]
pub struct AfterText {
    /// The tokens of the text.
    tokens: Vec<String>,
    position: usize,
    #[serde(flatten)]
    laws: Laws,
}

pub async fn text(Query(Text { text, position, top }): Query<Text>) -> Result<Json<AfterText>, Refused> {
    Ok(Json(after(&text, position, top)?))
}

#[cfg(not(feature = "candle"))]
fn after(_: &str, _: Option<usize>, _: Option<usize>) -> anyhow::Result<AfterText> {
    anyhow::bail!(super::NO_PAIR)
}

#[cfg(feature = "candle")]
fn after(text: &str, position: Option<usize>, top: Option<usize>) -> anyhow::Result<AfterText> {
    use draftpick::Sampling;
    use draftpick::decode::candle::Llama;
    use draftpick::decode::{Extension, Model};

    let (tokens, position, p, q) = pair::with(|pair| {
        let tokens = pair::encode(pair, text)?;
        let position = position.unwrap_or(tokens.len());
        ensure!(
            (1..=tokens.len()).contains(&position),
            "position is {position}; the text has {} tokens, and a law follows each of them",
            tokens.len()
        );
        let extensions: Vec<Extension> = (0..position)
            .map(|node| Extension { sequence: 0, parent: node, token: tokens[node], scored: node + 1 == position })
            .collect();
        let law = |model: &mut Llama| -> anyhow::Result<Pmf> {
            Ok(Pmf::from_logits(&model.extend(&extensions)?[0], &Sampling::default())?)
        };
        let (p, q) = (law(&mut pair.draft)?, law(&mut pair.target)?);
        Ok((tokens, position, p, q))
    })?;
    Ok(AfterText {
        tokens: tokens.into_iter().map(pair::name).collect(),
        position,
        laws: likeliest(&p, &q, top, pair::name)?,
    })
}
