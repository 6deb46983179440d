//! Laws to start from: rows of the recorded scores, and what the embedded pair says after a text.

use anyhow::ensure;
use axum::Json;
use axum::extract::Query;
use draftpick::Pmf;
use draftpick::trace::Trace;
use serde::{Deserialize, Serialize};

use super::{MAX_TOKENS, Refused};

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
    Ok(Json(Laws { rows, ..likeliest(&p, &q, top, |token| format!("#{token}"))? }))
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
    #[cfg_attr(not(feature = "candle"), allow(dead_code))]
    text: String,
    #[cfg_attr(not(feature = "candle"), allow(dead_code))]
    top: Option<usize>,
}

#[cfg(not(feature = "candle"))]
pub async fn text(Query(_): Query<Text>) -> Result<Json<Laws>, Refused> {
    Err(anyhow::anyhow!("the pair of models is not part of this program: build it with --features lab,candle").into())
}

#[cfg(feature = "candle")]
pub async fn text(Query(Text { text, top }): Query<Text>) -> Result<Json<Laws>, Refused> {
    use draftpick::Sampling;
    use draftpick::decode::candle::{Llama, Pair, embedded, parse_device};
    use draftpick::decode::{Extension, Model};

    let Pair { mut draft, mut target, tokenizer } = embedded(&parse_device("cpu")?, None)?;
    let tokens = tokenizer.encode(&text)?;
    ensure_tokens(&tokens)?;
    let last = tokens.len() - 1;
    let extensions: Vec<Extension> = tokens
        .iter()
        .enumerate()
        .map(|(node, &token)| Extension { sequence: 0, parent: node, token, scored: node == last })
        .collect();
    let law = |model: &mut Llama| -> anyhow::Result<Pmf> {
        Ok(Pmf::from_logits(&model.extend(&extensions)?[0], &Sampling::default())?)
    };
    let (p, q) = (law(&mut draft)?, law(&mut target)?);
    Ok(Json(likeliest(&p, &q, top, |token| tokenizer.decode(&[token]).unwrap_or_else(|_| format!("#{token}")))?))
}

#[cfg(feature = "candle")]
fn ensure_tokens(tokens: &[u32]) -> anyhow::Result<()> {
    ensure!(!tokens.is_empty(), "the text is empty");
    ensure!(tokens.len() <= 512, "the text has {} tokens; the page takes up to 512", tokens.len());
    Ok(())
}
