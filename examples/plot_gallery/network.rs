//! Nodes and what joins them: the flow of drafts to the target, and a tree of drafted paths.

use std::error::Error;

use draftpick::bound;
use draftpick::picture::{INK, token_colour};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use crate::canvas::{At, GREY, ORANGE, picture};
use crate::running::{NAMES, P, Q, path_labels, problem};

/// From sets of drafts to tokens, with the narrowest cut.
pub fn min_cut() -> Result<String, Box<dyn Error>> {
    let sets: [&[usize]; 6] = [&[0], &[1], &[0, 1], &[2], &[0, 2], &[1, 2]];
    // The probability that two drafts are exactly this set.
    let probability = |set: &[usize]| match *set {
        [y] => P[y] * P[y],
        [x, y] => 2.0 * P[x] * P[y],
        _ => 0.0,
    };
    let cut = bound::min_cut(&problem(2)?);
    let inside = |y: usize| cut.tokens.contains(&(y as u32));
    let is_cut = |set: &[usize]| !set.iter().all(|&y| inside(y));
    let value: f64 = sets.iter().filter(|set| is_cut(set)).map(|set| probability(set)).sum::<f64>()
        + (0..3).filter(|&y| inside(y)).map(|y| Q[y]).sum::<f64>();
    assert!((value - cut.acceptance).abs() < 1e-12, "the cut of the picture has {value}");
    picture((820, 560), |canvas| {
        canvas.title(
            "The narrowest cut: H = {a, b}",
            "Cut are the dashed pipes: 0.04 + 0.2 + 0.12 of sets with a c, 0.2 + 0.3 of a and b. Together 0.86.",
        )?;
        let (source, sink): (At, At) = ((60, 300), (760, 300));
        let set_at = |i: usize| (290, 100 + 80 * i as i32);
        let token_at = |y: usize| (540, 170 + 130 * y as i32);
        for (i, set) in sets.iter().enumerate() {
            for &y in *set {
                canvas.line(&[set_at(i), token_at(y)], GREY, 1)?;
            }
        }
        let pipe = |from: At, to: At, cut: bool| {
            if cut { canvas.dashed(&[from, to], ORANGE, 4) } else { canvas.line(&[from, to], INK, 2) }
        };
        for (i, set) in sets.iter().enumerate() {
            pipe(source, set_at(i), is_cut(set))?;
        }
        for y in 0..3 {
            pipe(token_at(y), sink, inside(y))?;
        }
        // The widths are written over white, so that no pipe runs through them.
        let label = |words: &str, (x, y): At| {
            let half = 4 + 4 * words.chars().count() as i32;
            canvas.root.draw(&Rectangle::new([(x - half, y - 9), (x + half, y + 9)], WHITE.filled()))?;
            canvas.words(words, 14, (HPos::Center, VPos::Center), (x, y))
        };
        for (i, set) in sets.iter().enumerate() {
            let to = set_at(i);
            let at = (source.0 + (to.0 - source.0) * 13 / 20, source.1 + (to.1 - source.1) * 13 / 20);
            label(&format!("{:.2}", probability(set)), at)?;
        }
        for (y, q) in Q.iter().enumerate() {
            let from = token_at(y);
            label(&format!("{q}"), ((from.0 + sink.0) / 2, (from.1 + sink.1) / 2))?;
        }
        for (at, name) in [(source, "source"), (sink, "sink")] {
            canvas.disc(at, 12, INK)?;
            canvas.words(name, 14, (HPos::Center, VPos::Top), (at.0, at.1 + 20))?;
        }
        for (i, set) in sets.iter().enumerate() {
            let (x, y) = set_at(i);
            canvas.block(
                [(x - 36, y - 17), (x + 36, y + 17)],
                if is_cut(set) { WHITE } else { RGBColor(225, 235, 245) },
                INK,
            )?;
            let names: Vec<&str> = set.iter().map(|&y| NAMES[y]).collect();
            canvas.words(&format!("{{{}}}", names.join(", ")), 15, (HPos::Center, VPos::Center), (x, y))?;
        }
        for (y, name) in NAMES.iter().enumerate() {
            canvas.disc(token_at(y), 20, token_colour(y))?;
            canvas.on(token_colour(y), name, 16, token_at(y))?;
        }
        canvas.words("sets of drafts", 14, (HPos::Center, VPos::Bottom), (290, 72))?;
        canvas.words("tokens", 14, (HPos::Center, VPos::Bottom), (540, 140))
    })
}

/// Two drafted paths that share no token, a c and b a, and what the winner's verification looks at.
pub fn tree() -> Result<String, Box<dyn Error>> {
    picture((820, 330), |canvas| {
        canvas.title(
            "A round with two paths of two tokens",
            "The winner, thick, is the path with the largest label. Block verification decides how much of it is kept.",
        )?;
        let root = (110, 190);
        let nodes = [((300, 130), 0), ((490, 130), 2), ((300, 250), 1), ((490, 250), 0)];
        let winner = [false, false, true, true];
        let parents = [root, nodes[0].0, root, nodes[2].0];
        for ((&(at, _), from), winner) in nodes.iter().zip(parents).zip(winner) {
            if winner {
                canvas.line(&[from, at], ORANGE, 6)?;
            } else {
                canvas.line(&[from, at], GREY, 2)?;
            }
        }
        canvas.block([(root.0 - 50, root.1 - 18), (root.0 + 50, root.1 + 18)], WHITE, INK)?;
        canvas.words("the text", 15, (HPos::Center, VPos::Center), root)?;
        for (at, token) in nodes {
            canvas.disc(at, 19, token_colour(token))?;
            canvas.on(token_colour(token), NAMES[token], 16, at)?;
        }
        for (name, y) in [("path a c", 130), ("path b a", 250)] {
            let label = path_labels()[usize::from(y == 250)];
            canvas.words(&format!("{name}: label {label:.2}"), 14, (HPos::Left, VPos::Center), (526, y))?;
        }
        canvas.words("keep nothing, b, or b a;", 13, (HPos::Left, VPos::Center), (526, 274))?;
        canvas.words("then one token more", 13, (HPos::Left, VPos::Center), (526, 292))
    })
}
