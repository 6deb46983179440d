//! What an engine accepts beside what it could: the optimum, and each rule on the same scores.

use super::law::LoggedLaw;
use super::record::Record;
use super::rule::Compact;
use crate::bound::alpha_star;
use crate::path::{PathVerifier, ROOT, Verifier};
use crate::pmf::{Pmf, Token};
use crate::problem::Problem;
use crate::rule::Rule;

/// The rules that an engine is compared with: those for independent drafts that do not merely restate the optimum.
pub const COMPARED: [Rule; 4] = [Rule::Maximal, Rule::Recursive, Rule::KSeq, Rule::OptimalLinear];

/// The longest drafts whose exact laws are computed: that of the path coupling takes 2^L steps a path.
const MOST_STEPS: usize = 8;

/// The total variation for which the power of the bets is stated.
pub const REFERENCE: f64 = 0.01;

/// What could be attained at the first token of one round.
///
/// Where a log leaves out the tails, the two laws may have much or little of them in common: `least` takes the tails to
/// be apart, `most` to be one token. The optimum lies between the two.
#[derive(Clone, Debug, PartialEq)]
pub struct Attainable {
    /// The number of drafts.
    pub k: usize,
    /// The optimum with tails apart, and with tails together.
    pub optimum: (f64, f64),
    /// The same for each of [`COMPARED`]; `None` for a rule that does not take so many drafts.
    pub rules: [Option<(f64, f64)>; COMPARED.len()],
    /// The expected growth of the logarithm of the wealth a token, for an output that is off by [`REFERENCE`] in total
    /// variation: towards the draft law, towards the residual, towards what the laws share.
    pub growth: [f64; 3],
    /// The share that a bettor would best stake for each.
    pub shares: [f64; 3],
}

/// The expected number of drafted tokens that each verifier would keep of one round's drafts.
#[derive(Clone, Debug, PartialEq)]
pub struct Keeps {
    /// The number of paths.
    pub paths: usize,
    /// The length of the longest.
    pub length: usize,
    /// The verifiers by name, in the order of [`Verifier::all`].
    pub verifiers: Vec<(String, f64)>,
}

/// Two laws with their tails apart, and with their tails together.
fn completions(draft: &LoggedLaw, target: &LoggedLaw) -> Option<[(Pmf, Pmf); 2]> {
    if let (LoggedLaw::Full(draft), LoggedLaw::Full(target)) = (draft, target) {
        return Some([(draft.clone(), target.clone()), (draft.clone(), target.clone())]);
    }
    let mut listed: Vec<Token> = draft.listed().chain(target.listed()).map(|(token, _)| token).collect();
    listed.sort_unstable();
    listed.dedup();
    let (mut apart, mut together) = ((Vec::new(), Vec::new()), (vec![draft.tail()], vec![target.tail()]));
    for token in listed {
        let (p, q) = (draft.mass(token), target.mass(token));
        apart.0.push(p.unwrap_or(0.0));
        apart.1.push(q.unwrap_or(0.0));
        match (p, q) {
            (Some(p), Some(q)) => {
                together.0.push(p);
                together.1.push(q);
            }
            (p, q) => {
                together.0[0] += p.unwrap_or(0.0);
                together.1[0] += q.unwrap_or(0.0);
            }
        }
    }
    apart.0.extend([draft.tail(), 0.0]);
    apart.1.extend([0.0, target.tail()]);
    let pair = |(p, q): (Vec<f64>, Vec<f64>)| Some((Pmf::from_weights(p).ok()?, Pmf::from_weights(q).ok()?));
    Some([pair(apart)?, pair(together)?])
}

/// What could be attained at the first token of a round; `None` without drafts or without their law. `O(V log V)`.
pub(super) fn attainable(record: &Record) -> Option<Attainable> {
    let (draft, target) = (record.draft(ROOT)?, record.target(ROOT)?);
    let k = record.next_tokens(ROOT).len();
    let [apart, together] = completions(draft, target)?;
    let exact = draft.tail() == 0.0 && target.tail() == 0.0;
    let least = Problem::new(apart.0, apart.1, k).ok()?;
    let values = |problem: &Problem| {
        let rule = |rule: Rule| rule.takes(k).then(|| rule.prepare(problem).acceptance().value);
        (alpha_star(problem), COMPARED.map(rule))
    };
    let low = values(&least);
    let high = if exact { low } else { values(&Problem::new(together.0, together.1, k).ok()?) };
    let rules = std::array::from_fn(|i| low.1[i].zip(high.1[i]));
    let (p, q) = (least.draft().as_slice(), least.target().as_slice());
    let directions: [fn(f64, f64) -> f64; 3] = [|p, _| p, |p, q| (q - p).max(0.0), f64::min];
    let growths = directions.map(|mass| growth(p, q, mass));
    Some(Attainable {
        k,
        optimum: (low.0, high.0),
        rules,
        growth: growths.map(|growth| growth.0),
        shares: growths.map(|growth| growth.1),
    })
}

/// The divergence from `q` of the law that is off by [`REFERENCE`] towards a direction, and the share of it.
fn growth(p: &[f64], q: &[f64], mass: impl Fn(f64, f64) -> f64) -> (f64, f64) {
    let pairs = || p.iter().zip(q);
    let total: f64 = pairs().map(|(&p, &q)| mass(p, q)).sum();
    if !(total > 0.0) {
        return (0.0, 0.0);
    }
    let distance: f64 = pairs().map(|(&p, &q)| (mass(p, q) / total - q).max(0.0)).sum();
    // Where the two are closer than that there is less to find.
    let share = if distance > REFERENCE { REFERENCE / distance } else { 1.0 };
    let divergence = pairs().filter(|(_, q)| **q > 0.0).map(|(&p, &q)| {
        let ratio = 1.0 - share + share * mass(p, q) / total / q;
        if ratio > 0.0 { q * ratio * ratio.ln() } else { 0.0 }
    });
    (divergence.sum::<f64>().max(0.0), share)
}

/// What each verifier would keep of a round's drafts; `None` if the log leaves out what they look at, or the drafts
/// are too long.
pub(super) fn keeps(record: &Record) -> Option<Keeps> {
    let length = record.length();
    if !(2..=MOST_STEPS).contains(&length) {
        return None;
    }
    let round = Compact::new(record)?.round().ok()?;
    let expected = |verifier: Verifier| {
        let law = verifier.law(&round).ok()?;
        Some((verifier.name(), law.expected_accepted(&round)))
    };
    let paths = record.paths();
    // `optimal` and `optimal-linear` keep the same but for a millionth; the sort is left out.
    let verifiers = Verifier::all(paths).into_iter().filter(|verifier| verifier.name() != "token:optimal");
    Some(Keeps { paths, length, verifiers: verifiers.filter_map(expected).collect() })
}

/// A sample of bounded size of something that comes one by one: every `stride`-th.
#[derive(Clone, Debug)]
pub(super) struct Sampled<T> {
    pub items: Vec<T>,
    pub stride: u64,
    wanted: usize,
}

impl<T> Sampled<T> {
    /// Holds from `wanted` to twice as many items.
    pub fn new(wanted: usize) -> Self {
        Sampled { items: Vec::new(), stride: 1, wanted }
    }

    /// Adds an item; half of them go if there are too many.
    pub fn push(&mut self, item: T) {
        self.items.push(item);
        if self.items.len() > 2 * self.wanted {
            let mut at = 0;
            self.items.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            self.stride *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pmf(weights: &[f64]) -> Pmf {
        Pmf::from_weights(weights.to_vec()).unwrap()
    }

    /// The optimum of two laws lies between those of their completions.
    #[test]
    fn tails_bracket_the_optimum() {
        let (p, q) = (pmf(&[8.0, 4.0, 3.0, 2.0, 1.0, 1.0]), pmf(&[1.0, 5.0, 1.0, 4.0, 2.0, 0.5]));
        for k in 1..=4 {
            let exact = alpha_star(&Problem::new(p.clone(), q.clone(), k).unwrap());
            for most in 1..=5 {
                let [apart, together] =
                    completions(&LoggedLaw::from(p.clone()).top(most), &LoggedLaw::from(q.clone()).top(most)).unwrap();
                let value = |(p, q): (Pmf, Pmf)| alpha_star(&Problem::new(p, q, k).unwrap());
                let (low, high) = (value(apart), value(together));
                assert!(low <= exact + 1e-12 && exact <= high + 1e-12, "{low} {exact} {high}");
            }
        }
    }

    #[test]
    fn growth_is_the_divergence() {
        let (p, q) = ([0.6, 0.4], [0.5, 0.5]);
        // Off by 0.01: (0.51, 0.49).
        let (value, share) = growth(&p, &q, |p, _| p);
        approx::assert_abs_diff_eq!(value, 0.51 * 1.02f64.ln() + 0.49 * 0.98f64.ln(), epsilon = 1e-12);
        approx::assert_abs_diff_eq!(share, 0.1, epsilon = 1e-12);
    }
}
