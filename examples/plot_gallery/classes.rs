//! Ratio classes: tokens as mixtures of edges, and what that costs.

use std::error::Error;

use draftpick::optimal::OptimalLinear;
use draftpick::picture::{Frame, INK, Labels, svg, text, token_colour};
use draftpick::trace::Trace;
use draftpick::{Selector, bound};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use crate::canvas::{BLUE, ORANGE, picture};
use crate::running::{NAMES, P, Q};

/// The running example on the edges 1/4, 1/2, 1, 2, 4.
pub fn ratio_classes() -> Result<String, Box<dyn Error>> {
    const EDGES: [(f64, &str); 5] = [(0.25, "1/4"), (0.5, "1/2"), (1.0, "1"), (2.0, "2"), (4.0, "4")];
    // Where a ratio is: logarithmic, 140 pixels for a factor of 2.
    let across = |ratio: f64| 410 + (140.0 * ratio.log2()).round() as i32;
    picture((820, 400), |canvas| {
        canvas.title(
            "Every token is a mixture of two ratios",
            "Above: the tokens, by p/q. Below: the draft mass that they put on the edges. Both masses add up exactly.",
        )?;
        let (axis, floor) = (150, 350);
        canvas.line(&[(90, axis), (730, axis)], INK, 2)?;
        canvas.words("p/q", 14, (HPos::Left, VPos::Center), (744, axis))?;
        for (edge, name) in EDGES {
            canvas.line(&[(across(edge), axis - 7), (across(edge), axis + 7)], INK, 2)?;
            canvas.words(name, 14, (HPos::Left, VPos::Top), (across(edge) + 7, axis + 8))?;
            canvas.line(&[(across(edge) - 40, floor), (across(edge) + 40, floor)], INK, 1)?;
        }
        for y in 0..3 {
            let ratio = P[y] / Q[y];
            let at = (across(ratio), 110);
            // The split of the text.
            let upper = EDGES.iter().position(|(edge, _)| *edge >= ratio).unwrap_or(0);
            let on_edge = EDGES[upper].0 == ratio;
            let parts = if on_edge {
                vec![(upper, P[y])]
            } else {
                let (r, s) = (EDGES[upper - 1].0, EDGES[upper].0);
                let p2 = P[y] * (1.0 / r - Q[y] / P[y]) / (1.0 / r - 1.0 / s);
                vec![(upper - 1, P[y] - p2), (upper, p2)]
            };
            let total: f64 = parts.iter().map(|(edge, p)| p / EDGES[*edge].0).sum();
            assert!((total - Q[y]).abs() < 1e-12, "the parts have another target mass than the token");
            for (edge, p) in parts {
                let x = across(EDGES[edge].0);
                let height = (p * 300.0).round() as i32;
                canvas.arrow((at.0, axis + 4), (x + (at.0 - x).signum() * 4, floor - height - 8), INK, 1)?;
                canvas.block([(x - 26, floor - height), (x + 26, floor)], token_colour(y), INK)?;
                canvas.words(&format!("{p:.2}"), 13, (HPos::Center, VPos::Top), (x, floor + 8))?;
            }
            canvas.disc(at, 17, token_colour(y))?;
            canvas.on(token_colour(y), NAMES[y], 16, at)?;
            canvas.words(&format!("ratio {ratio:.1}"), 13, (HPos::Center, VPos::Bottom), (at.0, 86))?;
        }
        Ok(())
    })
}

/// The loss over the number of classes, on the recorded positions, four drafts.
pub fn loss() -> Result<String, Box<dyn Error>> {
    const K: usize = 4;
    let trace = Trace::embedded();
    let problems = (0..trace.rows()).map(|row| trace.problem(row, K)).collect::<Result<Vec<_>, _>>()?;
    let mut points = Vec::new();
    for exponent in 3..=10 {
        let losses = problems
            .iter()
            .map(|problem| {
                let rule = OptimalLinear::with_classes(problem.clone(), 1 << exponent)?;
                Ok((bound::alpha_star(problem) - rule.acceptance().value).max(0.0))
            })
            .collect::<Result<Vec<f64>, Box<dyn Error>>>()?;
        let mean = losses.iter().sum::<f64>() / losses.len() as f64;
        points.push((f64::from(exponent), [losses.iter().copied().fold(0.0, f64::max), mean].map(f64::log10)));
    }
    Ok(svg((820, 500), |root| {
        let power = |x: f64| format!("{:.0}", x.exp2());
        let ten = |y: f64| format!("{:.0e}", 10f64.powf(y));
        let frame = Frame {
            title: "Acceptance lost to ratio classes: 84 recorded positions, four drafts",
            names: ["classes", "loss"],
            x: 2.7..10.3,
            y: -8.0..0.0,
            labels: [Labels::Written(&power), Labels::Written(&ten)],
            legend: 170,
        };
        let scale = frame.draw(root)?;
        for (i, (name, colour)) in [("largest", ORANGE), ("mean", BLUE)].into_iter().enumerate() {
            let pixels: Vec<_> = points.iter().map(|(x, y)| scale.at(*x, y[i])).collect();
            root.draw(&PathElement::new(pixels.clone(), colour.stroke_width(2)))?;
            for &at in &pixels {
                root.draw(&Circle::new(at, 5, colour.filled()))?;
            }
            let last = pixels[pixels.len() - 1];
            root.draw_text(name, &text(15, HPos::Left, VPos::Center), (last.0 + 14, last.1))?;
        }
        // Second order: half the width, a quarter of the loss.
        let from = points[3];
        let line = [0.0, 4.0].map(|steps| scale.at(from.0 + steps, from.1[0] + 0.6 - 4f64.log10() * steps));
        root.draw(&PathElement::new(line.to_vec(), INK.stroke_width(1)))?;
        let middle = ((line[0].0 + line[1].0) / 2 + 10, (line[0].1 + line[1].1) / 2 - 12);
        root.draw_text("a quarter for twice the classes", &text(14, HPos::Left, VPos::Center), middle)
    })?)
}
