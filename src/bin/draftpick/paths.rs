//! `draftpick compare --paths`: every path verifier on recorded drafts.

use anyhow::{Context, bail};
use draftpick::path::{DraftTree, PathError, PathVerifier, Round, RoundCoins, Verifier};
use draftpick::picture::{Curve, Curves, Image, Picture, verifier_style};
use draftpick::trace::PathTrace;
use draftpick::{Pmf, Token};
use serde::Serialize;

use crate::compare::{Args, DEFAULT_KS, Format, refused};
use crate::{Verdict, output, rows};

/// How many standard errors a simulation may be off. Chance alone does that once in 1.7 million times.
const SIGMAS: f64 = 5.0;

/// One verifier on the drafts of one row.
#[derive(Clone, Copy)]
struct Point {
    verifier: Verifier,
    /// The expected number of drafted tokens that it keeps, given the drafts.
    accepted: f64,
    /// Its variance over the coins.
    variance: f64,
    /// The mean over the simulated rounds.
    simulated: Option<f64>,
}

#[derive(Serialize)]
struct Report {
    rows: usize,
    vocab: usize,
    results: Vec<Summary>,
}

/// One verifier with one number of drafts, over all rows.
#[derive(Serialize)]
struct Summary {
    #[serde(rename = "K")]
    k: usize,
    #[serde(rename = "L")]
    length: usize,
    verifier: String,
    #[serde(rename = "mean accepted")]
    mean: f64,
    /// Over the rows: other contexts, and other drafts.
    standard_error: f64,
    #[serde(skip)]
    of: Verifier,
}

pub fn run(args: &Args, image: Option<Image>) -> anyhow::Result<Verdict> {
    let path = args.trace.as_ref().context("--paths needs a trace of drafted paths")?;
    let trace = PathTrace::open(path).map_err(|error| refused(path, error))?;
    if let Some(k) = args.k.iter().find(|&&k| k > trace.paths()) {
        bail!("-k: {k} drafts were asked for, the trace holds {} a row", trace.paths());
    }
    let ks: Vec<usize> = match &args.k[..] {
        [] => DEFAULT_KS.into_iter().filter(|&k| k <= trace.paths()).collect(),
        ks => ks.to_vec(),
    };
    let points = rows::map(trace.rows(), |row| {
        let measure = |&k: &usize| measure(&trace, row, k, args).with_context(|| format!("row {row}, K = {k}"));
        ks.iter().map(measure).collect::<anyhow::Result<Vec<_>>>()
    })?;
    let report = summarise(&trace, &ks, &points);
    let text = match args.format {
        Format::Text => text(&report, args),
        Format::Json => output::json(&report)?,
        Format::Csv => csv(&report)?,
    };
    if let (Some(path), Some(image)) = (&args.plot, image) {
        let title = format!("{} drafted tokens against {} targets", trace.length(), report.rows);
        let highest = Some(trace.length() as f64);
        let curves = Curves { title, values: "mean accepted tokens", highest, curves: curves(&report) };
        output::write_file(path, |path| Ok(curves.save(image, path)?))?;
    }
    output::print(&text)?;
    Ok(judge(&ks, &points, args.rounds))
}

/// The first `k` of a row's paths, as a round.
pub fn round(trace: &PathTrace, row: usize, k: usize) -> anyhow::Result<Round<Pmf>> {
    let paths: Vec<&[Token]> = (0..k).map(|path| trace.tokens(row, path)).collect::<Result<_, _>>()?;
    let tree = DraftTree::recorded(&paths, |path, t| -> anyhow::Result<Pmf> { Ok(trace.draft(row, path, t)?) })?;
    let first: Vec<(usize, usize)> =
        (0..tree.len()).map(|node| (tree.paths_through(node)[0], tree.depth(node))).collect();
    tree.score(|node| Ok(trace.target(row, first[node].0, first[node].1)?))
}

fn measure(trace: &PathTrace, row: usize, k: usize, args: &Args) -> anyhow::Result<Vec<Point>> {
    let round = round(trace, row, k)?;
    let depth = |node: usize| round.tree().depth(node) as f64;
    let measure = |verifier: Verifier| -> anyhow::Result<Point> {
        let law = verifier.law(&round)?;
        let accepted = law.expected_accepted(&round);
        let square: f64 = law.stops().iter().map(|stop| stop.probability * depth(stop.node).powi(2)).sum();
        let simulated = (0..args.rounds)
            .map(|i| {
                // Every row and round is a start of its own.
                let start = (row as u64) << 32 | u64::from(i);
                Ok(depth(verifier.verify(&round, &RoundCoins { seed: args.seed, start })?.node))
            })
            .sum::<Result<f64, PathError>>()?;
        let simulated = (args.rounds > 0).then(|| simulated / f64::from(args.rounds));
        Ok(Point { verifier, accepted, variance: (square - accepted * accepted).max(0.0), simulated })
    };
    Verifier::all(k).into_iter().map(measure).collect()
}

fn summarise(trace: &PathTrace, ks: &[usize], points: &[Vec<Vec<Point>>]) -> Report {
    let count = points.len() as f64;
    let mut results = Vec::new();
    for (at, &k) in ks.iter().enumerate() {
        for (i, Point { verifier, .. }) in points[0][at].iter().enumerate() {
            let values = || points.iter().map(|row| row[at][i].accepted);
            let mean = values().sum::<f64>() / count;
            let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
            results.push(Summary {
                k,
                length: trace.length(),
                verifier: verifier.name(),
                mean,
                standard_error: (variance / count).sqrt(),
                of: *verifier,
            });
        }
    }
    Report { rows: trace.rows(), vocab: trace.vocab(), results }
}

/// The first verifier whose simulated rounds are off.
fn judge(ks: &[usize], points: &[Vec<Vec<Point>>], rounds: u32) -> Verdict {
    for (row, points) in points.iter().enumerate() {
        for (k, points) in ks.iter().zip(points) {
            for point in points {
                let slack = SIGMAS * (point.variance / f64::from(rounds.max(1))).sqrt() + 1e-9;
                // Not `>`: a NaN must not pass.
                let fits = |mean: f64| (mean - point.accepted).abs() <= slack;
                if !point.simulated.is_none_or(fits) {
                    return Verdict::Failed(format!(
                        "row {row}, K = {k}: {}: {} accepted in the mean of {rounds} rounds where {} ± {slack:.1e} are \
                         claimed",
                        point.verifier,
                        point.simulated.unwrap_or(f64::NAN),
                        point.accepted
                    ));
                }
            }
        }
    }
    Verdict::Passed
}

/// One curve for each verifier.
fn curves(report: &Report) -> Vec<Curve> {
    let mut curves: Vec<Curve> = Vec::new();
    for result in &report.results {
        let point = (result.k, result.mean);
        match curves.iter_mut().find(|curve| curve.name == result.verifier) {
            Some(curve) => curve.points.push(point),
            None => {
                let style = verifier_style(result.of);
                curves.push(Curve { name: result.verifier.clone(), style, points: vec![point] });
            }
        }
    }
    curves.iter_mut().for_each(|curve| curve.points.sort_by_key(|(k, _)| *k));
    curves
}

fn csv(report: &Report) -> anyhow::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["K", "L", "verifier", "mean accepted"])?;
    for Summary { k, length, verifier, mean, .. } in &report.results {
        // 17 significant digits identify an f64.
        writer.write_record([k.to_string(), length.to_string(), verifier.clone(), format!("{mean:.16e}")])?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

fn text(report: &Report, args: &Args) -> String {
    let mut table = output::table(["verifier", "K", "L", "mean accepted", "±"], 1);
    for Summary { k, length, verifier, mean, standard_error, .. } in &report.results {
        let numbers = [k.to_string(), length.to_string(), format!("{mean:.4}"), format!("{standard_error:.2}")];
        table.add_row([vec![verifier.clone()], numbers.to_vec()].concat());
    }
    let mut text = format!("Drafted tokens kept over {} rows, {} tokens\n{table}\n", report.rows, report.vocab);
    text += "exact given the drafts; the token that follows the kept ones comes on top\n";
    text += "±: the standard error over the rows, which differ in context and drafts; the verifiers share both\n";
    if args.rounds > 0 {
        text += &format!("checked with {} rounds a row and verifier, seed {}\n", args.rounds, args.seed);
    }
    text
}
