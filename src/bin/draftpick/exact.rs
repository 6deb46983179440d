//! `solve --exact`: the transport as a linear program, solved by all there is, each answer with its certificate checked.

use anyhow::{Context, bail};
use draftpick::lp::{LpError, Solver, solve};
use draftpick::{Problem, Token};
use serde::Serialize;

use crate::output;

/// How closely a flow, which is exact to rounding, must meet the conditions of optimality.
const FLOW_TOLERANCE: f64 = 1e-9;
/// The same for a simplex solver: its own tolerance, up to 1e-8, shows on laws with entries as small.
const SIMPLEX_TOLERANCE: f64 = 1e-6;
/// How close to 1 a price is 1.
const PRICE_TOLERANCE: f64 = 1e-9;

/// The most tokens named on a line of text.
const MAX_NAMES: usize = 8;

/// What the solvers found.
#[derive(Serialize)]
pub struct Exact {
    /// The sets of tokens that the drafts can have: the rows of the program.
    draft_sets: Vec<Vec<Token>>,
    answers: Vec<Answer>,
    min_cut: Cut,
}

/// One solver's answer.
#[derive(Serialize)]
struct Answer {
    solver: &'static str,
    /// None if the solver was not used, because the program is too large for it, or failed.
    optimum: Option<f64>,
    /// The dual variables of the draft sets, and of the tokens.
    draft_prices: Vec<f64>,
    target_prices: Vec<f64>,
    /// How closely the certificate was checked.
    tolerance: f64,
    /// What the check complains about; None if the certificate holds.
    complaint: Option<String>,
    /// Why the solver was not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<String>,
}

/// The dual of the maximum flow: prices of 0 and 1.
#[derive(Default, Serialize)]
struct Cut {
    /// The tokens of price 1 that can be drafted.
    tokens: Vec<Token>,
    /// `p(H)` and `q(H)` of these tokens.
    draft: f64,
    target: f64,
    /// `1 + q(H) − p(H)^k`.
    value: f64,
}

fn tolerance(solver: Solver) -> f64 {
    if solver == Solver::MaxFlow { FLOW_TOLERANCE } else { SIMPLEX_TOLERANCE }
}

/// Solves the program with every solver that takes its size.
pub fn exact(problem: &Problem) -> anyhow::Result<Exact> {
    let mut exact = Exact { draft_sets: Vec::new(), answers: Vec::new(), min_cut: Cut::default() };
    for &solver in Solver::ALL {
        let mut answer = Answer {
            solver: solver.name(),
            optimum: None,
            draft_prices: Vec::new(),
            target_prices: Vec::new(),
            tolerance: tolerance(solver),
            complaint: None,
            left_out: None,
        };
        match solve(problem, solver) {
            Ok(solution) => {
                answer.optimum = Some(solution.objective);
                answer.complaint = solution.verify(problem, answer.tolerance).err().map(|error| error.to_string());
                answer.draft_prices = solution.dual.row;
                answer.target_prices = solution.dual.column;
                exact.draft_sets = solution.drafts;
                if solver == Solver::MaxFlow {
                    exact.min_cut = cut(problem, &answer.target_prices);
                }
            }
            Err(LpError::TooLarge { variables, limit, .. }) if solver == Solver::MaxFlow => {
                let variables = if variables == u128::MAX { "over 10^38".into() } else { variables.to_string() };
                bail!(
                    "--exact: the linear program has {variables} variables, at most {limit} are solved; \
                     leave the option out, the optimum needs none of them"
                );
            }
            Err(LpError::TooLarge { variables, limit, .. }) => {
                answer.left_out = Some(format!("{variables} variables, it takes at most {limit}"));
            }
            Err(LpError::Solver { message, .. }) => answer.complaint = Some(format!("no solution: {message}")),
            Err(error) => return Err(error).context("--exact"),
        }
        exact.answers.push(answer);
    }
    Ok(exact)
}

fn cut(problem: &Problem, prices: &[f64]) -> Cut {
    let (p, q) = (problem.draft().as_slice(), problem.target().as_slice());
    let tokens: Vec<usize> = (0..p.len()).filter(|&y| p[y] > 0.0 && prices[y] >= 1.0 - PRICE_TOLERANCE).collect();
    let sum = |law: &[f64]| tokens.iter().map(|&y| law[y]).sum::<f64>();
    let (draft, target) = (sum(p), sum(q));
    let value = 1.0 + target - draft.powi(problem.k() as i32);
    Cut { tokens: tokens.into_iter().map(|y| y as Token).collect(), draft, target, value }
}

impl Exact {
    /// The first thing that is wrong, `optimum` being the closed form's.
    pub fn complaint(&self, optimum: f64) -> Option<String> {
        for answer in &self.answers {
            let solver = answer.solver;
            if let Some(complaint) = &answer.complaint {
                return Some(format!("the certificate of {solver}: {complaint}"));
            }
            if let Some(found) = answer.optimum
                && !(0.0..=answer.tolerance).contains(&(found - optimum).abs())
            {
                return Some(format!("the optimum of {solver} is {found}, the closed form's {optimum}"));
            }
        }
        (!(0.0..=FLOW_TOLERANCE).contains(&(self.min_cut.value - optimum).abs()))
            .then(|| format!("the minimum cut has value {}, the closed form is {optimum}", self.min_cut.value))
    }

    /// For people to read.
    pub fn text(&self, k: usize) -> String {
        let mut text = format!("Linear program over {} draft sets\n", self.draft_sets.len());
        let mut table = output::table(["solver", "optimum", "certificate"], 3);
        for Answer { solver, optimum, tolerance, complaint, left_out, .. } in &self.answers {
            let optimum = optimum.map_or("–".into(), |optimum| format!("{optimum:.10}"));
            let certificate = match (left_out, complaint) {
                (Some(reason), _) => format!("left out: {reason}"),
                (None, Some(complaint)) => complaint.clone(),
                (None, None) => format!("holds within {tolerance:.0e}"),
            };
            table.add_row([solver.to_string(), optimum, certificate]);
        }
        text += &format!("{table}\n\n");
        let Cut { tokens, draft, target, value } = &self.min_cut;
        // The empty set and the set of all tokens have this value.
        if *value >= 1.0 - FLOW_TOLERANCE {
            return text + "Dual: its value is 1; no set of tokens holds the drafts back\n";
        }
        let names = |tokens: &[Token]| tokens.iter().map(Token::to_string).collect::<Vec<_>>().join(", ");
        let set = match tokens.len() {
            0..=MAX_NAMES => format!("H = {{{}}}", names(tokens)),
            n => format!("H = {{{}, …}}, {n} tokens", names(&tokens[..MAX_NAMES])),
        };
        text += &format!("Dual: the tokens of price 1 are {set}\n");
        text += "Drafts that all lie in H can be served by tokens of H only:\n";
        text + &format!("1 + q(H) − p(H)^{k} = 1 + {target:.8} − {draft:.8}^{k} = {value:.10}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use draftpick::Pmf;

    #[test]
    fn an_answer_that_is_wrong_is_complained_about() {
        let (p, q) = (Pmf::new([0.5, 0.3, 0.2]).unwrap(), Pmf::new([0.2, 0.3, 0.5]).unwrap());
        let problem = Problem::new(p, q, 2).unwrap();
        let complaint = |spoil: fn(&mut Exact), optimum: f64| {
            let mut exact = exact(&problem).unwrap();
            spoil(&mut exact);
            exact.complaint(optimum)
        };
        assert_eq!(complaint(|_| {}, 0.86), None);
        assert!(complaint(|_| {}, 0.87).unwrap().contains("good_lp"));
        assert!(complaint(|_| {}, f64::NAN).is_some());
        assert!(complaint(|exact| exact.answers[2].optimum = Some(0.86 + 1e-8), 0.86).unwrap().contains("max-flow"));
        assert!(complaint(|exact| exact.min_cut.value = 0.87, 0.86).unwrap().contains("minimum cut"));
        let failed = complaint(|exact| exact.answers[1].complaint = Some("a gap".into()), 0.86).unwrap();
        assert!(failed.contains("minilp") && failed.contains("a gap"), "{failed}");
        // What was not solved is not wrong.
        assert_eq!(complaint(|exact| exact.answers[0].optimum = None, 0.86), None);
    }
}
