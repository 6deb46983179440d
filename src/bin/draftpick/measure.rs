//! What every rule attains on one problem, and the checks on it.

use draftpick::pmf::PmfError;
use draftpick::{Acceptance, Drawn, Pmf, Problem, Rule, Selection, Selector, Token};
use rand::RngExt;
use rand::rngs::StdRng;

/// How far an exact acceptance may be from what theory promises: rounding over 2²⁰ tokens stays well below.
const TOLERANCE: f64 = 1e-9;

/// How many standard errors an estimate or a simulation may be off. Chance alone does that once in 1.7 million times.
const SIGMAS: f64 = 5.0;

/// A rule and what it attains on a problem.
pub struct Measure {
    pub rule: Rule,
    pub acceptance: Acceptance,
    pub drawn: Drawn,
}

/// Measures every rule that takes the problem's number of drafts.
pub fn measure(problem: &Problem) -> Vec<Measure> {
    let rules = Rule::ALL.into_iter().filter(|rule| rule.takes(problem.k()));
    let measure = |rule: Rule| {
        let selector = rule.prepare(problem);
        Measure { rule, acceptance: selector.acceptance(), drawn: selector.drawn() }
    };
    rules.map(measure).collect()
}

/// Whether a rule promises the optimum for every problem that it takes.
pub fn is_optimal(rule: Rule) -> bool {
    rule.name() == "optimal" || rule == Rule::Maximal
}

/// Whether a rule is made to reach the optimum for any number of drafts, exactly or nearly.
pub fn aims_at_optimum(rule: Rule) -> bool {
    rule.name().starts_with("optimal")
}

impl Measure {
    /// What is wrong with the acceptance, if anything is: no probability, above the optimum, or below it for a rule
    /// that promises to attain it. Without replacement the optimum is another one, and no bound.
    pub fn complaint(&self, optimum: f64) -> Option<String> {
        let Acceptance { value, standard_error } = self.acceptance;
        let slack = TOLERANCE + SIGMAS * standard_error;
        let rule = self.rule;
        if !(0.0..=1.0).contains(&value) {
            Some(format!("the acceptance of {rule} is {value}, no probability"))
        } else if self.drawn == Drawn::Independent && !(0.0..=optimum + slack).contains(&value) {
            Some(format!("the acceptance of {rule} is {value}, above the optimum {optimum}"))
        } else if is_optimal(rule) && !(optimum - slack..=1.0).contains(&value) {
            Some(format!("the acceptance of {rule} is {value}, below the optimum {optimum} that it attains"))
        } else {
            None
        }
    }
}

/// Drafts drawn from a problem's draft law, as many and in the way that a selector wants.
pub fn draw(problem: &Problem, selector: &dyn Selector, rng: &mut StdRng) -> Result<Vec<Token>, PmfError> {
    let draft = problem.draft();
    let mut drafts: Vec<Token> = Vec::with_capacity(selector.drafts());
    while drafts.len() < selector.drafts() {
        drafts.push(match selector.drawn() {
            Drawn::Independent => rng.sample(draft),
            Drawn::WithoutReplacement => {
                let mut left = draft.as_slice().to_vec();
                drafts.iter().for_each(|&token| left[token as usize] = 0.0);
                rng.sample(&Pmf::from_weights(left)?)
            }
        });
    }
    Ok(drafts)
}

/// Selections counted against the acceptance that the rule claims.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    accepted: f64,
    expected: f64,
    variance: f64,
    claimed_error: f64,
}

impl Tally {
    /// Makes `rounds` selections.
    pub fn simulate(rule: Rule, problem: &Problem, rounds: u32, rng: &mut StdRng) -> anyhow::Result<Self> {
        let selector = rule.prepare(problem);
        let Acceptance { value, standard_error } = selector.acceptance();
        let mut tally = Tally::default();
        for _ in 0..rounds {
            let drafts = draw(problem, &*selector, rng)?;
            if let Selection::Draft(_) = selector.select_with(&drafts, rng)? {
                tally.accepted += 1.0;
            }
            tally.expected += value;
            tally.variance += value * (1.0 - value);
            tally.claimed_error += standard_error;
        }
        Ok(tally)
    }

    /// Both together.
    pub fn add(&mut self, other: Tally) {
        self.accepted += other.accepted;
        self.expected += other.expected;
        self.variance += other.variance;
        self.claimed_error += other.claimed_error;
    }

    /// Whether the count is too far from the claim to be chance.
    pub fn is_off(&self) -> bool {
        // One more: a count is a whole number, and rounding makes an acceptance of 1 a little less.
        let slack = 1.0 + SIGMAS * (self.variance.sqrt() + self.claimed_error);
        !(0.0..=slack).contains(&(self.accepted - self.expected).abs())
    }

    /// The numbers, for a message.
    pub fn describe(&self) -> String {
        format!("{} accepted where {:.1} ± {:.1} are claimed", self.accepted, self.expected, self.variance.sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(rule: Rule, value: f64, standard_error: f64, drawn: Drawn) -> Measure {
        Measure { rule, acceptance: Acceptance { value, standard_error }, drawn }
    }

    #[test]
    fn an_acceptance_that_cannot_be_is_complained_about() {
        let complains = |rule, value, error, drawn| measured(rule, value, error, drawn).complaint(0.5).is_some();
        let (one, other) = (Drawn::Independent, Drawn::WithoutReplacement);
        assert!(!complains(Rule::Maximal, 0.5, 0.0, one));
        assert!(complains(Rule::Maximal, 0.5 + 1e-8, 0.0, one));
        assert!(complains(Rule::Maximal, 0.5 - 1e-8, 0.0, one));
        assert!(complains(Rule::Maximal, f64::NAN, 0.0, one));
        assert!(complains(Rule::Maximal, 1.5, 0.0, other));
        for rule in Rule::ALL.into_iter().filter(|&rule| !is_optimal(rule)) {
            assert!(!complains(rule, 0.4, 0.0, one));
            assert!(complains(rule, 0.6, 0.0, one));
            assert!(complains(rule, f64::NAN, 0.0, one));
            // An estimate may be a little above, and without replacement there is another optimum.
            assert!(!complains(rule, 0.6, 0.03, one));
            assert!(complains(rule, 0.6, 0.01, one));
            assert!(!complains(rule, 0.6, 0.0, other));
        }
    }

    #[test]
    fn a_count_far_from_the_claim_is_off() {
        let off = |accepted, claim: f64, rounds: f64| {
            let variance = rounds * claim * (1.0 - claim);
            Tally { accepted, expected: rounds * claim, variance, claimed_error: 0.0 }.is_off()
        };
        // One standard error is 50 of 10,000.
        assert!(!off(5200.0, 0.5, 10_000.0));
        assert!(off(5300.0, 0.5, 10_000.0) && off(4700.0, 0.5, 10_000.0));
        assert!(!off(10_000.0, 1.0, 10_000.0) && off(9_990.0, 1.0, 10_000.0));
        assert!(off(f64::NAN, 0.5, 10_000.0));
    }

    #[test]
    fn drafts_are_drawn_as_the_selector_wants_them() {
        let law = |weights: [f64; 4]| Pmf::from_weights(weights).unwrap();
        let problem = Problem::new(law([1.0, 8.0, 0.0, 1.0]), law([1.0; 4]), 3).unwrap();
        let mut rng = rand::SeedableRng::seed_from_u64(1);
        for rule in Rule::ALL.into_iter().filter(|rule| rule.takes(3)) {
            let selector = rule.prepare(&problem);
            let mut repeats = 0;
            for _ in 0..100 {
                let drafts = draw(&problem, &*selector, &mut rng).unwrap();
                assert!(selector.law(&drafts).is_ok(), "{rule}: {drafts:?}");
                let distinct: std::collections::HashSet<_> = drafts.iter().collect();
                repeats += usize::from(distinct.len() < drafts.len());
            }
            assert_eq!(repeats > 0, selector.drawn() == Drawn::Independent, "{rule}");
        }
    }
}
