//! What a model has to offer to draft or to check: a decoder of three states, written by hand.
//!
//! `cargo run --example toy_decoder` generates with it and holds the text to the target's law.

use draftpick::decode::{Extension, Model, Request, Settings, Speculative};
use draftpick::path::Verifier;
use draftpick::{Pmf, Sampling, Token};

/// The weather: sunny, cloudy or rainy, each day by the day before. An engine has a network and a cache of keys and
/// values in its place; what it must be able to do is the same.
struct Weather {
    /// The logits of the next token by the last one.
    logits: [[f32; 3]; 3],
    /// For each sequence the token of each node of its tree, by number; node 0 is the root.
    nodes: Vec<Vec<Token>>,
}

impl Model for Weather {
    type Row = Vec<f32>;
    type Error = std::convert::Infallible;

    fn vocab(&self) -> usize {
        3
    }

    /// Appends nodes to trees and scores them. A model with a longer memory would look at `parent`, and at its parent,
    /// and so on to the root: the way is what a row may depend on, and all it may depend on.
    fn extend(&mut self, new: &[Extension]) -> Result<Vec<Vec<f32>>, Self::Error> {
        let mut rows = Vec::new();
        for &Extension { sequence, token, scored, .. } in new {
            if self.nodes.len() <= sequence {
                self.nodes.resize(sequence + 1, vec![0]);
            }
            self.nodes[sequence].push(token);
            if scored {
                rows.push(self.logits[token as usize].to_vec());
            }
        }
        Ok(rows)
    }

    /// Makes a node the root: what this model remembers of a way is its last token.
    fn keep(&mut self, sequence: usize, node: Option<usize>) -> Result<(), Self::Error> {
        if let Some(nodes) = self.nodes.get_mut(sequence) {
            *nodes = vec![node.map_or(0, |node| nodes[node])];
        }
        Ok(())
    }
}

fn weather(logits: [[f32; 3]; 3]) -> Weather {
    Weather { logits, nodes: Vec::new() }
}

/// The draft model changes the weather less often than the target does.
const DRAFT: [[f32; 3]; 3] = [[1.5, 0.0, -1.0], [0.0, 1.0, 0.0], [-1.0, 0.5, 1.5]];
const TARGET: [[f32; 3]; 3] = [[1.0, 0.5, -2.0], [0.5, 0.0, 0.5], [-0.5, 1.0, 0.5]];

/// The number of texts of two tokens, after "sunny".
const TEXTS: u64 = 40_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let settings = Settings { paths: 3, length: 2, verifier: "path".parse::<Verifier>()?, ..Settings::default() };
    let mut engine = Speculative::new(weather(DRAFT), weather(TARGET), settings)?;
    let mut counts = [[0u32; 3]; 3];
    for seed in 0..TEXTS {
        let text: Vec<Token> = engine
            .tokens(Request { prompt: vec![0], seed, limit: 2, ..Request::default() })?
            .collect::<Result<_, _>>()?;
        counts[text[0] as usize][text[1] as usize] += 1;
    }
    println!("{:.2} tokens for each call of the target", engine.statistics().block_efficiency());

    // The text must have the law q(y₁ | sunny) q(y₂ | y₁): no count may be five standard errors off. Seeds are fixed.
    let q = |last: usize| Pmf::from_logits(&TARGET[last], &Sampling::default());
    let distance = |law: &dyn Fn(usize, usize) -> f64| {
        let z = |(y1, y2): (usize, usize)| {
            let (n, p) = (TEXTS as f64, law(y1, y2));
            (f64::from(counts[y1][y2]) - n * p).abs() / (n * p * (1.0 - p)).sqrt()
        };
        (0..9).map(|i| z((i / 3, i % 3))).fold(0.0, f64::max)
    };
    let rows = [q(0)?, q(1)?, q(2)?];
    let worst = distance(&|y1, y2| rows[0].as_slice()[y1] * rows[y1].as_slice()[y2]);
    println!("the count that is furthest off: {worst:.1} standard errors");
    assert!(worst < 5.0, "the text has another law than the target");
    // And the same check tells another law apart.
    assert!(distance(&|y1, y2| rows[0].as_slice()[y1] * rows[0].as_slice()[y2]) > 5.0);
    Ok(())
}

#[test]
fn the_text_has_the_targets_law() {
    main().unwrap();
}
