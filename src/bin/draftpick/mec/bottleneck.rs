//! `draftpick mec bottleneck`.

use std::path::PathBuf;

use draftpick::Pmf;
use draftpick::mec::{self, Bottleneck, Encoder, MAX_PARTITIONED, partitions};
use draftpick::picture::{Chart, Picture, Series};
use serde::Serialize;

use super::Format;
use crate::solve::law;
use crate::{Verdict, output};

/// The number of rates of a curve if none are given.
const RATES: usize = 41;

#[derive(clap::Args)]
pub struct Args {
    /// The law of what is encoded
    #[arg(long, value_name = "P,…", default_value = "0.3,0.25,0.2,0.12,0.08,0.05", allow_hyphen_values = true)]
    source: String,
    /// The law that comes out; by default the source's
    #[arg(long, value_name = "Q,…", allow_hyphen_values = true)]
    output: Option<String>,
    /// Take the numbers as weights, and divide them by their sum
    #[arg(long)]
    normalize: bool,
    /// Limits on the code's entropy, in bits; by default from 0 to the source's entropy
    #[arg(long, value_name = "R,…", value_delimiter = ',', allow_hyphen_values = true)]
    rates: Vec<f64>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Draw information against rate into a file, .svg or .png
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    source_entropy: f64,
    output_entropy: f64,
    results: Vec<Point>,
    /// The entropies of all deterministic codes; None where there are too many.
    deterministic: Option<Vec<f64>>,
}

/// What is attained at one rate, all in bits.
#[derive(Serialize)]
struct Point {
    rate: f64,
    /// `H(T)` and `I(X; T)` of the greedy deterministic code.
    deterministic: f64,
    /// `H(T)` of the code with one random code word.
    code_entropy: f64,
    /// `I(X; T)` of it.
    encoded: f64,
    /// `I(X; Y)`.
    information: f64,
}

pub fn run(args: &Args) -> anyhow::Result<Verdict> {
    let image = output::image(args.plot.as_deref())?;
    let source = law("--source", &args.source, args.normalize)?;
    let output_law = match &args.output {
        Some(list) => law("--output", list, args.normalize)?,
        None => source.clone(),
    };
    let entropy = mec::entropy(source.as_slice());
    let spread = || (0..RATES).map(|i| entropy * i as f64 / (RATES - 1) as f64).collect();
    let rates = super::rates(&args.rates, spread)?;
    let results = rates.iter().map(|&rate| point(&source, &output_law, rate)).collect::<anyhow::Result<Vec<_>>>()?;
    let report = Report {
        source_entropy: entropy,
        output_entropy: mec::entropy(output_law.as_slice()),
        results,
        deterministic: (source.support() <= MAX_PARTITIONED).then(|| partitions(&source)).transpose()?,
    };
    if let (Some(path), Some(image)) = (&args.plot, image) {
        let title = "Information through a code of limited entropy".into();
        let chart = Chart { title, axes: ["H(T) at most, bits", "bits"], series: series(&report), legend: 240 };
        output::write_file(path, |path| Ok(chart.save(image, path)?))?;
    }
    output::print(&match args.format {
        Format::Json => output::json(&report)?,
        Format::Text => text(&report),
    })?;
    match report
        .results
        .iter()
        .find(|point| !(point.encoded <= point.rate + 1e-9 && point.information <= point.rate + 1e-9))
    {
        Some(point) => Ok(Verdict::Failed(format!("more than {} bits through a code of as many", point.rate))),
        None => Ok(Verdict::Passed),
    }
}

fn point(source: &Pmf, output: &Pmf, rate: f64) -> anyhow::Result<Point> {
    let chain = Bottleneck::new(source, output, rate)?;
    Ok(Point {
        rate,
        deterministic: Encoder::deterministic(source, rate)?.information(),
        code_entropy: chain.encoder().rate(),
        encoded: chain.encoder().information(),
        information: chain.information(),
    })
}

fn series(report: &Report) -> Vec<Series> {
    let curve = |name: &str, of: fn(&Point) -> f64| {
        Series::line(name, report.results.iter().map(|point| (point.rate, of(point))).collect())
    };
    let mut series = Vec::new();
    // Below the curves: there are many.
    if let Some(points) = &report.deterministic {
        series.push(Series::dots("deterministic codes", points.iter().map(|&bits| (bits, bits)).collect()));
    }
    series.extend([
        curve("no code has more", |point| point.rate),
        curve("I(X; T), one random word", |point| point.encoded),
        curve("I(X; T), deterministic", |point| point.deterministic),
        curve("I(X; Y)", |point| point.information),
    ]);
    series
}

fn text(report: &Report) -> String {
    let mut table = output::table(["R", "I(X;T) deterministic", "I(X;T)", "H(T)", "I(X;Y)"], 0);
    for point in &report.results {
        let numbers = [point.rate, point.deterministic, point.encoded, point.code_entropy, point.information];
        table.add_row(numbers.map(|number| format!("{number:.4}")));
    }
    format!(
        "A source of {:.4} bits through a code of at most R bits to an output of {:.4} bits\n{table}\n",
        report.source_entropy, report.output_entropy
    )
}
