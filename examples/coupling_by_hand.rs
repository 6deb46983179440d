//! The optimal coupling of two drafts over two tokens, derived by hand and beside it what the library does.
//!
//! `cargo run --example coupling_by_hand`

use draftpick::coupling::Coupling;
use draftpick::optimal::Optimal;
use draftpick::{Pmf, Problem, Selector, Token, bound};

/// A problem with the plan that one finds for it with pencil and paper.
struct ByHand {
    p: [f64; 2],
    q: [f64; 2],
    derivation: &'static str,
    /// The drafts, and with which probability they come together with the output a, and with b.
    plan: [([Token; 2], f64, f64); 4],
    acceptance: f64,
}

const PROBLEMS: [ByHand; 2] = [
    ByHand {
        p: [0.5, 0.5],
        q: [0.75, 0.25],
        derivation: "\
The drafts are aa with probability 1/4, ab or ba with 1/2, bb with 1/4.
bb can only be served by b. The target wants b in 1/4 of all cases: bb takes it all.
Then aa, ab and ba must be served by a, which makes 3/4: what the target wants of a.
Every draft tuple is served by one of its own tokens, so all are accepted.",
        plan: [([0, 0], 0.25, 0.0), ([0, 1], 0.25, 0.0), ([1, 0], 0.25, 0.0), ([1, 1], 0.0, 0.25)],
        acceptance: 1.0,
    },
    ByHand {
        p: [0.9, 0.1],
        q: [0.1, 0.9],
        derivation: "\
The drafts are aa with probability 0.81, ab or ba with 0.18, bb with 0.01.
aa can only be served by a, and the target allows a in 0.1 of all cases: 0.1 of the 0.81 are accepted.
That is all of a. ab, ba and bb are served by b, 0.19; the target still wants 0.71 of b.
It gets them where aa was rejected: 0.81 - 0.1 = 0.71. Accepted are 0.1 + 0.19 = 0.29.
The set that proves it is H = {a}: 1 + q(H) - p(H)^2 = 1 + 0.1 - 0.81.",
        plan: [([0, 0], 0.1, 0.71), ([0, 1], 0.0, 0.09), ([1, 0], 0.0, 0.09), ([1, 1], 0.0, 0.01)],
        acceptance: 0.29,
    },
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for ByHand { p, q, derivation, plan, acceptance } in PROBLEMS {
        let problem = Problem::new(Pmf::new(p)?, Pmf::new(q)?, 2)?;
        println!("p = {p:?}, q = {q:?} over the tokens a and b, k = 2 drafts\n\n{derivation}\n");

        // The library draws a label for each draft, uniform in its token's region of [0, 1], and selects the larger.
        let rule = Optimal::new(problem.clone());
        for (token, name) in ["a", "b"].into_iter().enumerate() {
            let region = rule.region(token as Token).iter();
            let region: Vec<_> = region.map(|segment| format!("[{:.2}, {:.2}]", segment.lo, segment.hi())).collect();
            println!("labels of {name}: {}", region.join(" and "));
        }

        let coupling = Coupling::enumerate(&rule, problem.draft())?;
        println!("\ndrafts   by hand: a       b    the library: a       b");
        for (drafts, by_a, by_b) in plan {
            let row =
                coupling.drafts().iter().position(|tuple| tuple[..] == drafts).expect("all tuples are enumerated");
            let (a, b) = (coupling.joint()[[row, 0]], coupling.joint()[[row, 1]]);
            let name = drafts.map(|token| ["a", "b"][token as usize]).concat();
            println!("{name:>6}       {by_a:>8.4}{by_b:>8.4}        {a:>8.4}{b:>8.4}");
            assert!((a - by_a).abs() < 1e-12 && (b - by_b).abs() < 1e-12);
        }
        let found = rule.acceptance().value;
        println!(
            "\naccepted: by hand {acceptance}, the library {found:.12}, in closed form {:.12}\n",
            bound::alpha_star(&problem)
        );
        assert!((found - acceptance).abs() < 1e-12);
    }
    Ok(())
}
