//! What an engine calls, against the parts it is made of: rows read in place, filters, trees of parents, missing rows.

use draftpick::engine::{EngineError, PairSampling, Shape, chain, follow, round, select, verify};
use draftpick::path::{Block, Coins, PathVerifier, Purpose, RoundCoins, Verifier};
use draftpick::pmf::PmfError;
use draftpick::scan::{Scan, ScanError};
use draftpick::{Coin, Pmf, Rule, Sampling, Token};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Rows of logits, another for every address.
fn rows(seed: u64, count: usize, vocab: usize) -> Vec<Vec<f32>> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..count).map(|_| (0..vocab).map(|_| 4.0 * rng.random::<f32>()).collect()).collect()
}

#[test]
fn select_is_the_rule_on_the_filtered_rows() {
    let rows = rows(1, 2, 50);
    let mut rng = StdRng::seed_from_u64(2);
    let sampling = PairSampling {
        draft: Sampling { temperature: 1.5, ..Sampling::default() },
        target: Sampling { top_k: Some(20), ..Sampling::default() },
    };
    let (draft, target) = (sampling.draft.apply(&rows[0]).unwrap(), sampling.target.apply(&rows[1]).unwrap());
    for rule in Rule::ALL.into_iter().filter(|rule| rule.takes(2)) {
        let selector = rule.prepare_scan(&Scan::new(&draft, &target, 2).unwrap());
        for first in 0..40 {
            let coins: [Coin; 4] = std::array::from_fn(|_| rng.random());
            let drafts = [first, first + 5];
            let selection = select(rule, (&rows[0], &rows[1]), &sampling, &drafts, &coins).unwrap();
            assert_eq!(selection, selector.select(&drafts, &coins).unwrap(), "{rule}");
        }
    }
}

/// The parents of a tree of two paths of two tokens that part at the root, and one of a single path.
const FORK: [i64; 5] = [-1, 0, 1, 0, 3];

#[test]
fn a_tree_of_parents_is_its_paths() {
    let (draft, target) = (rows(3, 5, 6), rows(4, 5, 6));
    let shape = Shape::new(&FORK).unwrap();
    let tokens: [Token; 5] = [9, 1, 2, 1, 4]; // the root's token means nothing; both paths begin with 1
    let paths = shape.path_tokens(&tokens).unwrap();
    assert_eq!((shape.paths(), &paths[..]), (&[vec![0, 1, 2], vec![0, 3, 4]][..], &[vec![1, 2], vec![1, 4]][..]));
    let paths: Vec<&[Token]> = paths.iter().map(Vec::as_slice).collect();
    let node = |path: usize, depth: usize| shape.paths()[path][depth];
    let round = round(
        &paths,
        |path, depth| &draft[node(path, depth)],
        |path, depth| Some(&target[node(path, depth)][..]),
        &PairSampling::default(),
    )
    .unwrap();
    assert_eq!(round.tree().len(), 4);
    // Node 1 of the round is the shared token: its laws are those of the first path that has it.
    let law = |row: &[f32]| Pmf::from_logits(row, &Sampling::default()).unwrap();
    let (at_draft, at_target) = round.pair(1).unwrap();
    assert_eq!((at_draft.as_slice(), at_target.as_slice()), (&draft[1][..], &target[1][..]));
    let verifier: Verifier = "token:kseq".parse().unwrap();
    let total: f64 = verifier.law(&round).unwrap().stops().iter().map(|stop| stop.probability).sum();
    assert!((total - 1.0).abs() < 1e-12 && law(&draft[0]).vocab() == round.vocab());
}

#[test]
fn without_a_row_after_a_path_the_round_ends_there() {
    let (draft, target) = (rows(5, 2, 4), rows(6, 3, 4));
    let path: [Token; 2] = [1, 3];
    let make = |bonus: bool| {
        let target = |_: usize, depth: usize| (bonus || depth < 2).then(|| &target[depth][..]);
        round(&[&path], |_, depth| &draft[depth], target, &PairSampling::default()).unwrap()
    };
    let (with, without) = (make(true), make(false));
    let mut ended = 0;
    for seed in 0..200 {
        let coins = RoundCoins { seed, start: 0 };
        let (a, b) = (Block.verify(&with, &coins).unwrap(), Block.verify(&without, &coins).unwrap());
        assert_eq!(a.node, b.node);
        let last = without.tree().depth(b.node) == 2;
        assert_eq!(b.next, if last { None } else { a.next });
        ended += usize::from(last);
    }
    assert!((1..200).contains(&ended));
}

#[test]
fn what_was_not_drawn_is_kept_where_the_target_says_it() {
    let target = rows(7, 5, 4);
    let shape = Shape::new(&FORK).unwrap();
    let tokens: [Token; 5] = [0, 1, 2, 3, 0];
    let sampling = Sampling { temperature: 0.7, ..Sampling::default() };
    let mut depths = [0; 3];
    for seed in 0..300 {
        let coins = RoundCoins { seed, start: 3 };
        let out = follow(&shape, &tokens, |node| Some(&target[node][..]), &sampling, &coins).unwrap();
        // Plain sampling with the same coins says the same, for as long as the tree has it.
        let mut node = 0;
        for (depth, &kept) in out.nodes.iter().chain([&usize::MAX]).enumerate() {
            let law = Pmf::from_logits(&target[node], &sampling).unwrap();
            let plain = law.pick(coins.coin(Purpose::Residual, depth, 0));
            match kept {
                usize::MAX => assert_eq!(out.next, Some(plain)),
                kept => assert_eq!((tokens[kept], FORK[kept]), (plain, node as i64)),
            }
            node = kept;
        }
        depths[out.nodes.len()] += 1;
    }
    assert!(depths.iter().all(|&count| count > 0), "{depths:?}");
    let certain = [vec![0.0, 50.0, 0.0, 0.0], vec![0.0, 0.0, 50.0, 0.0]];
    let some = |node: usize| certain.get(node).map(Vec::as_slice);
    let out = follow(&shape, &tokens, some, &Sampling::default(), &RoundCoins { seed: 1, start: 0 }).unwrap();
    assert_eq!((out.nodes, out.next), (vec![1, 2], None));
}

#[test]
fn a_tree_is_verified_as_the_round_that_it_makes() {
    let (draft, target) = (rows(8, 5, 6), rows(9, 5, 6));
    let shape = Shape::new(&FORK).unwrap();
    let tokens: [Token; 5] = [9, 1, 2, 5, 4];
    let sampling = PairSampling::from(Sampling { temperature: 1.4, ..Sampling::default() });
    let paths = shape.path_tokens(&tokens).unwrap();
    let paths: Vec<&[Token]> = paths.iter().map(Vec::as_slice).collect();
    let node = |path: usize, depth: usize| shape.paths()[path][depth];
    let (at_draft, at_target) = (|node: usize| &draft[node][..], |node: usize| Some(&target[node][..]));
    let made =
        round(&paths, |path, depth| at_draft(node(path, depth)), |path, depth| at_target(node(path, depth)), &sampling);
    let made = made.unwrap();
    for verifier in Verifier::all(2) {
        let mut seen = [false; 3];
        for seed in 0..100 {
            let coins = RoundCoins { seed, start: 0 };
            let kept = verify(&shape, &tokens, at_draft, at_target, &sampling, verifier, &coins).unwrap();
            let outcome = verifier.verify(&made, &coins).unwrap();
            let nodes: Vec<Token> = kept.nodes.iter().map(|&node| tokens[node]).collect();
            assert_eq!((nodes, kept.next), (made.tree().tokens(outcome.node), outcome.next), "{verifier}");
            assert!(
                kept.nodes
                    .iter()
                    .scan(0, |parent, &node| Some(FORK[node] == std::mem::replace(parent, node as i64)))
                    .all(|is| is)
            );
            seen[kept.nodes.len()] = true;
        }
        assert!(seen.iter().filter(|seen| **seen).count() > 1, "{verifier}: {seen:?}");
    }
}

#[test]
fn a_chain_is_the_round_of_its_probabilities() {
    let (draft, target) = (rows(10, 2, 4), rows(11, 2, 4));
    let probabilities: Vec<Vec<f32>> = draft
        .iter()
        .map(|row| Pmf::from_logits(row, &Sampling::default()).unwrap().as_slice().iter().map(|&p| p as f32).collect())
        .collect();
    let logarithms: Vec<Vec<f32>> = probabilities.iter().map(|row| row.iter().map(|p| p.ln()).collect()).collect();
    let sampling = Sampling { temperature: 1.3, ..Sampling::default() };
    let pair = PairSampling { target: sampling, ..PairSampling::default() };
    // The tokens that the target likes second least: it keeps them sometimes.
    let second = |row: &[f32]| {
        let mut order: Vec<Token> = (0..row.len() as Token).collect();
        order.sort_by(|&a, &b| row[a as usize].total_cmp(&row[b as usize]));
        order[1]
    };
    let tokens: [Token; 2] = std::array::from_fn(|depth| second(&target[depth]));
    let (given, at) = (|depth: usize| &probabilities[depth][..], |depth: usize| &target[depth][..]);
    let made =
        round(&[&tokens], |_, depth| &logarithms[depth][..], |_, depth| (depth < 2).then(|| at(depth)), &pair).unwrap();
    for verifier in Verifier::all(1) {
        let mut seen = [false; 3];
        for seed in 0..200 {
            let coins = RoundCoins { seed, start: 0 };
            let kept = chain(&tokens, Some(&given), at, &sampling, verifier, &coins).unwrap();
            let outcome = verifier.verify(&made, &coins).unwrap();
            assert_eq!((kept.accepted, kept.next), (outcome.accepted(&made), outcome.next), "{verifier}");
            assert_eq!(kept.next.is_none(), kept.accepted == 2);
            seen[kept.accepted] = true;
        }
        assert!(seen.iter().filter(|seen| **seen).count() > 1, "{verifier}: {seen:?}");
    }

    // Nothing drafted, nothing to verify; a wrong row is named.
    let coins = RoundCoins { seed: 1, start: 0 };
    let refused = |rows: &[Vec<f32>]| {
        let given = |depth: usize| &rows[depth][..];
        let at = |depth: usize| &target[depth][..];
        chain(&tokens, Some(&given), at, &sampling, Verifier::all(1)[0], &coins).unwrap_err()
    };
    let kept = chain(&[], Some(&given), at, &sampling, Verifier::all(1)[0], &coins).unwrap();
    assert_eq!((kept.accepted, kept.next), (0, None));
    let error = refused(&[probabilities[0].clone(), vec![0.5, -0.5, 0.5, 0.5]]);
    assert_eq!(error, EngineError::Probability { depth: 1, token: 1, value: -0.5 });
    let error = refused(&[vec![0.25, 0.25, 0.25, 0.5], probabilities[1].clone()]);
    assert_eq!(error, EngineError::ProbabilitySum { depth: 0, sum: 1.25 });
    assert!(matches!(refused(&[vec![f32::NAN; 4], vec![]]), EngineError::Probability { depth: 0, token: 0, .. }));
}

#[test]
fn refusals_name_the_place() {
    let row = [0.0f32, 1.0];
    let bad = [0.0, f32::NAN];
    let coins = [Coin::ZERO; 4];
    let default = PairSampling::default();
    let error = select(Rule::Maximal, (&row, &row), &default, &[0, 1], &coins).unwrap_err();
    assert_eq!(error, EngineError::Drafts { rule: "maximal", drafts: 2 });
    let error = select(Rule::KSeq, (&row, &bad), &default, &[0, 1], &coins).unwrap_err();
    assert!(matches!(error, EngineError::Scores { error: ScanError::Logit { row: "target", token: 1, .. }, .. }));
    let hot = PairSampling::from(Sampling { temperature: -1.0, ..Sampling::default() });
    let error = select(Rule::KSeq, (&row, &row), &hot, &[0, 1], &coins).unwrap_err();
    assert!(matches!(error, EngineError::Sampling { row: "draft", error: PmfError::Parameter { .. }, .. }));

    let path: [Token; 2] = [0, 1];
    let of = |depth: usize| if depth == 1 { &bad[..] } else { &row[..] };
    let error = round(&[&path], |_, depth| of(depth), |_, _| Some(&row[..]), &default).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the draft logit of token 1 is NaN; it must be finite, or -inf for a masked token \
        (path 0, after 1 tokens)"
    );
    let error = round(&[&path], |_, _| &row[..], |_, depth| (depth != 1).then_some(&row[..]), &default).unwrap_err();
    assert_eq!(error, EngineError::NoTarget { path: 0, depth: 1 });

    assert_eq!(Shape::new(&[]).unwrap_err(), EngineError::NoRoot);
    for (parents, node, parent) in [(&[0][..], 0, 0), (&[-1, 1], 1, 1), (&[-1, -1], 1, -1), (&[-1, 0, 5], 2, 5)] {
        assert_eq!(Shape::new(parents).unwrap_err(), EngineError::Parent { node, parent });
    }
    let shape = Shape::new(&[-1, 0]).unwrap();
    assert_eq!(shape.path_tokens(&[0]).unwrap_err(), EngineError::Tokens { nodes: 2, tokens: 1 });
}
