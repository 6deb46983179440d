//! Betting against a hypothesis: e-processes.
//!
//! Someone who bets a wealth of 1 against a true hypothesis at fair odds multiplies it by `1/a` with probability at most
//! `a`, however long he goes on and whenever he stops (Ville 1939; Shafer 2021, Ramdas et al. 2023). So the wealth is
//! evidence, and `1/` its highest value a p-value that is valid at any stopping time.
//!
//! A bet on a law `D` against the law `q` multiplies the wealth by `1 − s + s·D(Y)/q(Y)`, the share `s` of it being
//! staked; its mean under `q` is 1 whatever `D` and `s`, as long as both were chosen before `Y` was seen. The wealth is
//! divided beforehand among many such bettors, each with one idea of what may be wrong and one share, and some that
//! learn. Their mean is as fair as each of them, and falls behind the best of them by the logarithm of their number at
//! most.
//!
//! A log may round. If the law that the engine used is within a total variation `a` of the logged one, the mean of a bet
//! whose ratio `D(Y)/q(Y)` is cut off at `c` is at most `1 + s·a·c`. Every bettor pays that as a fee, with `c = 1/√a`, and
//! the wealth stays a proof.

/// The shares that the bettors of a direction stake.
const SHARES: [f64; 7] = [0.003, 0.01, 0.03, 0.1, 0.3, 0.7, 0.98];

/// The numbers of bins of the bettors that learn a density, and the counts that each bin starts with: few, to learn
/// fast, or many, to lose little while there is nothing to learn.
const HISTOGRAMS: [(usize, f64); 6] = [(2, 1.0), (2, 128.0), (4, 1.0), (4, 64.0), (16, 1.0), (16, 16.0)];

/// The part of `[0, 1]` that belongs to an outcome in some order of all outcomes: its probability is the length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Its lower end.
    pub start: f64,
    /// Its length.
    pub length: f64,
}

/// One outcome, as all bettors see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample<const DIRECTIONS: usize> {
    /// `D(Y)/q(Y)` for each direction `D`; `None` where a direction had nothing to say before `Y` was seen.
    pub ratios: [Option<f64>; DIRECTIONS],
    /// Where `Y` lies in each order.
    pub intervals: [Interval; ORDERS],
}

/// The orders of the outcomes in which a density is learned.
pub const ORDERS: usize = 3;

/// A bettor that learns the density of the probability transform of the outcomes.
///
/// Classically an outcome is replaced by a uniform point of its interval. To bet on the mean over that point instead needs
/// no randomness, is as fair, and never worse on average.
#[derive(Clone, Debug)]
struct Histogram {
    counts: Vec<f64>,
    total: f64,
    log_wealth: f64,
}

impl Histogram {
    fn new(bins: usize, prior: f64) -> Self {
        Histogram { counts: vec![prior; bins], total: prior * bins as f64, log_wealth: 0.0 }
    }

    fn bet(&mut self, interval: Interval, accuracy: f64) {
        let bins = self.counts.len();
        let (start, end) = (interval.start * bins as f64, (interval.start + interval.length) * bins as f64);
        let first = (start as usize).min(bins - 1);
        let last = (end as usize).min(bins - 1);
        let length = end - start;
        let mut density = 0.0;
        let weight = |bin: usize| {
            let overlap = (end.min((bin + 1) as f64) - start.max(bin as f64)).max(0.0);
            // An interval too short to be told from a point lies in the bin it starts in.
            if first == last || !(length > 0.0) { f64::from(bin == first) } else { overlap / length }
        };
        for bin in first..=last {
            density += weight(bin) * self.counts[bin] * bins as f64 / self.total;
        }
        let (least, most) = self.counts.iter().fold((f64::INFINITY, 0.0f64), |(a, b), &c| (a.min(c), b.max(c)));
        let fee = accuracy * (most - least) * bins as f64 / self.total;
        for bin in first..=last {
            self.counts[bin] += weight(bin);
        }
        self.total += 1.0;
        self.log_wealth += (density / (1.0 + fee)).ln();
    }
}

/// The wealth of all bettors against one hypothesis, over the outcomes seen so far.
#[derive(Clone, Debug)]
pub struct Bets<const DIRECTIONS: usize> {
    log_wealth: Vec<[f64; SHARES.len()]>,
    histograms: Vec<[Histogram; ORDERS]>,
    outcomes: u64,
    impossible: u64,
    log_e: f64,
    peak: f64,
    /// Where the wealth first exceeded the threshold.
    crossed: Option<u64>,
    log_threshold: f64,
    /// How far the logged laws may be from the used ones, in total variation.
    accuracy: f64,
    curve: Curve,
}

impl<const DIRECTIONS: usize> Bets<DIRECTIONS> {
    /// A wealth of 1, the logarithm of what it must reach for the hypothesis to be rejected, and how far the logged laws
    /// may be from the used ones.
    pub(super) fn new(log_threshold: f64, accuracy: f64) -> Self {
        let order = |&(bins, prior): &(usize, f64)| std::array::from_fn(|_| Histogram::new(bins, prior));
        Bets {
            log_wealth: vec![[0.0; SHARES.len()]; DIRECTIONS],
            histograms: HISTOGRAMS.iter().map(order).collect(),
            outcomes: 0,
            impossible: 0,
            log_e: 0.0,
            peak: 0.0,
            crossed: None,
            log_threshold,
            accuracy,
            curve: Curve::default(),
        }
    }

    /// Bets on one outcome, after `position` tokens of the text.
    pub(super) fn bet(&mut self, sample: &Sample<DIRECTIONS>, position: u64) {
        self.outcomes += 1;
        // Without rounding there is no highest ratio.
        let (root, most) = (self.accuracy.sqrt(), 1.0 / self.accuracy.sqrt());
        for (wealth, ratio) in self.log_wealth.iter_mut().zip(&sample.ratios) {
            if let Some(ratio) = ratio {
                for (wealth, share) in wealth.iter_mut().zip(SHARES) {
                    *wealth += ((1.0 - share + share * ratio.min(most)) / (1.0 + share * root)).ln();
                }
            }
        }
        for histograms in &mut self.histograms {
            for (histogram, &interval) in histograms.iter_mut().zip(&sample.intervals) {
                histogram.bet(interval, self.accuracy);
            }
        }
        self.update(position);
    }

    /// Takes note of an outcome that the hypothesis gives probability 0, after `position` tokens: any wealth would have
    /// been won on it.
    pub(super) fn impossible(&mut self, position: u64) {
        self.outcomes += 1;
        self.impossible += 1;
        self.update(position);
    }

    fn update(&mut self, position: u64) {
        self.log_e = if self.impossible > 0 { f64::INFINITY } else { self.mean() };
        self.peak = self.peak.max(self.log_e);
        // Not `>=`: the wealth is NaN only by a mistake, which must not pass for evidence of nothing.
        if !(self.log_e < self.log_threshold) && self.crossed.is_none() {
            self.crossed = Some(position);
        }
        self.curve.push(position, self.log_e);
    }

    /// Half of the wealth is divided among the directions, half among those that learn.
    fn mean(&self) -> f64 {
        let directions = || self.log_wealth.iter().flatten().copied();
        let learned = || self.histograms.iter().flatten().map(|histogram| histogram.log_wealth);
        let highest = directions().chain(learned()).fold(f64::NEG_INFINITY, f64::max);
        let mean = |sum: f64, count: usize| 0.5 * sum / count as f64;
        let sum = mean(directions().map(|wealth| (wealth - highest).exp()).sum(), DIRECTIONS * SHARES.len())
            + mean(learned().map(|wealth| (wealth - highest).exp()).sum(), HISTOGRAMS.len() * ORDERS);
        highest + sum.ln()
    }

    /// The number of outcomes.
    pub fn outcomes(&self) -> u64 {
        self.outcomes
    }

    /// The number of outcomes that cannot be.
    pub fn impossible_outcomes(&self) -> u64 {
        self.impossible
    }

    /// The natural logarithm of the wealth; +∞ after an outcome that cannot be.
    pub fn log_e(&self) -> f64 {
        self.log_e
    }

    /// The natural logarithm of the highest wealth so far.
    pub fn peak(&self) -> f64 {
        self.peak
    }

    /// The natural logarithm of the wealth at which the hypothesis is rejected.
    pub fn log_threshold(&self) -> f64 {
        self.log_threshold
    }

    /// A p-value valid at any stopping time, of this hypothesis alone.
    pub fn p_value(&self) -> f64 {
        (-self.peak).exp().min(1.0)
    }

    /// How many tokens had been output when the hypothesis was rejected; `None` if it stands.
    pub fn crossed(&self) -> Option<u64> {
        self.crossed
    }

    /// The logarithm of the wealth along the log, thinned out to some hundred points.
    pub fn curve(&self) -> &[(u64, f64)] {
        &self.curve.points
    }

    /// The wealthiest bettor's idea: a direction with its share, or `None` if it is one that learns.
    pub(super) fn richest(&self) -> Option<(usize, f64)> {
        let mut best = (f64::NEG_INFINITY, None);
        for (direction, wealth) in self.log_wealth.iter().enumerate() {
            for (&wealth, share) in wealth.iter().zip(SHARES) {
                if wealth > best.0 {
                    best = (wealth, Some((direction, share)));
                }
            }
        }
        let learned = self.histograms.iter().flatten().map(|h| h.log_wealth).fold(f64::NEG_INFINITY, f64::max);
        if learned > best.0 { None } else { best.1 }
    }
}

/// The number of bettors among whom the directions' half of the wealth is divided: how far the mean may be behind the
/// best of them, twice over.
pub(super) fn bettors(directions: usize) -> usize {
    2 * directions * SHARES.len()
}

/// A curve of bounded length: every second point is dropped when there are too many.
#[derive(Clone, Debug, Default)]
struct Curve {
    points: Vec<(u64, f64)>,
    /// Only one value in `2^thinned` is kept, and the last.
    thinned: u32,
    seen: u64,
}

/// The most points of a curve.
const MOST_POINTS: usize = 1024;

impl Curve {
    fn push(&mut self, position: u64, value: f64) {
        let stride = 1 << self.thinned;
        // The last point follows every value; only those at whole strides stay behind it.
        if self.seen > 0 && !(self.seen - 1).is_multiple_of(stride) {
            self.points.pop();
        }
        self.points.push((position, value));
        self.seen += 1;
        if self.points.len() > MOST_POINTS {
            let (last, mut at) = (self.points.len() - 1, 0);
            self.points.retain(|_| {
                at += 1;
                at % 2 == 1 || at == last + 1
            });
            self.thinned += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every bettor's mean multiplier is 1, whatever has been learned.
    #[test]
    fn all_bets_are_fair() {
        let law = [0.5, 0.2, 0.2, 0.07, 0.03];
        let direction = [0.1, 0.1, 0.3, 0.5, 0.0];
        let mut start = 0.0;
        let samples: Vec<Sample<1>> = law
            .iter()
            .zip(direction)
            .map(|(&length, other)| {
                let interval = Interval { start, length };
                start += length;
                Sample { ratios: [Some(other / length)], intervals: [interval; ORDERS] }
            })
            .collect();
        // The law itself, and every law within the accuracy of it.
        for accuracy in [0.0, 1e-3] {
            let mut bets = Bets::<1>::new(5.0, accuracy);
            for step in 0..200 {
                let gain = |(token, share): (usize, f64)| {
                    let mut after = bets.clone();
                    after.bet(&samples[token], 0);
                    (share * (after.log_e() - bets.log_e()).exp(), (after.log_e() - bets.log_e()).exp())
                };
                let gains: Vec<(f64, f64)> = law.into_iter().enumerate().map(gain).collect();
                let mean: f64 = gains.iter().map(|gain| gain.0).sum();
                let spread = gains.iter().fold(0.0f64, |most, gain| most.max(gain.1))
                    - gains.iter().fold(f64::INFINITY, |least, gain| least.min(gain.1));
                assert!(mean + accuracy * spread <= 1.0 + 1e-12, "step {step}: {mean} and {spread}");
                if accuracy == 0.0 {
                    approx::assert_abs_diff_eq!(mean, 1.0, epsilon = 1e-12);
                }
                bets.bet(&samples[step % 3], step as u64);
            }
            assert!(bets.peak() > 5.0 && bets.crossed().is_some());
        }
    }

    #[test]
    fn a_curve_keeps_its_length_and_its_last_point() {
        let mut curve = Curve::default();
        for i in 0..100_000 {
            curve.push(i, i as f64);
            assert!(curve.points.len() <= MOST_POINTS);
            assert_eq!(curve.points.last(), Some(&(i, i as f64)));
            assert!(curve.points.is_sorted_by(|a, b| a.0 < b.0));
        }
        assert!(curve.points.len() >= MOST_POINTS / 2);
    }

    #[test]
    fn what_cannot_be_is_proof() {
        let mut bets = Bets::<1>::new(5.0, 0.0);
        bets.impossible(3);
        assert_eq!((bets.log_e(), bets.p_value(), bets.crossed()), (f64::INFINITY, 0.0, Some(3)));
    }
}
