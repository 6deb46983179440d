//! What is next to the choice among drafts: audits, and couplings of least entropy.

use std::error::Error;

use draftpick::Pmf;
use draftpick::audit::simulate::{self, Chain, Engine, Mistake};
use draftpick::audit::{Audit, Settings, Test};
use draftpick::mec::{self, Bottleneck, Encoder, partitions};
use draftpick::picture::{Chart, Evidence, INK, Picture, Series, token_colour};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use crate::canvas::{Canvas, Drawn, picture};
use crate::running::{NAMES, P, Q, laws};

/// The output test on an honest engine, and on two with a mistake.
pub fn evidence() -> Result<String, Box<dyn Error>> {
    let (p, q) = laws()?;
    let chain = Chain::new(vec![p], vec![q])?;
    let engines =
        [("honest", Engine::Honest("kseq".parse()?)), ("residual", Engine::Mistaken(Mistake::ResidualFromTarget))];
    let mut tests = Vec::new();
    for (name, engine) in engines {
        let mut audit = Audit::new(Settings { compared: 0, ..Settings::default() });
        for record in simulate::records(&chain, engine, 1, 1, 7).take(1_000) {
            audit.add(audit.plan().look(audit.rounds(), &record?)?);
        }
        let output = audit.tested().into_iter().find(|tested| tested.test == Test::Output);
        tests.push((name.to_string(), output.ok_or("there is no test of the output")?));
    }
    let title = "Evidence that the output does not have the target's law".into();
    Ok(Evidence { title, tests }.svg()?)
}

/// The rate–information curve of a source of six symbols.
pub fn rate() -> Result<String, Box<dyn Error>> {
    let source = Pmf::new([0.3, 0.25, 0.2, 0.12, 0.08, 0.05])?;
    let entropy = mec::entropy(source.as_slice());
    let rates: Vec<f64> = (0..=60).map(|i| entropy * f64::from(i) / 60.0).collect();
    let curve = |of: &dyn Fn(f64) -> Result<f64, mec::MecError>| {
        rates.iter().map(|&rate| Ok((rate, of(rate)?))).collect::<Result<Vec<_>, mec::MecError>>()
    };
    let series = vec![
        Series::dots("deterministic codes", partitions(&source)?.into_iter().map(|bits| (bits, bits)).collect()),
        Series::line("I(X; T), one random word", curve(&|rate| Ok(Encoder::new(&source, rate)?.information()))?),
        Series::line(
            "I(X; T), deterministic",
            curve(&|rate| Ok(Encoder::deterministic(&source, rate)?.information()))?,
        ),
        Series::line("I(X; Y)", curve(&|rate| Ok(Bottleneck::new(&source, &source, rate)?.information()))?),
    ];
    let title = "Information through a code of limited entropy".into();
    Ok(Chart { title, axes: ["H(T) at most, bits", "bits"], series, legend: 250 }.svg()?)
}

/// The maximal coupling of the running example, and the greedy one of least entropy.
pub fn least_entropy() -> Result<String, Box<dyn Error>> {
    let (p, q) = laws()?;
    let greedy = mec::greedy(&[&p, &q])?;
    let mut table = [[0.0; 3]; 3];
    for (symbols, mass) in greedy.cells() {
        table[symbols[0] as usize][symbols[1] as usize] += mass;
    }
    let missing: Vec<f64> = P.iter().zip(Q).map(|(p, q)| (q - p).max(0.0)).collect();
    let total: f64 = missing.iter().sum();
    let mut maximal = [[0.0; 3]; 3];
    for x in 0..3 {
        for y in 0..3 {
            let kept = if x == y { P[x].min(Q[x]) } else { 0.0 };
            maximal[x][y] = kept + (P[x] - Q[x]).max(0.0) * missing[y] / total;
        }
    }
    let bits = |table: &[[f64; 3]; 3]| mec::entropy(table.as_flattened());
    picture((820, 360), |canvas| {
        canvas.title(
            "Agreeing, and being predictable, are not the same",
            "Bands join drafts, left, to outputs, right, as wide as the mass of the cell. Fewer and wider bands: less entropy.",
        )?;
        for (x, name, table) in [(60, "maximal", &maximal), (470, "least entropy, greedy", &table)] {
            let agree: f64 = (0..3).map(|y| table[y][y]).sum();
            let title = format!("{name}: {:.3} bits, they agree with {agree:.1}", bits(table));
            canvas.words(&title, 14, (HPos::Left, VPos::Top), (x, 74))?;
            bands(canvas, x, table)?;
        }
        Ok(())
    })
}

fn bands(canvas: &Canvas, left: i32, table: &[[f64; 3]; 3]) -> Drawn {
    const TOP: f64 = 108.0;
    const HEIGHT: f64 = 200.0;
    const GAP: f64 = 12.0;
    let start = |law: [f64; 3], y: usize| TOP + law[..y].iter().sum::<f64>() * HEIGHT + GAP * y as f64;
    let (from, to) = (left + 30, left + 260);
    let pixel = |y: f64| y.round() as i32;
    let mut filled = [0.0; 3];
    for (x, row) in table.iter().enumerate() {
        let mut y_from = start(P, x);
        for (y, &mass) in row.iter().enumerate().filter(|(_, mass)| **mass > 1e-12) {
            let y_to = start(Q, y) + filled[y] * HEIGHT;
            let width = mass * HEIGHT;
            let corners =
                [(from, pixel(y_from)), (to, pixel(y_to)), (to, pixel(y_to + width)), (from, pixel(y_from + width))];
            canvas.area(&corners, token_colour(x).mix(0.55))?;
            y_from += width;
            filled[y] += mass;
        }
    }
    for (law, x, outer) in [(P, from - 18, from - 30), (Q, to, to + 40)] {
        for (y, name) in NAMES.iter().enumerate() {
            let (top, bottom) = (pixel(start(law, y)), pixel(start(law, y) + law[y] * HEIGHT));
            canvas.block([(x, top), (x + 18, bottom)], token_colour(y), INK)?;
            let words = format!("{name} {}", law[y]);
            let side = if outer < x { HPos::Right } else { HPos::Left };
            let at = if outer < x { x - 6 } else { x + 24 };
            canvas.words(&words, 13, (side, VPos::Center), (at, (top + bottom) / 2))?;
        }
    }
    Ok(())
}
