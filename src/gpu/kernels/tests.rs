//! The kernels' plan code, built for this machine by a C++ compiler, against the Rust code that specifies it.
//!
//! Two builds: one whose arithmetic is Rust's, and one that fuses multiplications with additions, as the GPU does. The
//! bounds are for both.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::classes::Edges;
use crate::kseq::KSeq;
use crate::layout::{Item, Layout, Segment};
use crate::optimal::{DEFAULT_CLASSES, OptimalLinear, Precision};
use crate::path::{
    Block, Coins, DEFAULT_LOSS, DraftTree, PathCoupling, PathVerifier, Purpose, ROOT, Round, RoundCoins, SpreadCoupling,
};
use crate::problem::{Laws, Problem};
use crate::selector::SelectThenAccept;
use crate::{Coin, Pmf, Selector};

/// How far masses, ratios and lengths may be apart, in absolute terms (all are at most 1) or as a share of themselves.
///
/// A split between two edges divides by the distance of their ratios, at least a hundredth: it loses two digits.
const MASS: f64 = 1e-12;

/// How far labels may be apart. A window is found by its mass, to a few roundings of it; where the free part
/// on its two sides is equally dense, the mass hardly says where the window lies.
const LABEL: f64 = 1e-9;

/// How far `rho` may be from the Rust code's.
const RHO: f64 = 1e-10;

/// The program of `tests/gpu/host.cpp`, answering requests.
struct Host(Child);

/// Builds the program; `None` where there is no C++ compiler, which is an error in CI.
fn build(fused: bool) -> Option<PathBuf> {
    let root = env!("CARGO_MANIFEST_DIR");
    let tests = std::env::current_exe().expect("a test is a program");
    let program = tests.with_file_name(if fused { "kernels-fused" } else { "kernels" });
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    let mut build = Command::new(&compiler);
    build.args(["-std=c++17", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]);
    match fused {
        true if cfg!(target_arch = "x86_64") => build.args(["-mfma", "-ffp-contract=fast"]),
        true => build.arg("-ffp-contract=fast"),
        false => build.arg("-ffp-contract=off"),
    };
    build.arg(format!("-I{root}/src/gpu/kernels")).arg(format!("{root}/tests/gpu/host.cpp")).arg("-o").arg(&program);
    match build.status() {
        Ok(status) => assert!(status.success(), "{compiler} does not take the kernels' plan code"),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "CI needs a C++ compiler; {compiler}: {error}");
            eprintln!("skipped: {compiler} cannot be run ({error}); set CXX to a C++ compiler");
            return None;
        }
    }
    Some(program)
}

impl Host {
    /// Both builds, running.
    fn both() -> impl Iterator<Item = Host> {
        static PROGRAMS: LazyLock<Vec<PathBuf>> = LazyLock::new(|| {
            #[cfg(target_arch = "x86_64")]
            let fuses = std::arch::is_x86_feature_detected!("fma");
            #[cfg(not(target_arch = "x86_64"))]
            let fuses = true;
            let kinds = if fuses { vec![false, true] } else { vec![false] };
            kinds.into_iter().filter_map(build).collect()
        });
        PROGRAMS.iter().map(|program| {
            let child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
            Host(child.expect("what was just built can be run"))
        })
    }

    fn ask(&mut self, request: Vec<f64>) -> Answer {
        let stdin = self.0.stdin.as_mut().expect("piped");
        let bytes = |x: &f64| x.to_le_bytes();
        stdin.write_all(&(request.len() as f64).to_le_bytes()).expect("the program reads");
        stdin.write_all(&request.iter().flat_map(bytes).collect::<Vec<u8>>()).expect("the program reads");
        stdin.flush().expect("the program reads");
        let stdout = self.0.stdout.as_mut().expect("piped");
        let mut number = [0; 8];
        stdout.read_exact(&mut number).expect("the program answers");
        let mut bytes = vec![0; 8 * f64::from_le_bytes(number) as usize];
        stdout.read_exact(&mut bytes).expect("the program answers");
        let values = bytes.chunks(8).map(|b| f64::from_le_bytes(b.try_into().expect("8 bytes"))).collect();
        Answer { values, at: 0 }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

struct Answer {
    values: Vec<f64>,
    at: usize,
}

impl Answer {
    fn next(&mut self) -> f64 {
        self.at += 1;
        self.values[self.at - 1]
    }

    #[track_caller]
    fn expect(&mut self, value: f64, bound: f64) {
        let found = self.next();
        let near = found == value || (found - value).abs() <= bound * (1.0 + value.abs());
        assert!(near, "{found:e} in place of {value:e}, off by {:e}", found - value);
    }

    #[track_caller]
    fn end(&self) {
        assert_eq!(self.at, self.values.len());
    }
}

/// Laws over 1 to 400 tokens: ordinary, spiky, with many zeros, with many ties, equal, disjoint, point masses.
fn laws(seed: u64) -> (Pmf, Pmf) {
    let mut rng = StdRng::seed_from_u64(seed);
    let shape = seed % 8;
    let vocab = rng.random_range(1..=400usize).min(1 + seed as usize);
    let mut weights = |side: usize| -> Vec<f64> {
        let point = rng.random_range(0..vocab);
        let weight = |token: usize, rng: &mut StdRng| match shape {
            0 => rng.random::<f64>() + 1e-3,
            1 => 10f64.powf(-9.0 * rng.random::<f64>()),
            2 if rng.random::<bool>() => 0.0,
            3 => f64::from(rng.random_range(1..=3u32)),
            4 if (token < vocab / 2) == (side == 0) && vocab > 1 => 0.0,
            5 if token != point => 0.0,
            _ => (-12.0 * rng.random::<f64>()).exp(),
        };
        let mut weights: Vec<f64> = (0..vocab).map(|token| weight(token, &mut rng)).collect();
        if weights.iter().all(|w| *w == 0.0) {
            weights[point] = 1.0;
        }
        weights
    };
    let p = weights(0);
    let q = if shape == 6 { p.clone() } else { weights(1) };
    let pmf = |weights: Vec<f64>| {
        let total: f64 = weights.iter().sum();
        Pmf::new(weights.into_iter().map(|w| w / total).collect::<Vec<f64>>()).expect("weights over their sum")
    };
    (pmf(p), pmf(q))
}

fn pairs(request: &mut Vec<f64>, pairs: &[(f64, f64)]) {
    request.push(pairs.len() as f64);
    request.extend(pairs.iter().flat_map(|&(a, b)| [a, b]));
}

fn tokens(problem: &Problem) -> Vec<(f64, f64)> {
    (0..problem.vocab() as u32).map(|token| problem.masses(token)).filter(|masses| masses.0 > 0.0).collect()
}

#[test]
fn edges_items_and_splits_are_the_same() {
    for mut host in Host::both() {
        for seed in 0..400 {
            let mut rng = StdRng::seed_from_u64(1000 + seed);
            let (p, q) = laws(seed);
            let k = rng.random_range(1..=16usize);
            let problem = Problem::new(p, q, k).unwrap();
            // No ratio is an edge: which class a token on an edge is in is rounding's choice, and of no consequence.
            let (width, anchor) = (Edges::width(1024, k), rng.random::<f64>());
            let log_lowest = -(k as f64).ln() - if seed % 2 == 0 { 6.0 } else { 0.0 };
            let grid = Edges::spanning(width, anchor, log_lowest);
            let classes = grid.count(&problem);
            let loss = [1e-3, 1e-2, 0.0][seed as usize % 3];
            let mut request = vec![1.0, width, anchor, log_lowest, loss];
            pairs(&mut request, &classes);
            pairs(&mut request, &tokens(&problem));
            let mut answer = host.ask(request);
            answer.expect(grid.len() as f64, 0.0);
            let (edges, merged) = grid.thinned(classes, loss);
            answer.expect(edges.len() as f64, 0.0);
            (0..edges.len()).for_each(|e| answer.expect(edges.inverse(e), MASS));
            for masses in &merged {
                answer.expect(masses.0, MASS);
                answer.expect(masses.1, MASS);
            }
            // What is on an edge by rounding alone may be an item on one side and nothing on the other.
            let mut on_edge = vec![(0.0, 0.0); edges.len()];
            for _ in 0..answer.next() as usize {
                let masses = (answer.next(), answer.next());
                on_edge[answer.next() as usize] = masses;
            }
            for (edge, mass) in edges.draft_masses(&merged).into_iter().enumerate() {
                assert!((on_edge[edge].0 - mass).abs() <= MASS);
                assert!((on_edge[edge].1 - mass * edges.inverse(edge)).abs() <= MASS);
            }
            let item_of: Vec<usize> = (0..edges.len()).map(|_| answer.next() as usize).collect();
            assert!(item_of.windows(2).all(|pair| pair[0] >= pair[1]));
            answer.expect((merged[0].1 - merged[0].0 * edges.inverse(0)).max(0.0), MASS);
            for (p, q) in tokens(&problem) {
                let split = edges.split(p, q);
                answer.expect(split.lower as f64, 0.0);
                answer.expect(split.p_lower, MASS);
                answer.expect(split.p_upper, MASS);
            }
            answer.end();
        }
    }
}

/// Items of falling ratio and a base as long as they are, in one segment or several.
fn laid_out(seed: u64) -> (Vec<Segment>, Vec<Item>, usize) {
    let mut rng = StdRng::seed_from_u64(seed);
    let count = rng.random_range(1..=60usize);
    let mut items: Vec<Item> = (0..count)
        .map(|_| match seed % 3 {
            0 => Item { p: rng.random::<f64>(), q: rng.random() },
            1 => Item { p: 10f64.powf(-8.0 * rng.random::<f64>()), q: 10f64.powf(-8.0 * rng.random::<f64>()) },
            _ => Item { p: rng.random::<f64>(), q: f64::from(rng.random_range(0..2u32)) * rng.random::<f64>() },
        })
        .collect();
    items.sort_by(|a, b| (b.p / b.q).total_cmp(&(a.p / a.q)));
    items.dedup_by(|a, b| a.q == 0.0 && b.q == 0.0);
    let segments = if seed.is_multiple_of(2) { 1 } else { rng.random_range(1..=6) };
    let mut base = vec![Segment::UNIT];
    if segments > 1 {
        let mut ends: Vec<f64> = (0..2 * segments).map(|_| rng.random()).collect();
        ends.sort_by(f64::total_cmp);
        base = ends.chunks(2).map(|pair| Segment { lo: pair[0], len: pair[1] - pair[0] }).collect();
    }
    let length: f64 = base.iter().map(|s| s.len).sum();
    let (p, q) = items.iter().fold((0.0, 0.0), |sum, item| (sum.0 + item.p, sum.1 + item.q));
    items.iter_mut().for_each(|item| (item.p, item.q) = (item.p * length / p, item.q / q.max(1e-300)));
    (base, items, rng.random_range(1..=16))
}

#[test]
fn regions_masses_and_labels_are_the_same() {
    let mut segments = 0.0;
    for mut host in Host::both() {
        for seed in 0..1000 {
            let (base, items, k) = laid_out(seed);
            let coin = Coin::new(0.37).unwrap();
            let mut request = vec![2.0, k as f64];
            pairs(&mut request, &base.iter().map(|s| (s.lo, s.len)).collect::<Vec<_>>());
            pairs(&mut request, &items.iter().map(|item| (item.p, item.q)).collect::<Vec<_>>());
            request.push(coin.get());
            let mut answer = host.ask(request);
            let layout = Layout::new(&base, &items, k);
            (0..items.len()).for_each(|item| answer.expect(layout.mass(item), MASS));
            for (item, Item { p, .. }) in items.iter().enumerate() {
                let (length, mass) = (answer.next(), answer.next());
                assert!((length - p).abs() <= MASS, "seed {seed}: length {length:e} of {p:e}");
                // The region built holds the mass that is claimed of it.
                assert!((mass - layout.mass(item)).abs() <= MASS, "seed {seed}: {mass:e}, {:e}", layout.mass(item));
                answer.expect(layout.label(item, coin), LABEL);
            }
            segments = answer.next().max(segments);
            answer.end();
        }
    }
    println!("the largest region had {segments} segments");
}

#[test]
fn rho_is_the_same_and_inside_its_bounds() {
    let (mut widest, mut roots, mut others) = (0.0f64, Vec::new(), 0);
    for mut host in Host::both() {
        for seed in 0..400 {
            let mut rng = StdRng::seed_from_u64(2000 + seed);
            let (p, q) = laws(seed);
            let k = rng.random_range(1..=16usize);
            let problem = Problem::new(p, q, k).unwrap();
            let (width, anchor) = (Edges::width(1024, k), rng.random::<f64>());
            let grid = Edges::spanning(width, anchor, -(k as f64).ln());
            let mut request = vec![3.0, width, anchor, k as f64];
            pairs(&mut request, &grid.count(&problem));
            pairs(&mut request, &tokens(&problem));
            let mut answer = host.ask(request);
            answer.expect(grid.len() as f64, 0.0);
            let rule = KSeq::new(problem);
            // Where p_acc − rho·beta is flat, rounding moves its root.
            let (rho, high, low) = (answer.next(), answer.next(), answer.next());
            for halved in [high, low] {
                // Newton's method ends where p_acc − rho·beta is 0 too, which is the same rho unless it is so over a stretch.
                roots.push((halved, answer.next()));
            }
            for (halved, root) in roots.drain(..) {
                let excess = answer.next();
                let same = (root - halved).abs() <= 1e-8 * halved;
                assert!(same || excess.abs() <= 1e-13, "seed {seed}: {root} in place of {halved}, off by {excess:e}");
                others += usize::from(!same);
            }
            let (beta, tries) = (answer.next(), answer.next());
            // Where p_acc − rho·beta stays 0 to a few roundings over a stretch, any rho of it is as good.
            let excess = beta * tries - rho * beta;
            let flat = excess.abs() <= 1e-13;
            assert!((rho - rule.rho()).abs() <= RHO || flat, "seed {seed}: rho is {rho}, not {}", rule.rho());
            assert!(excess <= 1e-13, "seed {seed}: rho = {rho} is not valid by {excess:e}");
            assert!((beta * tries - Selector::acceptance(&rule).value).abs() <= RHO);
            assert!(low - RHO <= rho && rho <= high + RHO, "seed {seed}: {rho} is not in [{low}, {high}]");
            widest = widest.max(high / low - 1.0);
            answer.end();
        }
    }
    // Equal laws and the like.
    println!("{others} roots are of a stretch");
    println!("rho is known to {widest:e} of itself before the tokens of its class are looked at");
}

/// How far the labels of two sides may be apart where they tell of the same intervals: a share of an interval is found by sums
/// of lengths, which have the digits of all labels.
const SHARED_LABEL: f64 = 1e-9;

#[test]
fn the_order_statistic_coupling_selects_the_same() {
    let (mut apart, mut labels) = (0, 0);
    for mut host in Host::both() {
        for seed in 0..400 {
            let mut rng = StdRng::seed_from_u64(3000 + seed);
            let (p, q) = laws(seed);
            let k = rng.random_range(1..=16usize);
            let problem = Problem::new(p, q, k).unwrap();
            let (width, anchor) = (Edges::width(1024, k), rng.random::<f64>());
            let grid = Edges::spanning(width, anchor, -(k as f64).ln());
            let classes = grid.count(&problem);
            let drafted = tokens(&problem);
            let mut request = vec![4.0, width, anchor, k as f64];
            pairs(&mut request, &classes);
            pairs(&mut request, &drafted);
            let mut answer = host.ask(request);
            answer.expect(grid.len() as f64, 0.0);
            let rule = OptimalLinear::with_counts(&problem, k, grid.clone(), classes.clone(), Precision::Classes);
            let on_edge = grid.draft_masses(&classes);
            let ids = (0..problem.vocab() as u32).filter(|&token| problem.masses(token).0 > 0.0);
            for (token, &(p, q)) in ids.zip(&drafted) {
                answer.expect(rule.selected(token, p, q), MASS);
                let lower = grid.split(p, q).lower;
                for edge in [lower, (lower + 1).min(grid.len() - 1)] {
                    for coin in [0.0, 0.125, 0.625, 0.96875] {
                        let found = answer.next();
                        // What is on an edge by rounding alone is an item on one side only.
                        if on_edge[edge] <= MASS || found < 0.0 {
                            continue;
                        }
                        labels += 1;
                        let label = rule.layout().label(rule.item_of(edge), Coin::new(coin).unwrap());
                        // Where nothing is exchanged but rounding, the two sides may see other partners; and a coin may lie
                        // at the end of an interval.
                        apart += usize::from((found - label).abs() > SHARED_LABEL);
                    }
                }
            }
            answer.end();
        }
    }
    println!("{apart} of {labels} labels are apart");
    assert!(200 * apart <= labels, "{apart} of {labels} labels are apart");
}

/// A law over `vocab` tokens: peaked, spiky, with zeros, or a point.
fn law(rng: &mut StdRng, vocab: usize) -> Pmf {
    let shape = rng.random_range(0..8u32);
    let mut weights: Vec<f64> = (0..vocab)
        .map(|_| match shape {
            0 => 10f64.powf(-9.0 * rng.random::<f64>()),
            1 if rng.random::<bool>() => 0.0,
            2..4 => rng.random::<f64>(),
            _ => (4.0 * rng.random::<f64>().ln()).exp(),
        })
        .collect();
    weights[rng.random_range(0..vocab)] += 1e-3;
    Pmf::from_weights(weights).unwrap()
}

/// Drafts that share prefixes where their tokens agree; token 0 ends the text, now and then, and some rounds end early
/// for all.
fn drafted(seed: u64, most_paths: usize) -> (Round<Pmf>, RoundCoins) {
    let mut rng = StdRng::seed_from_u64(seed);
    let vocab = [2, 3, 8, 40, 300][seed as usize % 5];
    let (paths, length) = (rng.random_range(1..=most_paths), rng.random_range(1..=8));
    let coins = RoundCoins { seed, start: 7 };
    let mut tree = DraftTree::new(paths).unwrap();
    for _ in 0..length {
        for leaf in tree.open() {
            for child in tree.draw(leaf, law(&mut rng, vocab), &coins).unwrap() {
                if tree.token(child) == 0 && seed.is_multiple_of(2) {
                    tree.end(child).unwrap();
                }
            }
        }
    }
    let round = tree.score(|_| Ok::<_, crate::path::PathError>(law(&mut rng, vocab))).unwrap();
    (round, coins)
}

/// What is asked is 5, the path coupling, 6, block verification, or 7, the spread coupling.
fn request(what: f64, round: &Round<Pmf>, coins: &RoundCoins) -> Vec<f64> {
    let tree = round.tree();
    let paths = tree.paths();
    let k = paths.len();
    let length = paths.iter().map(|nodes| nodes.len() - 1).max().unwrap_or(0);
    let width = Edges::width(DEFAULT_CLASSES, k);
    // As `Pmf::count` and `Nests::nest` have it.
    let mut request = vec![what, k as f64, length as f64, round.vocab() as f64];
    request.extend([width, 0.0, -(k as f64).ln() - 6.0, DEFAULT_LOSS]);
    for nodes in paths {
        request.push((nodes.len() - 1) as f64);
        request.extend(nodes.iter().map(|&node| node as f64));
        request.extend(nodes[1..].iter().map(|&node| f64::from(tree.token(node))));
    }
    let coin = |purpose, depth, path| coins.coin(purpose, depth, path).get();
    for depth in 0..=length {
        request.extend([coin(Purpose::Accept, depth, 0), coin(Purpose::Residual, depth, 0)]);
    }
    for path in 0..k {
        request.extend((0..=length).map(|depth| coin(Purpose::Edge, depth, path)));
        request.push(coin(Purpose::Label, length, path));
    }
    request.push(tree.len() as f64);
    for node in 0..tree.len() {
        let row: Vec<(f64, f64)> = match round.pair(node) {
            Some((draft, target)) => draft.as_slice().iter().copied().zip(target.as_slice().iter().copied()).collect(),
            None => Vec::new(),
        };
        pairs(&mut request, &row);
    }
    request
}

#[test]
fn verified_trees_end_the_same() {
    let (mut trees, mut accepted, mut stopped, mut undecided) = (0, 0, 0, 0.0);
    for mut host in Host::both() {
        for seed in 0..1500 {
            let (round, coins) = drafted(seed, if seed % 4 == 0 { 1 } else { 16 });
            let one = round.tree().paths().len() == 1;
            let mut answer = host.ask(request(if one { 6.0 } else { 5.0 }, &round, &coins));
            let tree = round.tree();
            let verified = match tree.paths() {
                [_] => Block.verify(&round, &coins),
                _ => PathCoupling::default().verify(&round, &coins),
            };
            let outcome = verified.unwrap();
            let (path, depth, next) = (answer.next() as usize, answer.next() as usize, answer.next());
            let node = tree.paths()[path][depth];
            assert_eq!(node, outcome.node, "seed {seed}");
            let leaf = depth == tree.paths()[path].len() - 1;
            if leaf {
                assert_eq!(next, -1.0, "seed {seed}");
            } else {
                assert_eq!(Some(next as u32), outcome.next, "seed {seed}");
            }
            if tree.paths().len() == 1 {
                undecided += answer.next();
            }
            answer.end();
            (trees, accepted, stopped) =
                (trees + 1, accepted + depth, stopped + usize::from(depth == 0 && ROOT == node));
        }
    }
    println!(
        "{trees} trees, {accepted} tokens accepted, {stopped} stopped at the root, {undecided} not decided by cells"
    );
    assert!(trees == 0 || (accepted > trees / 2 && stopped > trees / 20));
}

#[test]
fn spread_trees_end_the_same() {
    let (mut trees, mut accepted, mut stopped, mut pieces) = (0, 0, 0, 0.0f64);
    for mut host in Host::both() {
        for seed in 0..1500 {
            let (round, coins) = drafted(seed, 16);
            let tree = round.tree();
            if tree.paths().len() == 1 {
                continue;
            }
            let mut answer = host.ask(request(7.0, &round, &coins));
            let outcome = SpreadCoupling::default().verify(&round, &coins).unwrap();
            let (path, depth, next) = (answer.next() as usize, answer.next() as usize, answer.next());
            let node = tree.paths()[path][depth];
            assert_eq!(node, outcome.node, "seed {seed}");
            if depth == tree.paths()[path].len() - 1 {
                assert_eq!(next, -1.0, "seed {seed}");
            } else {
                assert_eq!(Some(next as u32), outcome.next, "seed {seed}");
            }
            pieces = pieces.max(answer.next());
            answer.end();
            (trees, accepted, stopped) =
                (trees + 1, accepted + depth, stopped + usize::from(depth == 0 && ROOT == node));
        }
    }
    println!(
        "{trees} trees, {accepted} tokens accepted, {stopped} stopped at the root, {pieces} pieces of a law at most"
    );
    assert!(trees == 0 || (accepted > trees / 2 && stopped > trees / 40));
}
