//! Sets of laws: what can be accepted of two tokens, what a selection of three can be.

use std::error::Error;

use draftpick::optimal::Optimal;
use draftpick::picture::{Frame, INK, Labels, regions, svg, text};
use draftpick::{Selector, bound};
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use crate::canvas::{At, BLUE, GREY, ORANGE, picture};
use crate::running::{P, Q, problem};

/// The two-token example with one and with two drafts.
pub fn polytope() -> Result<String, Box<dyn Error>> {
    let (p, q) = ([0.5f64, 0.5], [0.75f64, 0.25]);
    // The most that can be accepted as a, as b.
    let most = |k: i32| [q[0].min(1.0 - p[1].powi(k)), q[1].min(1.0 - p[0].powi(k))];
    Ok(svg((760, 520), |root| {
        let frame = Frame {
            title: "What can be accepted: two tokens, p = (1/2, 1/2), q = (3/4, 1/4)",
            names: ["accepted as a", "accepted as b"],
            x: 0.0..1.05,
            y: 0.0..0.55,
            labels: [Labels::Plain; 2],
            legend: 20,
        };
        let scale = frame.draw(root)?;
        let at = |x: f64, y: f64| scale.at(x, y);
        let write = |words: &str, (x, y): At, h: HPos| root.draw_text(words, &text(15, h, VPos::Center), (x, y));
        for (k, colour, share) in [(2, BLUE, 0.25), (1, ORANGE, 0.35)] {
            let [x, y] = most(k);
            let corners = vec![at(0.0, 0.0), at(x, 0.0), at(x, y), at(0.0, y), at(0.0, 0.0)];
            root.draw(&Polygon::new(corners.clone(), colour.mix(share).filled()))?;
            root.draw(&PathElement::new(corners, colour.stroke_width(2)))?;
            root.draw(&Circle::new(at(x, y), 6, colour.filled()))?;
            let (left, top) = at(x, y);
            let words = format!("{} draft{}: {}", k, if k == 1 { "" } else { "s" }, x + y);
            match k {
                1 => write(&words, (left - 8, top - 18), HPos::Right)?,
                _ => write(&words, (left + 14, top - 6), HPos::Left)?,
            }
        }
        let line = |from: (f64, f64), to: (f64, f64)| {
            DashedPathElement::new([at(from.0, from.1), at(to.0, to.1)], 7, 5, GREY.stroke_width(2))
        };
        root.draw(&line((0.45, 0.55), (1.0, 0.0)))?;
        let (x, y) = at(0.58, 0.42);
        write("x + y = 1: no more than all", (x + 14, y), HPos::Left)?;
        root.draw(&line((q[0], 0.0), (q[0], 0.25)))?;
        let (x, y) = at(q[0], 0.1);
        write("x ≤ q(a)", (x - 10, y), HPos::Right)?;
        let (x, y) = at(0.5, 0.1);
        write("x ≤ 1 − p(b)", (x - 10, y), HPos::Right)?;
        let (x, y) = at(0.14, q[1]);
        write("y ≤ q(b)", (x, y - 14), HPos::Center)
    })?)
}

/// The triangle of laws over a, b, c.
pub fn reachable() -> Result<String, Box<dyn Error>> {
    let corner = [(110.0, 530.0), (690.0, 530.0), (400.0, 90.0)]; // all a, all b, all c
    let at = |law: [f64; 3]| -> At {
        let sum =
            |of: fn(&(f64, f64)) -> f64| corner.iter().zip(law).map(|(c, m)| of(c) * m).sum::<f64>().round() as i32;
        (sum(|c| c.0), sum(|c| c.1))
    };
    // The tokens as intervals in an order: a corner of the set of laws. Neighbouring orders differ in one exchange.
    let orders = [[0, 1, 2], [1, 0, 2], [1, 2, 0], [2, 1, 0], [2, 0, 1], [0, 2, 1]];
    let law = |order: [usize; 3], k: i32| {
        let (mut law, mut before) = ([0.0; 3], 0.0);
        for y in order {
            law[y] = f64::powi(before + P[y], k) - f64::powi(before, k);
            before += P[y];
        }
        law
    };
    let best = regions(&problem(2)?);
    let best = [best[0].selected, best[1].selected, best[2].selected];
    let kept: f64 = best.iter().zip(Q).map(|(m, q)| m.min(q)).sum();
    assert!((kept - bound::alpha_star(&problem(2)?)).abs() < 1e-12);
    assert!((Optimal::new(problem(2)?).acceptance().value - kept).abs() < 1e-12);
    picture((820, 590), |canvas| {
        canvas.title(
            "The laws that a selection can have",
            "Each point of the triangle is a law over a, b and c. With more drafts more of them can be had.",
        )?;
        let edge: Vec<At> = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]].map(at).to_vec();
        canvas.line(&edge, INK, 2)?;
        for (k, share) in [(4, 0.12), (3, 0.22), (2, 0.35)] {
            let mut corners: Vec<At> = orders.map(|order| at(law(order, k))).to_vec();
            canvas.area(&corners, BLUE.mix(share))?;
            corners.push(corners[0]);
            canvas.line(&corners, BLUE, 1)?;
            // Named at the corner nearest to "all c".
            let (x, y) = at(law([0, 1, 2], k));
            canvas.dashed(&[(x, y), (596, y)], GREY, 1)?;
            canvas.words(&format!("{k} drafts"), 14, (HPos::Left, VPos::Center), (604, y))?;
        }
        for (place, name) in [(edge[0], "all a"), (edge[1], "all b")] {
            canvas.words(name, 15, (HPos::Center, VPos::Top), (place.0, place.1 + 12))?;
        }
        canvas.words("all c", 15, (HPos::Center, VPos::Bottom), (edge[2].0, edge[2].1 - 8))?;
        let (x, y) = at(P);
        canvas.disc((x, y), 6, INK)?;
        canvas.words("p: one draft", 14, (HPos::Left, VPos::Center), (x + 12, y + 2))?;
        let (x, y) = at(best);
        canvas.arrow((214, y - 40), (x - 9, y - 2), INK, 1)?;
        canvas.words("the best m of two", 14, (HPos::Right, VPos::Center), (208, y - 40))?;
        canvas.disc((x, y), 6, BLUE)?;
        let (x, y) = at(Q);
        canvas.block([(x - 6, y - 6), (x + 6, y + 6)], ORANGE, INK)?;
        canvas.arrow((214, y - 40), (x - 12, y - 2), INK, 1)?;
        canvas.words("the target q", 14, (HPos::Right, VPos::Center), (208, y - 40))?;
        Ok(())
    })
}
