//! A pair of models small enough to enumerate: a draft and a target law after every prefix.

use std::fmt;

use super::PathError;
use super::tree::{DraftTree, Round};
use crate::coupling::MAX_TUPLES;
use crate::pmf::{Pmf, Token};
use crate::problem::MAX_DRAFTS;

/// Both models' laws after every prefix of up to `length` tokens: the draft's after those shorter than `length`.
///
/// For proofs by enumeration, bounds and teaching. The laws may differ from prefix to prefix.
#[derive(Clone, Debug)]
pub struct Chain {
    vocab: usize,
    length: usize,
    /// By prefix: shorter ones first, each length in lexicographic order.
    draft: Vec<Pmf>,
    target: Vec<Pmf>,
}

/// Why a chain was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChainError {
    /// A law is over another vocabulary than the first.
    Vocabulary {
        /// The prefix.
        prefix: Vec<Token>,
        /// The size of its vocabulary.
        given: usize,
        /// The first's.
        expected: usize,
    },
    /// There would be too many prefixes to enumerate.
    Size {
        /// The size of the vocabulary.
        vocab: usize,
        /// The length of the paths.
        length: usize,
    },
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChainError::Vocabulary { prefix, given, expected } => {
                write!(f, "after {prefix:?} a law is over {given} tokens, the first one over {expected}")
            }
            ChainError::Size { vocab, length } => {
                write!(f, "{vocab} tokens and paths of {length} make more than {MAX_PREFIXES} prefixes")
            }
        }
    }
}

impl std::error::Error for ChainError {}

/// The most prefixes of a chain.
const MAX_PREFIXES: usize = 1 << 16;

impl Chain {
    /// Asks for the draft's and the target's law after every prefix.
    ///
    /// # Errors
    /// The laws are over different vocabularies, or there are more than 65,536 prefixes.
    pub fn new(length: usize, mut laws: impl FnMut(&[Token]) -> (Pmf, Pmf)) -> Result<Self, ChainError> {
        let (root_draft, root_target) = laws(&[]);
        let vocab = root_draft.vocab();
        let size = ChainError::Size { vocab, length };
        let prefixes = (0..=length as u32).try_fold(0usize, |sum, t| sum.checked_add(vocab.checked_pow(t)?));
        let prefixes = prefixes.filter(|&prefixes| prefixes <= MAX_PREFIXES).ok_or(size)?;
        let mut chain = Chain { vocab, length, draft: Vec::new(), target: Vec::new() };
        let mut given = Some((root_draft, root_target));
        for place in 0..prefixes {
            let prefix = chain.prefix(place);
            let (draft, target) = given.take().unwrap_or_else(|| laws(&prefix));
            for law in [&draft, &target] {
                if law.vocab() != vocab {
                    return Err(ChainError::Vocabulary { prefix, given: law.vocab(), expected: vocab });
                }
            }
            chain.draft.push(draft);
            chain.target.push(target);
        }
        Ok(chain)
    }

    /// The size of the vocabulary.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// The length of the paths.
    pub fn length(&self) -> usize {
        self.length
    }

    fn place(&self, prefix: &[Token]) -> usize {
        assert!(prefix.len() <= self.length, "a prefix of {} tokens, the paths have {}", prefix.len(), self.length);
        // The places of the shorter prefixes come first: 1 + V + V² + …
        prefix.iter().fold(0, |place, &token| {
            assert!((token as usize) < self.vocab, "token {token}, the vocabulary has {}", self.vocab);
            place * self.vocab + 1 + token as usize
        })
    }

    fn prefix(&self, mut place: usize) -> Vec<Token> {
        let mut prefix = Vec::new();
        while place > 0 {
            prefix.push(((place - 1) % self.vocab) as Token);
            place = (place - 1) / self.vocab;
        }
        prefix.reverse();
        prefix
    }

    /// The draft law after a prefix.
    ///
    /// # Panics
    /// If the prefix is longer than the paths or has a token outside the vocabulary.
    pub fn draft(&self, prefix: &[Token]) -> &Pmf {
        &self.draft[self.place(prefix)]
    }

    /// The target law after a prefix.
    ///
    /// # Panics
    /// As [`draft`](Chain::draft).
    pub fn target(&self, prefix: &[Token]) -> &Pmf {
        &self.target[self.place(prefix)]
    }

    /// The probability that one draft begins with `prefix`.
    pub fn draft_probability(&self, prefix: &[Token]) -> f64 {
        (0..prefix.len()).map(|t| self.draft(&prefix[..t]).as_slice()[prefix[t] as usize]).product()
    }

    /// The probability that the target's text begins with `prefix`, of up to one token more than the paths.
    pub fn target_probability(&self, prefix: &[Token]) -> f64 {
        (0..prefix.len()).map(|t| self.target(&prefix[..t]).as_slice()[prefix[t] as usize]).product()
    }

    /// All sequences of a number of tokens, in lexicographic order.
    pub fn sequences(&self, length: usize) -> Vec<Vec<Token>> {
        let mut all = vec![Vec::new()];
        for _ in 0..length {
            all = all
                .into_iter()
                .flat_map(|prefix: Vec<Token>| {
                    (0..self.vocab as Token).map(move |token| [&prefix[..], &[token]].concat())
                })
                .collect();
        }
        all
    }

    /// Refuses a number of drafts whose next tokens make too many tuples to enumerate.
    pub(super) fn check_tuples(&self, drafts: usize) -> Result<(), PathError> {
        if !(1..=MAX_DRAFTS).contains(&drafts) {
            return Err(PathError::Paths { paths: drafts });
        }
        let tuples = u32::try_from(drafts).ok().and_then(|drafts| self.vocab.checked_pow(drafts));
        match tuples {
            Some(tuples) if tuples <= MAX_TUPLES => Ok(()),
            _ => Err(PathError::Tuples { vocab: self.vocab, drafts }),
        }
    }

    /// The round in which these paths were drafted.
    ///
    /// # Errors
    /// As [`DraftTree::recorded`]: the drafts are none, or could not have been drawn.
    pub fn round(&self, paths: &[&[Token]]) -> Result<Round<Pmf>, PathError> {
        let tree = DraftTree::recorded(paths, |path, t| Ok::<_, PathError>(self.draft(&paths[path][..t]).clone()))?;
        let prefixes: Vec<Vec<Token>> = (0..tree.len()).map(|node| tree.tokens(node)).collect();
        tree.score(|node| Ok(self.target(&prefixes[node]).clone()))
    }
}
