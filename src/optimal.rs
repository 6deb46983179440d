//! The order-statistic coupling: the selection rule that no other can beat.
//!
//! ```text
//! layout:   cut [0,1] into regions I_y with |I_y| = p(y)              (crate::layout: the best one)
//! label:    U_i uniform in I_{X_i}                                     U_1..U_k are i.i.d. uniform on [0,1]
//! select:   X = the draft with the largest label                      law m(y) = ∫_{I_y} k·u^(k−1) du
//! accept:   with probability min(1, q(X)/m(X))  output X
//! resample: otherwise                           output Y ∝ (q − m)₊
//! ```
//!
//! The output has law `q` whatever the layout, because `m` is exactly the law of the selected draft (the canonical
//! decomposition of Khisti et al. 2024, arXiv 2410.18234). A layout reaches every `m` with `m(B) ≥ p(B)^k` for all
//! sets `B`, which is what any selection rule can reach at all; the best of them gives `Σ min(m, q) = α*` (see
//! [`bound`](crate::bound)). Proofs are in `docs/math.md`.

use crate::layout::{Item, Layout, Segment};
use crate::pmf::{Coin, Token};
use crate::problem::{Laws, Problem};
use crate::ratio::ByRatio;
use crate::selector::{
    Acceptance, SelectError, Selection, Selector, accept_probability, add_residual, check_drafts, draw_residual,
    split_coins, sum_over,
};
use crate::winner::{Placement, winner_law};

/// The optimum, exactly: every token has its own region. Preparing sorts the vocabulary, `O(V log V)`.
///
/// Uses one coin a draft (its label), the accept coin and the residual coin.
#[derive(Clone, Debug)]
pub struct Optimal<L = Problem> {
    laws: L,
    k: usize,
    layout: Layout,
    /// The layout's item of each token; [`NO_ITEM`] for a token that is never drafted.
    item_of: Vec<u32>,
    acceptance: f64,
    residual: f64,
}

const NO_ITEM: u32 = u32::MAX;

impl Optimal<Problem> {
    /// Prepares the rule for the problem's `k`. `O(V log V)`.
    pub fn new(problem: Problem) -> Self {
        let k = problem.k();
        Self::with_laws(problem, k)
    }
}

impl<L: Laws> Optimal<L> {
    /// Prepares the rule for `k` drafts of any laws. `O(V log V)`.
    pub(crate) fn with_laws(laws: L, k: usize) -> Self {
        let mut items: Vec<Item> = Vec::with_capacity(laws.vocab());
        let mut item_of = vec![NO_ITEM; laws.vocab()];
        let mut ratio = f64::NAN;
        for entry in ByRatio::new(&laws).iter().take_while(|entry| entry.p > 0.0) {
            // Tokens of equal ratio share one region: there is nothing to tell them apart by.
            match items.last_mut() {
                Some(item) if entry.ratio() == ratio => {
                    item.p += entry.p;
                    item.q += entry.q;
                }
                _ => items.push(Item { p: entry.p, q: entry.q }),
            }
            ratio = entry.ratio();
            item_of[entry.token as usize] = items.len() as u32 - 1;
        }
        let layout = Layout::new(&[Segment::UNIT], &items, k);
        let mut selector = Optimal { laws, k, layout, item_of, acceptance: 0.0, residual: 0.0 };
        selector.acceptance = sum_over(&selector.laws, |token, p, q| selector.selected(token, p).min(q));
        selector.residual = sum_over(&selector.laws, selector.residual());
        selector
    }

    /// The probability `m(token)` that the token has the largest label.
    fn selected(&self, token: Token, p: f64) -> f64 {
        match self.item_of[token as usize] {
            NO_ITEM => 0.0,
            item => p * self.layout.density(item as usize),
        }
    }

    fn residual(&self) -> impl Fn(Token, f64, f64) -> f64 {
        |token, p, q| (q - self.selected(token, p)).max(0.0)
    }

    /// The layout of the labels.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The region of a token's labels, shared with the tokens of the same ratio `p/q`; empty for a token that is
    /// never drafted.
    ///
    /// # Panics
    /// If `token` is outside the vocabulary.
    pub fn region(&self, token: Token) -> &[Segment] {
        match self.item_of[token as usize] {
            NO_ITEM => &[],
            item => self.layout.region(item as usize),
        }
    }
}

/// The law of the output given where the labels of the drafts may lie, before resampling; and what is left for it.
fn accepted_law(vocab: usize, drafts: &[Token], winners: &[f64], accept: impl Fn(Token) -> f64) -> (Vec<f64>, f64) {
    let mut law = vec![0.0; vocab];
    let mut left = 0.0;
    for (&token, winner) in drafts.iter().zip(winners) {
        let accept = accept(token);
        law[token as usize] += winner * accept;
        left += winner * (1.0 - accept);
    }
    (law, left)
}

/// The index of the largest label, the first of equal ones.
fn largest(labels: impl Iterator<Item = f64>) -> usize {
    let (mut winner, mut best) = (0, f64::NEG_INFINITY);
    for (i, label) in labels.enumerate() {
        if label > best {
            (winner, best) = (i, label);
        }
    }
    winner
}

impl<L: Laws> Selector for Optimal<L> {
    fn drafts(&self) -> usize {
        self.k
    }

    fn law(&self, drafts: &[Token]) -> Result<Vec<f64>, SelectError> {
        check_drafts(&self.laws, self.k, drafts)?;
        let placements: Vec<_> =
            drafts.iter().map(|&token| Placement::certain(self.item_of[token as usize] as usize)).collect();
        let winners = winner_law(&self.layout, &placements);
        let (mut law, left) = accepted_law(self.laws.vocab(), drafts, &winners, |token| {
            let (p, q) = self.laws.masses(token);
            accept_probability(q, self.selected(token, p))
        });
        add_residual(&mut law, &self.laws, left, self.residual())?;
        Ok(law)
    }

    fn select(&self, drafts: &[Token], coins: &[Coin]) -> Result<Selection, SelectError> {
        check_drafts(&self.laws, self.k, drafts)?;
        let coins = split_coins(self.k, coins)?;
        let labels = drafts.iter().zip(coins.drafts);
        let winner =
            largest(labels.map(|(&token, &coin)| self.layout.label(self.item_of[token as usize] as usize, coin)));
        let (p, q) = self.laws.masses(drafts[winner]);
        if coins.accept.get() < accept_probability(q, self.selected(drafts[winner], p)) {
            return Ok(Selection::Draft(winner));
        }
        draw_residual(&self.laws, self.residual, coins.residual, self.residual()).map(Selection::Residual)
    }

    fn acceptance(&self) -> Acceptance {
        Acceptance::exact(self.acceptance)
    }
}
