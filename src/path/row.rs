//! One model's law at one node of a draft tree, in the form in which an engine holds it.

use crate::classes::Edges;
use crate::pmf::{Coin, MAX_VOCAB, Pmf, Token};
use crate::problem::{Laws, Visit, for_each_token};
use crate::rule::Rule;
use crate::scan::{LogitPair, Scan, ScanError};
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

    /// A token by inversion of the distribution function: never one of probability 0. `O(V)`.
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

/// A pair of [`Pmf`]s as laws.
#[derive(Clone, Copy, Debug)]
pub struct PmfPair<'a> {
    draft: &'a Pmf,
    target: &'a Pmf,
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
        let mut classes = vec![(0.0, 0.0); edges.len()];
        for_each_token(&laws, |_, p, q| {
            if p > 0.0 || q > 0.0 {
                let class = &mut classes[edges.class(p, q)];
                *class = (class.0 + p, class.1 + q);
            }
        });
        Ok(Counted { laws, edges, classes })
    }
}

/// A row of f32 logits, its softmax being the law: temperature applied, filtered tokens at −∞.
#[derive(Clone, Debug, PartialEq)]
pub struct LogitRow {
    logits: Box<[f32]>,
    /// The logarithm of the softmax's denominator.
    log_sum: f64,
}

impl LogitRow {
    /// Checks a row. `O(V)`.
    ///
    /// # Errors
    /// The row is empty or longer than [`MAX_VOCAB`]; a logit is NaN or +∞; all are −∞. `name` (`"draft"` or
    /// `"target"`) is what the error calls the row.
    pub fn new(name: &'static str, logits: impl Into<Box<[f32]>>) -> Result<Self, ScanError> {
        let logits = logits.into();
        if !(1..=MAX_VOCAB).contains(&logits.len()) {
            return Err(ScanError::Vocabulary { len: logits.len() });
        }
        let log_sum = crate::scan::log_sum(name, &logits)?;
        Ok(LogitRow { logits, log_sum })
    }

    /// The logits.
    pub fn as_slice(&self) -> &[f32] {
        &self.logits
    }
}

impl Row for LogitRow {
    fn vocab(&self) -> usize {
        self.logits.len()
    }

    fn mass(&self, token: Token) -> f64 {
        (f64::from(self.logits[token as usize]) - self.log_sum).exp()
    }

    fn draw(&self, coin: Coin) -> Token {
        let threshold = coin.get();
        let (mut cumulative, mut found) = (0.0, 0);
        for (token, &logit) in self.logits.iter().enumerate() {
            let mass = (f64::from(logit) - self.log_sum).exp();
            if mass > 0.0 {
                cumulative += mass;
                found = token;
                if threshold < cumulative {
                    break;
                }
            }
        }
        found as Token
    }
}

impl sealed::Prepare for LogitRow {
    type Pair<'a> = LogitPair<'a>;

    fn pair<'a>(draft: &'a Self, target: &'a Self) -> Result<LogitPair<'a>, ScanError> {
        Ok(Scan::new(&draft.logits, &target.logits, 1)?.laws())
    }

    fn selector<'a>(
        draft: &'a Self,
        target: &'a Self,
        rule: Rule,
        k: usize,
    ) -> Result<Box<dyn Selector + 'a>, ScanError> {
        let scan = Scan::new(&draft.logits, &target.logits, k)?;
        Ok(match rule {
            Rule::Maximal => Box::new(scan.maximal()),
            Rule::Recursive => Box::new(scan.recursive()),
            Rule::RecursiveDistinct => Box::new(scan.recursive_distinct()),
            Rule::KSeq => Box::new(scan.kseq()),
            Rule::Optimal => Box::new(scan.optimal_sorted()),
            Rule::OptimalLinear => Box::new(scan.optimal()),
        })
    }

    fn count<'a>(draft: &'a Self, target: &'a Self, range: Range) -> Result<Counted<LogitPair<'a>>, ScanError> {
        let (laws, edges, classes) = Scan::new(&draft.logits, &target.logits, range.k)?.counted(range.log_lowest);
        Ok(Counted { laws, edges, classes })
    }
}
