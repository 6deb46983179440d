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
use super::tree::{ROOT, Round};
use super::{PathError, PathVerifier};
use crate::pmf::{Coin, Token};
use crate::problem::MAX_DRAFTS;
use crate::rule::Rule;
use crate::selector::{MAX_COINS, Selector};

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
