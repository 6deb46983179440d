//! Every path verifier by its name.

use std::fmt;
use std::str::FromStr;

use super::coins::Coins;
use super::outcome::{Outcome, OutcomeLaw};
use super::row::Row;
use super::tree::Round;
use super::{Block, Chain, PathCoupling, PathError, PathVerifier, SpreadCoupling, TokenRecursion, Traversal};
use crate::rule::Rule;

/// A path verifier of this crate.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Verifier {
    /// SpecTr's recursion over a token rule.
    Token(TokenRecursion),
    /// Block verification.
    Block(Block),
    /// Traversal verification.
    Traversal(Traversal),
    /// The path coupling.
    Path(PathCoupling),
    /// The spread coupling.
    Spread(SpreadCoupling),
}

impl Verifier {
    /// The verifiers that take `paths` independent paths, in the order in which tables list them.
    pub fn all(paths: usize) -> Vec<Verifier> {
        let rules = Rule::ALL.into_iter().filter(|rule| rule.takes(paths));
        let mut all: Vec<_> = rules.filter_map(|rule| TokenRecursion::new(rule).ok()).map(Verifier::Token).collect();
        if paths == 1 {
            all.push(Verifier::Block(Block));
        }
        all.extend([
            Verifier::Traversal(Traversal),
            Verifier::Path(PathCoupling::default()),
            Verifier::Spread(SpreadCoupling::default()),
        ]);
        all
    }

    /// The name used on the command line and in files.
    pub fn name(self) -> String {
        match self {
            Verifier::Token(recursion) => format!("token:{}", recursion.rule()),
            Verifier::Block(_) => "block".into(),
            Verifier::Traversal(_) => "traversal".into(),
            Verifier::Path(_) => "path".into(),
            Verifier::Spread(_) => "spread".into(),
        }
    }

    /// The expected number of drafted tokens that are kept of `drafts` paths of a chain, without enumerating the tuples of
    /// paths.
    ///
    /// # Errors
    /// The verifier does not take so many paths, or the chain is too large for it; see the types' own `expected_accepted`.
    pub fn expected_accepted(self, chain: &Chain, drafts: usize) -> Result<f64, PathError> {
        match self {
            Verifier::Token(verifier) => verifier.expected_accepted(chain, drafts),
            Verifier::Block(_) if drafts == 1 => SpreadCoupling::default().expected_accepted(chain, 1),
            Verifier::Block(_) => Err(PathError::OnePath { verifier: "block", paths: drafts }),
            Verifier::Traversal(verifier) => verifier.expected_accepted(chain, drafts),
            Verifier::Path(verifier) => verifier.expected_accepted(chain, drafts),
            Verifier::Spread(verifier) => verifier.expected_accepted(chain, drafts),
        }
    }
}

impl<R: Row> PathVerifier<R> for Verifier {
    fn law(&self, round: &Round<R>) -> Result<OutcomeLaw, PathError> {
        match self {
            Verifier::Token(verifier) => verifier.law(round),
            Verifier::Block(verifier) => verifier.law(round),
            Verifier::Traversal(verifier) => verifier.law(round),
            Verifier::Path(verifier) => verifier.law(round),
            Verifier::Spread(verifier) => verifier.law(round),
        }
    }

    fn verify(&self, round: &Round<R>, coins: &dyn Coins) -> Result<Outcome, PathError> {
        match self {
            Verifier::Token(verifier) => verifier.verify(round, coins),
            Verifier::Block(verifier) => verifier.verify(round, coins),
            Verifier::Traversal(verifier) => verifier.verify(round, coins),
            Verifier::Path(verifier) => verifier.verify(round, coins),
            Verifier::Spread(verifier) => verifier.verify(round, coins),
        }
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name())
    }
}

/// No verifier has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownVerifier {
    name: String,
}

impl fmt::Display for UnknownVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no path verifier is called '{}'; there are spread, path, traversal, block, and token:RULE or RULE with RULE one of \
             maximal, rrs, kseq, optimal, optimal-linear",
            self.name
        )
    }
}

impl std::error::Error for UnknownVerifier {}

impl FromStr for Verifier {
    type Err = UnknownVerifier;

    /// A [`name`](Verifier::name), or that of a token rule alone.
    fn from_str(name: &str) -> Result<Self, UnknownVerifier> {
        match name {
            "block" => Ok(Verifier::Block(Block)),
            "traversal" => Ok(Verifier::Traversal(Traversal)),
            "path" => Ok(Verifier::Path(PathCoupling::default())),
            "spread" => Ok(Verifier::Spread(SpreadCoupling::default())),
            _ => name
                .strip_prefix("token:")
                .unwrap_or(name)
                .parse::<Rule>()
                .ok()
                .and_then(|rule| TokenRecursion::new(rule).ok())
                .map(Verifier::Token)
                .ok_or_else(|| UnknownVerifier { name: name.into() }),
        }
    }
}
