//! The running example: two laws over a, b and c, and the line that their labels are dropped on.

use std::error::Error;

use draftpick::picture::{DENSITY_HEIGHT, GRID, INK, MASSES, PANEL_WIDTH, Panel, Region, regions, token_colour};
use draftpick::pmf::PmfError;
use draftpick::{Pmf, Problem};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use crate::canvas::{Canvas, Drawn, ORANGE, picture};

pub const NAMES: [&str; 3] = ["a", "b", "c"];
pub const P: [f64; 3] = [0.5, 0.3, 0.2];
pub const Q: [f64; 3] = [0.2, 0.3, 0.5];

pub fn laws() -> Result<(Pmf, Pmf), PmfError> {
    Ok((Pmf::new(P)?, Pmf::new(Q)?))
}

pub fn problem(k: usize) -> Result<Problem, Box<dyn Error>> {
    let (p, q) = laws()?;
    Ok(Problem::new(p, q, k)?)
}

/// The regions of the optimal layout, named by letters.
fn named(k: usize) -> Result<Vec<Region>, Box<dyn Error>> {
    let mut regions = regions(&problem(k)?);
    for (region, name) in regions.iter_mut().zip(NAMES) {
        region.name = name.into();
    }
    Ok(regions)
}

/// The layout for two drafts, with an a and a b dropped on it.
pub fn layout() -> Result<String, Box<dyn Error>> {
    let regions = named(2)?;
    picture((PANEL_WIDTH as u32, 440), |canvas| {
        let panel = Panel::new(canvas.root);
        panel.density(0, 2, &regions)?;
        let drafts = [("first draft: a", 0, 0.25), ("second draft: b", 1, 0.55)];
        for (row, (name, token, label)) in drafts.into_iter().enumerate() {
            let at = (panel.across(label), DENSITY_HEIGHT + 14 + 40 * row as i32);
            canvas.dashed(&[(at.0, 294), at], INK, 1)?;
            canvas.disc(at, 9, token_colour(token))?;
            canvas.words(name, 14, (HPos::Right, VPos::Center), (panel.across(0.0) - 10, at.1))?;
            canvas.words(&format!("label {label}"), 13, (HPos::Left, VPos::Center), (at.0 + 20, at.1))?;
            if row == 1 {
                canvas.ring(at, 13, INK, 2)?;
                let note = "the largest: b is selected, and kept with probability 0.3/0.384";
                canvas.words(note, 14, (HPos::Left, VPos::Center), (panel.across(0.0), at.1 + 36))?;
            }
        }
        Ok(())
    })
}

/// `m` beside `q`.
pub fn masses() -> Result<String, Box<dyn Error>> {
    let regions = named(2)?;
    picture((PANEL_WIDTH as u32, 270), |canvas| Panel::new(canvas.root).masses(0, MASSES, &regions))
}

/// `p` beside `q`.
pub fn maximal() -> Result<String, Box<dyn Error>> {
    let regions = named(1)?;
    let heading = [
        "Drafted and wanted: p (left bars) against the target law q (right bars)",
        "Full colour: kept, min(p, q). Pale: drafted too often, rejected. White: missing, what rejected drafts are replaced by.",
    ];
    picture((PANEL_WIDTH as u32, 270), |canvas| Panel::new(canvas.root).masses(0, heading, &regions))
}

/// Paths of two tokens: how often they are drafted, and how often the target can still want them.
pub fn block() -> Result<String, Box<dyn Error>> {
    let mut paths = Vec::new();
    for x in 0..3 {
        for y in 0..3 {
            paths.push(Region {
                name: format!("{} {}", NAMES[x], NAMES[y]),
                draft: P[x] * P[y],
                selected: P[x] * P[y],
                target: P[x].min(Q[x]) * Q[y],
                segments: Vec::new(),
                shares_with: None,
            });
        }
    }
    let kept: f64 = paths.iter().map(|path| path.selected.min(path.target)).sum();
    assert!((kept - 0.55).abs() < 1e-12, "second tokens are kept with {kept}");
    let heading = [
        "Paths of two tokens: drafted (left bars) against what the target can still want (right bars)",
        "Left: p(first)·p(second). Right: A(first)·q(second). Full colour: the smaller, kept as a whole; together 0.55.",
    ];
    picture((PANEL_WIDTH as u32, 270), |canvas| Panel::new(canvas.root).masses(0, heading, &paths))
}

/// Two ways to give tokens the same masses: each token's share of the labels at every place.
pub fn spread() -> Result<String, Box<dyn Error>> {
    // Places and, for each, the shares of a, b, c there: the regions of the layout, and densities as even as the cut allows.
    let regions: [(f64, f64, [f64; 3]); 3] =
        [(0.0, 0.49, [1.0, 0.0, 0.0]), (0.49, 0.79, [0.0, 1.0, 0.0]), (0.79, 0.8, [1.0, 0.0, 0.0])];
    let even = [(0.0, 0.5, [0.775, 0.225, 0.0]), (0.5, 0.8, [0.375, 0.625, 0.0])];
    let last = (0.8, 1.0, [0.0, 0.0, 1.0]);
    let ways = [("regions", [&regions[..], &[last]].concat()), ("spread out", [&even[..], &[last]].concat())];
    picture((820, 480), |canvas| {
        canvas.title(
            "The same cut with labels close together, and spread out",
            "At every place of the line: which token a label there belongs to. The cut {a, b} has the lowest 0.8 in both.",
        )?;
        let across = |u: f64| 150 + (u * 400.0).round() as i32;
        for (row, (name, pieces)) in ways.iter().enumerate() {
            let top = 84 + 190 * row as i32;
            canvas.words(name, 14, (HPos::Right, VPos::Center), (across(0.0) - 12, top + 60))?;
            for (lo, hi, shares) in pieces {
                let mut from = top;
                for (y, share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
                    let to = from + (share * 120.0).round() as i32;
                    canvas.block([(across(*lo), from), (across(*hi), to)], token_colour(y), WHITE)?;
                    if hi - lo > 0.05 {
                        canvas.on(token_colour(y), NAMES[y], 14, ((across(*lo) + across(*hi)) / 2, (from + to) / 2))?;
                    }
                    from = to;
                }
            }
            canvas.frame([(across(0.0), top), (across(1.0), top + 120)], INK, 1)?;
            ticks(canvas, across, top + 122)?;
            for y in 0..3 {
                let of =
                    |&(lo, hi, shares): &(f64, f64, [f64; 3])| (hi * hi - lo * lo, (hi - lo) * shares[y], shares[y]);
                let length: f64 = pieces.iter().map(|piece| of(piece).1).sum();
                assert!((length - P[y]).abs() < 1e-12, "the labels of {} are not as many as its drafts", NAMES[y]);
                let mass: f64 = pieces.iter().map(|piece| of(piece).0 * of(piece).2).sum();
                let at = (across(1.0) + 30, top + 30 + 30 * y as i32);
                canvas.block([(at.0, at.1 - 8), (at.0 + 16, at.1 + 8)], token_colour(y), INK)?;
                let words = format!("{}: m = {mass:.3}, q = {}", NAMES[y], Q[y]);
                canvas.words(&words, 14, (HPos::Left, VPos::Center), (at.0 + 26, at.1))?;
            }
        }
        Ok(())
    })
}

/// Intervals, in order.
type Line = Vec<(f64, f64)>;

fn length(line: &Line) -> f64 {
    line.iter().map(|(lo, hi)| hi - lo).sum()
}

fn mass(line: &Line, k: i32) -> f64 {
    line.iter().map(|(lo, hi)| hi.powi(k) - lo.powi(k)).sum()
}

/// Cuts the window out that starts at glued place `t`: what is in it, and what is left.
fn cut(line: &Line, t: f64, length: f64) -> (Line, Line) {
    let (mut inside, mut rest, mut glued) = (Line::new(), Line::new(), 0.0);
    for &(lo, hi) in line {
        let from = (lo + (t - glued).max(0.0)).min(hi);
        let to = (lo + (t + length - glued).max(0.0)).min(hi);
        inside.extend((to > from).then_some((from, to)));
        rest.extend((from > lo).then_some((lo, from)));
        rest.extend((hi > to).then_some((to, hi)));
        glued += hi - lo;
    }
    (inside, rest)
}

/// Where the window of this length with this mass starts.
fn window(free: &Line, p: f64, m: f64, k: i32) -> f64 {
    let (mut lo, mut hi) = (0.0, (length(free) - p).max(0.0));
    for _ in 0..60 {
        let t = 0.5 * (lo + hi);
        if mass(&cut(free, t, p).0, k) < m {
            lo = t;
        } else {
            hi = t;
        }
    }
    hi
}

/// The four tokens of a block are cut out of the line.
pub fn gluing() -> Result<String, Box<dyn Error>> {
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];
    const P: [f64; 4] = [0.4, 0.3, 0.2, 0.1];
    const Q: [f64; 4] = [0.28, 0.27, 0.25, 0.2];
    const K: i32 = 4;
    const ROW: i32 = 62;
    picture((820, 470), |canvas| {
        canvas.title(
            "Windows are cut out of the line, the rest is glued together",
            "Four tokens, four drafts: m = q is possible. Each window has the token's length, p, and holds the mass wanted, q.",
        )?;
        let across = |u: f64| 190 + (u * 590.0).round() as i32;
        let mut free: Line = vec![(0.0, 1.0)];
        let mut regions = vec![Line::new(); 4];
        for (row, y) in (0..4).rev().enumerate() {
            let top = 74 + ROW * row as i32;
            let t = window(&free, P[y], Q[y], K);
            let whole = length(&free);
            canvas.block([(across(0.0), top), (across(whole), top + 30)], GRID, INK)?;
            canvas.block([(across(t), top), (across(t + P[y]), top + 30)], token_colour(y), INK)?;
            canvas.on(token_colour(y), NAMES[y], 15, ((across(t) + across(t + P[y])) / 2, top + 15))?;
            let note = format!("{}: length {}, mass {}", NAMES[y], P[y], Q[y]);
            canvas.words(&note, 13, (HPos::Right, VPos::Center), (across(0.0) - 10, top + 15))?;
            // Where earlier windows have been cut out.
            let mut glued = 0.0;
            for (lo, hi) in &free[..free.len() - 1] {
                glued += hi - lo;
                canvas.dashed(&[(across(glued), top - 6), (across(glued), top + 36)], INK, 1)?;
            }
            (regions[y], free) = cut(&free, t, P[y]);
        }
        let top = 74 + ROW * 4 + 26;
        canvas.words("the layout", 14, (HPos::Right, VPos::Center), (across(0.0) - 10, top + 15))?;
        for (y, region) in regions.iter().enumerate() {
            for &(lo, hi) in region {
                canvas.block([(across(lo), top), (across(hi), top + 30)], token_colour(y), INK)?;
                if hi - lo > 0.02 {
                    canvas.on(token_colour(y), NAMES[y], 15, ((across(lo) + across(hi)) / 2, top + 15))?;
                }
            }
        }
        ticks(canvas, across, top + 30)?;
        let note = "Dashed: where a window was cut out before. In the layout it is back in its place.";
        canvas.words(note, 13, (HPos::Left, VPos::Top), (across(0.0), top + 62))
    })
}

fn ticks(canvas: &Canvas, across: impl Fn(f64) -> i32, bottom: i32) -> Drawn {
    for tenths in (0..=10).step_by(2) {
        let value = f64::from(tenths) / 10.0;
        canvas.line(&[(across(value), bottom), (across(value), bottom + 5)], INK, 1)?;
        canvas.words(&format!("{value:.1}"), 13, (HPos::Center, VPos::Top), (across(value), bottom + 8))?;
    }
    Ok(())
}

/// The layout of the running example over any free part of the line: `{a, b}` is the block whose slope is the highest,
/// wherever the line is part of [0, 1].
fn split(line: &Line, k: i32) -> [Line; 3] {
    let (whole, all) = (length(line), mass(line, k));
    let share = |p: f64| mass(&cut(line, 0.0, p * whole).0, k) / all;
    // The points (Q, W(P)) after a, after a and b, and at the end.
    let (first, second) = (share(P[0]), share(P[0] + P[1]));
    let mut regions = [const { Line::new() }; 3];
    // Blocks: the corners of the least concave majorant.
    let chord = |at: f64, from: (f64, f64), to: (f64, f64)| from.1 + (to.1 - from.1) * (at - from.0) / (to.0 - from.0);
    let (a, ab, end) = ((Q[0], first), (Q[0] + Q[1], second), (1.0, 1.0));
    let corner_ab = ab.1 > chord(ab.0, (0.0, 0.0), end).max(chord(ab.0, a, end));
    let corner_a = a.1 > chord(a.0, (0.0, 0.0), end).max(if corner_ab { chord(a.0, (0.0, 0.0), ab) } else { 0.0 });
    let mut start = (0, (0.0, 0.0));
    let corners = [corner_a.then_some((1, a)), corner_ab.then_some((2, ab)), Some((3, end))];
    let mut rest = line.clone();
    for (to, at) in corners.into_iter().flatten() {
        let (from, before) = start;
        let tokens = from..to;
        let length: f64 = tokens.clone().map(|y| P[y] * whole).sum();
        let mut free;
        (free, rest) = cut(&rest, 0.0, length);
        let slope = (at.1 - before.1) / (at.0 - before.0);
        for y in tokens.clone().rev() {
            if y == tokens.start {
                regions[y] = std::mem::take(&mut free);
            } else {
                let t = window(&free, P[y] * whole, slope * Q[y] * all, k);
                (regions[y], free) = cut(&free, t, P[y] * whole);
            }
        }
        start = (to, at);
    }
    regions
}

/// The number of paths that are drafted.
const K: i32 = 2;

/// The regions of the first tokens, and in each those of the second.
fn levels() -> ([Line; 3], Vec<[Line; 3]>) {
    let root = split(&vec![(0.0, 1.0)], K);
    let below = root.iter().map(|region| split(region, K)).collect();
    (root, below)
}

/// The labels that the paths a c and b a are drawn with: in the middle of the largest piece of their regions.
pub fn path_labels() -> [f64; 2] {
    let (_, below) = levels();
    let label = |line: &Line| {
        let widest = line.iter().copied().max_by(|a, b| (a.1 - a.0).total_cmp(&(b.1 - b.0)));
        widest.map_or(0.0, |(lo, hi)| 0.5 * (lo + hi))
    };
    [label(&below[0][2]), label(&below[1][0])]
}

/// Two levels of regions, and the labels of two paths.
pub fn nested() -> Result<String, Box<dyn Error>> {
    let (root, below) = levels();
    // The same layout as the library's.
    for (region, own) in named(2)?.iter().zip(&root) {
        let same = region.segments.iter().zip(own).all(|(a, b)| (a.0 - b.0).abs() < 1e-9 && (a.1 - b.1).abs() < 1e-9);
        assert!(same && region.segments.len() == own.len(), "the layout of the picture is not the library's");
    }
    picture((820, 400), |canvas| {
        canvas.title(
            "Nested regions: every node of the draft tree divides its region among the next tokens",
            "Two paths are drafted, a c and b a. Each draws a label in the region of its last node. The largest label wins.",
        )?;
        let across = |u: f64| 150 + (u * 630.0).round() as i32;
        let rows = [("first token", 80), ("second token", 146)];
        for (name, top) in rows {
            canvas.words(name, 14, (HPos::Right, VPos::Center), (across(0.0) - 10, top + 24))?;
        }
        let strip = |line: &Line, top: i32, token: usize, words: &str| -> Drawn {
            for &(lo, hi) in line {
                canvas.block([(across(lo), top), (across(hi), top + 48)], token_colour(token), WHITE)?;
                if across(hi) - across(lo) >= 10 + 9 * words.len() as i32 {
                    canvas.on(token_colour(token), words, 15, ((across(lo) + across(hi)) / 2, top + 24))?;
                }
            }
            Ok(())
        };
        for (y, region) in root.iter().enumerate() {
            strip(region, 80, y, NAMES[y])?;
            for (z, inner) in below[y].iter().enumerate() {
                strip(inner, 146, z, &format!("{}{}", NAMES[y], NAMES[z]))?;
            }
            for &(lo, hi) in region {
                canvas.frame([(across(lo), 80), (across(hi), 194)], INK, 1)?;
            }
        }
        ticks(canvas, across, 200)?;
        let [first, second] = path_labels();
        let paths = [("path a c", 2, first), ("path b a", 0, second)];
        let winner = if paths[0].2 > paths[1].2 { 0 } else { 1 };
        for (row, (name, last, label)) in paths.into_iter().enumerate() {
            let at = (across(label), 262 + 44 * row as i32);
            canvas.dashed(&[(at.0, 196), at], INK, 1)?;
            canvas.disc(at, 9, token_colour(last))?;
            canvas.words(name, 14, (HPos::Right, VPos::Center), (across(0.0) - 10, at.1))?;
            let note = if row == winner { ", the largest: this path wins" } else { "" };
            let words = format!("label {label:.2}{note}");
            if row == winner {
                canvas.words(&words, 14, (HPos::Left, VPos::Center), (at.0 + 22, at.1))?;
                canvas.ring(at, 13, ORANGE, 3)?;
            } else {
                canvas.words(&words, 14, (HPos::Right, VPos::Center), (at.0 - 18, at.1))?;
            }
        }
        let note =
            "The winner's law is the area above the regions, level by level. Block verification then goes along it.";
        canvas.words(note, 13, (HPos::Left, VPos::Top), (across(0.0), 352))
    })
}
