//! Regions of `[0, 1]`: who owns which labels.
//!
//! An *item* is a token, a set of tokens of equal ratio, or a ratio class, with draft mass `p` and target mass `q`. A
//! layout gives each item a *region*: a finite union of intervals of total length `p`, all regions disjoint. Every
//! draft gets a label uniform in its item's region, so the labels of `k` independent drafts are independent and
//! uniform on `[0, 1]`, and the largest of them has density `k·u^(k−1)`. The item of the largest label therefore has
//! the law `m = ∫_region k·u^(k−1) du` exactly, whatever the layout.
//!
//! `Layout::new` builds the layout whose `m` accepts most. In pseudo-code, `P_j` and `Q_j` being the prefix sums
//! over the items by `p/q` descending:
//!
//! ```text
//! blocks  = the stretches between neighbouring vertices of the least concave majorant of (Q_j, P_j^k)
//! for each block, spanning labels [P_s, P_e], with slope c = (P_e^k − P_s^k)/(Q_e − Q_s):
//!     free = [P_s, P_e]
//!     for each item of the block by m/p descending, m = c·q:
//!         region = the window of length p of the free part, gaps closed, whose mass is m
//!         free   = free without the window
//! ```
//!
//! Departures, and why each is safe:
//!
//! 1. A layout may start from any base region instead of `[0, 1]`; `P_j` then runs along its segments.
//! 2. Windows are searched for by their mean density `m/p`, not by `m`: a length that rounding has cut short then
//!    still sits at the right height. What rounding takes from one window goes to the block's last item, which owns
//!    whatever is left; the regions stay disjoint and cover the base, each within the rounding of a label.
//! 3. The densities that the caller sees are those of the regions as built, not the ones aimed at. Losslessness
//!    depends on the regions alone.

use crate::pmf::Coin;

/// An interval of labels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    /// Its lower end.
    pub lo: f64,
    /// Its length, at least 0. Stored in place of the upper end: a region inside a region inside a region may be far
    /// shorter than the distance of two neighbouring numbers at `lo`, and its length still has all its digits.
    pub len: f64,
}

impl Segment {
    /// All labels.
    pub const UNIT: Segment = Segment { lo: 0.0, len: 1.0 };

    /// Its upper end.
    pub fn hi(self) -> f64 {
        self.lo + self.len
    }

    /// Whether it has no length.
    pub fn is_empty(self) -> bool {
        !(self.len > 0.0)
    }

    /// The probability that the largest of `k` uniform labels falls into it: `hi^k − lo^k`, without cancellation.
    pub(crate) fn mass(self, k: u32) -> f64 {
        self.len * self.mean_density(k)
    }

    /// The mean over it of the largest label's density `k·u^(k−1)`, also if it has no length.
    pub(crate) fn mean_density(self, k: u32) -> f64 {
        mean_density(self.lo, self.hi(), k)
    }

    /// Without its topmost `t`, and that; all of it on one side if `t` is not inside.
    fn cut_from_top(self, t: f64) -> (Segment, Segment) {
        let t = t.clamp(0.0, self.len);
        let low = Segment { lo: self.lo, len: self.len - t };
        (low, Segment { lo: low.hi(), len: t })
    }

    /// Its bottommost `t`, and the rest.
    fn cut_from_bottom(self, t: f64) -> (Segment, Segment) {
        let t = t.clamp(0.0, self.len);
        (Segment { lo: self.lo, len: t }, Segment { lo: self.lo + t, len: self.len - t })
    }

    /// Whether `above` begins where this one ends, within rounding.
    fn touches(self, above: Segment) -> bool {
        (above.lo - self.hi()).abs() <= 4.0 * f64::EPSILON
    }

    /// This one and one that it touches from below.
    fn joined(self, above: Segment) -> Segment {
        Segment { lo: self.lo, len: self.len + above.len }
    }
}

/// `(hi^k − lo^k)/(hi − lo) = Σ_i hi^i·lo^(k−1−i)`: the mean of `k·u^(k−1)` over an interval, also an empty one.
///
/// By doubling: with `h_n` this sum for `n`, `h_2n = h_n·(hi^n + lo^n)` and `h_{n+1} = hi·h_n + lo^n`; all terms are
/// positive, so nothing cancels. `O(log k)`.
pub(crate) fn mean_density(lo: f64, hi: f64, k: u32) -> f64 {
    let (mut h, mut hi_n, mut lo_n) = (1.0, hi, lo);
    let mut bit = (1u32 << (31 - k.leading_zeros())) >> 1;
    while bit > 0 {
        h *= hi_n + lo_n;
        hi_n *= hi_n;
        lo_n *= lo_n;
        if k & bit != 0 {
            h = hi * h + lo_n;
            hi_n *= hi;
            lo_n *= lo;
        }
        bit >>= 1;
    }
    h
}

/// An item's masses. The items of a layout are ordered by `p/q` descending and each has `p > 0`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item {
    pub p: f64,
    pub q: f64,
}

/// The regions of all items.
#[derive(Clone, Debug)]
pub struct Layout {
    /// All segments, those of one region next to each other, ascending.
    segments: Vec<Segment>,
    /// Where each region's segments start, and where the last one's end.
    starts: Vec<u32>,
    /// Each region's length.
    lengths: Vec<f64>,
    /// Each region's mean of `k·u^(k−1)`: the ratio `m/p` of its item.
    densities: Vec<f64>,
}

impl Layout {
    /// Lays the items out over `base`, whose segments are ascending and as long together as the items' `p`.
    ///
    /// The items' order is by `p/q` descending with no two equal, each with `p > 0`; `k ≥ 1`. `O(n)` for `n` items,
    /// and one root search for each item of a block of several.
    pub(crate) fn new(base: &[Segment], items: &[Item], k: usize) -> Layout {
        let k = k as u32;
        let mut layout = Layout {
            segments: Vec::with_capacity(items.len() + 8),
            starts: vec![0; items.len() + 1],
            lengths: vec![0.0; items.len()],
            densities: vec![0.0; items.len()],
        };
        let cuts = cut_points(base, items);
        // The regions of a block come out in the order in which they are placed; they are put in item order after.
        let mut placed: Vec<(u32, u32)> = vec![(0, 0); items.len()];
        let mut free = FreeList::default();
        for block in majorant(base, items, &cuts, k) {
            let from = layout.segments.len();
            if block.end - block.start == 1 {
                layout.segments.extend(pieces(base, cuts[block.start], cuts[block.end]));
                placed[block.start] = (from as u32, layout.segments.len() as u32);
                continue;
            }
            free.reset(pieces(base, cuts[block.start], cuts[block.end]));
            // By m/p = c·q/p descending: the reverse of the items' order.
            for i in (block.start..block.end).rev() {
                let from = layout.segments.len();
                if i == block.start {
                    free.take_rest();
                } else {
                    free.take(items[i].p, block.slope * (items[i].q / items[i].p), k);
                }
                layout.segments.extend(free.window.iter().copied());
                placed[i] = (from as u32, layout.segments.len() as u32);
            }
        }
        layout.put_in_order(&placed);
        for i in 0..items.len() {
            let region = layout.region(i);
            let length: f64 = region.iter().map(|s| s.len).sum();
            let density = if length > 0.0 {
                region.iter().map(|s| s.mass(k)).sum::<f64>() / length
            } else {
                // Too thin for f64: all its labels are one point.
                mean_density(region[0].lo, region[0].lo, k)
            };
            layout.lengths[i] = length;
            layout.densities[i] = density;
        }
        layout
    }

    fn put_in_order(&mut self, placed: &[(u32, u32)]) {
        let unordered = std::mem::take(&mut self.segments);
        self.segments.reserve(unordered.len());
        for (i, &(from, to)) in placed.iter().enumerate() {
            self.starts[i] = self.segments.len() as u32;
            self.segments.extend_from_slice(&unordered[from as usize..to as usize]);
        }
        self.starts[placed.len()] = self.segments.len() as u32;
    }

    /// The number of regions.
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Whether there are no regions.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// The segments of a region, ascending; at least one.
    pub fn region(&self, item: usize) -> &[Segment] {
        &self.segments[self.starts[item] as usize..self.starts[item + 1] as usize]
    }

    /// `m/p` of a region: the mean of `k·u^(k−1)` over it.
    pub fn density(&self, item: usize) -> f64 {
        self.densities[item]
    }

    /// The probability that the largest of `k` uniform labels falls into a region.
    pub(crate) fn mass(&self, item: usize) -> f64 {
        self.lengths[item] * self.densities[item]
    }

    /// The label at the share `coin` of a region's length, its gaps closed.
    pub fn label(&self, item: usize, coin: Coin) -> f64 {
        let region = self.region(item);
        let mut at = coin.get() * self.lengths[item];
        for segment in region {
            if at < segment.len {
                return segment.lo + at;
            }
            at -= segment.len;
        }
        region[region.len() - 1].hi()
    }
}

/// A point of the base region: the segment it lies in and its distance from the segment's lower end.
#[derive(Clone, Copy, Debug)]
struct Cut {
    segment: usize,
    at: f64,
}

/// The `n + 1` points at which the items' lengths, end to end, cut the base.
fn cut_points(base: &[Segment], items: &[Item]) -> Vec<Cut> {
    let mut cuts = Vec::with_capacity(items.len() + 1);
    let mut cut = Cut { segment: 0, at: 0.0 };
    cuts.push(cut);
    for item in items {
        let mut left = item.p;
        while left > base[cut.segment].len - cut.at && cut.segment + 1 < base.len() {
            left -= base[cut.segment].len - cut.at;
            cut = Cut { segment: cut.segment + 1, at: 0.0 };
        }
        cut.at = (cut.at + left).min(base[cut.segment].len);
        cuts.push(cut);
    }
    // Rounding must not leave a rest that nobody owns.
    let last = base.len() - 1;
    cuts[items.len()] = Cut { segment: last, at: base[last].len };
    cuts
}

/// The segments of the base between two cuts; at least one, possibly empty.
fn pieces(base: &[Segment], from: Cut, to: Cut) -> impl Iterator<Item = Segment> + '_ {
    (from.segment..=to.segment).map(move |i| {
        let start = if i == from.segment { from.at } else { 0.0 };
        let end = if i == to.segment { to.at } else { base[i].len };
        Segment { lo: base[i].lo + start, len: (end - start).max(0.0) }
    })
}

/// A stretch of items inside which `m = slope·q`.
#[derive(Clone, Copy, Debug)]
struct Block {
    start: usize,
    end: usize,
    mass: f64,
    q: f64,
    slope: f64,
}

/// The blocks of the least concave majorant of the points `(Q_j, mass up to cut j)`, by pooling adjacent blocks
/// whose slopes do not fall.
fn majorant(base: &[Segment], items: &[Item], cuts: &[Cut], k: u32) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let (from, to) = (cuts[i], cuts[i + 1]);
        let mass = if from.segment == to.segment {
            // Not the difference of the cuts: rounding may have made that 0 for a tiny item.
            let lo = base[from.segment].lo;
            item.p * mean_density(lo + from.at, lo + to.at, k)
        } else {
            pieces(base, from, to).map(|s| s.mass(k)).sum()
        };
        let mut block = Block { start: i, end: i + 1, mass, q: item.q, slope: mass / item.q };
        while let Some(&previous) = blocks.last()
            && block.slope >= previous.slope
        {
            blocks.pop();
            let (mass, q) = (previous.mass + block.mass, previous.q + block.q);
            block = Block { start: previous.start, end: block.end, mass, q, slope: mass / q };
        }
        blocks.push(block);
    }
    blocks
}

/// The part of a block that no item owns yet, split at a cursor, and the window being cut out of it at the cursor.
///
/// Densities asked for never rise, so the window never has to move up past the cursor's right neighbour by more
/// than its own length: each segment crosses the cursor a bounded number of times.
#[derive(Default)]
struct FreeList {
    /// Below the cursor; the last is next to it.
    left: Vec<Segment>,
    /// Above the cursor; the last is next to it.
    right: Vec<Segment>,
    /// The window, ascending.
    window: std::collections::VecDeque<Segment>,
}

impl FreeList {
    fn reset(&mut self, segments: impl Iterator<Item = Segment>) {
        self.left.clear();
        self.right.clear();
        self.left.extend(segments);
    }

    /// Cuts out the window of length `p` whose mean density is `density`, or the nearest there is.
    fn take(&mut self, p: f64, density: f64, k: u32) {
        self.window.clear();
        self.gather(p);
        let length: f64 = self.window.iter().map(|s| s.len).sum();
        let wanted = density * length;
        let mut mass: f64 = self.window.iter().map(|s| s.mass(k)).sum();
        // Down: the window's top goes to the right of the cursor, as much comes in from the left below it.
        while mass > wanted
            && let (Some(top), Some(&next)) = (back(&mut self.window), filled(&mut self.left))
        {
            if self.window.len() == 1 && next.touches(top) {
                // Nothing is in the way: the whole window slides, not one length of it after the other.
                self.left.pop();
                let below = slide(next.joined(top), top.len, density, k);
                let (low, rest) = next.joined(top).cut_from_bottom(below);
                let (window, high) = rest.cut_from_bottom(top.len);
                self.window[0] = window;
                push_left(&mut self.left, low);
                push_right(&mut self.right, high);
                if below > 0.0 {
                    break;
                }
                mass = window.mass(k);
                continue;
            }
            let step = top.len.min(next.len);
            // Times t, not the difference of the ends: that has only the digits of the labels.
            let (top_hi, next_hi) = (top.hi(), next.hi());
            let moved = |t: f64| t * (mean_density(next_hi - t, next_hi, k) - mean_density(top_hi - t, top_hi, k));
            let slope = |t: f64| point_density(next_hi - t, k) - point_density(top_hi - t, k);
            let t = root(wanted - mass, step, wanted, moved, slope);
            mass += moved(t);
            self.window.pop_back();
            self.left.pop();
            let ((next, bottom), (top, high)) = (next.cut_from_top(t), top.cut_from_top(t));
            push_back(&mut self.window, top);
            push_left(&mut self.left, next);
            push_right(&mut self.right, high);
            push_front(&mut self.window, bottom);
            if t < step {
                break;
            }
        }
        // Up: the window's bottom goes to the left of the cursor, as much comes in from the right above it. One window
        // length above the cursor lies what a denser window left behind; only rounding could ask for more.
        let mut risen = 0.0;
        while mass < wanted
            && risen < length
            && let (Some(bottom), Some(&next)) = (front(&mut self.window), filled(&mut self.right))
        {
            let step = bottom.len.min(next.len);
            let moved =
                |t: f64| t * (mean_density(next.lo, next.lo + t, k) - mean_density(bottom.lo, bottom.lo + t, k));
            let slope = |t: f64| point_density(next.lo + t, k) - point_density(bottom.lo + t, k);
            let t = root(wanted - mass, step, wanted, moved, slope);
            mass += moved(t);
            risen += step;
            self.window.pop_front();
            self.right.pop();
            let ((low, bottom), (top, next)) = (bottom.cut_from_bottom(t), next.cut_from_bottom(t));
            push_front(&mut self.window, bottom);
            push_right(&mut self.right, next);
            push_left(&mut self.left, low);
            push_back(&mut self.window, top);
            if t < step {
                break;
            }
        }
    }

    /// Fills the window with length `p` from below the cursor, and from above where that is not enough.
    fn gather(&mut self, p: f64) {
        let mut missing = p;
        while missing > 0.0
            && let Some(&next) = filled(&mut self.left)
        {
            self.left.pop();
            let (next, taken) = next.cut_from_top(missing);
            push_left(&mut self.left, next);
            missing -= taken.len;
            push_front(&mut self.window, taken);
        }
        while missing > 0.0
            && let Some(&next) = filled(&mut self.right)
        {
            self.right.pop();
            let (taken, next) = next.cut_from_bottom(missing);
            push_right(&mut self.right, next);
            missing -= taken.len;
            push_back(&mut self.window, taken);
        }
        if self.window.is_empty() {
            self.window.push_back(self.point());
        }
    }

    /// Makes all that is left the window.
    fn take_rest(&mut self) {
        self.window.clear();
        while let Some(next) = self.left.pop() {
            push_front(&mut self.window, next);
        }
        while let Some(next) = self.right.pop() {
            push_back(&mut self.window, next);
        }
        if self.window.is_empty() {
            self.window.push_back(self.point());
        }
    }

    /// An empty segment at the cursor, for an item too thin for f64.
    fn point(&self) -> Segment {
        let at = self.left.last().map_or_else(|| self.right.last().map_or(0.0, |s| s.lo), |s| s.hi());
        Segment { lo: at, len: 0.0 }
    }
}

/// How far above the lower end of `segment` the window of length `length` inside it begins that has mean density
/// `density`, which is not more than the topmost window has; 0 where even the bottommost window is denser.
fn slide(segment: Segment, length: f64, density: f64, k: u32) -> f64 {
    let excess = |at: f64| mean_density(segment.lo + at, segment.lo + at + length, k) - density;
    let (mut lower, mut upper) = (0.0, segment.len - length);
    // With one draft every density is 1.
    if k == 1 || excess(lower) >= 0.0 {
        return lower;
    }
    // The density k·u^(k−1) at the window's middle is right for a short window; Newton's method does the rest.
    let mut at = (density / f64::from(k)).powf(1.0 / (f64::from(k) - 1.0)) - 0.5 * length - segment.lo;
    for _ in 0..ROUNDS {
        if !(at > lower && at < upper) {
            at = 0.5 * (lower + upper);
        }
        let error = excess(at);
        if error.abs() <= PRECISION * density || upper - lower <= PRECISION * upper {
            break;
        }
        if error > 0.0 {
            upper = at;
        } else {
            lower = at;
        }
        // The derivative of the mean density is (k·hi^(k−1) − k·lo^(k−1))/length.
        let lo = segment.lo + at;
        at -= error / (f64::from(k) * mean_density(lo, lo + length, k - 1));
    }
    at.clamp(0.0, segment.len - length)
}

/// The most rounds of a root search; bisection alone would close any bracket of f64 in about as many.
const ROUNDS: usize = 60;

/// The relative precision of a root search: a few roundings.
const PRECISION: f64 = 16.0 * f64::EPSILON;

fn point_density(u: f64, k: u32) -> f64 {
    f64::from(k) * u.powi(k as i32 - 1)
}

/// The last segment that is not empty, empty ones before it dropped.
fn filled(stack: &mut Vec<Segment>) -> Option<&Segment> {
    while stack.last().is_some_and(|s| s.is_empty()) {
        stack.pop();
    }
    stack.last()
}

fn back(window: &mut std::collections::VecDeque<Segment>) -> Option<Segment> {
    while window.len() > 1 && window.back().is_some_and(|s| s.is_empty()) {
        window.pop_back();
    }
    window.back().copied().filter(|s| !s.is_empty())
}

fn front(window: &mut std::collections::VecDeque<Segment>) -> Option<Segment> {
    while window.len() > 1 && window.front().is_some_and(|s| s.is_empty()) {
        window.pop_front();
    }
    window.front().copied().filter(|s| !s.is_empty())
}

fn push_left(left: &mut Vec<Segment>, segment: Segment) {
    match left.last_mut() {
        _ if segment.is_empty() => {}
        Some(last) if last.touches(segment) => *last = last.joined(segment),
        _ => left.push(segment),
    }
}

fn push_right(right: &mut Vec<Segment>, segment: Segment) {
    match right.last_mut() {
        _ if segment.is_empty() => {}
        Some(last) if segment.touches(*last) => *last = segment.joined(*last),
        _ => right.push(segment),
    }
}

fn push_front(window: &mut std::collections::VecDeque<Segment>, segment: Segment) {
    match window.front_mut() {
        Some(_) if segment.is_empty() => {}
        Some(first) if segment.touches(*first) => *first = segment.joined(*first),
        _ => window.push_front(segment),
    }
}

fn push_back(window: &mut std::collections::VecDeque<Segment>, segment: Segment) {
    match window.back_mut() {
        Some(_) if segment.is_empty() => {}
        Some(last) if last.touches(segment) => *last = last.joined(segment),
        _ => window.push_back(segment),
    }
}

/// The `t` in `[0, step]` with `moved(t) = wanted`, `step` if `moved` does not get that far. `moved` runs from 0
/// monotonically in the direction of `wanted`; `slope` is its derivative; `scale` is the mass that it changes.
///
/// Newton's method from the chord, kept inside a bracket. It stops when the value is within a few roundings of the
/// mass.
fn root(wanted: f64, step: f64, scale: f64, moved: impl Fn(f64) -> f64, slope: impl Fn(f64) -> f64) -> f64 {
    let whole = moved(step);
    if whole.abs() <= wanted.abs() {
        return step;
    }
    let (mut lower, mut upper) = (0.0, step);
    let mut t = step * (wanted / whole);
    for _ in 0..ROUNDS {
        let error = moved(t) - wanted;
        if error.abs() <= PRECISION * scale || upper - lower <= PRECISION * upper {
            break;
        }
        if (error > 0.0) == (wanted > 0.0) {
            upper = t;
        } else {
            lower = t;
        }
        let next = t - error / slope(t);
        t = if next > lower && next < upper { next } else { 0.5 * (lower + upper) };
    }
    t
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn mean_density_is_the_difference_quotient_of_the_power() {
        for k in 1..=64u32 {
            for (lo, hi) in [(0.0, 1.0), (0.25, 0.75), (0.0, 0.5), (0.999, 1.0)] {
                let exact = (f64::powi(hi, k as i32) - f64::powi(lo, k as i32)) / (hi - lo);
                assert_relative_eq!(mean_density(lo, hi, k), exact, max_relative = 1e-11);
            }
            assert_relative_eq!(mean_density(0.7, 0.7, k), point_density(0.7, k), max_relative = 1e-13);
        }
    }

    #[test]
    fn a_label_lies_in_its_region_for_the_extreme_coins() {
        let items = [Item { p: 0.5, q: 0.1 }, Item { p: 0.3, q: 0.3 }, Item { p: 0.2, q: 0.6 }];
        let layout = Layout::new(&[Segment::UNIT], &items, 3);
        for i in 0..3 {
            for coin in [Coin::ZERO, Coin::LAST] {
                let label = layout.label(i, coin);
                assert!(layout.region(i).iter().any(|s| (s.lo..=s.hi()).contains(&label)));
            }
        }
    }
}
