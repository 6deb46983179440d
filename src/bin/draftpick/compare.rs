//! `draftpick compare`: every rule against the optimum on recorded scores.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;
use draftpick::bound::alpha_star;
use draftpick::picture::{Curve, Curves, Picture, optimum_style, rule_style};
use draftpick::problem::{MAX_DRAFTS, ProblemError};
use draftpick::trace::{Trace, TraceError};
use draftpick::{Acceptance, Drawn, Problem, Rule, Sampling};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::Serialize;

use crate::Verdict;
use crate::measure::{Measure, Tally, aims_at_optimum, measure};
use crate::{output, paths, rows};

/// The numbers of drafts compared unless told otherwise.
pub const DEFAULT_KS: [usize; 4] = [1, 2, 4, 8];

#[derive(clap::Args)]
pub struct Args {
    /// Recorded scores, a safetensors file; without it, the 84 positions of a small model pair that come along
    pub trace: Option<PathBuf>,
    /// TRACE holds drafted paths: compare path verifiers by the drafted tokens they keep
    #[arg(long, requires = "trace", conflicts_with_all = [
        "temperature", "draft_temperature", "top_k", "top_p", "min_p",
    ])]
    paths: bool,
    /// The numbers of drafts [default: 1,2,4,8; with --paths those up to the number recorded]
    #[arg(short, value_name = "K,…", value_delimiter = ',', allow_negative_numbers = true)]
    pub k: Vec<usize>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Also draw the mean acceptance against k, into an .svg or a .png file
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// Temperature of both models; 0 is greedy
    #[arg(long, value_name = "T", default_value_t = 1.0, allow_negative_numbers = true)]
    temperature: f64,
    /// Temperature of the draft model, if it is another
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    draft_temperature: Option<f64>,
    /// Keep only the most probable tokens, this many, of both models
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    top_k: Option<usize>,
    /// Keep only the most probable tokens up to this mass, of both models
    #[arg(long, value_name = "MASS", allow_negative_numbers = true)]
    top_p: Option<f64>,
    /// Keep only tokens at least this share as probable as the most probable one, of both models
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    min_p: Option<f64>,
    /// Also make this many selections with every rule at every position, and check the number accepted
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub rounds: u32,
    /// The seed of --rounds
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table
    Text,
    /// One object, with the mean, least and largest acceptance
    Json,
    /// One line for each position, number of drafts and rule
    Csv,
}

/// One position with one number of drafts.
struct Point {
    optimum: f64,
    measures: Vec<Measure>,
    /// Beside `measures`, if anything is simulated.
    tallies: Vec<Tally>,
}

#[derive(Serialize)]
struct Report {
    rows: usize,
    vocab: usize,
    results: Vec<Summary>,
}

/// One rule with one number of drafts, over all positions.
#[derive(Serialize)]
struct Summary {
    k: usize,
    selector: &'static str,
    mean: f64,
    min: f64,
    max: f64,
    optimum: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    standard_error: Option<f64>,
    #[serde(skip)]
    rule: Rule,
    #[serde(skip)]
    drawn: Drawn,
}

pub fn run(args: &Args) -> anyhow::Result<Verdict> {
    check_ks(&args.k)?;
    let image = output::image(args.plot.as_deref())?;
    if args.paths {
        return paths::run(args, image);
    }
    let ks = if args.k.is_empty() { DEFAULT_KS.to_vec() } else { args.k.clone() };
    let trace = match &args.trace {
        Some(path) => Trace::open(path).map_err(|error| refused(path, error))?,
        None => Trace::embedded(),
    };
    let points = measure_trace(&trace, &ks, args)?;
    let report = summarise(&trace, &ks, &points);
    let verdict = judge(&ks, &points);

    let text = match args.format {
        Format::Text => text(&report, &ks, args),
        Format::Json => output::json(&report)?,
        Format::Csv => csv(&ks, &points)?,
    };
    if let (Some(path), Some(image)) = (&args.plot, image) {
        let title = format!("Acceptance over {} positions, {} tokens", report.rows, report.vocab);
        let curves = Curves { title, values: "mean acceptance", highest: Some(1.0), curves: curves(&report) };
        output::write_file(path, |path| Ok(curves.save(image, path)?))?;
    }
    output::print(&text)?;
    Ok(verdict)
}

/// The error of a trace that could not be opened. One of the file system names the file itself.
pub fn refused(path: &Path, error: TraceError) -> anyhow::Error {
    match error {
        TraceError::Io { .. } => error.into(),
        error => anyhow::Error::new(error).context(format!("trace '{}'", path.display())),
    }
}

fn check_ks(ks: &[usize]) -> anyhow::Result<()> {
    for (i, &k) in ks.iter().enumerate() {
        if !(1..=MAX_DRAFTS).contains(&k) {
            return Err(ProblemError::Drafts { k }).context("-k");
        }
        if ks[..i].contains(&k) {
            bail!("-k: {k} is listed twice");
        }
    }
    Ok(())
}

/// All points, by row, then by `ks`.
fn measure_trace(trace: &Trace, ks: &[usize], args: &Args) -> anyhow::Result<Vec<Vec<Point>>> {
    let target = Sampling { temperature: args.temperature, top_k: args.top_k, top_p: args.top_p, min_p: args.min_p };
    let draft = Sampling { temperature: args.draft_temperature.unwrap_or(args.temperature), ..target };
    let measure_row = |row: usize| -> anyhow::Result<Vec<Point>> {
        let mut problem = Problem::new(trace.draft_with(row, &draft)?, trace.target_with(row, &target)?, 1)?;
        let mut rng = StdRng::seed_from_u64(args.seed.wrapping_add(row as u64));
        let mut points = Vec::with_capacity(ks.len());
        for &k in ks {
            problem = problem.with_k(k)?;
            let measures = measure(&problem);
            let simulated = if args.rounds > 0 { &measures[..] } else { &[] };
            let tallies = simulated
                .iter()
                .map(|measure| Tally::simulate(measure.rule, &problem, args.rounds, &mut rng))
                .collect::<anyhow::Result<_>>()?;
            points.push(Point { optimum: alpha_star(&problem), measures, tallies });
        }
        Ok(points)
    };

    rows::map(trace.rows(), measure_row)
}

fn summarise(trace: &Trace, ks: &[usize], points: &[Vec<Point>]) -> Report {
    let count = points.len() as f64;
    let mut results = Vec::new();
    for (at, &k) in ks.iter().enumerate() {
        let optimum = points.iter().map(|row| row[at].optimum).sum::<f64>() / count;
        for (i, Measure { rule, drawn, .. }) in points[0][at].measures.iter().enumerate() {
            let all = || points.iter().map(|row| row[at].measures[i].acceptance);
            let values = || all().map(|acceptance| acceptance.value);
            // The rows are simulated with seeds of their own: their errors are independent.
            let variance = all().map(|Acceptance { standard_error, .. }| standard_error * standard_error).sum::<f64>();
            let error = variance.sqrt() / count;
            results.push(Summary {
                k,
                selector: rule.name(),
                mean: values().sum::<f64>() / count,
                min: values().fold(f64::INFINITY, f64::min),
                max: values().fold(f64::NEG_INFINITY, f64::max),
                optimum,
                standard_error: (error > 0.0).then_some(error),
                rule: *rule,
                drawn: *drawn,
            });
        }
    }
    Report { rows: trace.rows(), vocab: trace.vocab(), results }
}

/// One curve for each rule and one for the optimum, which comes first: it is drawn below the others.
fn curves(report: &Report) -> Vec<Curve> {
    let mut curves = vec![Curve { name: "optimum α*".into(), style: optimum_style(), points: Vec::new() }];
    for rule in Rule::ALL {
        let results = report.results.iter().filter(|result| result.rule == rule);
        let points: Vec<_> = results.map(|result| (result.k, result.mean)).collect();
        if !points.is_empty() {
            curves.push(Curve { name: rule.name().into(), style: rule_style(rule), points });
        }
    }
    curves[0].points = report.results.iter().map(|result| (result.k, result.optimum)).collect();
    for curve in &mut curves {
        curve.points.sort_by_key(|(k, _)| *k);
        curve.points.dedup();
    }
    curves
}

/// The first check that fails.
fn judge(ks: &[usize], points: &[Vec<Point>]) -> Verdict {
    for (row, points) in points.iter().enumerate() {
        for (k, point) in ks.iter().zip(points) {
            if let Some(complaint) = point.measures.iter().find_map(|measure| measure.complaint(point.optimum)) {
                return Verdict::Failed(format!("row {row}, k = {k}: {complaint}"));
            }
        }
    }
    for (at, k) in ks.iter().enumerate() {
        for (i, measure) in points[0][at].measures.iter().enumerate() {
            let mut total = Tally::default();
            points.iter().filter_map(|row| row[at].tallies.get(i)).for_each(|tally| total.add(*tally));
            if total.is_off() {
                return Verdict::Failed(format!("k = {k}: {}: {}", measure.rule, total.describe()));
            }
        }
    }
    Verdict::Passed
}

fn csv(ks: &[usize], points: &[Vec<Point>]) -> anyhow::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["row", "k", "selector", "acceptance", "optimum"])?;
    // 17 significant digits identify an f64.
    let number = |value: f64| format!("{value:.16e}");
    for (row, points) in points.iter().enumerate() {
        for (k, point) in ks.iter().zip(points) {
            for Measure { rule, acceptance, .. } in &point.measures {
                let (row, k, name) = (row.to_string(), k.to_string(), rule.name().to_string());
                writer.write_record([row, k, name, number(acceptance.value), number(point.optimum)])?;
            }
        }
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

fn text(report: &Report, ks: &[usize], args: &Args) -> String {
    let rules: Vec<Rule> =
        Rule::ALL.into_iter().filter(|&rule| report.results.iter().any(|result| result.rule == rule)).collect();
    let names = rules.iter().map(|rule| rule.name());
    let mut table = output::table(["k"].into_iter().chain(names).chain(["optimum", "gap"]), 0);
    for &k in ks {
        let results: Vec<&Summary> = report.results.iter().filter(|result| result.k == k).collect();
        let cell = |rule: &Rule| match results.iter().find(|result| result.rule == *rule) {
            None => "–".to_string(),
            Some(Summary { mean, standard_error: None, .. }) => format!("{mean:.4}"),
            Some(Summary { mean, standard_error: Some(error), .. }) => format!("{mean:.4} ±{error:.0e}"),
        };
        let mut cells = vec![k.to_string()];
        cells.extend(rules.iter().map(cell));
        // No rule takes this k only if there are none: then there is no line for it.
        let Some(first) = results.first() else { continue };
        let without =
            results.iter().filter(|result| result.drawn == Drawn::Independent && !aims_at_optimum(result.rule));
        let best = without.map(|result| result.mean).fold(f64::NAN, f64::max);
        cells.push(format!("{:.4}", first.optimum));
        cells.push(if best.is_nan() { "–".into() } else { format!("{:.4}", (first.optimum - best).max(0.0)) });
        table.add_row(cells);
    }
    let mut text = format!("Mean acceptance over {} positions, {} tokens\n{table}\n", report.rows, report.vocab);
    text += "optimum: the most that any rule attains with independent drafts\n";
    text += "gap: what the best rule of independent drafts that does not aim at the optimum leaves\n";
    if report.results.iter().any(|result| result.drawn == Drawn::WithoutReplacement) {
        text += "rrs-wor drafts without replacement: the optimum is no bound for it\n";
    }
    if report.results.iter().any(|result| result.standard_error.is_some()) {
        text += "±: the standard error of an estimate\n";
    }
    if args.rounds > 0 {
        text += &format!("checked with {} selections a position and rule, seed {}\n", args.rounds, args.seed);
    }
    text
}
