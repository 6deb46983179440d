//! Minimum-entropy couplings: marginals, bounds, the least entropy, codes, chains and the game.

use draftpick::Pmf;
use draftpick::mec::game::{GridWorld, Policy, play};
use draftpick::mec::{
    Bottleneck, Coupling, Encoder, MecError, entropy, exact, greedy, independent, lower_bound, partitions,
};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// `log₂(e)/e`: how far above the least entropy the greedy coupling of two marginals may be.
const GREEDY_LOSS: f64 = 0.530_737_846_5;

/// A law over up to `most` symbols: ordinary, spiky or sparse.
fn law(most: usize) -> impl Strategy<Value = Pmf> {
    let weights = prop::collection::vec((0.0..1.0f64, 0..3u8), 1..=most);
    weights.prop_filter_map("no mass", |weights| {
        let shaped = weights.into_iter().map(|(x, shape)| match shape {
            0 => x,
            1 => x.powi(12),
            _ if x < 0.5 => 0.0,
            _ => 1.0,
        });
        Pmf::from_weights(shaped.collect::<Vec<_>>()).ok()
    })
}

fn random(rng: &mut StdRng, symbols: usize) -> Pmf {
    Pmf::from_weights((0..symbols).map(|_| rng.random::<f64>()).collect::<Vec<_>>()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_greedy_coupling_has_its_marginals_and_keeps_its_bounds(laws in prop::collection::vec(law(20), 1..=4)) {
        let laws: Vec<&Pmf> = laws.iter().collect();
        let coupling = greedy(&laws).unwrap();
        prop_assert!(coupling.marginal_error(&laws) < 1e-14, "{:e}", coupling.marginal_error(&laws));
        prop_assert!(coupling.cells().len() <= laws.iter().map(|law| law.support()).sum::<usize>());
        let (bits, bound) = (coupling.entropy(), lower_bound(&laws));
        prop_assert!(bits >= bound - 1e-9, "{bits} below {bound}");
        for law in &laws {
            prop_assert!(bound >= entropy(law.as_slice()) - 1e-9);
        }
        if let [_] = laws[..] {
            prop_assert!((bits - bound).abs() < 1e-9);
        }
    }

    #[test]
    fn the_product_has_most_entropy(p in law(6), q in law(6)) {
        let product = independent(&[&p, &q]).unwrap();
        prop_assert!(product.marginal_error(&[&p, &q]) < 1e-14);
        prop_assert!((product.entropy() - entropy(p.as_slice()) - entropy(q.as_slice())).abs() < 1e-9);
        prop_assert!(greedy(&[&p, &q]).unwrap().entropy() <= product.entropy() + 1e-9);
    }

    #[test]
    fn a_code_keeps_to_its_rate_and_within_its_gap(source in law(12), share in 0.0..1.2f64) {
        let bits = entropy(source.as_slice());
        let rate = share * bits;
        let (plain, code) = (Encoder::deterministic(&source, rate).unwrap(), Encoder::new(&source, rate).unwrap());
        for encoder in [&plain, &code] {
            prop_assert!(encoder.rate() <= rate + 1e-9, "{} above {rate}", encoder.rate());
            prop_assert!(encoder.information() <= encoder.rate() + 1e-9);
            let joint = encoder.joint();
            let error = joint.marginal(0).iter().zip(source.as_slice()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            prop_assert!(error < 1e-15, "{error:e}");
        }
        prop_assert!((plain.information() - plain.rate()).abs() < 1e-9, "a map loses nothing that it does not merge");
        prop_assert!(code.information() >= plain.information() - 1e-9);
        let mut sorted = source.as_slice().to_vec();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let second = sorted.get(1).copied().unwrap_or(0.0);
        let gap = entropy(&[second, 1.0 - second]);
        prop_assert!(plain.information() >= rate.min(bits) - gap - 1e-9, "{} of {rate}, gap {gap}", plain.information());
        if rate >= bits {
            prop_assert!((plain.information() - bits).abs() < 1e-9);
        }
    }

    #[test]
    fn a_chain_has_its_marginals_and_loses_what_its_parts_lose(p in law(8), q in law(8), share in 0.0..1.2f64) {
        let rate = share * entropy(p.as_slice());
        let chain = Bottleneck::new(&p, &q, rate).unwrap();
        let joint = chain.joint();
        prop_assert!(joint.marginal_error(&[&p, &q]) < 1e-12, "{:e}", joint.marginal_error(&[&p, &q]));
        let (encoded, decoded) = (chain.encoder().information(), chain.decoder().information());
        let information = chain.information();
        // The data processing inequality, and the bound of the decomposition.
        prop_assert!(information <= encoded.min(decoded) + 1e-9);
        prop_assert!(information >= encoded + decoded - chain.encoder().rate() - 1e-9);
    }
}

/// The least entropy by another way: all choices of `n + m − 1` cells, the masses by elimination.
fn least_over_bases(p: &[f64], q: &[f64]) -> f64 {
    let (n, m) = (p.len(), q.len());
    let cells = n * m;
    let mut least = f64::INFINITY;
    for chosen in 0u32..1 << cells {
        if chosen.count_ones() as usize != n + m - 1 {
            continue;
        }
        let (mut rows, mut columns) = (p.to_vec(), q.to_vec());
        let mut left: Vec<(usize, usize)> =
            (0..cells).filter(|c| chosen >> c & 1 == 1).map(|c| (c / m, c % m)).collect();
        let mut masses = Vec::new();
        // A forest has a row or a column with one cell left, whose mass is all that is left there.
        while let Some(place) = left.iter().position(|&(i, j)| {
            left.iter().filter(|cell| cell.0 == i).count() == 1 || left.iter().filter(|cell| cell.1 == j).count() == 1
        }) {
            let (i, j) = left.swap_remove(place);
            let alone = !left.iter().any(|cell| cell.0 == i);
            let mass = if alone { rows[i] } else { columns[j] };
            rows[i] -= mass;
            columns[j] -= mass;
            masses.push(mass);
        }
        let solved = left.is_empty() && rows.iter().chain(&columns).all(|rest| rest.abs() < 1e-12);
        if solved && masses.iter().all(|&mass| mass > -1e-12) {
            least = least.min(entropy(&masses));
        }
    }
    least
}

#[test]
fn the_least_entropy_is_that_of_the_best_vertex() {
    let mut rng = StdRng::seed_from_u64(3);
    let (mut worst, mut mean) = (0.0f64, 0.0);
    let mut pairs = 0;
    for (n, m) in [(2, 2), (2, 3), (3, 2), (3, 3), (3, 4), (4, 3)] {
        for _ in 0..40 {
            let (p, q) = (random(&mut rng, n), random(&mut rng, m));
            let best = exact(&p, &q).unwrap();
            assert!(best.marginal_error(&[&p, &q]) < 1e-13);
            let least = least_over_bases(p.as_slice(), q.as_slice());
            assert!((best.entropy() - least).abs() < 1e-9, "{n}×{m}: {} against {least}", best.entropy());
            let gap = greedy(&[&p, &q]).unwrap().entropy() - least;
            assert!((-1e-9..GREEDY_LOSS).contains(&gap), "{gap}");
            assert!(lower_bound(&[&p, &q]) <= least + 1e-9);
            worst = worst.max(gap);
            mean += gap;
            pairs += 1;
        }
    }
    println!(
        "greedy above the least entropy, {pairs} pairs: mean {:.4}, largest {worst:.4} bits",
        mean / f64::from(pairs)
    );
}

#[test]
fn five_symbols_are_solved_and_six_refused() {
    let mut rng = StdRng::seed_from_u64(4);
    for _ in 0..5 {
        let (p, q) = (random(&mut rng, 5), random(&mut rng, 5));
        let (best, fast) = (exact(&p, &q).unwrap(), greedy(&[&p, &q]).unwrap());
        assert!(best.marginal_error(&[&p, &q]) < 1e-13);
        assert!(best.entropy() <= fast.entropy() + 1e-9 && best.entropy() >= lower_bound(&[&p, &q]) - 1e-9);
    }
    let six = Pmf::uniform(6).unwrap();
    assert_eq!(exact(&six, &six), Err(MecError::Size { marginal: 0, symbols: 6, most: 5 }));
    // Symbols without mass do not count.
    let sparse = Pmf::new([0.0, 0.5, 0.0, 0.5, 0.0, 0.0]).unwrap();
    assert!((exact(&sparse, &sparse).unwrap().entropy() - 1.0).abs() < 1e-12);
}

/// Merging the last two of three symbols leaves exactly one bit, but for rounding.
#[test]
fn a_rate_that_a_code_has_exactly_is_enough() {
    let source = Pmf::new([0.5, 0.3, 0.2]).unwrap();
    for bits in partitions(&source).unwrap() {
        let code = Encoder::deterministic(&source, bits).unwrap();
        assert!((code.information() - bits).abs() < 1e-9, "{} of {bits}", code.information());
    }
    assert!((Encoder::deterministic(&source, 1.0).unwrap().information() - 1.0).abs() < 1e-9);
}

#[test]
fn degenerate_marginals_are_coupled_and_bad_arguments_refused() {
    assert_eq!(greedy(&[]), Err(MecError::NoMarginal));
    assert_eq!(independent(&[]), Err(MecError::NoMarginal));
    let (one, many) = (Pmf::uniform(1).unwrap(), Pmf::uniform(7).unwrap());
    assert!((greedy(&[&one, &many]).unwrap().entropy() - 7f64.log2()).abs() < 1e-12);
    // Equal laws are coupled on the diagonal.
    let p = Pmf::new([0.5, 0.25, 0.125, 0.125]).unwrap();
    let diagonal = greedy(&[&p, &p, &p]).unwrap();
    assert!((diagonal.entropy() - 1.75).abs() < 1e-12);
    for rate in [-1.0, f64::NAN] {
        assert!(matches!(Encoder::new(&p, rate), Err(MecError::Rate { .. })));
    }
    let large = Pmf::uniform(1 << 14).unwrap();
    assert!(matches!(independent(&[&large, &large]), Err(MecError::Cells { cells: Some(268_435_456), .. })));
    assert!(matches!(partitions(&Pmf::uniform(11).unwrap()), Err(MecError::Size { symbols: 11, .. })));
    assert_eq!(partitions(&Pmf::uniform(3).unwrap()).unwrap().len(), 5);
}

/// The best deterministic code by trying all, and the best of all codes of three words over a grid of their laws: given
/// the law of the code, most information is least joint entropy.
#[test]
fn codes_come_near_the_best() {
    const STEPS: usize = 60;
    let mut rng = StdRng::seed_from_u64(5);
    let (mut of_maps, mut of_all, mut count) = (Vec::new(), Vec::new(), 0);
    // More symbols: maps only.
    let (mut larger, mut largest_map) = (Vec::new(), 0.0f64);
    for _ in 0..20 {
        let source = random(&mut rng, 8);
        let maps = partitions(&source).unwrap();
        for share in [0.3, 0.5, 0.7, 0.9] {
            let rate = share * entropy(source.as_slice());
            let best = maps.iter().copied().filter(|bits| *bits <= rate).fold(0.0, f64::max);
            let gap = best - Encoder::deterministic(&source, rate).unwrap().information();
            assert!(gap > -1e-9);
            larger.push(gap);
            largest_map = largest_map.max(gap);
        }
    }
    println!(
        "8 symbols: the map is below the best map by {:.4} (largest {largest_map:.4}) bits",
        larger.iter().sum::<f64>() / larger.len() as f64
    );
    for _ in 0..4 {
        let source = random(&mut rng, 3);
        let bits = entropy(source.as_slice());
        let mut codes = Vec::new();
        for i in 1..STEPS {
            for j in i..STEPS {
                let k = STEPS.saturating_sub(i + j);
                if k > j || i + j > STEPS {
                    continue;
                }
                let law = [i, j, k].map(|n| n as f64 / STEPS as f64);
                let law = Pmf::new(law).unwrap();
                let joint = exact(&source, &law).unwrap().entropy();
                codes.push((entropy(law.as_slice()), bits + entropy(law.as_slice()) - joint));
            }
        }
        for share in [0.3, 0.5, 0.7, 0.9] {
            let rate = share * bits;
            let code = Encoder::new(&source, rate).unwrap().information();
            let map = partitions(&source).unwrap().into_iter().filter(|bits| *bits <= rate).fold(0.0, f64::max);
            let plain = Encoder::deterministic(&source, rate).unwrap().information();
            assert!(plain <= map + 1e-9);
            let best = codes.iter().filter(|code| code.0 <= rate).map(|code| code.1).fold(0.0, f64::max);
            of_maps.push(map - plain);
            of_all.push((best - code).max(0.0));
            assert!(best <= rate + 1e-9);
            count += 1;
        }
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let largest = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    println!(
        "3 symbols, {count} sources and rates: the map is below the best map by {:.4} (largest {:.4}) bits; the code below the \
         best on the grid by {:.4} (largest {:.4})",
        mean(&of_maps),
        largest(&of_maps),
        mean(&of_all),
        largest(&of_all)
    );
    assert!(largest(&of_maps) < 0.6 && largest(&of_all) < 0.3);
}

#[test]
fn a_message_costs_no_reward_and_arrives() {
    const EPISODES: usize = 1500;
    let world = GridWorld::new(4, 30, 0.1).unwrap();
    let policy = Policy::soft(world, 1.0).unwrap();
    let source = Pmf::uniform(8).unwrap();
    let mut accuracies = Vec::new();
    for rate in [3.0, 1.0] {
        let encoder = Encoder::new(&source, rate).unwrap();
        let mut rng = StdRng::seed_from_u64(6);
        let played: Vec<_> = (0..EPISODES).map(|_| play(&policy, &encoder, &mut rng).unwrap()).collect();
        let mean = played.iter().map(|episode| episode.reward).sum::<f64>() / EPISODES as f64;
        let error = policy.deviation() / (EPISODES as f64).sqrt();
        assert!((mean - policy.value()).abs() < 5.0 * error, "{mean} ± {error}, the policy's is {}", policy.value());
        accuracies
            .push(played.iter().filter(|episode| episode.message == episode.decoded).count() as f64 / EPISODES as f64);
        // A policy of another temperature is told apart, so the comparison has power.
        let other = Policy::soft(world, 0.5).unwrap().value();
        assert!((mean - other).abs() > 5.0 * error, "{mean} ± {error} passes for {other}");
    }
    // Of 8 equally likely messages a code of 1 bit leaves 4 to guess among; one of 3 bits leaves none.
    assert!(accuracies[0] > 0.9 && accuracies[1] < 0.35, "{accuracies:?}");
}

#[test]
fn policies_are_soft_optimal() {
    // In two by two cells without slipping the goal is two steps away, by either of two ways.
    let world = GridWorld::new(2, 6, 0.0).unwrap();
    let cold = Policy::soft(world, 1e-3).unwrap();
    assert!((cold.value() + 2.0).abs() < 1e-9);
    let law = cold.law(0, 0).as_slice();
    assert!((law[1] - 0.5).abs() < 1e-9 && (law[2] - 0.5).abs() < 1e-9, "{law:?}");
    assert!(cold.deviation() < 1e-6);
    // Hot, all that counts is how many ways there are to go on: with two steps left one way into the goal, and four from each
    // of the three other places; with one step left all actions are alike.
    let hot = Policy::soft(world, 1e9).unwrap();
    assert!((hot.law(4, 1).as_slice()[2] - 1.0 / 13.0).abs() < 1e-6);
    assert!(hot.law(5, 0).as_slice().iter().all(|share| (share - 0.25).abs() < 1e-6));
    assert!(GridWorld::new(1, 5, 0.0).is_err() && GridWorld::new(4, 0, 0.0).is_err());
    assert!(GridWorld::new(4, 5, 1.5).is_err() && GridWorld::new(4, 5, f64::NAN).is_err());
    assert!(Policy::soft(world, 0.0).is_err() && Policy::soft(world, f64::NAN).is_err());
}

/// The shapes of what is public are what the documentation says.
#[test]
fn a_coupling_answers_for_its_cells() {
    let (p, q) = (Pmf::new([0.5, 0.5]).unwrap(), Pmf::new([0.75, 0.25]).unwrap());
    let coupling: Coupling = greedy(&[&p, &q]).unwrap();
    assert_eq!((coupling.variables(), coupling.vocab(0), coupling.vocab(1)), (2, 2, 2));
    let given = coupling.given_second(1).unwrap();
    assert_eq!(given.as_slice(), [0.0, 1.0]);
    assert!((coupling.information() - (1.0 + entropy(&[0.75, 0.25]) - coupling.entropy())).abs() < 1e-12);
}
