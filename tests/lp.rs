//! The linear program against the test vectors, against brute force over subsets, and against its own certificate.
#![cfg(feature = "lp")]

use draftpick::lp::{CertificateError, LpError, Rows, Solution, Solver, solve, solve_over};
use draftpick::{Pmf, Problem};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Ordinary problems, every solver.
const ORDINARY: f64 = 1e-9;
/// The max-flow solver, on any problem.
const FLOW: f64 = 1e-12;
/// The simplex solvers on laws with entries below their own tolerance of 1e-8.
const SPIKY: f64 = 1e-6;

fn problem(p: &[f64], q: &[f64], k: usize) -> Problem {
    Problem::new(Pmf::from_weights(p).unwrap(), Pmf::from_weights(q).unwrap(), k).unwrap()
}

/// `α* = 1 + min_H [q(H) − p(H)^k]` over all sets `H` of tokens: the oracle, `2^V` subsets.
fn brute_force(problem: &Problem) -> f64 {
    let (p, q) = (problem.draft().as_slice(), problem.target().as_slice());
    let mass = |law: &[f64], set: u32| (0..law.len()).filter(|y| set >> y & 1 == 1).map(|y| law[y]).sum::<f64>();
    let cut = |set| mass(q, set) - mass(p, set).powi(problem.k() as i32);
    1.0 + (0..1 << p.len()).map(cut).fold(f64::INFINITY, f64::min)
}

fn tolerance(solver: Solver, spiky: bool) -> f64 {
    match (solver, spiky) {
        (Solver::MaxFlow, _) => FLOW,
        (_, false) => ORDINARY,
        (_, true) => SPIKY,
    }
}

/// Solves with every solver, checks value and certificate, and returns the largest deviation of each solver.
fn check(problem: &Problem, rows: Rows, spiky: bool) -> Vec<f64> {
    let expected = brute_force(problem);
    let check = |&solver: &Solver| {
        let solution = solve_over(problem, solver, rows).unwrap_or_else(|error| panic!("{error}\n{problem:?}"));
        let deviation = (solution.objective - expected).abs();
        let tolerance = tolerance(solver, spiky);
        assert!(deviation <= tolerance, "{solver}: {} is not {expected}\n{problem:?}", solution.objective);
        if let Err(error) = solution.verify(problem, tolerance) {
            panic!("{solver}: {error}\n{problem:?}");
        }
        deviation
    };
    Solver::ALL.iter().map(check).collect()
}

struct Deviations(Vec<f64>);

impl Deviations {
    fn new() -> Self {
        Deviations(vec![0.0; Solver::ALL.len()])
    }

    fn add(&mut self, deviations: Vec<f64>) {
        self.0.iter_mut().zip(deviations).for_each(|(max, deviation)| *max = max.max(deviation));
    }

    fn print(&self, name: &str, problems: usize) {
        for (solver, max) in Solver::ALL.iter().zip(&self.0) {
            println!("{name}: {problems} problems, {solver} off by at most {max:.1e}");
        }
    }
}

#[test]
fn finds_the_known_optima() {
    let vectors: [(&[f64], &[f64], usize, f64); 7] = [
        (&[0.5, 0.3, 0.2], &[0.2, 0.3, 0.5], 1, 0.7),
        (&[0.5, 0.3, 0.2], &[0.2, 0.3, 0.5], 2, 0.86),
        (&[0.5, 0.3, 0.2], &[0.2, 0.3, 0.5], 3, 0.988),
        (&[0.5, 0.3, 0.2], &[0.2, 0.3, 0.5], 4, 1.0),
        (&[0.5, 0.5], &[0.75, 0.25], 2, 1.0),
        (&[0.9, 0.1], &[0.1, 0.9], 4, 0.4439),
        (&[0.7, 0.2, 0.1], &[0.1, 0.2, 0.7], 3, 0.571),
    ];
    for (p, q, k, optimum) in vectors {
        let problem = problem(p, q, k);
        for &solver in Solver::ALL {
            let solution = solve(&problem, solver).unwrap();
            assert!((solution.objective - optimum).abs() <= 1e-9, "{solver}: {} at {p:?} {k}", solution.objective);
            solution.verify(&problem, ORDINARY).unwrap();
        }
    }
}

/// Weights with ties and, one time in four each, zeros; at least one is positive.
fn ordinary(rng: &mut StdRng, vocab: usize) -> Vec<f64> {
    let ties = rng.random_bool(0.3);
    let zeros = rng.random_bool(0.5);
    let mut weights: Vec<f64> = (0..vocab)
        .map(|_| match (zeros && rng.random_bool(0.5), ties) {
            (true, _) => 0.0,
            (_, true) => rng.random_range(1..4) as f64,
            _ => rng.random_range(0.01..1.0),
        })
        .collect();
    weights[rng.random_range(0..vocab)] += 0.1;
    weights
}

fn spiky(rng: &mut StdRng, vocab: usize, decades: f64) -> Vec<f64> {
    (0..vocab).map(|_| 10f64.powf(-rng.random_range(0.0..decades))).collect()
}

#[test]
fn agrees_with_brute_force_on_ordinary_problems() {
    let mut rng = StdRng::seed_from_u64(1);
    let mut deviations = Deviations::new();
    for _ in 0..400 {
        let (vocab, k) = (rng.random_range(1..=6), rng.random_range(1..=4));
        let p = ordinary(&mut rng, vocab);
        let q = if rng.random_bool(0.1) { p.clone() } else { ordinary(&mut rng, vocab) };
        deviations.add(check(&problem(&p, &q, k), Rows::Sets, false));
    }
    deviations.print("ordinary", 400);
}

#[test]
fn agrees_with_brute_force_on_spiky_problems() {
    let mut rng = StdRng::seed_from_u64(2);
    for (name, decades, problems, vocabs) in
        [("spiky", 9.0, 400, 2..=6), ("very spiky", 18.0, 400, 2..=6), ("spiky and larger", 9.0, 40, 10..=12)]
    {
        let mut deviations = Deviations::new();
        for _ in 0..problems {
            let (vocab, k) = (rng.random_range(vocabs.clone()), rng.random_range(1..=4));
            let (p, q) = (spiky(&mut rng, vocab, decades), spiky(&mut rng, vocab, decades));
            deviations.add(check(&problem(&p, &q, k), Rows::Sets, true));
        }
        deviations.print(name, problems);
    }
}

#[test]
fn agrees_with_brute_force_on_extreme_problems() {
    let one: &[f64] = &[1.0];
    let uniform = &[1.0; 4];
    let pairs: [(&[f64], &[f64]); 8] = [
        (one, one),
        (&[1.0, 0.0, 0.0], &[1.0, 0.0, 0.0]),
        (&[1.0, 0.0, 0.0], &[0.0, 0.0, 1.0]),
        (&[1.0, 0.0, 0.0], &[1.0, 2.0, 3.0]),
        (&[1.0, 2.0, 3.0], &[0.0, 1.0, 0.0]),
        (&[1.0, 2.0, 0.0, 0.0], &[0.0, 0.0, 2.0, 1.0]),
        (uniform, uniform),
        (&[0.0, 1.0, 1.0, 1.0], &[1.0, 1.0, 1.0, 0.0]),
    ];
    for (p, q) in pairs {
        for k in 1..=4 {
            check(&problem(p, q, k), Rows::Sets, false);
        }
        // The largest k, at which the sets are far fewer than the tuples.
        check(&problem(p, q, 64), Rows::Sets, false);
    }
}

#[test]
fn tuples_as_rows_have_the_same_value() {
    let mut rng = StdRng::seed_from_u64(3);
    let mut deviations = Deviations::new();
    for _ in 0..60 {
        let (vocab, k) = (rng.random_range(1..=4), rng.random_range(1..=3));
        let problem = problem(&ordinary(&mut rng, vocab), &ordinary(&mut rng, vocab), k);
        deviations.add(check(&problem, Rows::Tuples, false));
        let tuples = solve_over(&problem, Solver::MaxFlow, Rows::Tuples).unwrap();
        let sets = solve(&problem, Solver::MaxFlow).unwrap();
        assert_eq!(tuples.drafts.len(), problem.draft().support().pow(k as u32));
        assert!((tuples.objective - sets.objective).abs() <= FLOW);
    }
    deviations.print("tuples", 60);
}

#[test]
fn weights_are_those_of_the_tuples_that_have_the_set() {
    let problem = problem(&[1e-9, 0.3, 0.0, 0.5, 2e-4], &[1.0; 5], 4);
    let sets = solve(&problem, Solver::MaxFlow).unwrap();
    let tuples = solve_over(&problem, Solver::MaxFlow, Rows::Tuples).unwrap();
    for (set, weight) in sets.drafts.iter().zip(&sets.weights) {
        let has_set = |tuple: &[u32]| {
            let mut tokens = tuple.to_vec();
            tokens.sort_unstable();
            tokens.dedup();
            tokens == *set
        };
        let rows = tuples.drafts.iter().zip(&tuples.weights);
        let expected: f64 = rows.filter(|(tuple, _)| has_set(tuple)).map(|(_, weight)| weight).sum();
        assert!((weight / expected - 1.0).abs() < 1e-14, "{set:?}: {weight} is not {expected}");
    }
}

#[test]
fn the_max_flow_dual_is_a_cut() {
    let problem = problem(&[0.9, 0.1], &[0.1, 0.9], 4);
    let solution = solve(&problem, Solver::MaxFlow).unwrap();
    assert_eq!(solution.drafts, [vec![0], vec![0, 1], vec![1]]);
    // H = {0}: only the draft set {0} lies inside.
    assert_eq!(solution.dual.column, [1.0, 0.0]);
    assert_eq!(solution.dual.row, [0.0, 1.0, 1.0]);
}

/// A solution of every solver, changed by `tamper`, must fail the check with an error that `expected` recognises.
fn refuses(tamper: impl Fn(&mut Solution), expected: impl Fn(&CertificateError) -> bool) {
    let problem = problem(&[0.7, 0.2, 0.1], &[0.1, 0.2, 0.7], 3);
    for &solver in Solver::ALL {
        let mut solution = solve(&problem, solver).unwrap();
        solution.verify(&problem, ORDINARY).unwrap();
        tamper(&mut solution);
        match solution.verify(&problem, ORDINARY) {
            Ok(()) => panic!("{solver}: the change went unseen"),
            Err(error) => assert!(expected(&error), "{solver}: {error}"),
        }
    }
}

#[test]
fn the_certificate_refuses_tampered_solutions() {
    use CertificateError as E;
    // Rows: {0}, {0,1}, {0,1,2}, {0,2}, {1}, {1,2}, {2}.
    refuses(|s| s.plan[[2, 1]] += 1e-6, |e| matches!(e, E::Marginal { .. }));
    refuses(|s| s.plan[[2, 1]] = f64::NAN, |e| matches!(e, E::Marginal { .. }));
    refuses(
        |s| {
            // The row sums stay, the column sums do not.
            s.plan[[0, 0]] -= 0.01;
            s.plan[[0, 1]] += 0.01;
        },
        |e| matches!(e, E::Marginal { .. }),
    );
    refuses(
        |s| {
            // All sums stay; an entry is negative.
            for (row, column, sign) in [(0, 0, -1.0), (0, 1, 1.0), (1, 0, 1.0), (1, 1, -1.0)] {
                s.plan[[row, column]] += sign;
            }
        },
        |e| matches!(e, E::Negative { .. }),
    );
    refuses(
        |s| {
            // A valid coupling, the independent one, that accepts less.
            let q = [0.1, 0.2, 0.7];
            s.plan.indexed_iter_mut().for_each(|((row, y), mass)| *mass = s.weights[row] * q[y]);
        },
        |e| matches!(e, E::PlanValue { .. }),
    );
    refuses(|s| s.objective += 1e-6, |e| matches!(e, E::PlanValue { .. }));
    refuses(|s| s.objective = f64::NAN, |e| matches!(e, E::PlanValue { .. }));
    refuses(|s| s.dual.row[2] += 1e-3, |e| matches!(e, E::Gap { .. }));
    refuses(|s| s.dual.row[2] -= 1e-3, |e| matches!(e, E::Dual { .. }));
    refuses(|s| s.dual.column[1] = -1e-6, |e| matches!(e, E::Price { .. }));
    refuses(|s| s.dual.column[1] = f64::NAN, |e| matches!(e, E::Price { .. }));
    refuses(|s| s.weights[3] *= 1.001, |e| matches!(e, E::Weight { row: 3, .. }));
    refuses(|s| s.drafts[4] = vec![0], |e| matches!(e, E::Drafts { .. }));
    refuses(|s| s.drafts[6] = vec![7], |e| matches!(e, E::Drafts { row: 6, .. }));
    refuses(|s| s.drafts[2] = (0..64).collect(), |e| matches!(e, E::Shape { .. }));
    refuses(|s| s.dual.row.truncate(6), |e| matches!(e, E::Shape { len: 6, expected: 7, .. }));
}

#[test]
fn the_certificate_refuses_missing_rows_other_problems_and_nan_tolerances() {
    let (p, q) = ([0.7, 0.2, 0.1], [0.1, 0.2, 0.7]);
    let three = problem(&p, &q, 3);
    let solution = solve(&three, Solver::MaxFlow).unwrap();
    assert!(solution.verify(&three, f64::NAN).is_err());
    assert!(solution.verify(&problem(&p, &q, 4), ORDINARY).is_err());
    assert!(solution.verify(&problem(&p, &[0.1, 0.3, 0.6], 3), ORDINARY).is_err());

    // k = 2 has no set of three: with a row and its mass gone, only the total tells.
    let pairs = problem(&p, &[0.1, 0.2, 0.7], 2);
    let mut solution = solve(&pairs, Solver::MaxFlow).unwrap();
    solution.drafts.pop();
    solution.weights.pop();
    solution.dual.row.pop();
    solution.plan.remove_index(ndarray::Axis(0), 5);
    let error = solution.verify(&pairs, ORDINARY).unwrap_err();
    assert!(matches!(error, CertificateError::Total { total } if (total - 0.99).abs() < 1e-12), "{error}");
    let text = error.to_string();
    assert!(text.starts_with("the rows have probability 0.9") && text.ends_with("not 1"), "{text}");
}

#[test]
fn refuses_programs_that_are_too_large_by_their_number_of_variables() {
    // 64 tokens, 3 drafts: 64 · (1 + 63 + 63·62/2) pairs of a set and a member.
    let middle = Problem::new(Pmf::uniform(64).unwrap(), Pmf::uniform(64).unwrap(), 3).unwrap();
    let error = solve(&middle, Solver::GoodLp).unwrap_err();
    assert!(matches!(error, LpError::TooLarge { variables: 129_088, .. }), "{error:?}");
    assert!(error.to_string().contains("129088 variables") && error.to_string().contains("max-flow"), "{error}");

    let largest = Pmf::uniform(1 << 20).unwrap();
    for k in [1, 2, 64] {
        let problem = Problem::new(largest.clone(), largest.clone(), k).unwrap();
        for &solver in Solver::ALL {
            for rows in [Rows::Sets, Rows::Tuples] {
                let error = solve_over(&problem, solver, rows).unwrap_err();
                let LpError::TooLarge { variables, limit, .. } = error else { panic!("{error}") };
                assert!(variables > limit && limit == solver.limit());
                assert!(error.to_string().contains("bound::alpha_star"), "{error}");
            }
        }
    }
    let error = solve(&Problem::new(largest.clone(), largest, 64).unwrap(), Solver::MaxFlow).unwrap_err();
    assert!(error.to_string().contains("more than 10^38 variables"), "{error}");
}

#[test]
fn refuses_plans_that_are_too_large() {
    // No token is shared: no variables at all, and a plan of 2²⁰ rows and columns.
    let even: Vec<f64> = (0..1 << 20).map(|y| (y % 2) as f64).collect();
    let odd: Vec<f64> = (0..1 << 20).map(|y| ((y + 1) % 2) as f64).collect();
    let error = solve(&problem(&even, &odd, 1), Solver::MaxFlow).unwrap_err();
    assert!(matches!(error, LpError::PlanTooLarge { entries: 0x80_0000_0000, .. }), "{error:?}");
    assert!(error.to_string().contains("549755813888 entries"), "{error}");
}

#[test]
fn a_point_mass_over_a_large_vocabulary_is_solved() {
    let problem = Problem::new(Pmf::point(1 << 20, 7).unwrap(), Pmf::uniform(1 << 20).unwrap(), 64).unwrap();
    for &solver in Solver::ALL {
        let solution = solve(&problem, solver).unwrap();
        assert!((solution.objective - 2f64.powi(-20)).abs() < 1e-15);
        solution.verify(&problem, ORDINARY).unwrap();
    }
}

#[test]
fn solvers_are_found_by_name() {
    for &solver in Solver::ALL {
        assert_eq!(solver.name().parse(), Ok(solver));
    }
    let error = "cplex".parse::<Solver>().unwrap_err().to_string();
    assert!(error.starts_with("no solver is called 'cplex'; there are good_lp, "), "{error}");
}
