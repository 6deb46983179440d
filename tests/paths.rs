//! Every path verifier against the target, by enumerating every draft tuple, and against the best there can be.

#[path = "common/chains.rs"]
mod chains;
mod common;

use approx::assert_abs_diff_eq;
use chains::{SHAPES, Shape, chain, enumerate};
use draftpick::layout::Segment;
use draftpick::path::{
    Block, Chain, DraftTree, Explanation, PathCoupling, PathError, PathVerifier, Purpose, ROOT, Round, RoundCoins,
    SpreadCoupling, Verifier,
};
use draftpick::{Coin, Pmf, Problem, Rule, Token, bound};

/// (V, L, K) small enough to enumerate.
const SIZES: [(usize, usize, usize); 9] =
    [(2, 1, 3), (4, 1, 3), (2, 2, 2), (3, 2, 2), (2, 2, 3), (3, 2, 3), (2, 3, 2), (2, 3, 3), (3, 3, 2)];

#[test]
fn the_output_has_the_targets_law() {
    let mut worst: Vec<(String, f64)> = Vec::new();
    let mut chains = 0;
    for (vocab, length, most) in SIZES {
        for shape in SHAPES {
            for seed in 0..3 {
                let chain = chain(seed, vocab, length, shape);
                chains += 1;
                for drafts in 1..=most {
                    for end in [None, Some(0)] {
                        for verifier in Verifier::all(drafts) {
                            let found = enumerate(&chain, drafts, end, &verifier);
                            assert!(
                                found.deviation < 1e-11,
                                "{verifier}, V {vocab}, L {length}, K {drafts}, {shape:?} {seed}, end {end:?}: {:e}",
                                found.deviation
                            );
                            match worst.iter_mut().find(|(name, _)| *name == verifier.name()) {
                                Some((_, worst)) => *worst = worst.max(found.deviation),
                                None => worst.push((verifier.name(), found.deviation)),
                            }
                        }
                    }
                }
            }
        }
    }
    println!("largest |Σ P·law − q| over the texts of L + 1 tokens, {chains} chains, with and without an end of text:");
    for (name, deviation) in worst {
        println!("  {name:22} {deviation:.1e}");
    }
}

/// Paths that can be drafted, if hardly ever, and of which the target allows no token, from models that else agree: rounding
/// may leave no node to keep, not even the root.
#[test]
fn paths_less_likely_than_rounding_have_a_law() {
    const ROUNDS: u32 = 1000;
    let laws: [(&[f64], &[f64], Token); 3] = [
        (&[0.999999, 1e-6], &[1.0, 0.0], 1),
        (&[1.0, 1e-20], &[1.0, 0.0], 1),
        (&[0.3, 0.7, 1e-20, 1e-20], &[0.3, 0.7, 0.0, 0.0], 2),
    ];
    for (p, q, rare) in laws {
        let pair = || (Pmf::new(p).unwrap(), Pmf::new(q).unwrap());
        for (length, drafts) in [(1, 1), (1, 3), (2, 1), (2, 2), (2, 3)] {
            let chain = Chain::new(length, |_| pair()).unwrap();
            let paths: Vec<Vec<Token>> =
                (0..drafts as Token).map(|path| vec![rare + path % 2 * (rare - 1); length]).collect();
            let paths: Vec<&[Token]> = paths.iter().map(Vec::as_slice).collect();
            let round = chain.round(&paths).unwrap();
            for verifier in Verifier::all(drafts) {
                let at = format!("{verifier}, {paths:?}, p {p:?}");
                assert!(enumerate(&chain, drafts, None, &verifier).deviation < 1e-12, "{at}");
                let law = verifier.law(&round).unwrap();
                assert_abs_diff_eq!(law.total(), 1.0, epsilon = 1e-12);
                let mut next = vec![0.0; q.len()];
                for stop in law.stops() {
                    assert_eq!(stop.node, ROOT, "{at}");
                    next.iter_mut().zip(&stop.next).for_each(|(sum, share)| *sum += stop.probability * share);
                }
                assert!(next.iter().zip(q).all(|(share, q)| *q > 0.0 || *share == 0.0), "{at}: {next:?}");
                let mut counts = vec![0u32; q.len()];
                for i in 0..ROUNDS {
                    let coin = |i: u32| Coin::new((f64::from(i) + 0.5) / f64::from(ROUNDS)).unwrap();
                    // Whatever the other coins, the residual's decides.
                    let coins = |purpose: Purpose, _: usize, _: usize| match purpose {
                        Purpose::Residual => coin(i),
                        _ => coin(i * 7 % ROUNDS),
                    };
                    let outcome = verifier.verify(&round, &coins).unwrap();
                    assert_eq!(outcome.node, ROOT, "{at}");
                    counts[outcome.next.unwrap() as usize] += 1;
                    if verifier.name() == "spread" {
                        let explanation = SpreadCoupling::default().explain(&round, &coins).unwrap();
                        assert_eq!(explanation.outcome(), outcome);
                        assert_eq!(explanation.keep(ROOT), 1.0);
                        assert_abs_diff_eq!(explanation.next_law(ROOT)[..], next[..], epsilon = 1e-12);
                    }
                }
                for (count, share) in counts.into_iter().zip(next) {
                    let off = (f64::from(count) / f64::from(ROUNDS) - share).abs();
                    assert!(off <= 1.0 / f64::from(ROUNDS), "{at}: verify is off by {off}");
                }
            }
        }
    }
}

#[test]
fn with_one_path_block_traversal_and_path_are_one() {
    for seed in 0..20 {
        for shape in SHAPES {
            let chain = chain(seed, 3, 3, shape);
            let all = Verifier::all(1);
            let block = enumerate(&chain, 1, None, &Block).accepted;
            // A(child) = min(A(parent)·q, p): the closed form of block verification.
            let mut closed = 0.0;
            for length in 1..=3 {
                for prefix in chain.sequences(length) {
                    let mut kept = 1.0f64;
                    for t in 1..=length {
                        let q = chain.target(&prefix[..t - 1]).as_slice()[prefix[t - 1] as usize];
                        kept = (kept * q).min(chain.draft_probability(&prefix[..t]));
                    }
                    closed += kept;
                }
            }
            assert_abs_diff_eq!(block, closed, epsilon = 1e-12);
            for name in ["traversal", "path", "spread"] {
                let verifier = all.iter().find(|verifier| verifier.name() == name).unwrap();
                assert_abs_diff_eq!(enumerate(&chain, 1, None, verifier).accepted, block, epsilon = 1e-12);
            }
            for verifier in all {
                assert!(enumerate(&chain, 1, None, &verifier).accepted <= block + 1e-12, "{verifier}");
            }
        }
    }
}

#[test]
fn with_one_token_the_path_coupling_is_optimal_and_traversal_is_recursive_rejection() {
    for seed in 0..20 {
        for shape in [Shape::Ordinary, Shape::Spiky, Shape::Sparse] {
            for drafts in 2..=4 {
                let chain = chain(seed, 4, 1, shape);
                let problem = Problem::new(chain.draft(&[]).clone(), chain.target(&[]).clone(), drafts).unwrap();
                let accepted =
                    |name: &str| enumerate(&chain, drafts, None, &name.parse::<Verifier>().unwrap()).accepted;
                let optimum = bound::alpha_star(&problem);
                let fine = enumerate(&chain, drafts, None, &PathCoupling::with_loss(0.0)).accepted;
                assert!((optimum - fine).abs() < 2e-5, "{shape:?} {seed} K {drafts}: {fine} of {optimum}");
                for name in ["path", "spread"] {
                    let found = accepted(name);
                    assert!(
                        (optimum - found).abs() < 5e-3,
                        "{name}, {shape:?} {seed} K {drafts}: {found} of {optimum}"
                    );
                }
                let fine = enumerate(&chain, drafts, None, &SpreadCoupling::with_loss(0.0)).accepted;
                assert!((optimum - fine).abs() < 2e-5, "{shape:?} {seed} K {drafts}: {fine} of {optimum}");
                assert_abs_diff_eq!(accepted("optimal"), optimum, epsilon = 1e-12);
                let rrs = Rule::Recursive.prepare(&problem).acceptance().value;
                assert_abs_diff_eq!(accepted("traversal"), rrs, epsilon = 1e-12);
                assert!(accepted("kseq") >= Rule::KSeq.prepare(&problem).acceptance().value - 1e-12);
            }
        }
    }
}

/// The sum over all prefixes of `A(child) = min(A(parent)·q, M(child))`: of tokens for the spread coupling, of virtual
/// tokens for the path coupling.
#[test]
fn the_expected_length_has_its_closed_form() {
    let (mut worst, mut chains) = (0.0f64, 0);
    for (vocab, length, most) in SIZES {
        for shape in SHAPES {
            for seed in 0..2 {
                let chain = chain(seed, vocab, length, shape);
                chains += 1;
                for drafts in 1..=most {
                    for loss in [0.0, 1e-3, 1e-1] {
                        let (path, spread) = (PathCoupling::with_loss(loss), SpreadCoupling::with_loss(loss));
                        let couplings: [(&dyn PathVerifier<Pmf>, f64); 2] = [
                            (&path, path.expected_accepted(&chain, drafts).unwrap()),
                            (&spread, spread.expected_accepted(&chain, drafts).unwrap()),
                        ];
                        for (i, (coupling, closed)) in couplings.into_iter().enumerate() {
                            let gap = (enumerate(&chain, drafts, None, coupling).accepted - closed).abs();
                            assert!(gap < 1e-11, "{i}, V {vocab}, L {length}, K {drafts}, {shape:?} {seed}: {gap:e}");
                            worst = worst.max(gap);
                        }
                    }
                }
            }
        }
    }
    println!("largest |Σ P·length − closed form|, {chains} chains: {worst:.1e}");
}

/// What each verifier adds up in closed form is what the enumeration of all tuples of paths finds.
#[test]
fn every_verifier_knows_its_expected_length() {
    let mut worst = 0.0f64;
    for (vocab, length, most) in SIZES {
        for shape in SHAPES {
            let chain = chain(7, vocab, length, shape);
            for drafts in 1..=most {
                for verifier in Verifier::all(drafts) {
                    let expected = verifier.expected_accepted(&chain, drafts).unwrap();
                    let gap = (enumerate(&chain, drafts, None, &verifier).accepted - expected).abs();
                    assert!(gap < 1e-11, "{verifier}, V {vocab}, L {length}, K {drafts}, {shape:?}: {gap:e}");
                    worst = worst.max(gap);
                    // Another number of drafts is another number, unless nothing is left to gain or to lose.
                    if shape == Shape::Ordinary && drafts > 1 && length > 1 {
                        let fewer = verifier.expected_accepted(&chain, drafts - 1).unwrap();
                        assert!((fewer - expected).abs() > 1e-6, "{verifier}: {fewer} with one draft less too");
                    }
                }
            }
        }
    }
    println!("largest |Σ P·length − expected| of any verifier: {worst:.1e}");
}

#[test]
fn the_expected_length_refuses_what_it_cannot_enumerate() {
    let chain = chain(0, 3, 2, Shape::Ordinary);
    let expected = |name: &str, drafts| name.parse::<Verifier>().unwrap().expected_accepted(&chain, drafts);
    for name in ["kseq", "traversal", "path", "spread"] {
        assert_eq!(expected(name, 0), Err(PathError::Paths { paths: 0 }), "{name}");
    }
    for name in ["kseq", "traversal"] {
        assert_eq!(expected(name, 40), Err(PathError::Tuples { vocab: 3, drafts: 40 }), "{name}");
    }
    assert_eq!(expected("block", 2), Err(PathError::OnePath { verifier: "block", paths: 2 }));
    assert_eq!(expected("maximal", 2), Err(PathError::OnePath { verifier: "maximal", paths: 2 }));
}

/// The explained round is the verified one, and its numbers are those of the law.
#[test]
fn an_explanation_ends_as_the_verification_does() {
    let (mut rounds, mut stopped) = (0, [0usize; 4]);
    for shape in SHAPES {
        for seed in 0..6 {
            let chain = chain(40 + seed, 3, 3, shape);
            for drafts in 1..=4 {
                for start in 0..40 {
                    let coins = RoundCoins { seed, start };
                    let mut tree = DraftTree::new(drafts).unwrap();
                    for _ in 0..3 {
                        for leaf in tree.open() {
                            tree.draw(leaf, chain.draft(&tree.tokens(leaf)).clone(), &coins).unwrap();
                        }
                    }
                    let prefixes: Vec<Vec<Token>> = (0..tree.len()).map(|node| tree.tokens(node)).collect();
                    let target = |node: usize| Ok::<_, PathError>(chain.target(&prefixes[node]).clone());
                    let round = tree.score(target).unwrap();
                    let spread = SpreadCoupling::default();
                    let explanation = spread.explain(&round, &coins).unwrap();
                    assert_eq!(explanation.outcome(), spread.verify(&round, &coins).unwrap());
                    check_numbers(&round, &explanation);
                    rounds += 1;
                    stopped[explanation.outcome().accepted(&round)] += 1;
                }
            }
        }
    }
    assert!(stopped.iter().all(|&rounds| rounds > 50), "{stopped:?} of {rounds} rounds keep 0 to 3 tokens");
}

fn check_numbers(round: &Round<Pmf>, explanation: &Explanation<'_, Pmf>) {
    let tree = round.tree();
    let best = explanation.labels().iter().copied().fold(0.0, f64::max);
    assert_eq!(explanation.labels()[explanation.winner()], best);
    for node in 0..tree.len() {
        let shares: f64 = explanation.label_law(node).iter().map(|(_, share)| share).sum();
        assert_abs_diff_eq!(shares, 1.0, epsilon = 1e-12);
        let next = explanation.next_law(node);
        assert!(next.is_empty() || (next.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let Some((draft, target)) = round.pair(node) else {
            assert!(explanation.selected(node).is_empty());
            assert_eq!(explanation.keep(node), explanation.weight(node));
            continue;
        };
        let (selected, weight) = (explanation.selected(node), explanation.weight(node));
        assert_abs_diff_eq!(selected.iter().sum::<f64>(), 1.0, epsilon = 1e-12);
        let left: f64 = selected.iter().zip(target.as_slice()).map(|(a, q)| (weight * q - a).max(0.0)).sum();
        assert_abs_diff_eq!(left, explanation.residual(node).unwrap(), epsilon = 1e-12);
        for &child in tree.children(node) {
            let token = tree.token(child) as usize;
            let wanted = (weight * target.as_slice()[token] / selected[token]).min(1.0);
            assert_abs_diff_eq!(explanation.weight(child), wanted, epsilon = 1e-9);
            assert_eq!(explanation.label_law_after(node, token as Token), explanation.label_law(child));
        }
        // Below every label, the next tokens' laws weighted by p are the node's own.
        for at in [0.1, 0.37, 0.5, 0.81, 0.99] {
            let below = |law: &[(Segment, f64)]| -> f64 {
                let part = |s: &Segment| if s.len > 0.0 { ((at - s.lo) / s.len).clamp(0.0, 1.0) } else { 0.0 };
                law.iter().map(|(segment, share)| share * part(segment)).sum()
            };
            let after =
                |token: usize| draft.as_slice()[token] * below(&explanation.label_law_after(node, token as Token));
            let sum: f64 = (0..draft.vocab()).map(after).sum();
            assert_abs_diff_eq!(sum, below(&explanation.label_law(node)), epsilon = 1e-9);
        }
    }
}

/// How far each verifier is from the best there can be, over random chains.
#[cfg(feature = "lp")]
#[test]
fn no_verifier_beats_the_linear_program_and_the_path_coupling_comes_near() {
    let mut gaps: Vec<(String, Vec<f64>)> = Vec::new();
    let mut optima = Vec::new();
    for (vocab, length, drafts) in [(2, 2, 2), (2, 2, 3), (3, 2, 2), (2, 3, 2), (2, 3, 3)] {
        for seed in 0..30 {
            let chain = chain(100 + seed, vocab, length, if seed % 5 == 4 { Shape::Spiky } else { Shape::Ordinary });
            let optimum = draftpick::lp::path_optimum(&chain, drafts).unwrap();
            optima.push(optimum);
            for verifier in Verifier::all(drafts) {
                let gap = optimum - enumerate(&chain, drafts, None, &verifier).accepted;
                assert!(gap > -1e-6, "{verifier} beats the optimum by {}", -gap);
                match gaps.iter_mut().find(|(name, _)| *name == verifier.name()) {
                    Some((_, gaps)) => gaps.push(gap),
                    None => gaps.push((verifier.name(), vec![gap])),
                }
            }
        }
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    println!("gap to the path program's optimum (mean {:.4}), {} chains:", mean(&optima), optima.len());
    let mut of_path = f64::NAN;
    for (name, mut gaps) in gaps {
        gaps.sort_by(f64::total_cmp);
        println!(
            "  {name:22} mean {:.4}  median {:.4}  largest {:.4}",
            mean(&gaps),
            gaps[gaps.len() / 2],
            gaps[gaps.len() - 1]
        );
        if name == "path" {
            of_path = mean(&gaps);
        }
    }
    assert!(of_path < 0.02, "the path coupling is {of_path} tokens below the optimum on average");
}

/// Wrong verifiers, each of which the enumeration must catch.
mod negative_controls {
    use super::*;
    use draftpick::Token;
    use draftpick::path::{OutcomeLaw, PathError, Round, Stop};

    /// Runs a lossless verifier on a round in which something was mixed up.
    struct Mixed<F>(Verifier, F);

    impl<F: Fn(&Round<Pmf>) -> Round<Pmf>> PathVerifier<Pmf> for Mixed<F> {
        fn law(&self, round: &Round<Pmf>) -> Result<OutcomeLaw, PathError> {
            self.0.law(&(self.1)(round))
        }

        fn verify(
            &self,
            _: &Round<Pmf>,
            _: &dyn draftpick::path::Coins,
        ) -> Result<draftpick::path::Outcome, PathError> {
            unreachable!("only the law is enumerated")
        }
    }

    /// The same tree with other laws at its nodes.
    fn relabelled(round: &Round<Pmf>, draft: impl Fn(usize) -> Pmf, target: impl Fn(usize) -> Pmf) -> Round<Pmf> {
        let tree = round.tree();
        let paths: Vec<Vec<Token>> = tree.paths().iter().map(|nodes| tree.tokens(nodes[nodes.len() - 1])).collect();
        let paths: Vec<&[Token]> = paths.iter().map(Vec::as_slice).collect();
        let node = |path: usize, t: usize| tree.paths()[path][t];
        let wrong =
            draftpick::path::DraftTree::recorded(&paths, |path, t| Ok::<_, PathError>(draft(node(path, t)))).unwrap();
        let same: Vec<usize> = (0..wrong.len())
            .map(|i| wrong.tokens(i).iter().fold(0, |node, &token| tree.child(node, token).unwrap()))
            .collect();
        wrong.score(|i| Ok::<_, PathError>(target(same[i]))).unwrap()
    }

    fn caught(name: &str, verifier: &dyn PathVerifier<Pmf>, drafts: usize) {
        let mut least = f64::INFINITY;
        for seed in 0..5 {
            least = least.min(enumerate(&chain(seed, 3, 2, Shape::Ordinary), drafts, None, verifier).deviation);
        }
        println!("{name}, K {drafts}: off by at least {least:.1e}");
        assert!(least > 1e-4, "{name} passed: off by {least:e}");
    }

    /// The winner's law is not the draft's: block verification of the longest-label path with `p` in place of `a`.
    #[test]
    fn the_draft_law_in_place_of_the_winners_is_caught() {
        struct DraftLaw;
        impl PathVerifier<Pmf> for DraftLaw {
            fn law(&self, round: &Round<Pmf>) -> Result<OutcomeLaw, PathError> {
                // Whichever path is selected by its tokens (here the one whose target probability is largest).
                let tree = round.tree();
                let score = |nodes: &Vec<usize>| -> f64 {
                    nodes
                        .windows(2)
                        .map(|n| round.target(n[0]).unwrap().as_slice()[tree.token(n[1]) as usize])
                        .product()
                };
                let best = tree.paths().iter().max_by(|a, b| score(a).total_cmp(&score(b))).unwrap().clone();
                let tokens = tree.tokens(best[best.len() - 1]);
                let one = draftpick::path::DraftTree::recorded(&[&tokens[..]], |_, t| {
                    Ok::<_, PathError>(round.pair(best[t]).unwrap().0.clone())
                })?;
                let one = one.score(|i| Ok::<_, PathError>(round.target(best[i]).unwrap().clone()))?;
                let law = Block.law(&one)?;
                let mut out = OutcomeLaw::default();
                for stop in law.stops() {
                    out.add(Stop { node: best[stop.node], ..stop.clone() });
                }
                Ok(out)
            }

            fn verify(
                &self,
                _: &Round<Pmf>,
                _: &dyn draftpick::path::Coins,
            ) -> Result<draftpick::path::Outcome, PathError> {
                unreachable!("only the law is enumerated")
            }
        }
        caught("the draft law in place of the winner's", &DraftLaw, 2);
    }

    #[test]
    fn swapped_rows_are_caught() {
        for verifier in Verifier::all(2) {
            // The target's rows of the first and the last node change places.
            let swap = |round: &Round<Pmf>| {
                let last = round.tree().len() - 1;
                let swapped = |node: usize| {
                    if node == 1 {
                        last
                    } else if node == last {
                        1
                    } else {
                        node
                    }
                };
                relabelled(
                    round,
                    |node| round.pair(node).unwrap().0.clone(),
                    |node| round.target(swapped(node)).unwrap().clone(),
                )
            };
            caught(&format!("{verifier}, two rows swapped"), &Mixed(verifier, swap), 2);
            // The draft's row of the root stands in for all others.
            let first = |round: &Round<Pmf>| {
                let root = round.pair(0).unwrap().0.clone();
                relabelled(round, |_| root.clone(), |node| round.target(node).unwrap().clone())
            };
            caught(&format!("{verifier}, one draft row for all"), &Mixed(verifier, first), 2);
        }
    }
}

/// The fast paths, by chi-square at level 1e-6 with fixed seeds.
mod sampled {
    use super::*;
    use common::chi_square::p_value;
    use draftpick::Token;
    use draftpick::path::{Chain, Coins, DraftTree, Outcome, PathError, Purpose, RoundCoins};
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    /// A test a shape, so that they run side by side: together they take longer than all others of this file.
    #[test]
    fn verify_has_the_law_that_law_names() {
        check_verify(Shape::Ordinary);
    }

    #[test]
    fn verify_has_the_law_that_law_names_of_spiky_models() {
        check_verify(Shape::Spiky);
    }

    #[test]
    fn verify_has_the_law_that_law_names_of_sparse_models() {
        check_verify(Shape::Sparse);
    }

    fn check_verify(shape: Shape) {
        const ROUNDS: u64 = 40_000;
        let chain = chain(11, 3, 2, shape);
        // Drafts that could have been drawn: the tokens of the coins of a seed.
        let draft = |seed: u64| -> Vec<Vec<Token>> {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut path = || {
                let mut path: Vec<Token> = Vec::new();
                (0..2).for_each(|_| path.push(rng.sample(chain.draft(&path))));
                path
            };
            (0..3).map(|_| path()).collect()
        };
        for seed in 0..4 {
            let paths = draft(seed);
            let paths: Vec<&[Token]> = paths.iter().map(Vec::as_slice).collect();
            let round = chain.round(&paths).unwrap();
            for verifier in Verifier::all(3) {
                let law = verifier.law(&round).unwrap();
                let mut expected = vec![0.0; round.tree().len() * 3];
                for stop in law.stops() {
                    for (token, share) in stop.next.iter().enumerate() {
                        expected[stop.node * 3 + token] += stop.probability * share;
                    }
                }
                let mut counts = vec![0; expected.len()];
                for start in 0..ROUNDS {
                    let Outcome { node, next } = verifier.verify(&round, &RoundCoins { seed: 5, start }).unwrap();
                    counts[node * 3 + next.unwrap() as usize] += 1;
                }
                let p = p_value(&counts, &expected);
                assert!(p > 1e-6, "{verifier}, {shape:?}, drafts {seed}: p-value {p:e}");
            }
        }
    }

    /// How often each text of three tokens came out of a round, continued with the target.
    fn texts<C: Coins>(chain: &Chain, verifier: Verifier, coins: impl Fn(RoundCoins) -> C) -> Vec<u64> {
        let mut rng = StdRng::seed_from_u64(1);
        let mut counts = vec![0; 27];
        for start in 0..40_000 {
            let drafting = RoundCoins { seed: 9, start };
            let mut tree = DraftTree::new(3).unwrap();
            for _ in 0..2 {
                for node in tree.open() {
                    let law = chain.draft(&tree.tokens(node)).clone();
                    tree.draw(node, law, &drafting).unwrap();
                }
            }
            let prefixes: Vec<Vec<Token>> = (0..tree.len()).map(|node| tree.tokens(node)).collect();
            let round = tree.score(|node| Ok::<_, PathError>(chain.target(&prefixes[node]).clone())).unwrap();
            let mut text = verifier.verify(&round, &coins(drafting)).unwrap().tokens(&round);
            while text.len() < 3 {
                text.push(rng.sample(chain.target(&text)));
            }
            counts[text.iter().fold(0, |place, &token| place * 3 + token as usize)] += 1;
        }
        counts
    }

    /// Drafts drawn and verified with the coins of one round give the target's law. A verifier that uses the drafting
    /// coins once more does not, and must fail.
    #[test]
    fn a_coin_shared_between_drafting_and_accepting_is_caught() {
        let chain = chain(12, 3, 2, Shape::Ordinary);
        let law: Vec<f64> = chain.sequences(3).iter().map(|text| chain.target_probability(text)).collect();
        for verifier in Verifier::all(3) {
            let p = p_value(&texts(&chain, verifier, |coins| coins), &law);
            let shared = |coins: RoundCoins| {
                move |purpose: Purpose, depth: usize, draft: usize| match purpose {
                    Purpose::Residual | Purpose::Edge => coins.coin(purpose, depth, draft),
                    // The first token's coin stands in for labels and acceptances.
                    _ => coins.coin(Purpose::Draft, 0, draft),
                }
            };
            let control = p_value(&texts(&chain, verifier, shared), &law);
            println!("{verifier}: p-value {p:.2}, with a shared coin {control:.0e}");
            assert!(p > 1e-6, "{verifier}: p-value {p:e}");
            assert!(control < 1e-6, "{verifier}: a shared coin passes with {control:e}");
        }
    }
}
