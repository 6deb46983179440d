//! One model's law at one node of a draft tree, in the form in which an engine holds it.

use std::sync::OnceLock;

use crate::classes::Edges;
use crate::pmf::{Coin, MAX_VOCAB, Pmf, Token};
use crate::problem::{Laws, PmfPair};
use crate::rule::Rule;
use crate::scan::{self, LogitPair, Scan, ScanError, Softmax};
use crate::selector::Selector;
use sealed::Counted;

/// A law that drafts are drawn from, or that the output is to have.
///
/// Implemented by [`Pmf`] (probabilities in f64) and [`LogitRow`] (f32 logits). Both models' laws of one round come in
/// the same form.
pub trait Row: sealed::Prepare {
    /// The size of the vocabulary.
    fn vocab(&self) -> usize;

    /// The probability of a token below [`vocab`](Row::vocab). `O(1)`.
    fn mass(&self, token: Token) -> f64;

    /// A token by inversion of the distribution function: never one of probability 0. `O(V)`; of a row of logits the
    /// first time only.
    fn draw(&self, coin: Coin) -> Token;
}

pub(crate) mod sealed {
    use super::*;

    /// Two laws as they are counted into ratio classes.
    pub struct Counted<L> {
        pub laws: L,
        pub(crate) edges: Edges,
        /// The draft and target mass of each class.
        pub classes: Vec<(f64, f64)>,
    }

    /// What the verifiers of this crate need of a pair of rows.
    pub trait Prepare: Sized {
        type Pair<'a>: Laws
        where
            Self: 'a;

        fn pair<'a>(draft: &'a Self, target: &'a Self) -> Result<Self::Pair<'a>, ScanError>;

        fn selector<'a>(
            draft: &'a Self,
            target: &'a Self,
            rule: Rule,
            k: usize,
        ) -> Result<Box<dyn Selector + 'a>, ScanError>;

        /// Counts the tokens into classes `width` wide between two log-ratios.
        fn count<'a>(draft: &'a Self, target: &'a Self, range: Range) -> Result<Counted<Self::Pair<'a>>, ScanError>;
    }
}

/// The ratio classes to count by.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    pub(crate) k: usize,
    /// The lowest finite edge, at least, as a logarithm.
    pub(crate) log_lowest: f64,
}

impl Row for Pmf {
    fn vocab(&self) -> usize {
        Pmf::vocab(self)
    }

    fn mass(&self, token: Token) -> f64 {
        self.as_slice()[token as usize]
    }

    fn draw(&self, coin: Coin) -> Token {
        self.pick(coin)
    }
}

impl sealed::Prepare for Pmf {
    type Pair<'a> = PmfPair<'a>;

    fn pair<'a>(draft: &'a Self, target: &'a Self) -> Result<PmfPair<'a>, ScanError> {
        Ok(PmfPair { draft, target })
    }

    fn selector<'a>(
        draft: &'a Self,
        target: &'a Self,
        rule: Rule,
        k: usize,
    ) -> Result<Box<dyn Selector + 'a>, ScanError> {
        Ok(rule.prepare_laws(PmfPair { draft, target }, k))
    }

    fn count<'a>(draft: &'a Self, target: &'a Self, range: Range) -> Result<Counted<PmfPair<'a>>, ScanError> {
        let laws = PmfPair { draft, target };
        let edges = Edges::spanning(Edges::width(crate::optimal::DEFAULT_CLASSES, range.k), 0.0, range.log_lowest);
        let classes = edges.count(&laws);
        Ok(Counted { laws, edges, classes })
    }
}

/// A row of f32 logits, its softmax being the law: temperature applied, filtered tokens at −∞.
///
/// The logits are the row's own, or with another `S` those of the caller: `&[f32]`, or `Cow<[f32]>` where some rows are
/// read in place and others were filtered first.
#[derive(Clone, Debug)]
pub struct LogitRow<S = Box<[f32]>> {
    logits: S,
    max: f32,
    /// Added up when it is first needed: of most of a round's rows only the logits are.
    softmax: OnceLock<Softmax>,
}

impl<S: PartialEq> PartialEq for LogitRow<S> {
    fn eq(&self, other: &Self) -> bool {
        self.logits == other.logits
    }
}

impl LogitRow {
    /// Takes a row over and checks it, in one pass. `O(V)`.
    ///
    /// # Errors
    /// The row is empty or longer than [`MAX_VOCAB`]; a logit is NaN or +∞; all are −∞. `name` (`"draft"` or
    /// `"target"`) is what the error calls the row.
    pub fn new(name: &'static str, logits: impl Into<Box<[f32]>>) -> Result<Self, ScanError> {
        Self::of(name, logits.into())
    }
}

impl<S: AsRef<[f32]>> LogitRow<S> {
    /// As [`new`](LogitRow::new), from whatever holds the logits.
    ///
    /// # Errors
    /// As [`new`](LogitRow::new).
    pub fn of(name: &'static str, logits: S) -> Result<Self, ScanError> {
        let len = logits.as_ref().len();
        if !(1..=MAX_VOCAB).contains(&len) {
            return Err(ScanError::Vocabulary { len });
        }
        let max = scan::check(name, logits.as_ref())?;
        Ok(LogitRow { logits, max, softmax: OnceLock::new() })
    }

    fn softmax(&self) -> &Softmax {
        self.softmax.get_or_init(|| Softmax::new(self.max, self.logits.as_ref()))
    }

    /// The pass over a draft's and a target's row.
    fn scan<'a>(&'a self, target: &'a Self, k: usize) -> Result<Scan<'a>, ScanError> {
        Scan::new(self.logits.as_ref(), target.logits.as_ref(), k)
    }

    /// The logits.
    pub fn as_slice(&self) -> &[f32] {
        self.logits.as_ref()
    }
}

impl<S: AsRef<[f32]>> Row for LogitRow<S> {
    fn vocab(&self) -> usize {
        self.as_slice().len()
    }

    fn mass(&self, token: Token) -> f64 {
        self.softmax().mass(self.as_slice()[token as usize])
    }

    fn draw(&self, coin: Coin) -> Token {
        self.softmax().draw(self.as_slice(), coin)
    }
}

impl<S: AsRef<[f32]>> sealed::Prepare for LogitRow<S> {
    type Pair<'a>
        = LogitPair<'a>
    where
        Self: 'a;

    fn pair<'a>(draft: &'a Self, target: &'a Self) -> Result<LogitPair<'a>, ScanError> {
        Ok(LogitPair::new((draft.as_slice(), draft.softmax()), (target.as_slice(), target.softmax())))
    }

    fn selector<'a>(
        draft: &'a Self,
        target: &'a Self,
        rule: Rule,
        k: usize,
    ) -> Result<Box<dyn Selector + 'a>, ScanError> {
        Ok(rule.prepare_scan(&draft.scan(target, k)?))
    }

    fn count<'a>(draft: &'a Self, target: &'a Self, range: Range) -> Result<Counted<LogitPair<'a>>, ScanError> {
        let (laws, edges, classes) = draft.scan(target, range.k)?.counted(range.log_lowest);
        Ok(Counted { laws, edges, classes })
    }
}
