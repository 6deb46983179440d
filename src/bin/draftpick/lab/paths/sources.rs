//! Where the drafts come from: a chain that the page has, a recorded round, a text that the pair of models goes on with.

use std::sync::OnceLock;

use anyhow::ensure;
use axum::Json;
use axum::extract::Query;
use draftpick::path::{Chain, DraftTree, PathError, Round, RoundCoins};
use draftpick::trace::PathTrace;
use draftpick::{Pmf, Token};
use serde::Deserialize;

use super::round::{Answer, explain};
use super::{Given, check_paths};
use crate::lab::{Refused, pair};

#[derive(Deserialize)]
pub struct OfChain {
    // Not flattened: in a query that turns numbers into text.
    p: String,
    q: String,
    paths: usize,
    length: usize,
    seed: u64,
}

pub async fn chain(Query(asked): Query<OfChain>) -> Result<Json<Answer>, Refused> {
    let OfChain { p, q, paths, length, seed } = asked;
    let chain = Given { p, q, paths, length }.chain()?;
    let coins = RoundCoins { seed, start: 0 };
    let round = draft(&chain, paths, &coins)?;
    Ok(Json(explain(&round, &coins, letter, 0)?))
}

/// The tokens of a chain have letters.
fn letter(token: Token) -> String {
    char::from(b'a' + token as u8).to_string()
}

/// Paths drawn from a chain.
pub fn draft(chain: &Chain, paths: usize, coins: &RoundCoins) -> Result<Round<Pmf>, PathError> {
    let mut tree = DraftTree::new(paths)?;
    for _ in 0..chain.length() {
        for leaf in tree.open() {
            let law = chain.draft(&tree.tokens(leaf)).clone();
            tree.draw(leaf, law, coins)?;
        }
    }
    let prefixes: Vec<Vec<Token>> = (0..tree.len()).map(|node| tree.tokens(node)).collect();
    tree.score(|node| Ok(chain.target(&prefixes[node]).clone()))
}

#[derive(Deserialize)]
pub struct Recorded {
    row: usize,
    paths: usize,
    seed: u64,
}

/// The recorded rounds that are part of the program, checked once.
fn trace() -> &'static PathTrace {
    static TRACE: OnceLock<PathTrace> = OnceLock::new();
    TRACE.get_or_init(|| {
        let bytes: &[u8] = include_bytes!("../../../../../assets/tiny-pair-paths.safetensors");
        PathTrace::from_bytes(bytes).expect("the recorded rounds are read by a test")
    })
}

pub async fn recorded(Query(Recorded { row, paths, seed }): Query<Recorded>) -> Result<Json<Answer>, Refused> {
    let trace = trace();
    check_paths(paths)?;
    let rows = trace.rows();
    if row >= rows {
        return Err(anyhow::anyhow!("recorded round {row}; there are {rows}, from 0").into());
    }
    let round = crate::paths::round(trace, row, paths)?;
    Ok(Json(explain(&round, &RoundCoins { seed, start: 0 }, pair::name, rows)?))
}

#[derive(Deserialize)]
pub struct Text {
    text: String,
    paths: usize,
    length: usize,
    seed: u64,
}

pub async fn text(Query(Text { text, paths, length, seed }): Query<Text>) -> Result<Json<Answer>, Refused> {
    check_paths(paths)?;
    super::check_length(length, super::MAX_TEXT_LENGTH)?;
    ensure_text(&text)?;
    let coins = RoundCoins { seed, start: 0 };
    let round = after(&text, paths, length, &coins)?;
    Ok(Json(explain(&round, &coins, pair::name, 0)?))
}

fn ensure_text(text: &str) -> anyhow::Result<()> {
    ensure!(!text.is_empty(), "the text is empty");
    Ok(())
}

#[cfg(not(feature = "candle"))]
fn after(_: &str, _: usize, _: usize, _: &RoundCoins) -> anyhow::Result<Round<Pmf>> {
    anyhow::bail!(crate::lab::NO_PAIR)
}

/// Paths of the draft model after a text, with the target model's scores.
#[cfg(feature = "candle")]
fn after(text: &str, paths: usize, length: usize, coins: &RoundCoins) -> anyhow::Result<Round<Pmf>> {
    use draftpick::Sampling;
    use draftpick::decode::candle::Llama;
    use draftpick::decode::{Extension, Model};
    use draftpick::path::ROOT;

    let law = |logits: &Vec<f32>| Pmf::from_logits(logits, &Sampling::default());
    // The text, whose last token becomes the root: from here on a node has one number in the tree and in both models.
    let read = |model: &mut Llama, tokens: &[Token]| -> anyhow::Result<Pmf> {
        let last = tokens.len() - 1;
        let nodes = tokens.iter().enumerate();
        let nodes: Vec<Extension> =
            nodes.map(|(parent, &token)| Extension { sequence: 0, parent, token, scored: parent == last }).collect();
        let rows = model.extend(&nodes)?;
        model.keep(0, Some(tokens.len()))?;
        Ok(law(&rows[0])?)
    };
    pair::with(|pair| {
        let tokens = pair::encode(pair, text)?;
        let mut tree = DraftTree::new(paths)?;
        let mut level = vec![(ROOT, read(&mut pair.draft, &tokens)?)];
        for depth in 0..length {
            let mut new = Vec::new();
            for (leaf, law) in level {
                new.extend(tree.draw(leaf, law, coins)?);
            }
            if depth + 1 == length {
                break;
            }
            let extension = |&node: &usize| Extension {
                sequence: 0,
                parent: tree.parent(node),
                token: tree.token(node),
                scored: true,
            };
            let rows = pair.draft.extend(&new.iter().map(extension).collect::<Vec<_>>())?;
            let laws = rows.iter().map(law).collect::<Result<Vec<_>, _>>()?;
            level = new.into_iter().zip(laws).collect();
        }
        let mut targets = vec![read(&mut pair.target, &tokens)?];
        let nodes = (1..tree.len()).map(|node| Extension {
            sequence: 0,
            parent: tree.parent(node),
            token: tree.token(node),
            scored: true,
        });
        let rows = pair.target.extend(&nodes.collect::<Vec<_>>())?;
        for row in &rows {
            targets.push(law(row)?);
        }
        Ok(tree.score(|node| Ok::<_, PathError>(targets[node].clone()))?)
    })
}
