//! Coins by seed, or by a function of the caller.

use std::cell::Cell;

use draftpick::Coin;
use draftpick::path::{Coins, Purpose};

use crate::error::Failure;

/// What a coin decides.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DraftpickPurpose {
    /// The next token of a draft; not asked for here.
    Draft = 0,
    /// Which of a drafted token's two virtual tokens it is (verifier "path").
    Edge = 1,
    /// The label of a draft, or its own acceptance.
    Label = 2,
    /// An acceptance.
    Accept = 3,
    /// The token after the accepted ones.
    Residual = 4,
}

impl From<Purpose> for DraftpickPurpose {
    fn from(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Draft => DraftpickPurpose::Draft,
            Purpose::Edge => DraftpickPurpose::Edge,
            Purpose::Label => DraftpickPurpose::Label,
            Purpose::Accept => DraftpickPurpose::Accept,
            Purpose::Residual => DraftpickPurpose::Residual,
            purpose => unreachable!("{purpose:?} has no place in the header"),
        }
    }
}

/// Coins that a function tosses, each checked.
pub struct Tossed<F> {
    toss: F,
    /// The first that was none.
    wrong: Cell<Option<f64>>,
}

impl<F: Fn(DraftpickPurpose, usize, usize) -> f64> Tossed<F> {
    pub fn new(toss: F) -> Self {
        Tossed { toss, wrong: Cell::new(None) }
    }

    /// What was made of the coins, unless one was none: then whatever came of it does not count.
    pub fn checked<T>(&self, result: Result<T, Failure>) -> Result<T, Failure> {
        match self.wrong.get() {
            Some(wrong) => Err(Failure::input(format!("a coin must be in [0, 1), not {wrong}"))),
            None => result,
        }
    }
}

impl<F: Fn(DraftpickPurpose, usize, usize) -> f64> Coins for Tossed<F> {
    fn coin(&self, purpose: Purpose, depth: usize, draft: usize) -> Coin {
        let value = (self.toss)(purpose.into(), depth, draft);
        Coin::new(value).unwrap_or_else(|_| {
            self.wrong.set(self.wrong.get().or(Some(value)));
            Coin::ZERO
        })
    }
}
