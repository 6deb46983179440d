//! The path coupling: order-statistic layouts nested along the draft tree.
//!
//! ```text
//! region:  the root owns [0,1]; the region R of a node is laid out among its next tokens as crate::layout does it
//! label:   a path's label is uniform in the region of its last node         K labels i.i.d. uniform on [0,1]
//! select:  the path with the largest label wins
//!          its law, token by token:  a(y | node) = M(R_y)/M(R),  M(R) = ∫_R K·u^(K−1) du
//! accept:  block verification of the winner, with a in place of the draft law
//! ```
//!
//! Block verification is lossless for any draft law, and `a` is the exact law of the winner; so the output has the
//! target's law whatever the layouts (`docs/math.md`, section 13). At each level the layout is the one that accepts most
//! there; over all levels that is not quite the optimum (`tests/paths.rs` prints how far it is).
//!
//! Tokens enter the layouts through their ratio `p/q` only, as virtual tokens on the edges of ratio classes
//! ([`classes`](crate::classes)): a drafted token picks one of its two edges at random, its region is the edge's, which it
//! shares with the edge's other tokens, and block verification runs on the virtual tokens. All of a node's virtual tokens on
//! one edge have the same `q/a`, so that `P_t` and `S_t` need the masses of the edges only: one pass over the vocabulary a
//! node, and no more, unless the next token is drawn there.
//!
//! Two savings that change no outcome:
//!
//! 1. A label lies in the regions of all nodes of its path. A path whose region ends below the start of another's has
//!    lost; nothing below its node is prepared.
//! 2. Labels that rounding makes equal go to the first path, whatever its tokens: two of `K` labels are that close with
//!    a probability below `K²·2⁻⁵²`, however deep the tree.

use std::collections::HashMap;

use super::block::{Block, keep_probability};
use super::coins::{Coins, Purpose};
use super::edged::{Edged, edged};
use super::outcome::{Outcome, OutcomeLaw, Stop, add_target, dense, from_target, next_or_target};
use super::row::Row;
use super::tree::{ROOT, Round};
use super::{Chain, PathError, PathVerifier, SpreadCoupling};
use crate::layout::{Item, Layout, Segment};
use crate::pmf::{Coin, Token};
use crate::problem::{Laws, MAX_DRAFTS, for_each_token};
use crate::selector::accept_probability;
use crate::sum::Sum;
use crate::winner::winning_shares;

/// The acceptance that each ratio class may cost unless told otherwise.
///
/// Coarse on purpose. Finer classes gain nothing measurable at their own node, and lose below it: the region of a virtual
/// token of a coarse class holds labels from further apart, which leaves its own next tokens more room. On random chains
/// of 2 or 3 tokens the expected length was best between 1e-3 and 1e-2 (`tests/paths.rs`).
pub const DEFAULT_LOSS: f64 = 1e-3;

/// The longest path whose exact law is computed: it enumerates both edges of every token.
pub const MAX_LAW_LENGTH: usize = 12;

/// The path coupling. With one path it is block verification.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PathCoupling {
    loss: f64,
}

impl Default for PathCoupling {
    fn default() -> Self {
        PathCoupling { loss: DEFAULT_LOSS }
    }
}

impl PathCoupling {
    /// The coupling with ratio classes that may each cost `loss` of the acceptance at a node; 0 for the finest classes
    /// there are. The output law is exactly the target's for any of them.
    ///
    /// A negative `loss`, or NaN, is taken for 0.
    pub fn with_loss(loss: f64) -> Self {
        PathCoupling { loss: loss.max(0.0) }
    }

    /// The expected number of drafted tokens that are kept of `drafts` paths of a chain, in closed form:
    /// `Σ A(x¹…xᵗ)` over all prefixes of virtual tokens, `A(child) = min(A(parent)·q, M(child))` with `M` the probability
    /// that the winner passes. `O((2V)^L)` layouts.
    ///
    /// # Errors
    /// `drafts` is out of range, or more than [`MAX_DRAFTS`](crate::problem::MAX_DRAFTS) different paths can be drafted.
    pub fn expected_accepted(&self, chain: &Chain, drafts: usize) -> Result<f64, PathError> {
        if !(1..=MAX_DRAFTS).contains(&drafts) {
            return Err(PathError::Paths { paths: drafts });
        }
        if drafts == 1 {
            // Block verification of the tokens themselves.
            return SpreadCoupling::default().expected_accepted(chain, 1);
        }
        let mut paths = chain.sequences(chain.length());
        paths.retain(|path| chain.draft_probability(path) > 0.0);
        let round = chain.round(&paths.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        let mut nests = Nests::new(&round, self.loss, drafts);
        let mut sum = Sum::default();
        // A node, the place of a virtual token there, `P_t` and `M`.
        let mut open = vec![(ROOT, None, 1.0, 1.0)];
        while let Some((node, place, weight, wins)) = open.pop() {
            if round.pair(node).is_none() {
                continue;
            }
            let nest = nests.nest(place, node)?;
            let edged = nests.edged(nest);
            for &child in round.tree().children(node) {
                let (p, q) = edged.laws.masses(round.tree().token(child));
                for (item, share) in edged.split(p, q).into_iter().filter(|(_, share)| *share > 0.0) {
                    let weight = nests.weight(weight, (nest, item));
                    let wins = wins * nests.nests[nest].winner[item] * (share / edged.items[item].p);
                    sum.add(wins * weight);
                    open.push((child, Some((nest, item)), weight, wins));
                }
            }
        }
        Ok(sum.value())
    }
}

/// A node's next tokens laid out over the region of one of its virtual tokens.
struct Nest {
    node: usize,
    layout: Layout,
    /// The law `a` of the winner on the items.
    winner: Vec<f64>,
}

/// Where a path is: the nest its last token was drawn in, and its item there. `None` at the root.
type Place = Option<(usize, usize)>;

/// What is prepared of a round: each node's pass over the vocabulary and each region's layout, once.
struct Nests<'r, R: Row> {
    round: &'r Round<R>,
    loss: f64,
    /// The number of drafts.
    k: usize,
    edged: Vec<Option<Edged<R::Pair<'r>>>>,
    nests: Vec<Nest>,
    index: HashMap<(Place, usize), usize>,
}

impl<'r, R: Row> Nests<'r, R> {
    fn new(round: &'r Round<R>, loss: f64, k: usize) -> Self {
        let edged = (0..round.tree().len()).map(|_| None).collect();
        Nests { round, loss, k, edged, nests: Vec::new(), index: HashMap::new() }
    }

    fn region(&self, place: Place) -> &[Segment] {
        match place {
            Some((nest, item)) => self.nests[nest].layout.region(item),
            None => &[Segment::UNIT],
        }
    }

    fn edged(&self, nest: usize) -> &Edged<R::Pair<'r>> {
        self.edged[self.nests[nest].node].as_ref().expect("a nest is made from its node's")
    }

    /// The nest of the inner node `node` in the region of `place`.
    fn nest(&mut self, place: Place, node: usize) -> Result<usize, PathError> {
        if let Some(&nest) = self.index.get(&(place, node)) {
            return Ok(nest);
        }
        if self.edged[node].is_none() {
            self.edged[node] = Some(edged(self.round, node, self.k, self.loss)?);
        }
        let edged = self.edged[node].as_ref().expect("made just before");
        let base = stretched(self.region(place));
        let length: f64 = base.iter().map(|segment| segment.len).sum();
        let items: Vec<Item> = edged.items.iter().map(|item| Item { p: item.p * length, q: item.q }).collect();
        let layout = Layout::new(&base, &items, self.k);
        let mut winner: Vec<f64> = (0..items.len()).map(|item| layout.mass(item)).collect();
        let total: f64 = winner.iter().sum();
        winner.iter_mut().for_each(|mass| *mass /= total);
        self.nests.push(Nest { node, layout, winner });
        self.index.insert((place, node), self.nests.len() - 1);
        Ok(self.nests.len() - 1)
    }

    /// `P_t` after an item of a nest, given that before it.
    fn weight(&self, weight: f64, (nest, item): (usize, usize)) -> f64 {
        let edged = self.edged(nest);
        accept_probability(weight * edged.items[item].q, self.nests[nest].winner[item], edged.laws.accuracy())
    }

    /// `(P_t·q − a)₊` of each item.
    fn residuals(&self, nest: usize, weight: f64) -> impl Iterator<Item = f64> + '_ {
        let items = self.edged(nest).items.iter();
        items.zip(&self.nests[nest].winner).map(move |(item, winner)| (weight * item.q - winner).max(0.0))
    }

    /// `S_t`.
    fn residual(&self, nest: usize, weight: f64) -> f64 {
        self.residuals(nest, weight).sum::<f64>() + weight * self.edged(nest).undrafted
    }

    /// A token from `∝ (P_t·q − a)₊`, whose sum is `total`.
    fn draw(&self, nest: usize, weight: f64, total: f64, coin: Coin) -> Option<Token> {
        let edged = self.edged(nest);
        let threshold = coin.get() * total;
        let undrafted = weight * edged.undrafted;
        // One coin picks the item and, stretched back to [0, 1), the token on it.
        let stretch = |share: f64| Coin::new(share).unwrap_or(Coin::LAST);
        if threshold < undrafted {
            return edged.draw_undrafted(stretch(threshold / undrafted));
        }
        let mut cumulative = undrafted;
        let mut last = None;
        for (item, mass) in self.residuals(nest, weight).enumerate().filter(|(_, mass)| *mass > 0.0) {
            last = Some(item);
            if threshold < cumulative + mass {
                return edged.draw_on(item, stretch((threshold - cumulative).max(0.0) / mass));
            }
            cumulative += mass;
        }
        match last {
            Some(item) => edged.draw_on(item, Coin::LAST),
            None => edged.draw_undrafted(Coin::LAST),
        }
    }

    /// The law `∝ (P_t·q − a)₊`, token by token; `None` if it has no mass.
    fn next_law(&self, nest: usize, weight: f64) -> Option<Vec<f64>> {
        let edged = self.edged(nest);
        let per_draft: Vec<f64> =
            self.residuals(nest, weight).zip(&edged.items).map(|(mass, item)| mass / item.p).collect();
        let mut law = vec![0.0; self.round.vocab()];
        for_each_token(&edged.laws, |token, p, q| {
            if !(q > 0.0) {
                return;
            }
            let class = edged.edges.class(p, q);
            let mut mass = if class == 0 { weight * (q - p * edged.edges.inverse(0)).max(0.0) } else { 0.0 };
            if p > 0.0 {
                for (item, share) in edged.split(p, q) {
                    mass += share * per_draft[item];
                }
            }
            law[token as usize] = mass;
        });
        let total: f64 = law.iter().sum();
        (total > 0.0).then(|| law.into_iter().map(|mass| mass / total).collect())
    }
}

/// A region of vanishing length, made longer: only the proportions of the lengths matter, and at such a length a label's
/// neighbours are all the same number.
fn stretched(region: &[Segment]) -> Vec<Segment> {
    const TINY: f64 = 1e-100;
    const STRETCH: f64 = 1e70;
    let length: f64 = region.iter().map(|segment| segment.len).sum();
    let factor = if length < TINY { STRETCH } else { 1.0 };
    region.iter().map(|segment| Segment { lo: segment.lo, len: segment.len * factor }).collect()
}

/// One way in which a path may pick its edges: the probability of it, and the nest and item at each level.
type VirtualPath = (f64, Vec<(usize, usize)>);

/// A drafted path on its way down the nests.
struct Walker {
    path: usize,
    /// The nest and item at each level.
    steps: Vec<(usize, usize)>,
}

impl Walker {
    fn place(&self) -> Place {
        self.steps.last().copied()
    }
}

impl<R: Row> PathVerifier<R> for PathCoupling {
    /// Exact, by enumerating both edges of every token: `O(2^L)` layouts a path, and `O(V)` for each of them.
    fn law(&self, round: &Round<R>) -> Result<OutcomeLaw, PathError> {
        let tree = round.tree();
        let paths = tree.paths();
        if let [_] = paths {
            return Block.law(round);
        }
        let length = paths.iter().map(|nodes| nodes.len() - 1).max().unwrap_or(0);
        if length > MAX_LAW_LENGTH {
            return Err(PathError::LawLength { length, most: MAX_LAW_LENGTH });
        }
        let mut nests = Nests::new(round, self.loss, paths.len());
        let mut virtual_paths: Vec<Vec<VirtualPath>> = Vec::with_capacity(paths.len());
        for nodes in paths {
            let mut ways = vec![(1.0, Vec::new())];
            for nodes in nodes.windows(2) {
                let mut longer = Vec::with_capacity(2 * ways.len());
                for (probability, steps) in ways {
                    let nest = nests.nest(steps.last().copied(), nodes[0])?;
                    let edged = nests.edged(nest);
                    let (p, q) = edged.laws.masses(tree.token(nodes[1]));
                    for (item, share) in edged.split(p, q) {
                        if share > 0.0 {
                            let mut steps: Vec<(usize, usize)> = steps.clone();
                            steps.push((nest, item));
                            longer.push((probability * (share / p), steps));
                        }
                    }
                }
                ways = longer;
            }
            virtual_paths.push(ways);
        }
        let labels: Vec<Vec<(Segment, f64)>> = virtual_paths
            .iter()
            .map(|ways| {
                let pieces = ways.iter().flat_map(|(probability, steps)| {
                    let region = nests.region(steps.last().copied());
                    let length: f64 = region.iter().map(|segment| segment.len).sum();
                    let share =
                        move |s: &Segment| if length > 0.0 { s.len / length } else { 1.0 / region.len() as f64 };
                    region.iter().map(move |segment| (*segment, probability * share(segment)))
                });
                pieces.collect()
            })
            .collect();
        let shares = winning_shares(&labels);
        let mut law = OutcomeLaw::default();
        for ((nodes, ways), shares) in paths.iter().zip(&virtual_paths).zip(&shares) {
            let mut shares = shares.iter();
            for (_, steps) in ways {
                let pieces = nests.region(steps.last().copied()).len();
                let wins: f64 = shares.by_ref().take(pieces).sum();
                let mut weights = vec![1.0];
                for &step in steps {
                    weights.push(nests.weight(weights[weights.len() - 1], step));
                }
                let leaf = nodes[steps.len()];
                let weight = weights[steps.len()];
                let next = round.target(leaf).map(dense).unwrap_or_default();
                law.add(Stop { node: leaf, probability: wins * weight, next });
                let mut left = wins * (1.0 - weight);
                for (depth, &(nest, _)) in steps.iter().enumerate().rev() {
                    let keep = keep_probability(nests.residual(nest, weights[depth]), weights[depth]);
                    if left * keep > 0.0
                        && let Some(next) = nests.next_law(nest, weights[depth])
                    {
                        law.add(Stop { node: nodes[depth], probability: left * keep, next });
                        left *= 1.0 - keep;
                    }
                }
                add_target(&mut law, round, left);
            }
        }
        Ok(law)
    }

    /// One pass over the vocabulary and one layout for each node of a path that may still win; `O(V)` more for the next
    /// token.
    fn verify(&self, round: &Round<R>, coins: &dyn Coins) -> Result<Outcome, PathError> {
        let tree = round.tree();
        let paths = tree.paths();
        if let [_] = paths {
            return Block.verify(round, coins);
        }
        let mut nests = Nests::new(round, self.loss, paths.len());
        let mut walkers: Vec<Walker> =
            (0..paths.len()).map(|path| Walker { path, steps: Vec::with_capacity(paths[path].len()) }).collect();
        let length = paths.iter().map(|nodes| nodes.len() - 1).max().unwrap_or(0);
        for depth in 0..length {
            for walker in &mut walkers {
                let nodes = &paths[walker.path];
                let Some(&child) = nodes.get(depth + 1) else {
                    continue;
                };
                let nest = nests.nest(walker.place(), nodes[depth])?;
                let edged = nests.edged(nest);
                let (p, q) = edged.laws.masses(tree.token(child));
                let [lower, upper] = edged.split(p, q);
                let coin = coins.coin(Purpose::Edge, depth, walker.path);
                let item = if coin.get() * p < lower.1 || !(upper.1 > 0.0) { lower.0 } else { upper.0 };
                walker.steps.push((nest, item));
            }
            let bottom = |walker: &Walker| nests.region(walker.place())[0].lo;
            let highest = walkers.iter().map(bottom).fold(f64::NEG_INFINITY, f64::max);
            walkers.retain(|walker| nests.region(walker.place()).last().is_some_and(|top| top.hi() >= highest));
        }
        let mut winner = 0;
        let mut best = f64::NEG_INFINITY;
        for (i, walker) in walkers.iter().enumerate() {
            let Some((nest, item)) = walker.place() else {
                continue;
            };
            let label = nests.nests[nest].layout.label(item, coins.coin(Purpose::Label, length, walker.path));
            if label > best {
                (winner, best) = (i, label);
            }
        }
        let Walker { path, steps } = &walkers[winner];
        let mut weights = vec![1.0];
        for &step in steps {
            weights.push(nests.weight(weights[weights.len() - 1], step));
        }
        let accepts = |depth: usize, probability: f64| coins.coin(Purpose::Accept, depth, 0).get() < probability;
        let last = steps.len();
        if accepts(last, weights[last]) {
            let node = paths[*path][last];
            let coin = coins.coin(Purpose::Residual, last, 0);
            return Ok(Outcome { node, next: round.target(node).map(|target| target.draw(coin)) });
        }
        for (depth, &(nest, _)) in steps.iter().enumerate().rev() {
            let (node, weight) = (paths[*path][depth], weights[depth]);
            let total = nests.residual(nest, weight);
            if accepts(depth, keep_probability(total, weight)) {
                let coin = coins.coin(Purpose::Residual, depth, 0);
                return Ok(next_or_target(round, node, coin, nests.draw(nest, weight, total, coin)));
            }
        }
        Ok(from_target(round, coins))
    }
}
