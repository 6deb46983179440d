//! Logs made on purpose: by honest engines, and by engines with a known mistake.
//!
//! They show what an audit finds and how soon, and are the negative controls of its tests. The models are a [`Chain`]
//! over recorded rows of scores, so that the laws are those of real models and cost nothing to compute.

use std::fmt;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::law::LoggedLaw;
use super::record::{Laws, Record, RecordError};
use super::rule::KnownRule;
use crate::path::{Coins, DraftTree, PathError, PathVerifier, Purpose, RoundCoins, Verifier};
use crate::pmf::{Coin, Pmf, PmfError, Token};
use crate::problem::{MAX_DRAFTS, Problem, ProblemError};
use crate::rule::Rule;
use crate::selector::SelectError;

/// A pair of models whose laws are pairs of rows: each token of the text, with the row that it was drawn from, decides
/// which pair is next.
#[derive(Clone, Debug)]
pub struct Chain {
    draft: Vec<Pmf>,
    target: Vec<Pmf>,
    /// Both as they are logged.
    logged: Vec<[Arc<LoggedLaw>; 2]>,
}

/// Why a log could not be made.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SimulateError {
    /// There are no rows, or not as many of the one model as of the other.
    Rows {
        /// The draft model's.
        draft: usize,
        /// The target model's.
        target: usize,
    },
    /// A row is over another vocabulary than the first.
    Vocabulary {
        /// The row.
        row: usize,
        /// The size of its vocabulary.
        given: usize,
        /// The first's.
        expected: usize,
    },
    /// The number of paths is out of range.
    Paths {
        /// The number of paths.
        paths: usize,
    },
    /// The rule without replacement takes drafts of one token.
    Length {
        /// The length asked for.
        length: usize,
    },
    /// The drafts could not be verified.
    Path(PathError),
    /// The drafts could not be selected from.
    Select(SelectError),
    /// A law of a draft is none.
    Law(PmfError),
    /// The number of drafts is out of range.
    Problem(ProblemError),
    /// The round does not fit together.
    Record(RecordError),
}

impl fmt::Display for SimulateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SimulateError::Rows { draft, target } => {
                write!(f, "{draft} rows of the draft model and {target} of the target; there must be as many, and some")
            }
            SimulateError::Vocabulary { row, given, expected } => {
                write!(f, "row {row} has {given} tokens, the first one {expected}")
            }
            SimulateError::Paths { paths } => write!(f, "{paths} paths; there must be 1 to {MAX_DRAFTS}"),
            SimulateError::Length { length } => {
                write!(f, "{} takes drafts of one token, not of {length}", Rule::RecursiveDistinct)
            }
            SimulateError::Path(error) => error.fmt(f),
            SimulateError::Select(error) => error.fmt(f),
            SimulateError::Law(error) => error.fmt(f),
            SimulateError::Problem(error) => error.fmt(f),
            SimulateError::Record(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SimulateError {}

impl From<PathError> for SimulateError {
    fn from(error: PathError) -> Self {
        SimulateError::Path(error)
    }
}

impl From<PmfError> for SimulateError {
    fn from(error: PmfError) -> Self {
        SimulateError::Law(error)
    }
}

impl Chain {
    /// A chain over pairs of rows.
    ///
    /// # Errors
    /// There are no rows or not as many of both, or they are over different vocabularies.
    pub fn new(draft: Vec<Pmf>, target: Vec<Pmf>) -> Result<Self, SimulateError> {
        if draft.is_empty() || draft.len() != target.len() {
            return Err(SimulateError::Rows { draft: draft.len(), target: target.len() });
        }
        let expected = draft[0].vocab();
        for (row, law) in (0..draft.len()).cycle().zip(draft.iter().chain(&target)) {
            if law.vocab() != expected {
                return Err(SimulateError::Vocabulary { row, given: law.vocab(), expected });
            }
        }
        let pairs = draft.iter().zip(&target);
        let logged = pairs.map(|(p, q)| [p, q].map(|law| Arc::new(law.clone().into()))).collect();
        Ok(Chain { draft, target, logged })
    }

    /// The same, logging only the `most` most probable tokens of each law and the mass of the rest.
    pub fn logging_top(mut self, most: usize) -> Self {
        for law in self.logged.iter_mut().flatten() {
            *law = Arc::new(law.top(most));
        }
        self
    }

    /// The size of the vocabulary.
    pub fn vocab(&self) -> usize {
        self.draft[0].vocab()
    }

    /// The pair after `token`, drawn from the pair `row`.
    fn next(&self, row: usize, token: Token) -> usize {
        // A multiplicative hash: rows that follow each other have nothing in common.
        let mixed = (row as u64 ^ u64::from(token) << 20).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 32) as usize % self.draft.len()
    }

    /// The pairs before each token of a path and after the last.
    fn rows(&self, start: usize, tokens: &[Token]) -> Vec<usize> {
        let mut rows = vec![start];
        for &token in tokens {
            rows.push(self.next(rows[rows.len() - 1], token));
        }
        rows
    }
}

/// A mistake that engines have been shipped with, or could be. But for it the engine does SpecTr's recursion with
/// recursive rejection, which for one path is what most engines do.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Mistake {
    /// A draft is accepted if its coin is at most `q/p`, not below it, and the coins have so many bits: a coin of 0
    /// accepts a token of target probability 0.
    LaxCoin {
        /// The number of bits of a coin, 1 to 53.
        bits: u32,
    },
    /// The token after the last draft is drawn from the target's row before that draft.
    BonusFromRowBefore,
    /// The drafts are drawn at this temperature, relative to the law that the verifier is told.
    DraftTemperature(f64),
    /// After a rejection the target is drawn from, not the residual.
    ResidualFromTarget,
    /// This share of all drafts is accepted without being looked at. With one draft the output is off by the share times
    /// the total variation of the two laws.
    Unchecked(f64),
}

/// Who makes the log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Engine {
    /// An engine that follows a rule.
    Honest(KnownRule),
    /// An engine with a mistake.
    Mistaken(Mistake),
}

/// The rounds of an engine that drafts `paths` paths of `length` tokens. They go on for ever.
pub fn records(chain: &Chain, engine: Engine, paths: usize, length: usize, seed: u64) -> Records<'_> {
    Records { chain, engine, paths, length, seed, rng: StdRng::seed_from_u64(seed), row: 0, start: 0 }
}

/// An engine at work.
#[derive(Debug)]
pub struct Records<'a> {
    chain: &'a Chain,
    engine: Engine,
    paths: usize,
    length: usize,
    seed: u64,
    rng: StdRng,
    /// The pair at which the next round starts.
    row: usize,
    /// The number of tokens before it.
    start: u64,
}

impl Iterator for Records<'_> {
    type Item = Result<Record, SimulateError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.round())
    }
}

impl Records<'_> {
    fn round(&mut self) -> Result<Record, SimulateError> {
        if !(1..=MAX_DRAFTS).contains(&self.paths) {
            return Err(SimulateError::Paths { paths: self.paths });
        }
        let chain = self.chain;
        let coins = RoundCoins { seed: self.seed, start: self.start };
        let mut drafts = self.drafts(&coins)?;
        let output = match self.engine {
            Engine::Honest(KnownRule::Verifier(verifier)) => self.verified(&drafts, verifier, &coins)?,
            Engine::Honest(KnownRule::Distinct) => self.selected(&mut drafts)?,
            Engine::Mistaken(mistake) => self.mistaken(&drafts, mistake),
        };
        let rows: Vec<Vec<usize>> = drafts.iter().map(|tokens| chain.rows(self.row, tokens)).collect();
        // A shared prefix is logged once.
        let is_new =
            |path: usize, at: usize| !drafts[..path].iter().any(|other| other.get(..at) == drafts[path].get(..at));
        let laws = |model: usize, more: usize| -> Laws {
            let path = |(path, rows): (usize, &Vec<usize>)| {
                let law = |at: usize| is_new(path, at).then(|| Arc::clone(&chain.logged[rows[at]][model]));
                (0..rows.len() - 1 + more).map(law).collect()
            };
            rows.iter().enumerate().map(path).collect()
        };
        let record = Record::new(chain.vocab(), &drafts, laws(0, 0), laws(1, 1), output.clone());
        let rows = chain.rows(self.row, &output);
        (self.row, self.start) = (rows[rows.len() - 1], self.start + output.len() as u64);
        record.map_err(SimulateError::Record)
    }

    fn drafts(&self, coins: &RoundCoins) -> Result<Vec<Vec<Token>>, SimulateError> {
        let chain = self.chain;
        let law = |row: usize| match self.engine {
            Engine::Mistaken(Mistake::DraftTemperature(temperature)) => {
                let weights = chain.draft[row].as_slice().iter().map(|p| p.powf(1.0 / temperature));
                Pmf::from_weights(weights.collect::<Vec<_>>())
            }
            _ => Ok(chain.draft[row].clone()),
        };
        let mut drafts = Vec::with_capacity(self.paths);
        for path in 0..self.paths {
            let (mut tokens, mut row) = (Vec::with_capacity(self.length), self.row);
            for depth in 0..self.length {
                let token = law(row)?.pick(coins.coin(Purpose::Draft, depth, path));
                tokens.push(token);
                row = chain.next(row, token);
            }
            drafts.push(tokens);
        }
        Ok(drafts)
    }

    fn verified(
        &self,
        drafts: &[Vec<Token>],
        verifier: Verifier,
        coins: &RoundCoins,
    ) -> Result<Vec<Token>, SimulateError> {
        let chain = self.chain;
        let paths: Vec<&[Token]> = drafts.iter().map(Vec::as_slice).collect();
        let row = |tokens: &[Token]| tokens.iter().fold(self.row, |row, &token| chain.next(row, token));
        let draft = |path: usize, at: usize| Ok::<_, PathError>(chain.draft[row(&drafts[path][..at])].clone());
        let tree = DraftTree::recorded(&paths, draft)?;
        let rows: Vec<usize> = (0..tree.len()).map(|node| row(&tree.tokens(node))).collect();
        let round = tree.score(|node| Ok::<_, PathError>(chain.target[rows[node]].clone()))?;
        Ok(verifier.verify(&round, coins)?.tokens(&round))
    }

    /// Draws one token a path anew, without replacement, and selects among them.
    fn selected(&mut self, drafts: &mut Vec<Vec<Token>>) -> Result<Vec<Token>, SimulateError> {
        if self.length != 1 {
            return Err(SimulateError::Length { length: self.length });
        }
        let (p, q) = (&self.chain.draft[self.row], &self.chain.target[self.row]);
        let problem = Problem::new(p.clone(), q.clone(), self.paths).map_err(SimulateError::Problem)?;
        let selector = Rule::RecursiveDistinct.prepare(&problem);
        let mut left = p.as_slice().to_vec();
        drafts.clear();
        while drafts.len() < selector.drafts() {
            let token = self.rng.sample(&Pmf::from_weights(left.clone())?);
            left[token as usize] = 0.0;
            drafts.push(vec![token]);
        }
        let tokens = drafts.concat();
        let token = selector.select_with(&tokens, &mut self.rng).map_err(SimulateError::Select)?.token(&tokens);
        let bonus = tokens.contains(&token).then(|| self.chain.next(self.row, token));
        let bonus = bonus.map(|row| self.rng.sample(&self.chain.target[row]));
        Ok([token].into_iter().chain(bonus).collect())
    }

    fn mistaken(&mut self, drafts: &[Vec<Token>], mistake: Mistake) -> Vec<Token> {
        let chain = self.chain;
        let (mut row, mut before) = (self.row, self.row);
        let mut alive: Vec<&[Token]> = drafts.iter().map(Vec::as_slice).collect();
        let mut output = Vec::new();
        loop {
            let (p, q) = (chain.draft[row].as_slice(), chain.target[row].as_slice());
            if alive[0].len() == output.len() {
                let bonus = if mistake == Mistake::BonusFromRowBefore && !output.is_empty() { before } else { row };
                output.push(self.rng.sample(&chain.target[bonus]));
                return output;
            }
            let depth = output.len();
            let mut residual = q.to_vec();
            let mut accepted = None;
            for path in &alive {
                let token = path[depth] as usize;
                if self.accepts(residual[token] / p[token], mistake) {
                    accepted = Some(path[depth]);
                    break;
                }
                residual.iter_mut().zip(p).for_each(|(r, p)| *r = (*r - p).max(0.0));
                let total: f64 = residual.iter().sum();
                residual.iter_mut().for_each(|r| *r /= total);
            }
            let Some(token) = accepted else {
                let weights = if mistake == Mistake::ResidualFromTarget { q.to_vec() } else { residual };
                // Rounding may leave a rejection no residual: the target stands in.
                let law = Pmf::from_weights(weights).unwrap_or_else(|_| chain.target[row].clone());
                output.push(self.rng.sample(&law));
                return output;
            };
            output.push(token);
            alive.retain(|path| path[depth] == token);
            (before, row) = (row, chain.next(row, token));
        }
    }

    fn accepts(&mut self, probability: f64, mistake: Mistake) -> bool {
        let coin = self.rng.random::<Coin>().get();
        match mistake {
            Mistake::LaxCoin { bits } => {
                let steps = f64::from(bits).exp2();
                (coin * steps).floor() / steps <= probability
            }
            Mistake::Unchecked(share) if self.rng.random::<f64>() < share => true,
            _ => coin < probability,
        }
    }
}
