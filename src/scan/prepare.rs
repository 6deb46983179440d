//! From class sums to prepared selectors.

use std::ops::ControlFlow;

use super::Scan;
use super::find::{IsOneDifference, tokens_with};
use super::logits::LogitPair;
use crate::classes::Edges;
use crate::kseq::{Active, Bracket, KSeq};
use crate::maximal::Maximal;
use crate::optimal::{Optimal, OptimalLinear, Precision};
use crate::problem::for_each_token;
use crate::recursive::{Recursive, RecursiveDistinct};
use crate::simd;

impl<'a> Scan<'a> {
    /// What turns a difference of logits into a log-ratio.
    fn offset(&self) -> f64 {
        self.classes.offset()
    }

    /// The order-statistic coupling over ratio classes. `O(classes)`.
    pub fn optimal(&self) -> OptimalLinear<LogitPair<'a>> {
        self.order_statistic(Precision::Classes)
    }

    /// The order-statistic coupling over ratio classes, divided until the optimum is attained. `O(classes)`, and a pass
    /// over the logits for each class that is divided.
    pub fn optimal_exact(&self) -> OptimalLinear<LogitPair<'a>> {
        self.order_statistic(Precision::Exact)
    }

    fn order_statistic(&self, precision: Precision) -> OptimalLinear<LogitPair<'a>> {
        let (laws, edges, classes) = self.counted(-(self.k as f64).ln());
        OptimalLinear::with_counts(laws, self.k, edges, classes, precision)
    }

    /// The tokens as counted between the ratio edges from `e^log_lowest` up.
    pub(crate) fn counted(&self, log_lowest: f64) -> (LogitPair<'a>, Edges, Vec<(f64, f64)>) {
        let width = self.classes.grid.width();
        // The log-ratio of the lower end of the lowest class.
        let lowest = self.classes.grid.middle(0) - 0.5 * width - self.offset();
        let edges = Edges::spanning(width, lowest, log_lowest);
        // Class c of the grid lies between the edges first + c and first + c + 1, which is their class first + c + 1.
        let first = ((lowest - edges.log_lowest()) / width).round() as i64;
        let last = edges.len() - 1;
        let mut classes = vec![(0.0, 0.0); edges.len()];
        // Those that would be class 0 or less are all class 0, and so at the other end.
        let start = first + self.classes.first as i64 + 1;
        let count = self.classes.masses.len();
        let from = usize::try_from(1 - start).unwrap_or(0).min(count);
        let to = usize::try_from(last as i64 - start).unwrap_or(0).clamp(from, count);
        let sum = |classes: &[(f64, f64)], beyond: (f64, f64)| {
            classes.iter().fold(beyond, |sum, masses| (sum.0 + masses.0, sum.1 + masses.1))
        };
        classes[0] = sum(&self.classes.masses[..from], self.classes.beyond.below);
        classes[last] = sum(&self.classes.masses[to..], self.classes.beyond.above);
        if from < to {
            let place = (start + from as i64) as usize;
            classes[place..place + (to - from)].copy_from_slice(&self.classes.masses[from..to]);
        }
        let laws = LogitPair { first_cell: first, last_cell: last as i64, ..self.laws };
        (laws, edges, classes)
    }

    /// The order-statistic coupling with a region for every token. `O(V log V)`.
    pub fn optimal_sorted(&self) -> Optimal<LogitPair<'a>> {
        Optimal::with_laws(self.laws, self.k)
    }

    /// The maximal coupling of one draft, whatever `k`. `O(V)`.
    pub fn maximal(&self) -> Maximal<LogitPair<'a>> {
        Maximal::new(self.laws)
    }

    /// Recursive rejection of drafts drawn with replacement. `O(k·V)`.
    pub fn recursive(&self) -> Recursive<LogitPair<'a>> {
        Recursive::with_laws(self.laws, self.k)
    }

    /// Recursive rejection of drafts drawn without replacement. `O(V log V)`.
    pub fn recursive_distinct(&self) -> RecursiveDistinct<LogitPair<'a>> {
        RecursiveDistinct::with_laws(self.laws, self.k)
    }

    /// k-SEQ. `O(classes)`, and another pass over the logits for the tokens of `rho`'s class.
    pub fn kseq(&self) -> KSeq<LogitPair<'a>> {
        let (k, count) = (self.k, self.classes.masses.len());
        // ln rho at the boundary below class c is `top − c·width`: rho falls as c rises.
        let width = self.classes.grid.width();
        let top = self.offset() - self.classes.grid.middle(self.classes.first) + 0.5 * width;
        let rho = |boundary: usize| (top - boundary as f64 * width).exp();
        // The boundaries inside [1, k], highest rho first; the last valid one ends the bracket.
        let first = (((top - (k as f64).ln()) / width).ceil().max(0.0) as usize).min(count);
        let end = ((top / width).floor().max(0.0) as usize + 1).clamp(first, count + 1);
        // What is below a boundary counts whole, what is above it discounted. Looked up from `lowest` to `highest` only.
        let (lowest, highest) = (first.saturating_sub(1), end.min(count));
        let (below, rest) = self.classes.masses.split_at(lowest);
        let (inside, above) = rest.split_at(highest - lowest);
        let mut whole = vec![self.classes.beyond.below.0 + below.iter().map(|masses| masses.0).sum::<f64>()];
        let mut discounted = vec![self.classes.beyond.above.1 + above.iter().map(|masses| masses.1).sum::<f64>()];
        for masses in inside {
            whole.push(whole[whole.len() - 1] + masses.0);
        }
        for masses in inside.iter().rev() {
            discounted.push(discounted[discounted.len() - 1] + masses.1);
        }
        let whole = |boundary: usize| whole[boundary - lowest];
        let discounted = |boundary: usize| discounted[highest - boundary];
        let at = |boundary: usize| Bracket {
            lower: 1.0,
            upper: k as f64,
            whole: whole(boundary),
            discounted: discounted(boundary),
            active: Vec::new(),
        };
        let boundaries: Vec<usize> = (first..end).collect();
        let valid = boundaries.partition_point(|&boundary| at(boundary).is_valid(rho(boundary), k));
        // The class between the last valid boundary and the first invalid one; where all are invalid, or valid, what is
        // before the first class, or after the last, and has no tokens.
        let bracket = match (first + valid).checked_sub(1) {
            None => Bracket { lower: rho(0).clamp(1.0, k as f64), ..at(0) },
            Some(class) if class == count => Bracket { upper: rho(count).clamp(1.0, k as f64), ..at(count) },
            Some(class) => Bracket {
                lower: rho(class + 1).clamp(1.0, k as f64),
                upper: rho(class).clamp(1.0, k as f64),
                whole: whole(class),
                discounted: discounted(class + 1),
                active: self.active(class),
            },
        };
        let (rho, beta) = bracket.close(k);
        KSeq::with_rho(self.laws, k, rho, beta)
    }

    /// The tokens of one of the `classes`. Tokens of one and the same ratio, as in a pair of equal rows, come as one.
    fn active(&self, class: usize) -> Vec<Active> {
        let Some(&(p, q)) = self.classes.masses.get(class).filter(|(p, q)| *p > 0.0 && *q > 0.0) else {
            return Vec::new();
        };
        let class = self.classes.first + class;
        let LogitPair { draft, target, .. } = self.laws;
        let (low, high) = (self.classes.grid.middle(class), self.classes.grid.width());
        let (low, high) = ((low - 0.51 * high) as f32, (low + 0.51 * high) as f32);
        // A class that holds much may hold it at one ratio: equal rows, uniform rows. That is cheap to see.
        if p > CLUSTER && simd::run(IsOneDifference { draft, target, low, high }) {
            return vec![Active { ratio: q / p, p, q }];
        }
        let mut logits = (Vec::new(), Vec::new());
        let _ = tokens_with(draft, target, (low, high), |token| {
            if self.classes.grid.class(draft[token] - target[token]) == Some(class) {
                logits.0.push(draft[token]);
                logits.1.push(target[token]);
            }
            ControlFlow::Continue(())
        });
        let mut active = Vec::with_capacity(logits.0.len());
        let class = LogitPair { draft: &logits.0, target: &logits.1, ..self.laws };
        for_each_token(&class, |_, p, q| {
            if p > 0.0 && q > 0.0 {
                active.push(Active { ratio: q / p, p, q });
            }
        });
        active
    }
}

/// The draft mass of a class from which on it is worth a look whether all of it has one ratio.
const CLUSTER: f64 = 0.25;
