//! The largest rounds: 16 drafts of up to 32 tokens, which share their first tokens and end early where the text ends.

#[path = "common/chi_square.rs"]
mod chi_square;

use chi_square::p_value;
use draftpick::path::{DraftTree, MAX_LAW_LENGTH, PathError, PathVerifier, ROOT, Round, RoundCoins, Verifier};
use draftpick::{Pmf, Token};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const VOCAB: usize = 5;
const PATHS: usize = 16;
const LENGTH: usize = 32;
/// The token that ends the text.
const END: Token = 0;

/// Both models' laws after a prefix; with probability 1/40 and 1/30 the text ends.
fn laws(prefix: &[Token]) -> (Pmf, Pmf) {
    let seed = prefix.iter().fold(1u64, |seed, &token| (seed ^ u64::from(token + 1)).wrapping_mul(0x0100_0000_01b3));
    let mut rng = StdRng::seed_from_u64(seed);
    let mut law = |end: f64, near: Option<&Pmf>| {
        let mut weights: Vec<f64> = (0..VOCAB).map(|_| -rng.random::<f64>().max(1e-9).ln()).collect();
        if let Some(near) = near {
            weights.iter_mut().zip(near.as_slice()).for_each(|(w, p)| *w = 0.6 * *w + 4.0 * p);
        }
        weights[END as usize] = end / (1.0 - end) * weights[1..].iter().sum::<f64>();
        Pmf::from_weights(weights).unwrap()
    };
    let draft = law(1.0 / 40.0, None);
    let target = law(1.0 / 30.0, Some(&draft));
    (draft, target)
}

fn round(coins: &RoundCoins) -> Round<Pmf> {
    let mut tree = DraftTree::new(PATHS).unwrap();
    for _ in 0..LENGTH {
        for node in tree.open() {
            if node != ROOT && tree.token(node) == END {
                tree.end(node).unwrap();
            } else {
                let law = laws(&tree.tokens(node)).0;
                tree.draw(node, law, coins).unwrap();
            }
        }
    }
    for node in tree.open() {
        if tree.token(node) == END {
            tree.end(node).unwrap();
        }
    }
    let prefixes: Vec<Vec<Token>> = (0..tree.len()).map(|node| tree.tokens(node)).collect();
    tree.score(|node| Ok::<_, PathError>(laws(&prefixes[node]).1)).unwrap()
}

#[test]
fn laws_add_up() {
    for start in 0..5 {
        let round = round(&RoundCoins { seed: 21, start });
        let lengths: Vec<usize> = round.tree().paths().iter().map(|path| path.len() - 1).collect();
        println!("{} nodes, lengths {lengths:?}", round.tree().len());
        for verifier in Verifier::all(PATHS) {
            match verifier.law(&round) {
                Ok(law) => assert!((law.total() - 1.0).abs() < 1e-9, "{verifier}: {}", law.total()),
                Err(error) => {
                    assert_eq!(error, PathError::LawLength { length: LENGTH, most: MAX_LAW_LENGTH });
                    assert_eq!(verifier.name(), "path");
                }
            }
        }
    }
}

/// The first two tokens that come out, by chi-square at level 1e-6; the draft's law in their place must fail.
#[test]
fn the_text_begins_with_the_targets_law() {
    const ROUNDS: u64 = 500;
    let place = |text: &[Token]| text[0] as usize * VOCAB + text[1] as usize;
    let (mut expected, mut control) = (vec![0.0; VOCAB * VOCAB], vec![0.0; VOCAB * VOCAB]);
    for first in 0..VOCAB as Token {
        for second in 0..VOCAB as Token {
            // After the end of the text there is nothing: counted as the end once more.
            let follow = |law: &Pmf| match first {
                END => f64::from(second == END),
                _ => law.as_slice()[second as usize],
            };
            let ((p, q), (p_next, q_next)) = (laws(&[]), laws(&[first]));
            expected[place(&[first, second])] = q.as_slice()[first as usize] * follow(&q_next);
            control[place(&[first, second])] = p.as_slice()[first as usize] * follow(&p_next);
        }
    }
    let mut counts: Vec<(Verifier, Vec<u64>)> =
        Verifier::all(PATHS).into_iter().map(|verifier| (verifier, vec![0; VOCAB * VOCAB])).collect();
    let mut rng = StdRng::seed_from_u64(22);
    let mut deepest = 0;
    for start in 0..ROUNDS {
        let coins = RoundCoins { seed: 23, start };
        let round = round(&coins);
        for (verifier, counts) in &mut counts {
            let outcome = verifier.verify(&round, &coins).unwrap();
            deepest = deepest.max(outcome.accepted(&round));
            let mut text = outcome.tokens(&round);
            while text.len() < 2 {
                let next = if text.last() == Some(&END) { END } else { rng.sample(&laws(&text).1) };
                text.push(next);
            }
            counts[place(&text)] += 1;
        }
    }
    for (verifier, counts) in counts {
        let (right, wrong) = (p_value(&counts, &expected), p_value(&counts, &control));
        println!("{verifier}: p-value {right:.2e}, against the draft's law {wrong:.0e}");
        assert!(right > 1e-6, "{verifier}: p-value {right:e}");
        assert!(wrong < 1e-6, "{verifier}: the draft's law passes with {wrong:e}");
    }
    assert!(deepest > LENGTH / 2, "no more than {deepest} tokens were ever kept");
}
