//! The law of a path's label, given that the path goes through a node.

use crate::layout::Segment;
use crate::pmf::Coin;

/// Labels over which the law is even, and the share of the law on them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub segment: Segment,
    pub mass: f64,
}

/// The law of a label, piece by piece from the lowest up. The shares add up to 1.
///
/// A *place* in it is the probability of a lower label: a number in `[0, 1]`, uniform if the label has this law.
#[derive(Clone, Debug)]
pub(super) struct Label {
    pieces: Vec<Piece>,
}

/// A stretch of places, walked from left to right.
struct Cursor<'a> {
    pieces: &'a [Piece],
    piece: usize,
    /// How far into the piece, as places.
    at: f64,
}

impl Cursor<'_> {
    /// Moves over `len` places and calls `visit` with what is passed of each piece: its labels, and how many places.
    fn pass(&mut self, len: f64, mut visit: impl FnMut(Segment, f64)) {
        let mut left = len;
        loop {
            let Piece { segment, mass } = self.pieces[self.piece];
            let is_last = self.piece + 1 == self.pieces.len();
            let taken = if is_last { left } else { left.min(mass - self.at) };
            // Rounding may step over the piece's end.
            let from = (self.at / mass).min(1.0);
            let share = (taken / mass).min(1.0 - from);
            visit(Segment { lo: segment.lo + from * segment.len, len: share * segment.len }, taken);
            left -= taken;
            if left > 0.0 && !is_last {
                (self.piece, self.at) = (self.piece + 1, 0.0);
            } else {
                self.at += taken;
                return;
            }
        }
    }
}

impl Label {
    /// Any label: the law at the root.
    pub fn uniform() -> Self {
        Label { pieces: vec![Piece { segment: Segment::UNIT, mass: 1.0 }] }
    }

    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The lowest label.
    pub fn bottom(&self) -> f64 {
        self.pieces[0].segment.lo
    }

    /// The highest label.
    pub fn top(&self) -> f64 {
        self.pieces[self.pieces.len() - 1].segment.hi()
    }

    /// For stretches of places end to end, given by their lengths, which add up to 1: the share of each in the cases in
    /// which the largest of `k` labels has this law.
    pub fn winning(&self, lengths: impl Iterator<Item = f64>, k: usize) -> Vec<f64> {
        let mut cursor = Cursor { pieces: &self.pieces, piece: 0, at: 0.0 };
        let mut winning: Vec<f64> = lengths
            .map(|len| {
                let mut sum = 0.0;
                cursor.pass(len, |segment, places| sum += places * segment.mean_density(k as u32));
                sum
            })
            .collect();
        let total: f64 = winning.iter().sum();
        winning.iter_mut().for_each(|share| *share /= total);
        winning
    }

    /// The law of the label if its place is not uniform but has the shares given on `parts`, stretches of places from
    /// the lowest up.
    pub fn through(&self, parts: &[Piece]) -> Label {
        let mut pieces = Vec::with_capacity(self.pieces.len() + parts.len());
        let (mut piece, mut below) = (0, 0.0);
        for part in parts {
            while piece + 1 < self.pieces.len() && below + self.pieces[piece].mass <= part.segment.lo {
                below += self.pieces[piece].mass;
                piece += 1;
            }
            let at = (part.segment.lo - below).clamp(0.0, self.pieces[piece].mass);
            let mut cursor = Cursor { pieces: &self.pieces, piece, at };
            cursor.pass(part.segment.len, |segment, places| {
                let mass = part.mass * (places / part.segment.len);
                if mass > 0.0 {
                    pieces.push(Piece { segment, mass });
                }
            });
        }
        let total: f64 = pieces.iter().map(|piece: &Piece| piece.mass).sum();
        pieces.iter_mut().for_each(|piece| piece.mass /= total);
        Label { pieces }
    }

    /// The label at the place `coin`.
    pub fn draw(&self, coin: Coin) -> f64 {
        let mut at = coin.get();
        for Piece { segment, mass } in &self.pieces {
            if at < *mass {
                return segment.lo + at / mass * segment.len;
            }
            at -= mass;
        }
        self.top()
    }
}
