//! What one round says against the three hypotheses: pure functions of a record, so that many can be looked at at once.
//!
//! The laws that are bet on need not be right about anything; a bet is fair whatever it is on. They are what engines
//! that are wrong were found to output: see [`OUTPUT_DIRECTIONS`], [`DRAFT_DIRECTIONS`], [`RULE_DIRECTIONS`].

use std::fmt;

use super::bets::{Interval, ORDERS, Sample};
use super::law::LoggedLaw;
use super::record::Record;
use super::rule::{self, KnownRule, RuleError};
use crate::Drawn;
use crate::pmf::Token;

/// What may be wrong with the output: where its law would lie instead.
pub const OUTPUT_DIRECTIONS: [&str; 12] = [
    "the draft law: drafts accepted too easily",
    "where the draft law exceeds the target's: drafts accepted too easily",
    "where the target law exceeds the draft's: drafts accepted too rarely",
    "what both laws share: drafts replaced by a token from the target, not from the residual",
    "what k drafts share with the target: the same, with k drafts",
    "the squared target law: a temperature too low, or applied twice",
    "the root of the target law: a temperature too high, or not applied",
    "the most probable token: greedy where it should sample",
    "the target law one token before, after the last draft: the bonus token is from the wrong row",
    "the target law one token before: scores off by one row",
    "the target law after another path: the bonus token is from the wrong path",
    "drafts of a sharper law than stated, accepted as if they had the stated one",
];

/// What may be wrong with the drafts: where their law would lie instead.
pub const DRAFT_DIRECTIONS: [&str; 11] = [
    "the draft law to the power 1/2: drawn at a higher temperature than stated",
    "the draft law to the power 3/4: drawn at a higher temperature than stated",
    "the draft law to the power 5/4: drawn at a lower temperature than stated",
    "the draft law to the power 3/2: drawn at a lower temperature than stated",
    "the draft law squared: drawn at a lower temperature than stated",
    "the draft law to the power 4: drawn at a lower temperature than stated",
    "the most probable token: greedy drafts with a law that is not",
    "the target law: drafts that know it",
    "an earlier draft: the drafts share their coins",
    "no earlier draft: drawn without replacement, though said to be independent",
    "the draft law itself: independent, though said to be drawn without replacement",
];

/// What may be wrong with the choice among the drafts: where the law of the output given the drafts would lie instead.
pub const RULE_DIRECTIONS: [&str; 5] = [
    "all drafts kept: accepted too easily",
    "no draft kept: accepted too rarely",
    "replacements from the target: not from the residual",
    "the token after the last draft from the row before",
    "the draft law where the target's belongs",
];

/// Something in a record that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Impossible {
    /// An output token has target probability 0.
    Output {
        /// Which.
        output: usize,
        /// The token.
        token: Token,
    },
    /// A drafted token has draft probability 0.
    Draft {
        /// The path.
        path: usize,
        /// The position.
        position: usize,
        /// The token.
        token: Token,
    },
}

impl fmt::Display for Impossible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Impossible::Output { output, token } => {
                write!(f, "output[{output}] is token {token}, which has target probability 0")
            }
            Impossible::Draft { path, position, token } => {
                write!(f, "drafts[{path}][{position}] is token {token}, which has draft probability 0")
            }
        }
    }
}

/// One outcome against its law.
pub(super) enum Outcome<const DIRECTIONS: usize> {
    Possible(Sample<DIRECTIONS>),
    Impossible,
}

/// What one record says.
pub struct Evidence {
    pub(super) output: Vec<Outcome<{ OUTPUT_DIRECTIONS.len() }>>,
    pub(super) drafts: Vec<Outcome<{ DRAFT_DIRECTIONS.len() }>>,
    /// `None` if the log does not hold all that the rule looked at.
    pub(super) rule: Option<Sample<{ RULE_DIRECTIONS.len() }>>,
    /// What cannot be.
    pub(super) impossible: Vec<Impossible>,
}

/// Looks at one record. `O(V)` for each output token and drafted token; with a known rule, what its law takes.
///
/// # Errors
/// The rule does not take such drafts.
pub fn evidence(record: &Record, drawn: Drawn, known: Option<KnownRule>) -> Result<Evidence, RuleError> {
    let mut evidence = Evidence { output: Vec::new(), drafts: Vec::new(), rule: None, impossible: Vec::new() };
    for (output, (&node, &token)) in record.before().iter().zip(record.output()).enumerate() {
        let outcome = output_outcome(record, node, output, token);
        if matches!(outcome, Outcome::Impossible) {
            evidence.impossible.push(Impossible::Output { output, token });
        }
        evidence.output.push(outcome);
    }
    for node in record.nodes() {
        draft_outcomes(record, node, drawn, &mut evidence);
    }
    if let Some(known) = known {
        evidence.rule = rule::outcome(record, known)?;
    }
    Ok(evidence)
}

/// A sum over the symbols of a law, of something to bet on, and its value at the outcome.
#[derive(Clone, Copy, Default)]
pub(super) struct Stake {
    pub total: f64,
    pub at: f64,
}

impl Stake {
    /// `D(Y)/q(Y)` of the law proportional to what was added up, if that is anything.
    pub fn ratio(self, law_at: f64) -> Option<f64> {
        (self.total > 0.0).then(|| self.at / self.total / law_at)
    }
}

/// The sums over all symbols of `N` masses that depend on `(p, q)`, and their values at symbol `at`.
fn stakes<const N: usize>(p: &[f64], q: &[f64], at: usize, masses: impl Fn(f64, f64) -> [f64; N]) -> [Stake; N] {
    let mut totals = [0.0; N];
    for (&p, &q) in p.iter().zip(q) {
        for (total, mass) in totals.iter_mut().zip(masses(p, q)) {
            *total += mass;
        }
    }
    let values = masses(p[at], q[at]);
    std::array::from_fn(|i| Stake { total: totals[i], at: values[i] })
}

/// Where a symbol of `law` lies when symbols are ordered by `before(p, q, symbol)`, ties by number.
fn interval(law: &[f64], at: usize, before: impl Fn(usize) -> bool) -> Interval {
    let start = law.iter().enumerate().map(|(i, mass)| if before(i) { *mass } else { 0.0 }).sum::<f64>();
    Interval { start: start.min(1.0), length: law[at] }
}

/// The intervals of a symbol of `law` by `law/other`, by `law` descending, and by number.
pub(super) fn intervals(law: &[f64], other: &[f64], at: usize) -> [Interval; ORDERS] {
    let (l, o) = (law[at], other[at]);
    let by_ratio = |i: usize| {
        let (one, two) = (law[i] * o, l * other[i]);
        one < two || (one == two && i < at)
    };
    let by_law = |i: usize| law[i] > l || (law[i] == l && i < at);
    [interval(law, at, by_ratio), interval(law, at, by_law), interval(&law[..=at], at, |i| i < at)]
}

fn argmax(law: &[f64]) -> usize {
    (0..law.len()).rev().max_by(|&a, &b| law[a].total_cmp(&law[b])).unwrap_or(0)
}

fn output_outcome(record: &Record, node: usize, output: usize, token: Token) -> Outcome<{ OUTPUT_DIRECTIONS.len() }> {
    let target = record.target(node).expect("a record has the target's law before every output token");
    let (q, at) = (target.symbols(), target.symbol(token));
    let at_law = q[at];
    if !(at_law > 0.0) {
        return Outcome::Impossible;
    }
    let mut ratios = [None; OUTPUT_DIRECTIONS.len()];
    let [squared, root] = stakes(&q, &q, at, |_, q| [q * q, q.sqrt()]);
    (ratios[5], ratios[6]) = (squared.ratio(at_law), root.ratio(at_law));
    ratios[7] = Some(if argmax(&q) == at { 1.0 / at_law } else { 0.0 });
    let other = |law: Option<&LoggedLaw>| law.map(|law| law.over_symbols_of(target)[at] / at_law);
    if output > 0 {
        let before = other(record.target(record.before()[output - 1]));
        ratios[9] = before;
        if record.is_leaf(node) {
            ratios[8] = before;
            ratios[10] = other(record.leaves().filter(|&leaf| leaf != node).find_map(|leaf| record.target(leaf)));
        }
    }
    let Some(draft) = record.draft(node) else {
        let intervals = intervals(&q, &q, at);
        return Outcome::Possible(Sample { ratios, intervals });
    };
    let p = draft.over_symbols_of(target);
    let k = record.next_tokens(node).len() as f64;
    let stakes = stakes(&p, &q, at, |p, q| {
        [
            p,
            (p - q).max(0.0),
            (q - p).max(0.0),
            p.min(q),
            (k * p).min(q),
            if p > 0.0 { p * p * (q / p).min(1.0) } else { 0.0 },
        ]
    });
    for (direction, stake) in [0, 1, 2, 3, 4, 11].into_iter().zip(stakes) {
        ratios[direction] = stake.ratio(at_law);
    }
    Outcome::Possible(Sample { ratios, intervals: intervals(&q, &p, at) })
}

fn draft_outcomes(record: &Record, node: usize, drawn: Drawn, evidence: &mut Evidence) {
    let Some(draft) = record.draft(node) else {
        return;
    };
    let whole = draft.symbols();
    let target = record.target(node).map(|target| target.over_symbols_of(draft));
    let tokens = record.next_tokens(node);
    let symbols: Vec<usize> = tokens.iter().map(|&token| draft.symbol(token)).collect();
    // Two drafts that are not listed have the same symbol and may be different tokens.
    let unlisted: Vec<bool> = tokens.iter().map(|&token| draft.mass(token).is_none()).collect();
    let mut left = whole.to_vec();
    let mut powers: Option<[f64; 6]> = None;
    for (draw, (&token, &at)) in tokens.iter().zip(&symbols).enumerate() {
        let earlier = &symbols[..draw];
        if drawn == Drawn::WithoutReplacement && unlisted[..draw].contains(&true) {
            // What an unlisted draft has left of the law is not known.
            break;
        }
        let stated = match drawn {
            Drawn::Independent => &whole[..],
            Drawn::WithoutReplacement => &left[..],
        };
        let (path, position) = record.place(node, draw);
        let at_law = stated[at];
        if !(at_law > 0.0) {
            evidence.impossible.push(Impossible::Draft { path, position, token });
            evidence.drafts.push(Outcome::Impossible);
            continue;
        }
        let total: f64 = if drawn == Drawn::Independent { 1.0 } else { stated.iter().sum() };
        let at_law = at_law / total;
        let masses = |p: f64| {
            let root = p.sqrt();
            let fourth = root.sqrt();
            [root, root * fourth, p * fourth, p * root, p * p, p * p * p * p]
        };
        let sums = |law: &[f64]| {
            let mut sums = [0.0; 6];
            for &p in law {
                sums.iter_mut().zip(masses(p)).for_each(|(sum, mass)| *sum += mass);
            }
            sums
        };
        // Drawn independently, all drafts at the node have the same law.
        let sums = match drawn {
            Drawn::Independent => *powers.get_or_insert_with(|| sums(stated)),
            Drawn::WithoutReplacement => sums(stated),
        };
        let mut ratios = [None; DRAFT_DIRECTIONS.len()];
        for ((ratio, mass), total) in ratios.iter_mut().zip(masses(stated[at])).zip(sums) {
            *ratio = Stake { total, at: mass }.ratio(at_law);
        }
        ratios[6] = Some(if argmax(stated) == at { 1.0 / at_law } else { 0.0 });
        let comparison = target.as_deref().unwrap_or(&whole);
        if target.is_some() && drawn == Drawn::Independent {
            ratios[7] = Some(comparison[at] / at_law);
        }
        // Whether to bet must not depend on this draft.
        if draw > 0 && !unlisted[..draw].contains(&true) {
            let same = earlier.iter().filter(|&&symbol| symbol == at).count() as f64;
            match drawn {
                Drawn::Independent => {
                    ratios[8] = Some(same / draw as f64 / at_law);
                    let fresh: f64 = left.iter().sum();
                    ratios[9] = Stake { total: fresh, at: left[at] }.ratio(at_law);
                }
                Drawn::WithoutReplacement => ratios[10] = Some(whole[at] / at_law),
            }
        }
        let intervals = match drawn {
            Drawn::Independent => intervals(stated, comparison, at),
            Drawn::WithoutReplacement => {
                let scaled: Vec<f64> = stated.iter().map(|mass| mass / total).collect();
                intervals(&scaled, comparison, at)
            }
        };
        evidence.drafts.push(Outcome::Possible(Sample { ratios, intervals }));
        // A rest that holds several tokens is not used up by one of them.
        if !unlisted[draw] {
            left[at] = 0.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::pmf::Pmf;

    const VOCAB: Token = 5;

    fn laws(most: usize) -> [Arc<LoggedLaw>; 3] {
        [[5.0, 4.0, 3.0, 2.0, 1.0], [1.0, 3.0, 0.5, 4.0, 2.0], [2.0, 2.0, 6.0, 1.0, 1.0]]
            .map(|weights| Arc::new(LoggedLaw::from(Pmf::from_weights(weights).unwrap()).top(most)))
    }

    /// The mean of each ratio over outcomes of the law `whole`: 1, and 1 or nothing whatever the outcome.
    fn all_fair<const N: usize>(whole: &LoggedLaw, outcome: impl Fn(Token) -> Sample<N>) {
        let mut means = [0.0; N];
        let mut silent = [0; N];
        let mut lengths = [0.0; ORDERS];
        for (token, mass) in whole.listed() {
            let sample = outcome(token);
            for (i, ratio) in sample.ratios.into_iter().enumerate() {
                match ratio {
                    Some(ratio) => means[i] += mass * ratio,
                    None => silent[i] += 1,
                }
            }
            for (length, interval) in lengths.iter_mut().zip(sample.intervals) {
                assert!(interval.start >= 0.0 && interval.start + interval.length <= 1.0 + 1e-12);
                *length += mass / interval.length;
            }
        }
        for (mean, silent) in means.into_iter().zip(silent) {
            assert!(silent == 0 || silent == VOCAB, "a bet that depends on the outcome");
            assert!(silent == VOCAB || (mean - 1.0f64).abs() < 1e-12, "{means:?}");
        }
        // As many symbols as there are, each once.
        assert!(lengths.iter().all(|length| (length - length.round()).abs() < 1e-9), "{lengths:?}");
    }

    fn possible<const N: usize>(outcome: Outcome<N>) -> Sample<N> {
        match outcome {
            Outcome::Possible(sample) => sample,
            Outcome::Impossible => panic!("all tokens are possible"),
        }
    }

    #[test]
    fn every_bet_is_fair_whatever_is_listed() {
        let whole = laws(5);
        for most in 1..=5 {
            let [p, q, after] = laws(most);
            for drawn in [Drawn::Independent, Drawn::WithoutReplacement] {
                for first in 0..VOCAB {
                    let record = |second: Token, output: Vec<Token>| {
                        let rows = |law: &Arc<LoggedLaw>| Some(law.clone());
                        let target = vec![vec![rows(&q), rows(&after)], vec![None, rows(&after)]];
                        let drafts = [vec![first], vec![second]];
                        Record::new(5, &drafts, vec![vec![rows(&p)], vec![None]], target, output).unwrap()
                    };
                    let look = |record: &Record| evidence(record, drawn, None).unwrap();
                    let second = (first + 1) % VOCAB;
                    all_fair(&whole[1], |y| possible(look(&record(second, vec![y])).output.remove(0)));
                    all_fair(&whole[2], |y| possible(look(&record(second, vec![first, y])).output.remove(1)));
                    all_fair(&whole[0], |x| {
                        let other = if drawn == Drawn::Independent { second } else { (x + 1) % VOCAB };
                        let drafts = [vec![x], vec![other]];
                        let target = vec![vec![Some(q.clone()), None], vec![None, None]];
                        let laws = vec![vec![Some(p.clone())], vec![None]];
                        possible(look(&Record::new(5, &drafts, laws, target, vec![0]).unwrap()).drafts.remove(0))
                    });
                    if drawn == Drawn::Independent {
                        all_fair(&whole[0], |x| possible(look(&record(x, vec![0])).drafts.remove(1)));
                    }
                }
            }
        }
    }

    /// The second of two drafts without replacement has the law that the first one leaves.
    #[test]
    fn bets_on_what_is_left_are_fair() {
        let [p, q, _] = laws(5);
        let first = 1;
        let mut left: Vec<f64> = p.listed().map(|(_, mass)| mass).collect();
        left[first as usize] = 0.0;
        let left = Pmf::from_weights(left).unwrap();
        let mut means = [0.0; DRAFT_DIRECTIONS.len()];
        for (x, mass) in (0..VOCAB).zip(left.as_slice()).filter(|(x, _)| *x != first) {
            let target = vec![vec![Some(q.clone()), None], vec![None, None]];
            let record =
                Record::new(5, &[vec![first], vec![x]], vec![vec![Some(p.clone())], vec![None]], target, vec![0]);
            let sample =
                possible(evidence(&record.unwrap(), Drawn::WithoutReplacement, None).unwrap().drafts.remove(1));
            sample.ratios.iter().zip(&mut means).for_each(|(ratio, mean)| *mean += mass * ratio.unwrap_or(1.0));
        }
        // The draft law itself would also draw the first one again, which stops the bets.
        assert!(means[..10].iter().all(|mean| (mean - 1.0f64).abs() < 1e-12) && means[10] < 1.0, "{means:?}");
    }
}
