//! The tokens in the order of their ratio `p/q`, most over-drafted first: the order in which every optimum is found.

use std::ops::Deref;

use crate::pmf::Token;
use crate::problem::{Laws, for_each_token};

/// A token and its masses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub token: Token,
    pub p: f64,
    pub q: f64,
}

impl Entry {
    /// `p/q`, infinite where `q` is 0.
    pub fn ratio(&self) -> f64 {
        self.p / self.q
    }
}

/// All tokens that have any mass, by `p/q` descending; of equal ratios the lower token first.
#[derive(Clone, Debug)]
pub(crate) struct ByRatio(Vec<Entry>);

impl ByRatio {
    /// Sorts the tokens. `O(V log V)`.
    pub fn new<L: Laws>(laws: &L) -> Self {
        let mut entries = Vec::with_capacity(laws.vocab());
        for_each_token(laws, |token, p, q| {
            if p > 0.0 || q > 0.0 {
                entries.push(Entry { token, p, q });
            }
        });
        entries.sort_unstable_by(|a: &Entry, b| b.ratio().total_cmp(&a.ratio()).then(a.token.cmp(&b.token)));
        ByRatio(entries)
    }
}

impl Deref for ByRatio {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        &self.0
    }
}
