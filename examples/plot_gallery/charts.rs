//! Curves over two axes.

use std::error::Error;

use draftpick::kseq::KSeq;
use draftpick::lp::path_optimum;
use draftpick::path::{Chain, PathVerifier, Verifier};
use draftpick::picture::{
    Chart, Curve, Curves, Frame, Labels, Marker, Picture, Series, Style, optimum_style, rule_style, svg, text,
    verifier_style,
};
use draftpick::trace::Trace;
use draftpick::{Pmf, Problem, Rule, Selector, Token, bound};
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use crate::canvas::{BLUE, GREY, ORANGE};
use crate::running::{P, Q, laws, problem};

type Drawn = Result<String, Box<dyn Error>>;

/// `A(ρ)` and `ρ·β(ρ)` of the running example.
pub fn rho() -> Drawn {
    let beta = |rho: f64| P.iter().zip(Q).map(|(p, q)| p.min(q / rho)).sum::<f64>();
    let points = |of: &dyn Fn(f64) -> f64| (0..=100).map(|i| 1.0 + f64::from(i) / 100.0).map(|r| (r, of(r))).collect();
    let rule = KSeq::new(problem(2)?);
    let root = (rule.rho(), rule.acceptance().value);
    let chart = Chart {
        title: "k-SEQ: the smallest ρ at which nothing comes out too often".into(),
        axes: ["ρ", "probability"],
        series: vec![
            Series::line("A = 1 − (1 − β)²", points(&|rho| 1.0 - (1.0 - beta(rho)).powi(2))),
            Series::line("ρ·β", points(&|rho| rho * beta(rho))),
            Series::dots(format!("ρ* = {:.4}, accepted {:.4}", root.0, root.1), vec![root]),
        ],
        legend: 270,
    };
    Ok(chart.svg()?)
}

/// k-SEQ's share of the optimum: guaranteed, and on two problems.
pub fn guarantee() -> Drawn {
    let ks: Vec<usize> = (1..=64).collect();
    let style = |colour, dash, marker| Style { colour, width: 2, dash, marker };
    let share = |problem: Problem| KSeq::new(problem.clone()).acceptance().value / bound::alpha_star(&problem);
    let guaranteed = ks.iter().map(|&k| Ok((k, bound::guarantee(k)?))).collect::<Result<_, Box<dyn Error>>>()?;
    let running = ks.iter().map(|&k| Ok((k, share(problem(k)?)))).collect::<Result<_, Box<dyn Error>>>()?;
    // The worst problem of two tokens on a grid of laws.
    let worst = [1, 2, 3, 4, 6, 8, 12, 16].map(|k| {
        let laws = (1..40).flat_map(|i| (0..=40).map(move |j| (f64::from(i) / 40.0, f64::from(j) / 40.0)));
        let share = |(p, q): (f64, f64)| {
            let problem = Problem::new(Pmf::new([p, 1.0 - p]).ok()?, Pmf::new([q, 1.0 - q]).ok()?, k).ok()?;
            (bound::alpha_star(&problem) > 1e-3).then(|| share(problem))
        };
        (k, laws.filter_map(share).fold(1.0, f64::min))
    });
    let limit = ks.iter().map(|&k| (k, 1.0 - (-1f64).exp())).collect();
    let curves = vec![
        Curve { name: "guaranteed".into(), style: style(ORANGE, (1, 0), None), points: guaranteed },
        Curve { name: "1 − 1/e".into(), style: style(GREY, (3, 4), None), points: limit },
        Curve { name: "running example".into(), style: style(BLUE, (14, 6), None), points: running },
        Curve {
            name: "worst of 2 tokens".into(),
            style: Style { width: 1, ..style(RGBColor(0, 128, 96), (7, 4), Some(Marker::Square)) },
            points: worst.to_vec(),
        },
    ];
    let title = "What k-SEQ attains of the optimum".into();
    Ok(Curves { title, values: "share of α*", highest: Some(1.0), curves }.svg()?)
}

/// The curves of the rules of independent drafts, below them the optimum.
fn rules(ks: &[usize], mean: impl Fn(Rule, usize) -> Option<f64>, optimum: impl Fn(usize) -> f64) -> Vec<Curve> {
    let points = ks.iter().map(|&k| (k, optimum(k))).collect();
    let mut curves = vec![Curve { name: "optimum α*".into(), style: optimum_style(), points }];
    for rule in Rule::ALL.into_iter().filter(|&rule| rule != Rule::RecursiveDistinct) {
        let points = ks.iter().filter_map(|&k| Some((k, mean(rule, k)?))).collect();
        curves.push(Curve { name: rule.name().into(), style: rule_style(rule), points });
    }
    curves
}

/// Every rule on the running example.
pub fn acceptance() -> Drawn {
    let ks = [1, 2, 3, 4, 6, 8];
    let problems = ks.iter().map(|&k| problem(k)).collect::<Result<Vec<_>, _>>()?;
    let of = |k: usize| &problems[ks.iter().position(|&other| other == k).unwrap_or(0)];
    let mean = |rule: Rule, k: usize| rule.takes(k).then(|| rule.prepare(of(k)).acceptance().value);
    let curves = rules(&ks, mean, |k| bound::alpha_star(of(k)));
    let title = "Acceptance in the running example".into();
    Ok(Curves { title, values: "acceptance", highest: Some(1.0), curves }.svg()?)
}

/// Every rule on the recorded scores that come along.
pub fn recorded() -> Drawn {
    let trace = Trace::embedded();
    let ks = [1, 2, 4, 8];
    let problems = |k: usize| (0..trace.rows()).map(|row| trace.problem(row, k)).collect::<Result<Vec<_>, _>>();
    let problems = ks.iter().map(|&k| problems(k)).collect::<Result<Vec<_>, _>>()?;
    let over = |of: &dyn Fn(&Problem) -> f64, k: usize| -> f64 {
        let problems = &problems[ks.iter().position(|&other| other == k).unwrap_or(0)];
        problems.iter().map(of).sum::<f64>() / problems.len() as f64
    };
    let mean =
        |rule: Rule, k: usize| rule.takes(k).then(|| over(&|problem| rule.prepare(problem).acceptance().value, k));
    let curves = rules(&ks, mean, |k| over(&bound::alpha_star, k));
    let title = format!("Mean acceptance over {} recorded positions, {} tokens", trace.rows(), trace.vocab());
    Ok(Curves { title, values: "mean acceptance", highest: Some(1.0), curves }.svg()?)
}

/// The points of the prefixes for two drafts, the diagonal, and the majorant.
pub fn majorant() -> Drawn {
    Ok(svg((760, 560), |root| {
        let frame = Frame {
            title: "Prefixes by p/q descending, two drafts",
            names: ["Q, the target mass so far", "P², both drafts are among them"],
            x: -0.03..1.08,
            y: -0.06..1.08,
            labels: [Labels::Plain; 2],
            legend: 20,
        };
        let scale = frame.draw(root)?;
        let at = |(x, y): (f64, f64)| scale.at(x, y);
        let points = [(0.0, 0.0), (0.2, 0.25), (0.5, 0.64), (1.0, 1.0)];
        let write =
            |words: &str, (x, y): (i32, i32), h: HPos| root.draw_text(words, &text(15, h, VPos::Center), (x, y));
        root.draw(&DashedPathElement::new([at(points[0]), at(points[3])], 7, 5, GREY.stroke_width(2)))?;
        let corners: Vec<_> = [points[0], points[2], points[3]].map(at).to_vec();
        root.draw(&PathElement::new(corners, BLUE.stroke_width(3)))?;
        let (top, below) = (at(points[2]), at((0.5, 0.5)));
        root.draw(&PathElement::new(vec![top, below], ORANGE.stroke_width(3)))?;
        write("lost: 0.64 − 0.5 = 0.14", (below.0 + 8, below.1 + 18), HPos::Left)?;
        for (point, name) in points.into_iter().zip(["none", "a", "a, b", "all"]) {
            let pixel = at(point);
            root.draw(&Circle::new(pixel, 6, ORANGE.filled()))?;
            root.draw(&Circle::new(pixel, 6, BLACK.stroke_width(1)))?;
            match name {
                "none" => write(name, (pixel.0 + 16, pixel.1 + 8), HPos::Left)?,
                _ => write(name, (pixel.0 - 12, pixel.1 - 16), HPos::Right)?,
            }
        }
        let slope = at((0.33, 0.42));
        write("slope 1.28", (slope.0 - 26, slope.1 - 4), HPos::Right)?;
        let slope = at((0.75, 0.82));
        write("slope 0.72", (slope.0 - 16, slope.1 - 12), HPos::Right)?;
        let diagonal = at((0.8, 0.8));
        write("the diagonal", (diagonal.0 + 10, diagonal.1 + 16), HPos::Left)
    })?)
}

/// The mass of b's window.
pub fn window() -> Drawn {
    let mass = |t: f64| (t + 0.3).powi(2) - t * t;
    Ok(svg((760, 460), |root| {
        let frame = Frame {
            title: "A window of length 0.3 slides along [0, 0.8]",
            names: ["t, where it starts", "mass, (t + 0.3)² − t²"],
            x: 0.0..0.5,
            y: 0.0..0.45,
            labels: [Labels::Plain; 2],
            legend: 20,
        };
        let scale = frame.draw(root)?;
        let at = |x: f64, y: f64| scale.at(x, y);
        root.draw(&PathElement::new(vec![at(0.0, mass(0.0)), at(0.5, mass(0.5))], BLUE.stroke_width(3)))?;
        let dashed = |from, to| DashedPathElement::new([from, to], 7, 5, ORANGE.stroke_width(2));
        root.draw(&dashed(at(0.0, 0.384), at(0.49, 0.384)))?;
        root.draw(&dashed(at(0.49, 0.384), at(0.49, 0.0)))?;
        root.draw(&Circle::new(at(0.49, 0.384), 6, ORANGE.filled()))?;
        let write =
            |words: &str, (x, y): (i32, i32), h: HPos| root.draw_text(words, &text(15, h, VPos::Center), (x, y));
        let (x, y) = at(0.02, 0.384);
        write("wanted: m(b) = 0.384", (x, y - 14), HPos::Left)?;
        let (x, y) = at(0.49, 0.03);
        write("t = 0.49", (x - 8, y), HPos::Right)?;
        let (x, y) = at(0.02, mass(0.02));
        write("at the left end 0.09: too little", (x + 26, y + 4), HPos::Left)?;
        let (x, y) = at(0.5, mass(0.5));
        write("at the right end 0.39: enough", (x - 26, y - 12), HPos::Right)
    })?)
}

/// Drafted tokens kept, on average, in a chain whose laws are those of the running example after every prefix.
pub fn accepted_length() -> Drawn {
    const LENGTH: usize = 2;
    let (p, q) = laws()?;
    let chain = Chain::new(LENGTH, |_| (p.clone(), q.clone()))?;
    let paths = chain.sequences(LENGTH);
    let mean = |verifier: Verifier, drafts: usize| -> Result<f64, Box<dyn Error>> {
        let mut sum = 0.0;
        for i in 0..paths.len().pow(drafts as u32) {
            let tuple = (0..drafts as u32).map(|d| &paths[i / paths.len().pow(d) % paths.len()][..]);
            let tuple: Vec<&[Token]> = tuple.collect();
            let probability: f64 = tuple.iter().map(|path| chain.draft_probability(path)).product();
            let round = chain.round(&tuple)?;
            sum += probability * verifier.law(&round)?.expected_accepted(&round);
        }
        Ok(sum)
    };
    let ks = [1, 2, 3];
    let best = ks.iter().map(|&k| Ok((k, path_optimum(&chain, k)?))).collect::<Result<_, Box<dyn Error>>>()?;
    let mut curves = vec![Curve { name: "no verifier more".into(), style: optimum_style(), points: best }];
    for name in ["token:rrs", "token:kseq", "token:optimal", "traversal", "path", "spread"] {
        let verifier: Verifier = name.parse()?;
        let points = ks.iter().map(|&k| Ok((k, mean(verifier, k)?))).collect::<Result<_, Box<dyn Error>>>()?;
        curves.push(Curve { name: name.into(), style: verifier_style(verifier), points });
    }
    let title = "Drafted tokens kept of paths of two, running example".into();
    Ok(Curves { title, values: "tokens kept", highest: None, curves }.svg()?)
}
