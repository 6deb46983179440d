//! One position's problem: the draft law, the target law and the number of drafts.

use std::fmt;
use std::ops::{ControlFlow, Range};

use crate::pmf::{Pmf, Token};
use crate::sum::Sum;

/// The largest number of drafts accepted.
pub const MAX_DRAFTS: usize = 64;

/// The draft law `p`, the target law `q` over the same vocabulary, and the number `k` of drafts drawn from `p`.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    draft: Pmf,
    target: Pmf,
    k: usize,
}

/// Why a [`Problem`] was refused.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ProblemError {
    /// The two laws are over vocabularies of different size.
    Vocabulary {
        /// The draft law's.
        draft: usize,
        /// The target law's.
        target: usize,
    },
    /// `k` is 0 or above [`MAX_DRAFTS`].
    Drafts {
        /// The offending number.
        k: usize,
    },
}

impl fmt::Display for ProblemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProblemError::Vocabulary { draft, target } => {
                write!(f, "the draft law has {draft} tokens, the target law {target}; they must share a vocabulary")
            }
            ProblemError::Drafts { k } => write!(f, "k is {k}; it must be 1 to {MAX_DRAFTS} drafts"),
        }
    }
}

impl std::error::Error for ProblemError {}

pub(crate) fn check_k(k: usize) -> Result<(), ProblemError> {
    if (1..=MAX_DRAFTS).contains(&k) { Ok(()) } else { Err(ProblemError::Drafts { k }) }
}

impl Problem {
    /// Puts the two laws together.
    ///
    /// # Errors
    /// The vocabularies differ in size, or `k` is not in `1..=`[`MAX_DRAFTS`].
    pub fn new(draft: Pmf, target: Pmf, k: usize) -> Result<Self, ProblemError> {
        if draft.vocab() != target.vocab() {
            return Err(ProblemError::Vocabulary { draft: draft.vocab(), target: target.vocab() });
        }
        check_k(k)?;
        Ok(Problem { draft, target, k })
    }

    /// The same laws with another number of drafts.
    ///
    /// # Errors
    /// `k` is not in `1..=`[`MAX_DRAFTS`].
    pub fn with_k(self, k: usize) -> Result<Self, ProblemError> {
        check_k(k)?;
        Ok(Problem { k, ..self })
    }

    /// The draft law `p`.
    pub fn draft(&self) -> &Pmf {
        &self.draft
    }

    /// The target law `q`.
    pub fn target(&self) -> &Pmf {
        &self.target
    }

    /// The number of drafts.
    pub fn k(&self) -> usize {
        self.k
    }
}

/// Read access to the two laws of one position, whatever holds them.
///
/// Implemented by [`Problem`] (probabilities in f64), by references to one, and by
/// [`LogitPair`](crate::scan::LogitPair) (two rows of f32 logits, read in place).
pub trait Laws {
    /// The size of the shared vocabulary.
    fn vocab(&self) -> usize;

    /// `(p(token), q(token))`. `token` is below [`vocab`](Laws::vocab); `O(1)`.
    fn masses(&self, token: Token) -> (f64, f64);

    /// How the token was counted where masses were added up by ratio in other arithmetic than that of
    /// [`masses`](Laws::masses); `None` if they were not, or not of this token. `O(1)`.
    fn counted(&self, token: Token) -> Option<Counted> {
        let _ = token;
        None
    }

    /// Hands over all probabilities in order, in blocks: the first token of the block, its `p`s and its `q`s.
    /// Stops when `visit` says so. `O(V)`.
    fn blocks(&self, visit: &mut Visit<'_>);

    /// How far the probabilities may be from the exact ones, as a share of themselves: differences below it are taken
    /// for rounding. A draft whose acceptance is that close to certain is accepted whatever its coin, and where `m` and
    /// `q` leave no more residual than that, a rule that first selects a draft keeps it, if `q` allows it.
    ///
    /// Normalised in f64 the probabilities are good to 1e-13 at any vocabulary, 10 times below the 1e-12 to which
    /// every output law is exact.
    fn accuracy(&self) -> f64 {
        1e-13
    }

    /// The token of a band, or of all tokens without one, at which the running sum of `mass(p, q)` exceeds `threshold`;
    /// where rounding keeps it from getting there, the last token of any mass. `None` if no token has any. `O(V)`.
    ///
    /// `total` is the sum of all their masses, +∞ if it is not known, and `estimate` what `mass` is in terms of `p` and `q`:
    /// implementations may start from either end, and add up whole stretches by the estimate.
    fn draw(
        &self,
        band: Option<&Band>,
        threshold: f64,
        total: f64,
        mass: &dyn Fn(f64, f64) -> f64,
        estimate: &Excess,
    ) -> Option<Token> {
        let _ = (total, estimate);
        draw_one_by_one(self, band, threshold, mass)
    }

    /// The sum of what `excess` makes of the masses of the tokens of a band, or of all tokens without one. `O(V)`.
    ///
    /// The ends of the band are ends of cells.
    fn total(&self, band: Option<&Band>, excess: &Excess) -> f64 {
        let mut sum = Sum::default();
        for_each_token(self, |_, p, q| {
            if band.is_none_or(|band| band.contains(p, q)) {
                sum.add(excess.of(p, q));
            }
        });
        sum.value()
    }

    /// Calls `visit(token, p, q)` for every token of a band of ratios, in order, until it says stop. `O(V)`;
    /// implementations may be faster where the band holds few tokens.
    fn in_band(&self, band: &Band, visit: &mut dyn FnMut(Token, f64, f64) -> ControlFlow<()>) {
        self.blocks(&mut |start, p, q| {
            for (i, (&p, &q)) in p.iter().zip(q).enumerate() {
                if band.contains(p, q) {
                    visit((start + i) as Token, p, q)?;
                }
            }
            ControlFlow::Continue(())
        });
    }
}

/// How a token was counted among cells of the ratio `p/q`.
///
/// A token's split between the edges of its class is a difference of nearly equal numbers: taken from masses that are off
/// those counted by 1e-7, the splits of a class would not add up to that of its sum by 1e-5.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    /// Its cell.
    pub cell: usize,
    /// `q/p` as counted, over that of the cell's middle.
    pub over_middle: f64,
}

/// What a residual takes a token's mass to be: `max(q·of_q + p·of_p, q·least)`.
#[derive(Clone, Copy, Debug)]
pub struct Excess {
    /// The factor of `q`.
    pub of_q: f64,
    /// The factor of `p`.
    pub of_p: f64,
    /// The least mass, as a share of `q`.
    pub least: f64,
}

impl Excess {
    /// The mass of a token of masses `p`, `q`.
    pub fn of(&self, p: f64, q: f64) -> f64 {
        (q * self.of_q + p * self.of_p).max(q * self.least)
    }
}

/// [`Laws::draw`], looking at every token.
pub(crate) fn draw_one_by_one<L: Laws + ?Sized>(
    laws: &L,
    band: Option<&Band>,
    threshold: f64,
    mass: &dyn Fn(f64, f64) -> f64,
) -> Option<Token> {
    let mut cumulative = 0.0;
    let mut found = None;
    let mut visit = |token: Token, p: f64, q: f64| {
        let mass = mass(p, q);
        if mass > 0.0 {
            cumulative += mass;
            found = Some(token);
            if threshold < cumulative {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    };
    match band {
        Some(band) => laws.in_band(band, &mut visit),
        None => laws.blocks(&mut |start, p, q| {
            p.iter().zip(q).enumerate().try_for_each(|(i, (&p, &q))| visit((start + i) as Token, p, q))
        }),
    }
    found
}

/// What [`Laws::blocks`] hands its blocks to.
pub type Visit<'a> = dyn FnMut(usize, &[f64], &[f64]) -> ControlFlow<()> + 'a;

/// A band of ratios `p/q`, by the inverses of its ends.
#[derive(Clone, Debug)]
pub struct Band {
    /// `p/q` is at least `1/from`: `p·from ≥ q`. Without it there is no lower end.
    pub from: Option<f64>,
    /// `p/q` is below `1/to`: `p·to < q`. Without it there is no upper end.
    pub to: Option<f64>,
    /// The same band as cells of the grid of ratios that tokens are counted by. Laws that counted their tokens in
    /// another precision go by these, so that a token next to an end is found where it was counted.
    pub cells: Range<usize>,
    /// Whether the lower and the upper end are ends of cells, and not inside one.
    pub ends_of_cells: (bool, bool),
}

/// The relative difference of two ratios that are the same but for rounding.
pub(crate) const ON_EDGE: f64 = 4.0 * f64::EPSILON;

/// Whether the ratio of a token of masses `p`, `q` is that of an edge of inverse ratio `inverse`, or above it.
#[inline(always)]
pub(crate) fn reaches(p: f64, q: f64, inverse: f64) -> bool {
    p * inverse >= q * (1.0 - ON_EDGE)
}

impl Band {
    /// Whether a token of masses `p`, `q` is in the band.
    pub fn contains(&self, p: f64, q: f64) -> bool {
        self.from.is_none_or(|from| reaches(p, q, from)) && self.to.is_none_or(|to| !reaches(p, q, to))
    }

    /// Whether a token of masses `p`, `q` that was counted in `cell` is in the band: the ratio decides only where the
    /// band ends inside a cell.
    pub fn contains_counted(&self, cell: usize, p: f64, q: f64) -> bool {
        self.cells.contains(&cell)
            && (self.ends_of_cells.0 || self.from.is_none_or(|from| reaches(p, q, from)))
            && (self.ends_of_cells.1 || self.to.is_none_or(|to| !reaches(p, q, to)))
    }
}

/// Two [`Pmf`]s over one vocabulary as laws.
#[derive(Clone, Copy, Debug)]
pub struct PmfPair<'a> {
    pub(crate) draft: &'a Pmf,
    pub(crate) target: &'a Pmf,
}

impl Laws for PmfPair<'_> {
    fn vocab(&self) -> usize {
        self.draft.vocab()
    }

    fn masses(&self, token: Token) -> (f64, f64) {
        (self.draft.as_slice()[token as usize], self.target.as_slice()[token as usize])
    }

    fn blocks(&self, visit: &mut Visit<'_>) {
        let _ = visit(0, self.draft.as_slice(), self.target.as_slice());
    }
}

impl Problem {
    fn pair(&self) -> PmfPair<'_> {
        PmfPair { draft: &self.draft, target: &self.target }
    }
}

impl Laws for Problem {
    fn vocab(&self) -> usize {
        self.pair().vocab()
    }

    fn masses(&self, token: Token) -> (f64, f64) {
        self.pair().masses(token)
    }

    fn blocks(&self, visit: &mut Visit<'_>) {
        self.pair().blocks(visit);
    }
}

impl<L: Laws + ?Sized> Laws for &L {
    fn vocab(&self) -> usize {
        (**self).vocab()
    }

    fn masses(&self, token: Token) -> (f64, f64) {
        (**self).masses(token)
    }

    fn counted(&self, token: Token) -> Option<Counted> {
        (**self).counted(token)
    }

    fn blocks(&self, visit: &mut Visit<'_>) {
        (**self).blocks(visit);
    }

    fn accuracy(&self) -> f64 {
        (**self).accuracy()
    }

    fn draw(
        &self,
        band: Option<&Band>,
        threshold: f64,
        total: f64,
        mass: &dyn Fn(f64, f64) -> f64,
        estimate: &Excess,
    ) -> Option<Token> {
        (**self).draw(band, threshold, total, mass, estimate)
    }

    fn total(&self, band: Option<&Band>, excess: &Excess) -> f64 {
        (**self).total(band, excess)
    }

    fn in_band(&self, band: &Band, visit: &mut dyn FnMut(Token, f64, f64) -> ControlFlow<()>) {
        (**self).in_band(band, visit);
    }
}

/// Calls `visit(token, p, q)` for every token in order.
pub(crate) fn for_each_token<L: Laws + ?Sized>(laws: &L, mut visit: impl FnMut(Token, f64, f64)) {
    laws.blocks(&mut |start, p, q| {
        for (i, (&p, &q)) in p.iter().zip(q).enumerate() {
            visit((start + i) as Token, p, q);
        }
        ControlFlow::Continue(())
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_mismatched_vocabularies_and_bad_k() {
        let (three, two) = (Pmf::uniform(3).unwrap(), Pmf::uniform(2).unwrap());
        assert_eq!(Problem::new(three.clone(), two, 1), Err(ProblemError::Vocabulary { draft: 3, target: 2 }));
        for k in [0, MAX_DRAFTS + 1] {
            assert_eq!(Problem::new(three.clone(), three.clone(), k), Err(ProblemError::Drafts { k }));
        }
    }
}
