//! All ways of decoding side by side: on one prompt, and over many.

use draftpick::Token;
use draftpick::decode::candle::Device;
use draftpick::decode::{Request, Settings, Speculative, Statistics};
use draftpick::path::{PathVerifier, Verifier};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::generate::Args;
use crate::output;
use crate::texts::{Models, Rows, WhenDone, decode, rows_of};

/// One way of decoding.
#[derive(Clone, Copy)]
pub struct Mode {
    pub paths: usize,
    pub length: usize,
    pub verifier: Verifier,
    pub rows: Rows,
}

impl Mode {
    fn name(self) -> String {
        if self.length == 0 { "plain".into() } else { self.verifier.name() }
    }
}

/// What was measured of one way of decoding.
#[derive(Serialize)]
pub struct Line {
    verifier: String,
    #[serde(rename = "K")]
    paths: usize,
    #[serde(rename = "L")]
    length: usize,
    rows: Rows,
    block_efficiency: f64,
    standard_error: f64,
    acceptance_by_depth: Vec<f64>,
    tokens: u64,
    tokens_per_second: f64,
    speed_up: f64,
    /// The shares of the time that the two models and the verifier took.
    draft_share: f64,
    target_share: f64,
    verify_share: f64,
}

/// What was measured of one verifier on drafts that all verifiers were given.
#[derive(Serialize)]
pub struct Paired {
    verifier: String,
    block_efficiency: f64,
    standard_error: f64,
    /// The ratio to traversal verification on the same drafts, and its standard error over the prompts.
    over_traversal: f64,
    over_traversal_error: f64,
    over_kseq: f64,
    over_kseq_error: f64,
    /// Mean time of a verification.
    microseconds: f64,
}

#[derive(Serialize)]
pub struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    prompts: usize,
    temperature: f64,
    draft_temperature: f64,
    seed: u64,
    results: Vec<Line>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    same_drafts: Vec<Paired>,
    #[serde(skip)]
    shape: (usize, usize),
}

/// The ways of decoding that every contest runs: plain, the published ones, then this crate's. On a GPU the path coupling
/// runs once more on the host, where some of the others have to run.
fn modes(paths: usize, length: usize, asked: Rows, settings: &Settings, device: &Device) -> Vec<Mode> {
    let mode = |paths, length, verifier: &str| {
        let verifier = verifier.parse().expect("the names below are those of verifiers");
        Mode { paths, length, verifier, rows: rows_of(verifier, asked, settings, device) }
    };
    let mut modes =
        vec![mode(1, 0, "path"), mode(1, length, "maximal"), mode(1, length, "block"), mode(4, length, "kseq")];
    if paths != 4 {
        modes.push(mode(paths, length, "kseq"));
    }
    if paths != 8 {
        modes.push(mode(8, length, "kseq"));
    }
    modes.extend(["traversal", "optimal-linear", "spread", "path"].map(|verifier| mode(paths, length, verifier)));
    let path = modes[modes.len() - 1];
    if path.rows == Rows::Device {
        modes.push(Mode { rows: Rows::Host, ..path });
    }
    modes
}

fn line(mode: Mode, statistics: &Statistics) -> Line {
    let total = statistics.time().as_secs_f64();
    let share = |part: std::time::Duration| part.as_secs_f64() / total;
    Line {
        verifier: mode.name(),
        paths: if mode.length == 0 { 0 } else { mode.paths },
        length: mode.length,
        rows: mode.rows,
        block_efficiency: statistics.block_efficiency(),
        standard_error: statistics.standard_error(),
        acceptance_by_depth: statistics.acceptance_by_depth(),
        tokens: statistics.tokens,
        tokens_per_second: statistics.tokens as f64 / total,
        speed_up: f64::NAN,
        draft_share: share(statistics.draft + statistics.draw),
        target_share: share(statistics.target),
        verify_share: share(statistics.verify),
    }
}

/// The shares of the prompts that all ways of decoding take in turn: what slows the machine down for a while then falls to
/// all of them.
const TURNS: usize = 8;

/// Tokens that are generated in each way before anything is timed, if there is only one prompt.
const WARM_UP: usize = 16;

/// Generates from every prompt in every way.
fn generate(
    mut models: Models,
    settings: &Settings,
    modes: &[Mode],
    prompts: &[Vec<Token>],
    args: &Args,
    bar: &ProgressBar,
) -> anyhow::Result<(Models, Vec<Line>)> {
    let request = |(i, prompt): (usize, &Vec<Token>)| Request {
        prompt: prompt.clone(),
        seed: args.seed.wrapping_add(i as u64),
        limit: args.tokens,
        ..Request::default()
    };
    let requests: Vec<Request> = prompts.iter().enumerate().map(request).collect();
    let settings_of = |&Mode { paths, length, verifier, .. }: &Mode| Settings {
        paths,
        length,
        verifier,
        adaptive: settings.adaptive && length > 0,
        ..settings.clone()
    };
    // What adapts to the rounds before must see them all.
    let turns = if settings.adaptive { 1 } else { TURNS };
    let share = requests.len().div_ceil(turns);
    // What is loaded or compiled at first use is not what is measured. On a GPU each number of nodes has its own kernels for
    // the products: of many prompts, a share sees most of them.
    let first = match requests.as_slice() {
        [only] => vec![Request { limit: WARM_UP.min(args.tokens), ..only.clone() }],
        _ => requests[..requests.len().div_ceil(TURNS)].to_vec(),
    };
    for mode in modes {
        bar.set_message(format!("{}, not timed yet", mode.name()));
        models = decode(models, settings_of(mode), mode.rows, &first, &mut WhenDone(|| {}))?.0;
    }
    let mut all = vec![Statistics::default(); modes.len()];
    for requests in requests.chunks(share) {
        for (mode, all) in modes.iter().zip(&mut all) {
            bar.set_message(mode.name());
            let (back, statistics) =
                decode(models, settings_of(mode), mode.rows, requests, &mut WhenDone(|| bar.inc(1)))?;
            models = back;
            all.add(&statistics);
        }
    }
    Ok((models, modes.iter().zip(&all).map(|(mode, statistics)| line(*mode, statistics)).collect()))
}

fn speed_ups(lines: &mut [Line]) {
    let plain = lines.iter().find(|line| line.length == 0).map_or(f64::NAN, |line| line.tokens_per_second);
    lines.iter_mut().for_each(|line| line.speed_up = line.tokens_per_second / plain);
}

fn progress(length: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg} {eta}")
        .expect("the template is a constant, and valid");
    ProgressBar::new(length as u64).with_style(style)
}

/// Every way of decoding on one prompt, the one that made `text` the last.
pub fn table(
    models: Models,
    settings: &Settings,
    prompt: &[Token],
    own: Mode,
    text: &str,
    args: &Args,
) -> anyhow::Result<Report> {
    let mut modes = modes(own.paths, own.length.max(1), args.rows, settings, models.target.device());
    let key = |mode: &Mode| (mode.paths, mode.length, mode.name(), mode.rows);
    modes.retain(|mode| key(mode) != key(&own));
    modes.push(own);
    let bar = progress(modes.len());
    let (_, mut results) = generate(models, settings, &modes, &[prompt.to_vec()], args, &bar)?;
    bar.finish_and_clear();
    speed_ups(&mut results);
    Ok(Report {
        text: Some(text.into()),
        prompts: 1,
        temperature: settings.sampling.temperature,
        draft_temperature: settings.draft_sampling.temperature,
        seed: args.seed,
        results,
        same_drafts: Vec::new(),
        shape: (args.paths, args.length),
    })
}

/// Tokens and rounds of one verifier for each prompt, and the seconds it took.
#[derive(Clone, Default)]
struct Counts {
    tokens: Vec<f64>,
    seconds: f64,
}

/// Every way of decoding over all prompts, then all verifiers on the same drafts.
pub fn bench(mut models: Models, settings: &Settings, prompts: &[Vec<Token>], args: &Args) -> anyhow::Result<Report> {
    let device = models.target.device();
    let modes = if args.same_drafts { Vec::new() } else { modes(args.paths, args.length, args.rows, settings, device) };
    let bar = progress((modes.len() + 1) * prompts.len());
    let mut results = Vec::new();
    if !modes.is_empty() {
        (models, results) = generate(models, settings, &modes, prompts, args, &bar)?;
    }
    speed_ups(&mut results);
    bar.set_message("same drafts");
    let same_drafts = same_drafts(models, settings, prompts, args, &bar)?;
    bar.finish_and_clear();
    Ok(Report {
        text: None,
        prompts: prompts.len(),
        temperature: settings.sampling.temperature,
        draft_temperature: settings.draft_sampling.temperature,
        seed: args.seed,
        results,
        same_drafts,
        shape: (args.paths, args.length),
    })
}

/// Asks every verifier about every round of texts that the k-SEQ recursion goes on with: none is asked about drafts that
/// its own choices led to.
fn same_drafts(
    models: Models,
    settings: &Settings,
    prompts: &[Vec<Token>],
    args: &Args,
    bar: &ProgressBar,
) -> anyhow::Result<Vec<Paired>> {
    let verifiers = Verifier::all(args.paths);
    let driver: Verifier = "kseq".parse()?;
    let settings = Settings { verifier: driver, adaptive: false, ..settings.clone() };
    let mut engine = Speculative::new(models.draft, models.target, settings)?;
    let mut counts = vec![Counts::default(); verifiers.len()];
    let mut rounds = Vec::new();
    for (i, prompt) in prompts.iter().enumerate() {
        let request = Request {
            prompt: prompt.clone(),
            seed: args.seed.wrapping_add(i as u64),
            limit: args.tokens,
            ..Request::default()
        };
        engine.add(request)?;
        counts.iter_mut().for_each(|counts| counts.tokens.push(0.0));
        rounds.push(0.0);
        let mut failed = None;
        while !engine.is_idle() && failed.is_none() {
            engine.observed_round(&mut |round, coins| {
                // At the end of a text the drafts are cut short; those rounds say nothing of K and L.
                if round.tree().paths().iter().all(|nodes| nodes.len() <= args.length) {
                    return;
                }
                rounds[i] += 1.0;
                for (verifier, counts) in verifiers.iter().zip(&mut counts) {
                    let start = std::time::Instant::now();
                    match verifier.verify(round, coins) {
                        Ok(outcome) => counts.tokens[i] += outcome.tokens(round).len() as f64,
                        Err(error) => failed = Some(error),
                    }
                    counts.seconds += start.elapsed().as_secs_f64();
                }
            })?;
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        bar.inc(1);
    }
    let of = |name: &str| verifiers.iter().position(|verifier| verifier.name() == name);
    let one = vec![f64::NAN; rounds.len()];
    let tokens = |name: &str| of(name).map_or(&one, |i| &counts[i].tokens);
    let total: f64 = rounds.iter().sum();
    let paired = verifiers.iter().zip(&counts).map(|(verifier, counts)| {
        let (block_efficiency, standard_error) = ratio(&counts.tokens, &rounds);
        let (over_traversal, over_traversal_error) = ratio(&counts.tokens, tokens("traversal"));
        let (over_kseq, over_kseq_error) = ratio(&counts.tokens, tokens("token:kseq"));
        Paired {
            verifier: verifier.name(),
            block_efficiency,
            standard_error,
            over_traversal,
            over_traversal_error,
            over_kseq,
            over_kseq_error,
            microseconds: 1e6 * counts.seconds / total,
        }
    });
    Ok(paired.collect())
}

/// The ratio of two sums over the prompts, and its standard error with the prompts as the independent draws (the delta
/// method).
fn ratio(above: &[f64], below: &[f64]) -> (f64, f64) {
    let ratio = above.iter().sum::<f64>() / below.iter().sum::<f64>();
    let residuals: f64 = above.iter().zip(below).map(|(a, b)| (a - ratio * b).powi(2)).sum();
    let n = above.len() as f64;
    (ratio, (residuals * n / (n - 1.0).max(1.0)).sqrt() / below.iter().sum::<f64>())
}

impl Report {
    pub fn text(&self) -> String {
        let header = [
            "decoding",
            "K",
            "L",
            "tokens a target call",
            "±",
            "kept at depth 1, 2, …",
            "tokens/s",
            "speed-up",
            "verify",
        ];
        let mut table = output::table(header, 1);
        let on_device = self.results.iter().any(|line| line.rows == Rows::Device);
        for line in &self.results {
            let mut depths: Vec<String> = line.acceptance_by_depth.iter().map(|a| format!("{a:.2}")).collect();
            if depths.len() > 8 {
                depths.truncate(7);
                depths.push("…".into());
            }
            let dash = |text: String| if line.length == 0 { "–".into() } else { text };
            table.add_row([
                if on_device && line.rows == Rows::Host {
                    format!("{}, rows on the host", line.verifier)
                } else {
                    line.verifier.clone()
                },
                dash(line.paths.to_string()),
                dash(line.length.to_string()),
                format!("{:.3}", line.block_efficiency),
                format!("{:.3}", line.standard_error),
                dash(depths.join(" ")),
                format!("{:.0}", line.tokens_per_second),
                format!("{:.2}", line.speed_up),
                format!("{:.1} %", 100.0 * line.verify_share),
            ]);
        }
        let mut text = format!(
            "\n{} prompt{}, temperature {}, drafts at {}, seed {}\n",
            self.prompts,
            if self.prompts == 1 { "" } else { "s" },
            self.temperature,
            self.draft_temperature,
            self.seed
        );
        if !self.results.is_empty() {
            text += &format!("{table}\nverify: its share of the time\n");
        }
        if !self.same_drafts.is_empty() {
            let header = ["verifier", "tokens a target call", "±", "/ traversal", "±", "/ kseq", "±", "µs"];
            let mut table = output::table(header, 1);
            for paired in &self.same_drafts {
                table.add_row([
                    paired.verifier.clone(),
                    format!("{:.3}", paired.block_efficiency),
                    format!("{:.3}", paired.standard_error),
                    format!("{:.3}", paired.over_traversal),
                    format!("{:.3}", paired.over_traversal_error),
                    format!("{:.3}", paired.over_kseq),
                    format!("{:.3}", paired.over_kseq_error),
                    format!("{:.0}", paired.microseconds),
                ]);
            }
            let (k, l) = self.shape;
            text += &format!("\nThe same drafts for all, K = {k}, L = {l}\n{table}\n");
            text += "±: standard errors over the prompts; µs: mean time of a verification\n";
        }
        text
    }
}
