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

use std::cmp::Ordering;
use std::fmt;
use std::ops::ControlFlow;

use crate::classes::{Edges, Split};
use crate::exchange::ExchangeLayout;
use crate::layout::{Item, Layout, Segment};
use crate::pmf::{Coin, Token};
use crate::problem::{Excess, Laws, Problem};
use crate::ratio::ByRatio;
use crate::selector::{
    Acceptance, SelectError, SelectThenAccept, Selection, Selector, check_drafts, split_coins, sum_over,
};
use crate::winner::{region_law, winner_law};

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
        let mut selector = Optimal { laws, k, layout, item_of, residual: 0.0 };
        selector.residual = sum_over(&selector.laws, selector.residual());
        selector
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

impl<L: Laws> SelectThenAccept for Optimal<L> {
    type Laws = L;

    fn laws(&self) -> &L {
        &self.laws
    }

    fn selected(&self, token: Token, p: f64, _: f64) -> f64 {
        match self.item_of[token as usize] {
            NO_ITEM => 0.0,
            item => p * self.layout.density(item as usize),
        }
    }

    fn residual_total(&self) -> f64 {
        self.residual
    }
}

impl<L: Laws> Selector for Optimal<L> {
    fn drafts(&self) -> usize {
        self.k
    }

    fn law(&self, drafts: &[Token]) -> Result<Vec<f64>, SelectError> {
        check_drafts(&self.laws, self.k, drafts)?;
        let labels: Vec<_> = drafts.iter().map(|&token| region_law(self.region(token))).collect();
        Ok(self.output_law(drafts, &winner_law(&labels)))
    }

    fn select(&self, drafts: &[Token], coins: &[Coin]) -> Result<Selection, SelectError> {
        check_drafts(&self.laws, self.k, drafts)?;
        let coins = split_coins(self.k, coins)?;
        let labels = drafts.iter().zip(coins.drafts);
        let winner =
            largest(labels.map(|(&token, &coin)| self.layout.label(self.item_of[token as usize] as usize, coin)));
        self.accept_or_resample(drafts, winner, &coins)
    }

    /// `Σ min(m, q)`. `O(V)`.
    fn acceptance(&self) -> Acceptance {
        Acceptance::exact(self.overlap())
    }
}

/// The number of ratio classes of [`OptimalLinear`] unless told otherwise: on recorded scores its acceptance is then
/// within 2e-5 of the optimum, and there are still far fewer classes than tokens.
pub const DEFAULT_CLASSES: usize = 1024;

/// The fewest ratio classes: one between two finite edges, and the two outermost.
pub const MIN_CLASSES: usize = 3;

/// The most ratio classes: beyond them rounding, not the class width, limits the acceptance.
pub const MAX_CLASSES: usize = 1 << 16;

/// The optimum in linear time: the labels belong to ratio classes instead of tokens. The output law is exactly the
/// target's all the same; the acceptance falls short of the optimum by an amount of second order in the class width.
///
/// A token's draft mass lies on the two edges of its class, `p = p₁ + p₂`. Its draft picks an edge with probability
/// `p₁/p` or `p₂/p` and a label by that edge's law, so it is selected with probability `m = p₁·g₁ + p₂·g₂`, `g` being the
/// edges' densities. Accepting and resampling go by the token's own `m` and `q`. The edges' labels are those of an
/// [`ExchangeLayout`], which takes sums only: what it attains is what regions attain, at a fraction of the work.
///
/// Uses one coin a draft (its edge and label), the accept coin and the residual coin.
#[derive(Clone, Debug)]
pub struct OptimalLinear<L = Problem> {
    laws: L,
    k: usize,
    edges: Edges,
    /// The draft and target mass of each class.
    classes: Vec<(f64, f64)>,
    layout: ExchangeLayout,
    /// The layout's item of each edge.
    item_of: Vec<u32>,
    /// The lowest edge in the layout's head. It is the upper edge of the class with the same number, in which the head ends.
    end: usize,
}

/// The edges of a draft, as items of the layout, with the share of its mass on each.
#[derive(Clone, Copy, Debug)]
struct Placement {
    lower: (usize, f64),
    upper: (usize, f64),
}

/// What the ratio classes are to attain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    /// What mixtures on the edges of the classes attain.
    Classes,
    /// The optimum.
    Exact,
}

/// The number of ratio classes is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassesError {
    classes: usize,
}

impl fmt::Display for ClassesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ratio classes were asked for; there must be {MIN_CLASSES} to {MAX_CLASSES}", self.classes)
    }
}

impl std::error::Error for ClassesError {}

impl OptimalLinear<Problem> {
    /// Prepares the rule for the problem's `k` with [`DEFAULT_CLASSES`] ratio classes. `O(V)`.
    pub fn new(problem: Problem) -> Self {
        let k = problem.k();
        Self::with_laws(problem, k, DEFAULT_CLASSES)
    }

    /// Prepares the rule so that it attains the optimum exactly: classes in which a mixture would lose acceptance are
    /// divided until none does. A few passes over the vocabulary, `O(V)` each, and no sort of more than one class.
    pub fn exact(problem: Problem) -> Self {
        let k = problem.k();
        Self::with_grid(problem, k, DEFAULT_CLASSES, Precision::Exact)
    }

    /// Prepares the rule with a number of ratio classes. `O(V + classes)`.
    ///
    /// # Errors
    /// `classes` is not in [`MIN_CLASSES`]`..=`[`MAX_CLASSES`].
    pub fn with_classes(problem: Problem, classes: usize) -> Result<Self, ClassesError> {
        if !(MIN_CLASSES..=MAX_CLASSES).contains(&classes) {
            return Err(ClassesError { classes });
        }
        let k = problem.k();
        Ok(Self::with_laws(problem, k, classes))
    }
}

impl<L: Laws> OptimalLinear<L> {
    /// Prepares the rule for `k` drafts of any laws. `O(V + classes)`.
    pub(crate) fn with_laws(laws: L, k: usize, classes: usize) -> Self {
        Self::with_grid(laws, k, classes, Precision::Classes)
    }

    fn with_grid(laws: L, k: usize, classes: usize, precision: Precision) -> Self {
        let edges = Edges::new(Edges::width(classes, k), 0.0, k);
        let classes = edges.count(&laws);
        Self::with_counts(laws, k, edges, classes, precision)
    }

    /// Prepares the rule from the draft and target mass of each class. `O(classes)`.
    pub(crate) fn with_counts(laws: L, k: usize, edges: Edges, classes: Vec<(f64, f64)>, precision: Precision) -> Self {
        let (mut edges, mut classes) = (edges, classes);
        // One draft is accepted by its own probability, whatever the edges.
        while precision == Precision::Exact
            && k > 1
            && let Some(class) = edges.losing_class(&classes, k)
        {
            let mut tokens = Vec::new();
            laws.in_band(&edges.band(class), &mut |_, p, q| {
                tokens.push((p, q));
                ControlFlow::Continue(())
            });
            if !edges.refine(class, &tokens, &mut classes) {
                break;
            }
        }
        let masses = edges.draft_masses(&classes);
        let (mut drafted, mut inverses) = (Vec::with_capacity(masses.len()), Vec::with_capacity(masses.len()));
        let mut item_of = vec![0; masses.len()];
        for ((edge, &mass), item) in masses.iter().enumerate().zip(&mut item_of).rev() {
            if mass > 0.0 {
                drafted.push(mass);
                inverses.push(edges.inverse(edge));
            }
            // No draft has a share on an edge without mass; what rounding makes look like one goes to a neighbour.
            *item = (drafted.len() as u32).saturating_sub(1);
        }
        let layout = ExchangeLayout::new(drafted, inverses, k);
        let end = item_of.partition_point(|&item| item as usize >= layout.head());
        OptimalLinear { laws, k, edges, classes, layout, item_of, end }
    }

    /// A token's items, with the share of its draft mass on each.
    fn placement(&self, token: Token) -> Placement {
        let counted = self.laws.counted(token);
        // The shares that the classes were counted with, or those of its masses.
        let (lower, share) =
            match counted.and_then(|counted| self.edges.counted_share(counted.cell, counted.over_middle)) {
                Some((class, share)) => (class - 1, share),
                None => {
                    let (p, q) = self.laws.masses(token);
                    let Split { lower, p_upper, .. } = self.edges.split(p, q);
                    (lower, p_upper / p)
                }
            };
        let item = |edge: usize| self.item_of[edge] as usize;
        let upper = if share > 0.0 { item(lower + 1) } else { item(lower) };
        Placement { lower: (item(lower), 1.0 - share), upper: (upper, share) }
    }

    /// The label of a draft of a token.
    pub(crate) fn label_of(&self, token: Token, coin: Coin) -> f64 {
        let Placement { lower, upper } = self.placement(token);
        // One coin picks the edge and, stretched back to [0, 1), the label.
        let (item, coin) = if coin.get() < lower.1 {
            (lower.0, coin.get() / lower.1)
        } else {
            (upper.0, (coin.get() - lower.1) / (1.0 - lower.1))
        };
        self.layout.label(item, Coin::new(coin).unwrap_or(Coin::LAST))
    }

    /// The layout's item of an edge.
    #[cfg(test)]
    pub(crate) fn item_of(&self, edge: usize) -> usize {
        self.item_of[edge] as usize
    }

    /// The layout of the labels: one item for each ratio edge that has draft mass, highest ratio first.
    pub fn layout(&self) -> &ExchangeLayout {
        &self.layout
    }

    /// The draft mass selected, `m`, of tokens of one class.
    fn selected_of(&self, class: usize, p: f64, q: f64) -> f64 {
        let Split { lower, p_lower, p_upper } = self.edges.split_sum(class, p, q);
        let density = |edge: usize| self.layout.density(self.item_of[edge] as usize);
        p_lower * density(lower) + if p_upper > 0.0 { p_upper * density(lower + 1) } else { 0.0 }
    }

    /// The sign of `q − m` of the tokens of a class.
    fn sign(&self, class: usize) -> Sign {
        // An edge has q = inverse·p and m = density·p. In the layout's head it is not selected too rarely, elsewhere not too
        // often. Where that holds for both edges it holds for all tokens between.
        match class.cmp(&self.end) {
            Ordering::Less => Sign::Lacks,
            Ordering::Greater => Sign::Exceeds,
            Ordering::Equal if class == 0 || self.is_even(class) => Sign::Lacks,
            Ordering::Equal if self.is_even(class - 1) => Sign::Exceeds,
            Ordering::Equal => Sign::Changes,
        }
    }

    /// Whether an edge is selected as often as its target mass asks for.
    fn is_even(&self, edge: usize) -> bool {
        self.layout.density(self.item_of[edge] as usize) == self.edges.inverse(edge)
    }

    /// `Σ (q − m)₊` over the tokens of a class.
    fn class_residual(&self, class: usize) -> f64 {
        let (p, q) = self.classes[class];
        if !(q > 0.0) {
            return 0.0;
        }
        match self.sign(class) {
            _ if !(p > 0.0) => q,
            Sign::Exceeds => 0.0,
            Sign::Lacks if class > 0 && self.is_even(class - 1) && self.is_even(class) => 0.0,
            Sign::Lacks => (q - self.selected_of(class, p, q)).max(0.0),
            Sign::Changes => {
                let mut sum = 0.0;
                self.laws.in_band(&self.edges.band(class), &mut |_, p, q| {
                    sum += (q - self.selected_of(class, p, q)).max(0.0);
                    ControlFlow::Continue(())
                });
                sum
            }
        }
    }

    /// `q − m` of the tokens of a class.
    fn excess(&self, class: usize) -> Excess {
        let density = |edge: usize| self.layout.density(self.item_of[edge] as usize);
        let Some(lower) = class.checked_sub(1) else {
            return Excess { of_q: 1.0, of_p: -density(0), least: 0.0 };
        };
        // m = p·density(lower) + p_upper·(density(lower + 1) − density(lower)), and p_upper as in `Edges::split_sum`.
        let (high, low) = (self.edges.inverse(lower), self.edges.inverse(lower + 1));
        let rise = (density(lower + 1) - density(lower)) / (high - low);
        Excess { of_q: 1.0 + rise, of_p: -density(lower) - rise * high, least: 0.0 }
    }
}

/// The sign of `q − m`, the target mass less the mass selected, in a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    /// No token is selected too often.
    Lacks,
    /// No token is selected too rarely.
    Exceeds,
    /// Some are and some are not: only the tokens tell.
    Changes,
}

impl<L: Laws> SelectThenAccept for OptimalLinear<L> {
    type Laws = L;

    fn laws(&self) -> &L {
        &self.laws
    }

    fn selected(&self, token: Token, p: f64, _: f64) -> f64 {
        if !(p > 0.0) {
            return 0.0;
        }
        let Placement { lower, upper } = self.placement(token);
        p * (lower.1 * self.layout.density(lower.0) + upper.1 * self.layout.density(upper.0))
    }

    fn residual_total(&self) -> f64 {
        (0..self.edges.len()).map(|class| self.class_residual(class)).sum()
    }

    /// First the class, then the token in it.
    fn draw_residual(&self, total: f64, coin: Coin) -> Option<Token> {
        let threshold = coin.get() * total;
        let mut cumulative = 0.0;
        let mut chosen = None;
        // Where the sign changes the sum is a pass over the vocabulary. Such a class, there is no more than one, comes
        // last: reaching it says all that its sum could.
        let classes = 0..self.edges.len();
        let is_mixed = |class: usize| self.classes[class].0 > 0.0 && self.classes[class].1 > 0.0;
        let changes = |class: &usize| is_mixed(*class) && self.sign(*class) == Sign::Changes;
        let last = Some(self.end).filter(|class| classes.contains(class)).filter(changes);
        let order = classes.filter(|class| Some(*class) != last);
        for class in order {
            let residual = self.class_residual(class);
            if residual > 0.0 {
                chosen = Some((class, threshold - cumulative, residual));
                cumulative += residual;
                if threshold < cumulative {
                    break;
                }
            }
        }
        let draw = |class: usize, threshold: f64, total: f64| {
            let mass = |p: f64, q: f64| q - self.selected_of(class, p, q);
            self.laws.draw(Some(&self.edges.band(class)), threshold, total, &mass, &self.excess(class))
        };
        if threshold >= cumulative
            && let Some(last) = last
            && let Some(token) = draw(last, threshold - cumulative, f64::INFINITY)
        {
            return Some(token);
        }
        let (class, threshold, total) = chosen?;
        draw(class, threshold, total)
    }
}

impl<L: Laws> Selector for OptimalLinear<L> {
    fn drafts(&self) -> usize {
        self.k
    }

    fn law(&self, drafts: &[Token]) -> Result<Vec<f64>, SelectError> {
        check_drafts(&self.laws, self.k, drafts)?;
        let labels: Vec<_> = drafts
            .iter()
            .map(|&token| {
                let Placement { lower, upper } = self.placement(token);
                let part = |(item, share): (usize, f64)| {
                    let law = if share > 0.0 { self.layout.law(item) } else { Vec::new() };
                    law.into_iter()
                        .map(move |(segment, weight)| (segment, share * weight))
                        .filter(|piece| piece.1 > 0.0)
                };
                part(lower).chain(part(upper)).collect()
            })
            .collect();
        Ok(self.output_law(drafts, &winner_law(&labels)))
    }

    fn select(&self, drafts: &[Token], coins: &[Coin]) -> Result<Selection, SelectError> {
        check_drafts(&self.laws, self.k, drafts)?;
        let coins = split_coins(self.k, coins)?;
        let winner = largest(drafts.iter().zip(coins.drafts).map(|(&token, &coin)| self.label_of(token, coin)));
        self.accept_or_resample(drafts, winner, &coins)
    }

    /// `Σ min(m, q)`. `O(V)`.
    fn acceptance(&self) -> Acceptance {
        Acceptance::exact(self.overlap())
    }
}
