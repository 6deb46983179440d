//! What every selection rule offers: its exact law, its fast path, its acceptance.

use std::fmt;
use std::ops::ControlFlow;

use rand::{Rng, RngExt};

use crate::pmf::{Coin, Token};
use crate::problem::{Laws, MAX_DRAFTS};
use crate::sum::Sum;

/// The coins that any selection takes at most: one for each draft, one to accept, one to resample.
pub const MAX_COINS: usize = MAX_DRAFTS + 2;

/// A rule that picks the output token among `k` drafts, or resamples it, so that the output has *exactly* the
/// target law `q` when the drafts have the law that [`drawn`](Selector::drawn) names.
///
/// The contract, for every implementor, with `P(x)` the probability of the draft tuple `x` under that law:
///
/// 1. `Σ_x P(x) · law(x) = q`;
/// 2. for uniform coins, [`select`](Selector::select) returns a token with the law [`law`](Selector::law) names;
/// 3. [`acceptance`](Selector::acceptance) is the probability of [`Selection::Draft`].
///
/// A selector is prepared once for one position (all `O(V)` work) and may then select any number of times.
pub trait Selector {
    /// The number of draft tokens that [`law`](Selector::law) and [`select`](Selector::select) expect.
    fn drafts(&self) -> usize;

    /// The law of the output token given the drafts, one probability for each token of the vocabulary: the
    /// specification, short and slow, which tests enumerate.
    ///
    /// # Errors
    /// The wrong number of drafts, a token outside the vocabulary, or one that could not have been drawn.
    fn law(&self, drafts: &[Token]) -> Result<Vec<f64>, SelectError>;

    /// Picks a draft or resamples: the fast path. `coins` holds one coin for each draft, then the accept coin,
    /// then the residual coin; a rule leaves alone those it does not need.
    ///
    /// Allocates nothing. `O(k)`, and `O(V)` more when it has to resample.
    ///
    /// # Errors
    /// As [`law`](Selector::law), or the wrong number of coins.
    fn select(&self, drafts: &[Token], coins: &[Coin]) -> Result<Selection, SelectError>;

    /// The probability that a draft is accepted.
    fn acceptance(&self) -> Acceptance;

    /// How the drafts must have been drawn.
    fn drawn(&self) -> Drawn {
        Drawn::Independent
    }

    /// [`select`](Selector::select) with fresh coins from `rng`.
    ///
    /// # Errors
    /// As [`select`](Selector::select).
    fn select_with(&self, drafts: &[Token], rng: &mut dyn Rng) -> Result<Selection, SelectError> {
        let mut coins = [Coin::ZERO; MAX_COINS];
        let coins = &mut coins[..self.drafts() + 2];
        coins.fill_with(|| rng.random());
        self.select(drafts, coins)
    }
}

/// How a selector's drafts must have been drawn from the draft law.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawn {
    /// Each by itself: `P(x) = Π p(xᵢ)`.
    Independent,
    /// Each from what the ones before it left: `P(x) = Π p(xᵢ) / (1 − p(x₁) − … − p(xᵢ₋₁))`, all distinct.
    WithoutReplacement,
}

/// The outcome of a selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The draft with this index was accepted.
    Draft(usize),
    /// No draft was accepted; this token was drawn from the residual law.
    Residual(Token),
}

impl Selection {
    /// The output token, given the drafts that the selection was made from.
    ///
    /// # Panics
    /// If `drafts` is shorter than the slice that the selection was made from.
    pub fn token(self, drafts: &[Token]) -> Token {
        match self {
            Selection::Draft(index) => drafts[index],
            Selection::Residual(token) => token,
        }
    }
}

/// A probability of acceptance.
///
/// Exact (`standard_error` 0) for every rule but recursive rejection without replacement, whose acceptance has no
/// short closed form for `k ≥ 3`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Acceptance {
    /// The probability, in `[0, 1]`.
    pub value: f64,
    /// The standard error of `value`: 0 when it is exact within rounding.
    pub standard_error: f64,
}

impl Acceptance {
    pub(crate) fn exact(value: f64) -> Self {
        Acceptance { value: value.clamp(0.0, 1.0), standard_error: 0.0 }
    }
}

/// Why a selection could not be made.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SelectError {
    /// The number of drafts is not the selector's.
    DraftCount {
        /// The selector's [`drafts`](Selector::drafts).
        expected: usize,
        /// The number given.
        given: usize,
    },
    /// The number of coins is not the number of drafts plus two.
    CoinCount {
        /// The number wanted.
        expected: usize,
        /// The number given.
        given: usize,
    },
    /// A draft token is outside the vocabulary.
    OutOfVocabulary {
        /// Which draft.
        draft: usize,
        /// Its token.
        token: Token,
        /// The size of the vocabulary.
        vocab: usize,
    },
    /// A draft token has probability 0 under its own draft law: it was drawn from another one.
    NotDrawn {
        /// Which draft.
        draft: usize,
        /// Its token.
        token: Token,
    },
    /// Two drafts are the same token although drawn without replacement.
    Repeated {
        /// The later of the two drafts.
        draft: usize,
        /// Its token.
        token: Token,
    },
}

impl fmt::Display for SelectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SelectError::DraftCount { expected, given } => {
                write!(f, "{given} drafts were given to a selector prepared for {expected}")
            }
            SelectError::CoinCount { expected, given } => {
                write!(f, "{given} coins were given; one a draft and two more make {expected}")
            }
            SelectError::OutOfVocabulary { draft, token, vocab } => {
                write!(f, "draft {draft} is token {token}, outside the vocabulary of {vocab}")
            }
            SelectError::NotDrawn { draft, token } => write!(
                f,
                "draft {draft} is token {token}, which has probability 0 under the draft law: \
                 was it drawn after another temperature or filter?"
            ),
            SelectError::Repeated { draft, token } => {
                write!(f, "draft {draft} repeats token {token}, but these drafts are drawn without replacement")
            }
        }
    }
}

impl std::error::Error for SelectError {}

/// Checks the drafts that `law` and `select` are given.
pub(crate) fn check_drafts<L: Laws>(laws: &L, k: usize, drafts: &[Token]) -> Result<(), SelectError> {
    if drafts.len() != k {
        return Err(SelectError::DraftCount { expected: k, given: drafts.len() });
    }
    for (draft, &token) in drafts.iter().enumerate() {
        if token as usize >= laws.vocab() {
            return Err(SelectError::OutOfVocabulary { draft, token, vocab: laws.vocab() });
        }
        // Not `<= 0`: what is no positive number must not pass.
        if !(laws.masses(token).0 > 0.0) {
            return Err(SelectError::NotDrawn { draft, token });
        }
    }
    Ok(())
}

/// The coins of one selection, taken apart.
pub(crate) struct Coins<'a> {
    /// One for each draft.
    pub drafts: &'a [Coin],
    /// For the one acceptance of a select-then-accept rule.
    pub accept: Coin,
    /// For the residual draw.
    pub residual: Coin,
}

/// Takes the coins of a `k`-draft selection apart.
pub(crate) fn split_coins(k: usize, coins: &[Coin]) -> Result<Coins<'_>, SelectError> {
    match coins {
        [drafts @ .., accept, residual] if drafts.len() == k => {
            Ok(Coins { drafts, accept: *accept, residual: *residual })
        }
        _ => Err(SelectError::CoinCount { expected: k + 2, given: coins.len() }),
    }
}

/// `min(1, q/m)`: the probability of accepting a token of target probability `q` that was selected with probability
/// `m`, or any other ratio of the kind. 1 where the two differ by less than the `accuracy` of the laws; 0 if `q` is 0,
/// whatever `m`.
pub(crate) fn accept_probability(q: f64, m: f64, accuracy: f64) -> f64 {
    match () {
        () if q >= m * (1.0 - accuracy) && q > 0.0 => 1.0,
        () if q > 0.0 => q / m,
        () => 0.0,
    }
}

/// The draft that stands in for the residual where rounding has left that no mass: the last one that the target
/// allows; `None` if it allows none of them, and the target law itself stands in.
///
/// Either may: all drafts are rejected with the probability of the residual's mass. Where every token's mass came out as 0,
/// each is in truth no more than a few roundings of `q(y)`, and all together no more than that of 1: below 1e-13 from
/// probabilities in f64, a tenth of what the output law may be off; a few 1e-7 from f32 logits, what their normalisers are
/// good to. A tuple of which the target allows nothing is rejected whatever its coins, so that its own probability is no more.
fn possible<L: Laws>(laws: &L, drafts: &[Token]) -> Option<usize> {
    drafts.iter().rposition(|&token| laws.masses(token).1 > 0.0)
}

/// `q(token)`: what is drawn from where nothing else is left.
fn target(_: Token, _: f64, q: f64) -> f64 {
    q
}

/// Finishes a selection in which all drafts were rejected: draws from the law proportional to `mass`, whose sum is
/// `total`.
pub(crate) fn resample<L: Laws>(
    laws: &L,
    drafts: &[Token],
    total: f64,
    coin: Coin,
    mass: impl Fn(Token, f64, f64) -> f64,
) -> Selection {
    drawn_or_possible(laws, drafts, coin, draw_residual(laws, total, coin, mass))
}

/// The token drawn from the residual by `coin`, or what stands in for it: a draft that the target allows, or a token drawn
/// from the target by the same coin.
pub(crate) fn drawn_or_possible<L: Laws>(laws: &L, drafts: &[Token], coin: Coin, drawn: Option<Token>) -> Selection {
    if let Some(token) = drawn {
        return Selection::Residual(token);
    }
    if let Some(draft) = possible(laws, drafts) {
        return Selection::Draft(draft);
    }
    let token = draw_residual(laws, sum_over(laws, target), coin, target);
    Selection::Residual(token.expect("a law allows some token"))
}

/// The second half of every rule that first selects one draft: accept it with probability `min(1, q/m)`, else resample
/// from `(q − m)₊`, with `m` the law of the selected draft.
pub(crate) trait SelectThenAccept {
    type Laws: Laws;

    fn laws(&self) -> &Self::Laws;

    /// `m(token)`, for a token of masses `(p, q)`.
    fn selected(&self, token: Token, p: f64, q: f64) -> f64;

    /// `Σ (q − m)₊`.
    fn residual_total(&self) -> f64 {
        sum_over(self.laws(), self.residual())
    }

    fn residual(&self) -> impl Fn(Token, f64, f64) -> f64 {
        |token, p, q| (q - self.selected(token, p, q)).max(0.0)
    }

    /// `Σ min(m, q)`.
    fn overlap(&self) -> f64 {
        sum_over(self.laws(), |token, p, q| self.selected(token, p, q).min(q))
    }

    /// Finishes a selection: `drafts[winner]` was selected.
    fn accept_or_resample(&self, drafts: &[Token], winner: usize, coins: &Coins) -> Result<Selection, SelectError> {
        let token = drafts[winner];
        let (p, q) = self.laws().masses(token);
        // Strictly below: a coin of 0 must not accept a token of target probability 0.
        let accuracy = self.laws().accuracy();
        if coins.accept.get() < accept_probability(q, self.selected(token, p, q), accuracy) {
            return Ok(Selection::Draft(winner));
        }
        let total = self.residual_total();
        if total <= accuracy {
            // m and q are the same law within rounding. What the target allows need not be resampled; for the rest only the
            // masses of the tokens themselves, which the specification goes by, say whether any is left.
            return Ok(match q > 0.0 {
                true => Selection::Draft(winner),
                false => {
                    let total = sum_over(self.laws(), self.residual());
                    resample(self.laws(), drafts, total, coins.residual, self.residual())
                }
            });
        }
        let drawn = self.draw_residual(total, coins.residual);
        Ok(drawn_or_possible(self.laws(), drafts, coins.residual, drawn))
    }

    /// A token from the law proportional to `(q − m)₊`, whose sum is `total`; `None` if no token has mass.
    fn draw_residual(&self, total: f64, coin: Coin) -> Option<Token> {
        draw_residual(self.laws(), total, coin, self.residual())
    }

    /// The law of the output, given the probability with which each draft is selected.
    fn output_law(&self, drafts: &[Token], winners: &[f64]) -> Vec<f64> {
        let mut law = vec![0.0; self.laws().vocab()];
        let accuracy = self.laws().accuracy();
        let same = self.residual_total() <= accuracy;
        let mut left = 0.0;
        for (&token, winner) in drafts.iter().zip(winners) {
            let (p, q) = self.laws().masses(token);
            let accept =
                if same && q > 0.0 { 1.0 } else { accept_probability(q, self.selected(token, p, q), accuracy) };
            law[token as usize] += winner * accept;
            left += winner * (1.0 - accept);
        }
        add_residual(&mut law, self.laws(), drafts, left, self.residual());
        law
    }
}

/// Draws from the law proportional to `mass(token, p, q)`, whose sum over the vocabulary is `total`. `O(V)`.
///
/// The sum of the masses visited may round to less than `total`: a coin beyond it belongs to the last token that has
/// any mass. A token without mass never comes out; `None` if no token has any.
pub(crate) fn draw_residual<L: Laws>(
    laws: &L,
    total: f64,
    coin: Coin,
    mass: impl Fn(Token, f64, f64) -> f64,
) -> Option<Token> {
    let threshold = coin.get() * total;
    let mut cumulative = 0.0;
    let mut found = None;
    laws.blocks(&mut |start, p, q| {
        for (i, (&p, &q)) in p.iter().zip(q).enumerate() {
            let mass = mass((start + i) as Token, p, q);
            if mass > 0.0 {
                cumulative += mass;
                found = Some((start + i) as Token);
                if threshold < cumulative {
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    });
    found
}

/// `Σ_y mass(y, p(y), q(y))`.
pub(crate) fn sum_over<L: Laws>(laws: &L, mass: impl Fn(Token, f64, f64) -> f64) -> f64 {
    let mut sum = Sum::default();
    crate::problem::for_each_token(laws, |token, p, q| sum.add(mass(token, p, q)));
    sum.value()
}

/// Adds to `law` the `share` that [`resample`] makes of it.
pub(crate) fn add_residual<L: Laws>(
    law: &mut [f64],
    laws: &L,
    drafts: &[Token],
    share: f64,
    mass: impl Fn(Token, f64, f64) -> f64,
) {
    if share <= 0.0 {
        return;
    }
    let total = sum_over(laws, &mass);
    if total > 0.0 {
        crate::problem::for_each_token(laws, |token, p, q| law[token as usize] += share * mass(token, p, q) / total);
    } else if let Some(kept) = possible(laws, drafts) {
        law[drafts[kept] as usize] += share;
    } else {
        let total = sum_over(laws, target);
        crate::problem::for_each_token(laws, |token, p, q| law[token as usize] += share * target(token, p, q) / total);
    }
}
