//! Random pairs of small models, and the enumeration of everything a round may do with them.

use draftpick::path::{Chain, PathError, PathVerifier, Round};
use draftpick::{Pmf, Token};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// How the laws of a chain look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    Ordinary,
    Spiky,
    Sparse,
    Equal,
    Points,
    Disjoint,
}

pub const SHAPES: [Shape; 6] =
    [Shape::Ordinary, Shape::Spiky, Shape::Sparse, Shape::Equal, Shape::Points, Shape::Disjoint];

fn law(rng: &mut StdRng, vocab: usize, shape: Shape) -> Pmf {
    let mut weights: Vec<f64> = (0..vocab).map(|_| -rng.random::<f64>().max(1e-12).ln()).collect();
    match shape {
        Shape::Spiky => weights.iter_mut().for_each(|w| *w = w.powi(6) + 1e-9),
        Shape::Sparse => {
            let kept = rng.random_range(0..vocab);
            for (i, w) in weights.iter_mut().enumerate() {
                *w *= f64::from(i == kept || rng.random_bool(0.6));
            }
        }
        _ => {}
    }
    Pmf::from_weights(weights).unwrap()
}

/// Another pair of laws after every prefix.
pub fn chain(seed: u64, vocab: usize, length: usize, shape: Shape) -> Chain {
    let mut rng = StdRng::seed_from_u64(seed);
    Chain::new(length, |_| match shape {
        Shape::Equal => {
            let law = law(&mut rng, vocab, shape);
            (law.clone(), law)
        }
        Shape::Points => {
            let mut point = || Pmf::point(vocab, rng.random_range(0..vocab as Token)).unwrap();
            (point(), point())
        }
        Shape::Disjoint => {
            let half = |low: bool| (0..vocab).map(move |i| f64::from((i < vocab / 2) == low));
            (
                Pmf::from_weights(half(true).collect::<Vec<_>>()).unwrap(),
                Pmf::from_weights(half(false).collect::<Vec<_>>()).unwrap(),
            )
        }
        _ => (law(&mut rng, vocab, shape), law(&mut rng, vocab, shape)),
    })
    .unwrap()
}

/// All texts that end with `end` or are `length` long.
pub fn texts(chain: &Chain, length: usize, end: Option<Token>) -> Vec<Vec<Token>> {
    let mut texts: Vec<Vec<Token>> = chain
        .sequences(length)
        .into_iter()
        .map(|mut text| {
            if let Some(at) = text.iter().position(|&token| Some(token) == end) {
                text.truncate(at + 1);
            }
            text
        })
        .collect();
    texts.dedup();
    texts
}

/// The round in which `paths` were drafted, those that end with `end` ending the text.
pub fn round(chain: &Chain, paths: &[&[Token]], end: Option<Token>) -> Result<Round<Pmf>, PathError> {
    let law = |path: usize, t: usize| Ok::<_, PathError>(chain.draft(&paths[path][..t]).clone());
    let mut tree = draftpick::path::DraftTree::recorded(paths, law)?;
    for leaf in tree.open() {
        if leaf != draftpick::path::ROOT && Some(tree.token(leaf)) == end {
            tree.end(leaf)?;
        }
    }
    let prefixes: Vec<Vec<Token>> = (0..tree.len()).map(|node| tree.tokens(node)).collect();
    tree.score(|node| Ok(chain.target(&prefixes[node]).clone()))
}

/// What enumerating all draft tuples finds of a verifier.
#[derive(Clone, Copy, Debug)]
pub struct Enumerated {
    /// The largest difference, over the texts of `length + 1` tokens, of the output's probability from the target's.
    pub deviation: f64,
    /// The expected number of drafted tokens that are output.
    pub accepted: f64,
}

/// Adds up, over all tuples of `drafts` paths, the probability of the tuple times the law of the output.
pub fn enumerate(chain: &Chain, drafts: usize, end: Option<Token>, verifier: &dyn PathVerifier<Pmf>) -> Enumerated {
    let length = chain.length();
    let paths: Vec<Vec<Token>> =
        texts(chain, length, end).into_iter().filter(|path| chain.draft_probability(path) > 0.0).collect();
    let outputs = texts(chain, length + 1, end);
    let mut law = vec![0.0; outputs.len()];
    let mut accepted = 0.0;
    let mut tuple = vec![0; drafts];
    'tuples: loop {
        let drafted: Vec<&[Token]> = tuple.iter().map(|&i| &paths[i][..]).collect();
        let probability: f64 = drafted.iter().map(|path| chain.draft_probability(path)).product();
        let round = round(chain, &drafted, end).unwrap();
        let outcome = verifier.law(&round).unwrap();
        accepted += probability * outcome.expected_accepted(&round);
        for stop in outcome.stops() {
            let prefix = round.tree().tokens(stop.node);
            for (output, mass) in outputs.iter().zip(&mut law) {
                if !output.starts_with(&prefix) {
                    continue;
                }
                // The next token from the outcome, whatever follows from the target.
                let (next, from) = match output.get(prefix.len()) {
                    Some(&token) if !stop.next.is_empty() => (stop.next[token as usize], prefix.len() + 1),
                    _ => (1.0, prefix.len()),
                };
                let rest: f64 =
                    (from..output.len()).map(|t| chain.target(&output[..t]).as_slice()[output[t] as usize]).product();
                *mass += probability * stop.probability * next * rest;
            }
        }
        // The next tuple, as an odometer counts.
        for place in 0..=drafts {
            let Some(index) = tuple.get_mut(place) else {
                break 'tuples;
            };
            *index += 1;
            if *index < paths.len() {
                break;
            }
            *index = 0;
        }
    }
    let deviation = outputs.iter().zip(&law).map(|(output, mass)| (mass - chain.target_probability(output)).abs());
    Enumerated { deviation: deviation.fold(0.0, f64::max), accepted }
}
