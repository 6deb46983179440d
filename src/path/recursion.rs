//! SpecTr's recursion: a token rule at every level.
//!
//! Sun et al. 2023 (arXiv 2310.15141), Algorithm 1. At a node, the rule selects among the next tokens of the drafts
//! that are still alive, or draws from the residual; the drafts that agree with the token that came out stay alive, and
//! the recursion goes on with them. It stops when none is left, or with a bonus token at the end of the drafts.
//!
//! A token drawn from the residual may agree with a draft; that draft then stays alive too.

use super::coins::{Coins, Purpose};
use super::outcome::{Outcome, OutcomeLaw, Stop, dense};
use super::row::Row;
use super::row::sealed::Prepare;
use super::tree::{ROOT, Round};
use super::{Chain, PathError, PathVerifier};
use crate::coupling::{Coupling, CouplingError};
use crate::pmf::{Coin, Pmf, Token};
use crate::problem::MAX_DRAFTS;
use crate::rule::Rule;
use crate::selector::{MAX_COINS, Selector};
use crate::sum::Sum;

/// SpecTr's recursion over a token rule, which is prepared for the number of drafts alive at each node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenRecursion {
    rule: Rule,
}

impl TokenRecursion {
    /// The recursion over `rule`.
    ///
    /// # Errors
    /// [`PathError::Drawn`] for recursive rejection without replacement: the paths of a round are independent.
    pub fn new(rule: Rule) -> Result<Self, PathError> {
        match rule {
            Rule::RecursiveDistinct => Err(PathError::Drawn { rule: rule.name() }),
            _ => Ok(TokenRecursion { rule }),
        }
    }

    /// The token rule.
    pub fn rule(self) -> Rule {
        self.rule
    }

    /// The expected number of drafted tokens that are kept of `drafts` paths of a chain, exactly: at each prefix, for every
    /// number of paths that may be alive, the rule's coupling of their next tokens with the output. `O(V^K)` laws a prefix.
    ///
    /// # Errors
    /// `drafts` is out of range, or not one that the rule takes; there are more than
    /// [`MAX_TUPLES`](crate::coupling::MAX_TUPLES) tuples of next tokens.
    pub fn expected_accepted(self, chain: &Chain, drafts: usize) -> Result<f64, PathError> {
        chain.check_tuples(drafts)?;
        if !self.rule.takes(drafts) {
            return Err(PathError::OnePath { verifier: self.rule.name(), paths: drafts });
        }
        Ok(self.expected_below(chain, &[], drafts)?[drafts])
    }

    /// The number kept below a prefix for each number of paths alive there, up to `most`.
    fn expected_below(self, chain: &Chain, prefix: &[Token], most: usize) -> Result<Vec<f64>, PathError> {
        let mut expected = vec![0.0; most + 1];
        if prefix.len() == chain.length() {
            return Ok(expected);
        }
        let (draft, target) = (chain.draft(prefix), chain.target(prefix));
        let below = (0..chain.vocab() as Token).map(|token| match draft.as_slice()[token as usize] > 0.0 {
            true => self.expected_below(chain, &[prefix, &[token]].concat(), most),
            false => Ok(vec![0.0; most + 1]),
        });
        let below = below.collect::<Result<Vec<_>, _>>()?;
        let at = |error| PathError::Select { node: ROOT, error };
        for alive in (1..=most).filter(|&alive| self.rule.takes(alive)) {
            let rule = Pmf::selector(draft, target, self.rule, alive)
                .map_err(|error| PathError::Scores { node: ROOT, error })?;
            let coupling = Coupling::enumerate(&*rule, draft).map_err(|error| match error {
                CouplingError::TooLarge { support, drafts } => PathError::Tuples { vocab: support, drafts },
                CouplingError::Law { error, .. } => at(error),
            })?;
            let mut sum = Sum::default();
            for (tuple, joint) in coupling.drafts().iter().zip(coupling.joint().rows()) {
                for (token, &mass) in joint.iter().enumerate() {
                    let agree = tuple.iter().filter(|&&draft| draft as usize == token).count();
                    if agree > 0 && mass > 0.0 {
                        sum.add(mass * (1.0 + below[token][agree]));
                    }
                }
            }
            expected[alive] = sum.value();
        }
        Ok(expected)
    }

    /// The rule prepared for the drafts alive at an inner node.
    fn selector<'a, R: Row>(
        self,
        round: &'a Round<R>,
        node: usize,
    ) -> Result<Option<Box<dyn Selector + 'a>>, PathError> {
        let Some((draft, target)) = round.pair(node) else {
            return Ok(None);
        };
        let alive = round.tree().paths_through(node).len();
        if !self.rule.takes(alive) {
            return Err(PathError::OnePath { verifier: self.rule.name(), paths: alive });
        }
        R::selector(draft, target, self.rule, alive).map(Some).map_err(|error| PathError::Scores { node, error })
    }

    fn law_below<R: Row>(
        self,
        round: &Round<R>,
        node: usize,
        probability: f64,
        law: &mut OutcomeLaw,
    ) -> Result<(), PathError> {
        let Some(selector) = self.selector(round, node)? else {
            let next = round.target(node).map(dense).unwrap_or_default();
            law.add(Stop { node, probability, next });
            return Ok(());
        };
        let tree = round.tree();
        let mut drafts = [0; MAX_DRAFTS];
        let mut next =
            selector.law(next_tokens(round, node, &mut drafts)).map_err(|error| PathError::Select { node, error })?;
        for &child in tree.children(node) {
            let share = std::mem::take(&mut next[tree.token(child) as usize]);
            if share > 0.0 {
                self.law_below(round, child, probability * share, law)?;
            }
        }
        let left: f64 = next.iter().sum();
        if left > 0.0 {
            next.iter_mut().for_each(|mass| *mass /= left);
            law.add(Stop { node, probability: probability * left, next });
        }
        Ok(())
    }
}

/// The next tokens of the drafts alive at a node, in the order of the paths.
fn next_tokens<'b, R: Row>(round: &Round<R>, node: usize, buffer: &'b mut [Token; MAX_DRAFTS]) -> &'b [Token] {
    let tree = round.tree();
    let alive = tree.paths_through(node);
    for (token, &path) in buffer.iter_mut().zip(alive) {
        *token = tree.token(tree.paths()[path][tree.depth(node) + 1]);
    }
    &buffer[..alive.len()]
}

impl<R: Row> PathVerifier<R> for TokenRecursion {
    fn law(&self, round: &Round<R>) -> Result<OutcomeLaw, PathError> {
        let mut law = OutcomeLaw::default();
        self.law_below(round, ROOT, 1.0, &mut law)?;
        Ok(law)
    }

    /// Prepares the rule at the nodes that the output passes, at most `L` of them.
    fn verify(&self, round: &Round<R>, coins: &dyn Coins) -> Result<Outcome, PathError> {
        let tree = round.tree();
        let mut node = ROOT;
        loop {
            let depth = tree.depth(node);
            let residual = coins.coin(Purpose::Residual, depth, 0);
            let Some(selector) = self.selector(round, node)? else {
                return Ok(Outcome { node, next: round.target(node).map(|target| target.draw(residual)) });
            };
            let mut drafts = [0; MAX_DRAFTS];
            let drafts = next_tokens(round, node, &mut drafts);
            let mut given = [Coin::ZERO; MAX_COINS];
            let given = &mut given[..drafts.len() + 2];
            for (coin, &path) in given.iter_mut().zip(tree.paths_through(node)) {
                *coin = coins.coin(Purpose::Label, depth, path);
            }
            given[drafts.len()] = coins.coin(Purpose::Accept, depth, 0);
            given[drafts.len() + 1] = residual;
            let selection = selector.select(drafts, given).map_err(|error| PathError::Select { node, error })?;
            let token = selection.token(drafts);
            match tree.child(node, token) {
                Some(child) => node = child,
                None => return Ok(Outcome { node, next: Some(token) }),
            }
        }
    }
}
