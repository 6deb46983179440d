//! What an audit comes to.

use std::collections::BTreeMap;

use super::acceptance::{Attainable, COMPARED, Keeps, REFERENCE, Sampled};
use super::bets::{Bets, bettors};
use super::evidence::{DRAFT_DIRECTIONS, OUTPUT_DIRECTIONS, RULE_DIRECTIONS};
use super::{Audit, Look};

/// A hypothesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Test {
    /// The output has the target's law.
    Output,
    /// The drafts have the stated draft law.
    Drafts,
    /// The output given the drafts has the law of the rule.
    Rule,
}

impl Test {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Test::Output => "output",
            Test::Drafts => "drafts",
            Test::Rule => "rule",
        }
    }
}

/// How a hypothesis came out.
#[derive(Clone, Debug, PartialEq)]
pub struct Tested {
    /// Which.
    pub test: Test,
    /// The number of outcomes that were bet on.
    pub outcomes: u64,
    /// The number of those that cannot be.
    pub impossible: u64,
    /// The natural logarithm of the wealth at the end, +∞ after something that cannot be.
    pub log_e: f64,
    /// Of the highest wealth.
    pub peak: f64,
    /// Of the wealth at which the hypothesis is rejected.
    pub log_threshold: f64,
    /// Valid at any stopping time, for this hypothesis alone.
    pub p_value: f64,
    /// The tokens output when it was rejected; `None` if it stands.
    pub rejected_after: Option<u64>,
    /// What the richest bettor has bet on, and the share it staked; `None` if it is one that learned a density.
    pub richest: Option<(&'static str, f64)>,
    /// The logarithm of the wealth by the number of tokens output.
    pub curve: Vec<(u64, f64)>,
}

impl Tested {
    fn new<const N: usize>(test: Test, bets: &Bets<N>, directions: &[&'static str; N]) -> Self {
        Tested {
            test,
            outcomes: bets.outcomes(),
            impossible: bets.impossible_outcomes(),
            log_e: bets.log_e(),
            peak: bets.peak(),
            log_threshold: bets.log_threshold(),
            p_value: bets.p_value(),
            rejected_after: bets.crossed(),
            richest: bets.richest().map(|(direction, share)| (directions[direction], share)),
            curve: bets.curve().to_vec(),
        }
    }
}

/// A mean and its standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// The mean.
    pub value: f64,
    /// Its standard error; 0 with fewer than two values.
    pub standard_error: f64,
}

impl Mean {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let count = values.clone().count() as f64;
        let value = values.clone().sum::<f64>() / count;
        let squares: f64 = values.map(|x| (x - value).powi(2)).sum();
        let standard_error = if count > 1.0 { (squares / (count - 1.0) / count).sqrt() } else { 0.0 };
        Mean { value, standard_error }
    }

    /// The mean of `hits` ones among `count` zeros and ones.
    fn of_share(hits: u64, count: u64) -> Self {
        let value = hits as f64 / count as f64;
        Mean { value, standard_error: (value * (1.0 - value) / count as f64).sqrt() }
    }
}

/// The first tokens of all rounds with one number of drafts.
#[derive(Clone, Debug, PartialEq)]
pub struct AtFirst {
    /// The number of drafts.
    pub k: usize,
    /// The number of rounds.
    pub rounds: u64,
    /// How often the engine's output was drafted.
    pub engine: Mean,
    /// The number of rounds that the other figures are means of.
    pub compared: usize,
    /// The optimum of independent drafts: with the tails that the log leaves out apart, and together.
    pub optimum: (Mean, Mean),
    /// Each rule of [`COMPARED`] that takes `k` drafts, in the same way.
    pub rules: Vec<(&'static str, Mean, Mean)>,
}

/// All rounds with one number and length of paths.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// The number of paths.
    pub paths: usize,
    /// The length of the longest.
    pub length: usize,
    /// The number of rounds.
    pub rounds: u64,
    /// The drafted tokens that the engine kept in a round.
    pub engine: Mean,
    /// The number of rounds that the other figures are means of.
    pub compared: usize,
    /// What each verifier would keep of the same drafts.
    pub verifiers: Vec<(String, Mean)>,
}

/// How many tokens it takes to find an output that is off by 1 % in total variation, on scores like the log's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Power {
    /// In which direction it is off.
    pub towards: &'static str,
    /// The number of tokens; infinite if the log is too inaccurate.
    pub tokens: f64,
}

/// What is counted in every round.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// Rounds, and those whose first token was drafted, by the number of drafts.
    first: BTreeMap<usize, (u64, u64)>,
    /// Rounds, kept tokens and their squares, by the number and length of paths.
    kept: BTreeMap<(usize, usize), (u64, f64, f64)>,
}

impl Counts {
    pub fn add(&mut self, look: &Look) {
        if look.first > 0 {
            let (rounds, accepted) = self.first.entry(look.first).or_default();
            *rounds += 1;
            *accepted += u64::from(look.accepted > 0);
            let (rounds, sum, squares) = self.kept.entry((look.paths, look.length)).or_default();
            *rounds += 1;
            *sum += look.accepted as f64;
            *squares += (look.accepted as f64).powi(2);
        }
    }
}

impl Audit {
    /// How each hypothesis came out.
    pub fn tested(&self) -> Vec<Tested> {
        let mut tested = vec![
            Tested::new(Test::Output, &self.output, &OUTPUT_DIRECTIONS),
            Tested::new(Test::Drafts, &self.drafts, &DRAFT_DIRECTIONS),
        ];
        tested.extend(self.rule.as_ref().map(|rule| Tested::new(Test::Rule, rule, &RULE_DIRECTIONS)));
        tested
    }

    /// What the engine accepts at the first token of a round, and what it could.
    pub fn at_first(&self) -> Vec<AtFirst> {
        let all = || items(&self.attainable);
        let at = |(&k, &(rounds, accepted)): (&usize, &(u64, u64))| {
            let rows: Vec<&Attainable> = all().filter(|row| row.k == k).collect();
            let mean = |value: &dyn Fn(&Attainable) -> (f64, f64)| {
                (Mean::of(rows.iter().map(|row| value(row).0)), Mean::of(rows.iter().map(|row| value(row).1)))
            };
            let rules = COMPARED.iter().enumerate().filter(|(i, _)| rows.iter().all(|row| row.rules[*i].is_some()));
            let rules = rules.map(|(i, rule)| {
                let (low, high) = mean(&|row| row.rules[i].unwrap_or_default());
                (rule.name(), low, high)
            });
            AtFirst {
                k,
                rounds,
                engine: Mean::of_share(accepted, rounds),
                compared: rows.len(),
                optimum: mean(&|row| row.optimum),
                rules: if rows.is_empty() { Vec::new() } else { rules.collect() },
            }
        };
        self.counts.first.iter().map(at).collect()
    }

    /// What the engine keeps of drafts of more than one token, and what each verifier would.
    pub fn kept(&self) -> Vec<Kept> {
        let longer = self.counts.kept.iter().filter(|((_, length), _)| *length > 1);
        let kept = longer.map(|(&(paths, length), &(rounds, sum, squares))| {
            let rows: Vec<&Keeps> =
                items(&self.keeps).filter(|row| (row.paths, row.length) == (paths, length)).collect();
            let n = rounds as f64;
            let variance = (squares - sum * sum / n).max(0.0) / (n - 1.0).max(1.0);
            let engine = Mean { value: sum / n, standard_error: (variance / n).sqrt() };
            let names = rows.first().map(|row| &row.verifiers[..]).unwrap_or_default().iter().map(|(name, _)| name);
            let of = |name: &String| {
                let all = rows.iter().filter_map(|row| row.verifiers.iter().find(|(other, _)| other == name));
                (name.clone(), Mean::of(all.map(|(_, value)| *value)))
            };
            Kept { paths, length, rounds, engine, compared: rows.len(), verifiers: names.map(of).collect() }
        });
        kept.collect()
    }

    /// How many tokens it takes to find an output that is off by 1 %.
    pub fn power(&self) -> Vec<Power> {
        let rows: Vec<&Attainable> = items(&self.attainable).collect();
        if rows.is_empty() {
            return Vec::new();
        }
        let needed = self.output.log_threshold() + (bettors(OUTPUT_DIRECTIONS.len()) as f64).ln();
        let fee = self.settings.accuracy.sqrt();
        let power = |(i, towards): (usize, &'static str)| {
            let growth = rows.iter().map(|row| row.growth[i] - (row.shares[i] * fee).ln_1p()).sum::<f64>();
            let tokens = needed / (growth / rows.len() as f64);
            Power { towards, tokens: if tokens > 0.0 { tokens } else { f64::INFINITY } }
        };
        ["the draft law", "the residual", "what both laws share"].into_iter().enumerate().map(power).collect()
    }

    /// The total variation that [`power`](Audit::power) is about.
    pub fn reference(&self) -> f64 {
        REFERENCE
    }
}

fn items<T>(sampled: &Sampled<Option<T>>) -> impl Iterator<Item = &T> + Clone {
    sampled.items.iter().flatten()
}
