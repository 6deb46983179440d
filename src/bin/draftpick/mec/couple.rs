//! `draftpick mec couple`.

use anyhow::{Context, bail};
use draftpick::mec::{self, MAX_EXACT};
use draftpick::{Pmf, Token};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;

use super::Format;
use crate::solve::law;
use crate::{Verdict, output};

/// The most cells that are printed as a table.
const MAX_CELLS: usize = 40;
/// How far the marginals of a coupling may be from the laws given.
const TOLERANCE: f64 = 1e-9;

#[derive(clap::Args)]
pub struct Args {
    /// A law to couple: probabilities that add up to 1. Give two or more; without any, random laws are coupled
    #[arg(long = "marginal", value_name = "P,…", allow_hyphen_values = true)]
    marginals: Vec<String>,
    /// Take the numbers as weights, and divide them by their sum
    #[arg(long)]
    normalize: bool,
    /// Without laws: how many random pairs
    #[arg(long, value_name = "N", default_value_t = 100, conflicts_with = "marginals")]
    pairs: usize,
    /// Without laws: how many symbols each has
    #[arg(long, value_name = "V", default_value_t = 8, conflicts_with = "marginals")]
    symbols: usize,
    /// What random laws are drawn by
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Serialize)]
struct Report {
    cells: Vec<Cell>,
    entropy: f64,
    lower_bound: f64,
    independent: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    least: Option<f64>,
    marginal_error: f64,
}

#[derive(Serialize)]
struct Cell {
    symbols: Vec<Token>,
    mass: f64,
}

/// Means over random pairs, in bits.
#[derive(Serialize)]
struct Survey {
    pairs: usize,
    symbols: usize,
    independent: f64,
    greedy: f64,
    lower_bound: f64,
    largest_gap: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    least: Option<f64>,
}

pub fn run(args: &Args) -> anyhow::Result<Verdict> {
    if args.marginals.is_empty() {
        return survey(args);
    }
    if args.marginals.len() < 2 {
        bail!("--marginal: give two laws or more");
    }
    let laws: Vec<Pmf> =
        args.marginals.iter().map(|list| law("--marginal", list, args.normalize)).collect::<anyhow::Result<_>>()?;
    let laws: Vec<&Pmf> = laws.iter().collect();
    let coupling = mec::greedy(&laws)?;
    let least = match laws[..] {
        [p, q] if p.support().max(q.support()) <= MAX_EXACT => Some(mec::exact(p, q)?.entropy()),
        _ => None,
    };
    let report = Report {
        cells: coupling.cells().map(|(symbols, mass)| Cell { symbols: symbols.to_vec(), mass }).collect(),
        entropy: coupling.entropy(),
        lower_bound: mec::lower_bound(&laws),
        independent: laws.iter().map(|law| mec::entropy(law.as_slice())).sum(),
        least,
        marginal_error: coupling.marginal_error(&laws),
    };
    output::print(&match args.format {
        Format::Json => output::json(&report)?,
        Format::Text => text(&report),
    })?;
    if !(report.marginal_error <= TOLERANCE) {
        return Ok(Verdict::Failed(format!("the coupling's marginals are off by {:e}", report.marginal_error)));
    }
    Ok(Verdict::Passed)
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    if report.cells.len() <= MAX_CELLS {
        let mut table = output::table(["symbols", "mass"], 1);
        for Cell { symbols, mass } in &report.cells {
            let symbols = symbols.iter().map(|symbol| symbol.to_string()).collect::<Vec<_>>().join(" ");
            table.add_row([symbols, format!("{mass:.6}")]);
        }
        text += &format!("{table}\n\n");
    } else {
        text += &format!("{} cells\n", report.cells.len());
    }
    text += &format!("joint entropy   {:.6} bits\n", report.entropy);
    if let Some(least) = report.least {
        text += &format!("the least       {least:.6} bits\n");
    }
    text += &format!(
        "none has less   {:.6} bits: at most {:.6} above the least\nindependent     {:.6} bits\n",
        report.lower_bound,
        (report.entropy - report.lower_bound).max(0.0),
        report.independent,
    );
    text
}

fn survey(args: &Args) -> anyhow::Result<Verdict> {
    if args.pairs == 0 || args.symbols == 0 {
        bail!("--pairs and --symbols must be at least 1");
    }
    let mut rng = StdRng::seed_from_u64(args.seed);
    let mut random = || -> anyhow::Result<Pmf> {
        let weights: Vec<f64> = (0..args.symbols).map(|_| rng.random()).collect();
        Pmf::from_weights(weights).context("--symbols")
    };
    let small = args.symbols <= MAX_EXACT;
    let mut survey = Survey {
        pairs: args.pairs,
        symbols: args.symbols,
        independent: 0.0,
        greedy: 0.0,
        lower_bound: 0.0,
        largest_gap: 0.0,
        least: small.then_some(0.0),
    };
    let (share, mut error) = (1.0 / args.pairs as f64, 0.0f64);
    for _ in 0..args.pairs {
        let (p, q) = (random()?, random()?);
        let coupling = mec::greedy(&[&p, &q])?;
        let (bits, bound) = (coupling.entropy(), mec::lower_bound(&[&p, &q]));
        error = error.max(coupling.marginal_error(&[&p, &q]));
        survey.independent += share * (mec::entropy(p.as_slice()) + mec::entropy(q.as_slice()));
        survey.greedy += share * bits;
        survey.lower_bound += share * bound;
        survey.largest_gap = survey.largest_gap.max(bits - bound);
        if let Some(least) = &mut survey.least {
            *least += share * mec::exact(&p, &q)?.entropy();
        }
    }
    output::print(&match args.format {
        Format::Json => output::json(&survey)?,
        Format::Text => {
            let mut table = output::table(["coupling", "joint entropy"], 1);
            table.add_row(["independent".to_string(), format!("{:.4}", survey.independent)]);
            table.add_row(["greedy".to_string(), format!("{:.4}", survey.greedy)]);
            if let Some(least) = survey.least {
                table.add_row(["the least".to_string(), format!("{least:.4}")]);
            }
            table.add_row(["none has less".to_string(), format!("{:.4}", survey.lower_bound)]);
            format!(
                "Means over {} random pairs of laws over {} symbols, in bits\n{table}\nlargest certified gap {:.4}\n",
                survey.pairs, survey.symbols, survey.largest_gap
            )
        }
    })?;
    if !(error <= TOLERANCE) {
        return Ok(Verdict::Failed(format!("a coupling's marginals are off by {error:e}")));
    }
    Ok(Verdict::Passed)
}
