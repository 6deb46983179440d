//! Every path verifier on real models' scores: two recorded rounds of four drafts, one whose drafts part at once and one
//! whose drafts share their first tokens.
//!
//! `cargo test --test path_trace -- --nocapture` prints the least p-value of each verifier and of the control.

#![cfg(feature = "trace")]

#[path = "common/chi_square.rs"]
mod chi_square;

use chi_square::p_value;
use draftpick::path::{
    DraftTree, LogitRow, OutcomeLaw, PathCoupling, PathError, PathVerifier, Round, RoundCoins, Row, SpreadCoupling,
    Verifier,
};
use draftpick::trace::PathTrace;
use draftpick::{Pmf, Token};

fn trace() -> PathTrace {
    PathTrace::from_bytes(&include_bytes!("../assets/tiny-pair-paths.safetensors")[..]).expect("a recorded trace")
}

/// The first `k` drafts of a row, the laws made into rows of any kind.
fn round<R: Row>(trace: &PathTrace, row: usize, k: usize, law: impl Fn(Pmf) -> R) -> Round<R> {
    let paths: Vec<&[Token]> = (0..k).map(|path| trace.tokens(row, path).unwrap()).collect();
    let drafted = |path, t| Ok::<_, PathError>(law(trace.draft(row, path, t).unwrap()));
    let tree = DraftTree::recorded(&paths, drafted).unwrap();
    let first: Vec<(usize, usize)> =
        (0..tree.len()).map(|node| (tree.paths_through(node)[0], tree.depth(node))).collect();
    tree.score(|node| Ok::<_, PathError>(law(trace.target(row, first[node].0, first[node].1).unwrap()))).unwrap()
}

fn logits(law: Pmf) -> LogitRow {
    LogitRow::new("recorded", law.as_slice().iter().map(|p| p.ln() as f32).collect::<Vec<_>>()).unwrap()
}

/// The probability of each outcome: node times vocabulary plus next token.
fn outcomes(law: &OutcomeLaw, nodes: usize, vocab: usize) -> Vec<f64> {
    let mut outcomes = vec![0.0; nodes * vocab];
    for stop in law.stops() {
        for (token, share) in stop.next.iter().enumerate() {
            outcomes[stop.node * vocab + token] += stop.probability * share;
        }
    }
    outcomes
}

#[test]
fn the_rounds_are_one_without_and_one_with_shared_tokens() {
    let trace = trace();
    let nodes = |row| round(&trace, row, 4, |law| law).tree().len();
    assert_eq!((trace.rows(), trace.paths(), trace.length(), trace.vocab()), (2, 4, 5, 4096));
    assert_eq!((nodes(0), nodes(1)), (21, 13));
}

#[test]
fn every_law_adds_up_and_probabilities_and_logits_give_the_same() {
    let trace = trace();
    for row in 0..trace.rows() {
        for k in [1, 2, 4] {
            let (exact, scanned) = (round(&trace, row, k, |law| law), round(&trace, row, k, logits));
            let mut of_traversal = 0.0;
            for verifier in Verifier::all(k) {
                let (law, from_logits) = (verifier.law(&exact).unwrap(), verifier.law(&scanned).unwrap());
                for law in [&law, &from_logits] {
                    assert!((law.total() - 1.0).abs() < 1e-9, "{verifier}, row {row}, K {k}: {}", law.total());
                    for stop in law.stops() {
                        let sum: f64 = stop.next.iter().sum();
                        assert!((sum - 1.0).abs() < 1e-6, "{verifier}, row {row}, K {k}: {sum} at node {}", stop.node);
                    }
                }
                let nodes = exact.tree().len();
                let [one, other] = [law, from_logits].map(|law| (outcomes(&law, nodes, trace.vocab()), law));
                let distance = one.0.iter().zip(&other.0).map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0;
                // Layouts over ratio classes have other edges from logits, and `optimal` has one over classes there and over
                // tokens here: that moves a law given drafts though not the output's.
                let bound = match &*verifier.name() {
                    "token:optimal" => None,
                    "path" | "spread" | "token:optimal-linear" => Some(0.1),
                    _ => Some(1e-4),
                };
                if let Some(bound) = bound {
                    assert!(distance < bound, "{verifier}, row {row}, K {k}: {distance:e} from logits");
                }
                let accepted = one.1.expected_accepted(&exact);
                println!("row {row}, K {k}, {verifier}: {accepted:.4} kept, {distance:.1e} from logits");
                if verifier.name() == "traversal" {
                    of_traversal = accepted;
                } else if k == 1 && ["path", "spread"].contains(&&*verifier.name()) {
                    assert!((accepted - of_traversal).abs() < 1e-9, "{verifier}, row {row}: {accepted}");
                }
            }
        }
    }
}

#[test]
fn verify_has_the_law_that_law_names() {
    const ROUNDS: u64 = 1_500;
    const LEVEL: f64 = 1e-6;
    let trace = trace();
    for row in 0..trace.rows() {
        let round = round(&trace, row, 4, logits);
        // The control: what would be right if the target agreed with the draft wherever there are drafts.
        let first: Vec<usize> = (0..round.tree().len()).map(|node| round.tree().paths_through(node)[0]).collect();
        let wrong = round.tree().clone().score(|node| {
            let depth = round.tree().depth(node);
            let law = if depth < trace.length() {
                trace.draft(row, first[node], depth)
            } else {
                trace.target(row, first[node], depth)
            };
            Ok::<_, PathError>(logits(law.unwrap()))
        });
        let wrong = wrong.unwrap();
        let (nodes, vocab) = (round.tree().len(), trace.vocab());
        for verifier in Verifier::all(4) {
            let mut counts = vec![0; nodes * vocab];
            for start in 0..ROUNDS {
                let outcome = verifier.verify(&round, &RoundCoins { seed: 17, start }).unwrap();
                counts[outcome.node * vocab + outcome.next.unwrap() as usize] += 1;
            }
            let p = |round: &Round<LogitRow>| p_value(&counts, &outcomes(&verifier.law(round).unwrap(), nodes, vocab));
            let (right, control) = (p(&round), p(&wrong));
            println!("row {row}, {verifier}: p-value {right:.1e}, control {control:.0e}");
            assert!(right > LEVEL, "{verifier}, row {row}: p-value {right:e}");
            assert!(control < LEVEL, "{verifier}, row {row}: the control passes with {control:e}");
        }
    }
}

#[test]
fn couplings_of_any_class_width_have_a_law() {
    let trace = trace();
    let round = round(&trace, 1, 4, |law| law);
    for loss in [0.0, 1e-4, 1e-2, 1.0] {
        for verifier in [
            &PathCoupling::with_loss(loss) as &dyn PathVerifier<Pmf>,
            &SpreadCoupling::with_loss(loss) as &dyn PathVerifier<Pmf>,
        ] {
            let law = verifier.law(&round).unwrap();
            assert!((law.total() - 1.0).abs() < 1e-11, "loss {loss}: {}", law.total());
        }
    }
}
