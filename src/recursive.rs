//! Recursive rejection: the drafts one after the other, each against what the ones before it left of the target.
//!
//! With replacement: Yang et al. 2024 (arXiv 2401.06706), Miao et al. 2023 (SpecInfer, arXiv 2305.09781). Without:
//! Yang et al. 2024, Jeon et al. 2024 (arXiv 2402.14160). In their notation, with `p_i` the law of draft `i` given
//! the ones before it (`p` itself with replacement):
//!
//! ```text
//! r_0 = q
//! for i = 1..k:  with probability min(1, r_{i−1}(X_i)/p_i(X_i))  output X_i
//!                r_i ∝ (r_{i−1} − p_i)₊
//! otherwise      output Y ~ r_k
//! ```
//!
//! Departures, both exact:
//!
//! 1. No residual law is stored: `r_i(y)` is replayed from `p(y)`, `q(y)` and the sums `Z_j = Σ (r_{j−1} − p_j)₊` of
//!    the steps before. A token that was drawn and rejected has `r = 0` from then on, so it need not be taken out of
//!    `p_j` by hand.
//! 2. The sums are the same for every tuple only with replacement. Without, `r_i = (q − c·p)₊ / D` with
//!    `D = R(c) = Σ_y (q(y) − c·p(y))₊`, because `(q − c·p)/D − p/s = (q − (c + D/s)·p)/D`, `s` being the draft mass
//!    not yet drawn; so one table of `R`, sorted by `q/p`, gives every `Z` by a binary search.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::pmf::{Coin, Token};
use crate::problem::{Laws, MAX_DRAFTS, Problem, for_each_token};
use crate::ratio::ByRatio;
use crate::selector::{
    Acceptance, Drawn, SelectError, Selection, Selector, accept_probability, add_residual, check_drafts, resample,
    split_coins, sum_over,
};
use crate::sum::Sum;

/// One rejected draft: the draft mass that it was drawn from, and the sum `Z` of what is left of the residual.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    undrawn: f64,
    z: f64,
}

impl Step {
    /// `(r − p_i)₊`, unnormalised.
    fn rest(self, residual: f64, p: f64) -> f64 {
        (residual - p / self.undrawn).max(0.0)
    }

    fn next(self, residual: f64, p: f64) -> f64 {
        // A residual without mass stays one; 0/0 would make NaN of it.
        if self.z > 0.0 { self.rest(residual, p) / self.z } else { 0.0 }
    }
}

/// `r_i(y)` after the given rejections.
fn replay(steps: &[Step], p: f64, q: f64) -> f64 {
    steps.iter().fold(q, |residual, step| step.next(residual, p))
}

/// `min(1, r/p_i)` for a token drawn from draft mass `undrawn`.
fn accept(steps: &[Step], p: f64, q: f64, undrawn: f64, accuracy: f64) -> f64 {
    accept_probability(replay(steps, p, q), p / undrawn, accuracy)
}

/// Recursive rejection of drafts drawn with replacement. Uses one coin a draft and the residual coin.
#[derive(Clone, Debug)]
pub struct Recursive<L = Problem> {
    laws: L,
    steps: Vec<Step>,
}

impl Recursive<Problem> {
    /// Prepares the rule for the problem's `k`. `O(k·V)`.
    pub fn new(problem: Problem) -> Self {
        let k = problem.k();
        Self::with_laws(problem, k)
    }
}

impl<L: Laws> Recursive<L> {
    /// Prepares the rule for `k` drafts of any laws. `O(k·V)`.
    pub(crate) fn with_laws(laws: L, k: usize) -> Self {
        let mut steps: Vec<Step> = Vec::with_capacity(k);
        let mut residuals = Vec::with_capacity(laws.vocab());
        for_each_token(&laws, |_, p, q| residuals.push((p, q)));
        for _ in 0..k {
            let mut step = Step { undrawn: 1.0, z: 0.0 };
            step.z = Sum::of(residuals.iter().map(|&(p, residual)| step.rest(residual, p)));
            for (p, residual) in &mut residuals {
                *residual = step.next(*residual, *p);
            }
            steps.push(step);
        }
        Recursive { laws, steps }
    }

    fn residual(&self) -> impl Fn(Token, f64, f64) -> f64 {
        |_, p, q| replay(&self.steps, p, q)
    }
}

impl<L: Laws> Selector for Recursive<L> {
    fn drafts(&self) -> usize {
        self.steps.len()
    }

    fn law(&self, drafts: &[Token]) -> Result<Vec<f64>, SelectError> {
        check_drafts(&self.laws, self.drafts(), drafts)?;
        let mut law = vec![0.0; self.laws.vocab()];
        let mut left = 1.0;
        for (i, &token) in drafts.iter().enumerate() {
            let (p, q) = self.laws.masses(token);
            let accept = accept(&self.steps[..i], p, q, 1.0, self.laws.accuracy());
            law[token as usize] += left * accept;
            left *= 1.0 - accept;
        }
        add_residual(&mut law, &self.laws, drafts, left, self.residual());
        Ok(law)
    }

    fn select(&self, drafts: &[Token], coins: &[Coin]) -> Result<Selection, SelectError> {
        check_drafts(&self.laws, self.drafts(), drafts)?;
        let coins = split_coins(self.drafts(), coins)?;
        for (i, &token) in drafts.iter().enumerate() {
            let (p, q) = self.laws.masses(token);
            if coins.drafts[i].get() < accept(&self.steps[..i], p, q, 1.0, self.laws.accuracy()) {
                return Ok(Selection::Draft(i));
            }
        }
        Ok(resample(&self.laws, drafts, 1.0, coins.residual, self.residual()))
    }

    /// `1 − Π Z_i`: step `i` rejects with probability `Σ (p − r_{i−1})₊ = Σ (r_{i−1} − p)₊ = Z_i`.
    fn acceptance(&self) -> Acceptance {
        Acceptance::exact(1.0 - self.steps.iter().map(|step| step.z).product::<f64>())
    }
}

/// The draft mass that is left after some tokens were drawn, without the cancellation of `1 − p(x₁) − …`: after a token
/// of probability 1 − 1e-6 that difference would keep only ten digits.
#[derive(Clone, Debug)]
struct Undrawn {
    /// Each token's place in the order by `p` descending.
    rank: Vec<u32>,
    /// The draft mass from each place of that order to its end.
    tails: Vec<f64>,
}

impl Undrawn {
    fn new<L: Laws>(laws: &L) -> Self {
        let mut order: Vec<(f64, Token)> = Vec::with_capacity(laws.vocab());
        for_each_token(laws, |token, p, _| order.push((p, token)));
        order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut undrawn = Undrawn { rank: vec![0; order.len()], tails: vec![0.0; order.len() + 1] };
        let mut tail = Sum::default();
        for (place, &(p, token)) in order.iter().enumerate().rev() {
            undrawn.rank[token as usize] = place as u32;
            tail.add(p);
            undrawn.tails[place] = tail.value();
        }
        undrawn
    }

    /// The mass of all tokens but `drawn`; each of `drawn` comes with its probability. `O(k²)`.
    ///
    /// The likeliest token not drawn is as heavy as any drawn one behind it, so that no more than `k` equal parts
    /// are taken from `k + 1`: the result is accurate to a few roundings.
    fn left(&self, drawn: &[(Token, f64)]) -> f64 {
        let is_drawn = |place: u32| drawn.iter().any(|&(token, _)| self.rank[token as usize] == place);
        let first = (0..).find(|&place| !is_drawn(place)).unwrap_or(0);
        let behind = drawn.iter().filter(|&&(token, _)| self.rank[token as usize] > first);
        self.tails[(first as usize).min(self.tails.len() - 1)] - behind.map(|&(_, p)| p).sum::<f64>()
    }
}

/// Recursive rejection of drafts drawn without replacement. Uses one coin a draft and the residual coin.
///
/// Takes `min(k, |supp p|)` drafts: there are no more to draw.
#[derive(Clone, Debug)]
pub struct RecursiveDistinct<L = Problem> {
    laws: L,
    k: usize,
    ratios: ByRatio,
    /// `Σ p` and `Σ q` over the tokens from each place of the ratio order to its end.
    tails: Vec<(f64, f64)>,
    undrawn: Undrawn,
}

/// The rejections so far: the steps to replay, and the same as `r = (q − c·p)₊ / mass`.
#[derive(Clone, Debug)]
struct Rejections {
    steps: [Step; MAX_DRAFTS],
    drawn: [(Token, f64); MAX_DRAFTS],
    len: usize,
    c: f64,
    mass: f64,
}

impl Rejections {
    fn none() -> Self {
        Rejections { steps: [Step::default(); MAX_DRAFTS], drawn: [(0, 0.0); MAX_DRAFTS], len: 0, c: 0.0, mass: 1.0 }
    }

    fn steps(&self) -> &[Step] {
        &self.steps[..self.len]
    }

    fn drawn(&self) -> &[(Token, f64)] {
        &self.drawn[..self.len]
    }
}

/// How far the difference `q − c·p` may fall below its terms before it is replaced by a sum over the vocabulary.
#[derive(Clone, Copy)]
struct Trust(f64);

impl Trust {
    /// For selecting: at most one digit is lost, so that the residual's mass adds up to 1 within 1e-14.
    const SELECT: Trust = Trust(0.1);
    /// For the simulated acceptance, which is not known to more than four digits.
    const SIMULATE: Trust = Trust(1e-8);
}

/// The largest number of draft tuples over which the acceptance is added up exactly.
const ENUMERATED_TUPLES: f64 = 2e5;

/// The number of rejected draft sequences that are simulated where the exact sum has too many terms. The standard
/// error is then at most 0.5/√4096 < 0.008, in practice below 0.003.
const SIMULATED_TUPLES: u32 = 4096;

impl RecursiveDistinct<Problem> {
    /// Prepares the rule for the problem's `k`. `O(V log V)`.
    pub fn new(problem: Problem) -> Self {
        let k = problem.k();
        Self::with_laws(problem, k)
    }
}

impl<L: Laws> RecursiveDistinct<L> {
    /// Prepares the rule for `k` drafts of any laws. `O(V log V)`.
    pub(crate) fn with_laws(laws: L, k: usize) -> Self {
        let ratios = ByRatio::new(&laws);
        let support = ratios.iter().filter(|entry| entry.p > 0.0).count();
        let mut tails = vec![(0.0, 0.0); ratios.len() + 1];
        let (mut p, mut q) = (Sum::default(), Sum::default());
        for (i, entry) in ratios.iter().enumerate().rev() {
            p.add(entry.p);
            q.add(entry.q);
            tails[i] = (p.value(), q.value());
        }
        let undrawn = Undrawn::new(&laws);
        RecursiveDistinct { laws, k: k.min(support), ratios, tails, undrawn }
    }

    /// Adds the rejection of a draft that was drawn from draft mass `undrawn`. `O(log V)`; where the table's
    /// difference cancels, `O(k·V)`.
    fn reject(&self, rejections: &mut Rejections, token: Token, p: f64, undrawn: f64, trust: Trust) {
        let c = rejections.c + rejections.mass / undrawn;
        // The order is by p/q descending: the tokens with q > c·p are at its end.
        let (p_tail, q_tail) = self.tails[self.ratios.partition_point(|entry| entry.q <= c * entry.p)];
        // Tokens without draft mass never lose any target mass, however large c is.
        let mut mass = if p_tail > 0.0 { q_tail - c * p_tail } else { q_tail };
        let mut step = Step { undrawn, z: mass / rejections.mass };
        if !(mass > trust.0 * q_tail && rejections.mass > 0.0) {
            step.z = sum_over(&self.laws, |_, p, q| step.rest(replay(rejections.steps(), p, q), p));
            mass = rejections.mass * step.z;
        }
        rejections.steps[rejections.len] = step;
        rejections.drawn[rejections.len] = (token, p);
        rejections.len += 1;
        (rejections.c, rejections.mass) = (c, mass);
    }

    fn check(&self, drafts: &[Token]) -> Result<(), SelectError> {
        check_drafts(&self.laws, self.k, drafts)?;
        for (draft, token) in drafts.iter().enumerate() {
            if drafts[..draft].contains(token) {
                return Err(SelectError::Repeated { draft, token: *token });
            }
        }
        Ok(())
    }

    /// `Σ P(x) · P(all rejected | x)` over all draft tuples that continue the rejected ones.
    fn rejection(&self, rejections: &Rejections, trust: Trust) -> f64 {
        let undrawn = self.undrawn.left(rejections.drawn());
        let after = |entry: &crate::ratio::Entry| {
            let mut next = rejections.clone();
            self.reject(&mut next, entry.token, entry.p, undrawn, trust);
            next
        };
        if rejections.len + 1 == self.k {
            // The last draft: Σ_x (p_k − r)₊ = Σ_x (r − p_k)₊ = Z_k, whichever token it is.
            return after(&self.ratios[0]).steps[rejections.len].z;
        }
        let mut sum = 0.0;
        for entry in self.ratios.iter().filter(|entry| entry.p > 0.0) {
            if !rejections.drawn().iter().any(|&(token, _)| token == entry.token) {
                let rejected = 1.0 - accept(rejections.steps(), entry.p, entry.q, undrawn, self.laws.accuracy());
                if rejected > 0.0 {
                    sum += entry.p / undrawn * rejected * self.rejection(&after(entry), trust);
                }
            }
        }
        sum
    }

    /// One unbiased draw of the rejection probability: the drafts but the last are sampled, their rejections and the
    /// whole last step enter as probabilities. `starts[i]` is the draft mass of the first `i` places.
    fn simulated_rejection(&self, rng: &mut StdRng, starts: &[f64]) -> f64 {
        // The places drawn so far, ascending.
        let mut places: Vec<usize> = Vec::with_capacity(self.k);
        let mut rejections = Rejections::none();
        let mut weight = 1.0;
        while places.len() + 1 < self.k {
            let undrawn = self.undrawn.left(rejections.drawn());
            // A point of the mass that is left, moved past the stretches already drawn.
            let mut at = rng.random::<f64>() * undrawn;
            for &place in &places {
                if at >= starts[place] {
                    at += self.ratios[place].p;
                }
            }
            let mut place = starts.partition_point(|&start| start <= at).saturating_sub(1);
            // Rounding may land on a drawn stretch's edge or past the last token: step to the nearest free one.
            while self.ratios[place].p == 0.0 || places.contains(&place) {
                place = if place == 0 { self.ratios.len() - 1 } else { place - 1 };
            }
            let entry = self.ratios[place];
            weight *= 1.0 - accept(rejections.steps(), entry.p, entry.q, undrawn, self.laws.accuracy());
            if weight == 0.0 {
                return 0.0;
            }
            self.reject(&mut rejections, entry.token, entry.p, undrawn, Trust::SIMULATE);
            places.insert(places.partition_point(|&p| p < place), place);
        }
        weight * self.rejection(&rejections, Trust::SIMULATE)
    }
}

impl<L: Laws> Selector for RecursiveDistinct<L> {
    fn drafts(&self) -> usize {
        self.k
    }

    fn drawn(&self) -> Drawn {
        Drawn::WithoutReplacement
    }

    fn law(&self, drafts: &[Token]) -> Result<Vec<f64>, SelectError> {
        self.check(drafts)?;
        let mut law = vec![0.0; self.laws.vocab()];
        let mut left = 1.0;
        let mut rejections = Rejections::none();
        for &token in drafts {
            let (p, q) = self.laws.masses(token);
            let undrawn = self.undrawn.left(rejections.drawn());
            let accept = accept(rejections.steps(), p, q, undrawn, self.laws.accuracy());
            law[token as usize] += left * accept;
            left *= 1.0 - accept;
            self.reject(&mut rejections, token, p, undrawn, Trust::SELECT);
        }
        add_residual(&mut law, &self.laws, drafts, left, |_, p, q| replay(rejections.steps(), p, q));
        Ok(law)
    }

    fn select(&self, drafts: &[Token], coins: &[Coin]) -> Result<Selection, SelectError> {
        self.check(drafts)?;
        let coins = split_coins(self.k, coins)?;
        let mut rejections = Rejections::none();
        for (i, &token) in drafts.iter().enumerate() {
            let (p, q) = self.laws.masses(token);
            let undrawn = self.undrawn.left(rejections.drawn());
            if coins.drafts[i].get() < accept(rejections.steps(), p, q, undrawn, self.laws.accuracy()) {
                return Ok(Selection::Draft(i));
            }
            self.reject(&mut rejections, token, p, undrawn, Trust::SELECT);
        }
        Ok(resample(&self.laws, drafts, 1.0, coins.residual, |_, p, q| replay(rejections.steps(), p, q)))
    }

    /// Exact for `k ≤ 2` and for small vocabularies; else the mean of a simulation, seeded by the two laws, and its
    /// standard error.
    fn acceptance(&self) -> Acceptance {
        let support = self.tails.len() as f64;
        if self.k <= 2 || support.powi(self.k as i32 - 1) <= ENUMERATED_TUPLES {
            return Acceptance::exact(1.0 - self.rejection(&Rejections::none(), Trust::SELECT));
        }
        let mut starts = Vec::with_capacity(self.ratios.len());
        let mut sum = 0.0;
        for entry in self.ratios.iter() {
            starts.push(sum);
            sum += entry.p;
        }
        // A seed of the problem's own, so that the errors at different positions are independent.
        let mut rng = StdRng::seed_from_u64(sum_over(&self.laws, |_, p, q| p * q).to_bits());
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..SIMULATED_TUPLES {
            let rejection = self.simulated_rejection(&mut rng, &starts);
            sum += rejection;
            squares += rejection * rejection;
        }
        let n = f64::from(SIMULATED_TUPLES);
        let mean = sum / n;
        let variance = (squares / n - mean * mean).max(0.0) / (n - 1.0);
        Acceptance { value: 1.0 - mean, standard_error: variance.sqrt() }
    }
}
