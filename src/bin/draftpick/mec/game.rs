//! `draftpick mec game`.

use std::path::PathBuf;

use anyhow::{Context, bail};
use draftpick::Pmf;
use draftpick::mec::Encoder;
use draftpick::mec::game::{GridWorld, Policy, play};
use draftpick::picture::{Chart, Picture, Series};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::Serialize;

use super::Format;
use crate::{Verdict, output, rows};

/// How many standard errors the mean reward may be from the policy's: twice what chance would ever do, were it normal. The
/// reward of a policy that hardly ever reaches the goal is not.
const SIGMAS: f64 = 10.0;

#[derive(clap::Args)]
pub struct Args {
    /// The number of rows and columns of the grid
    #[arg(long, value_name = "N", default_value_t = 8)]
    size: usize,
    /// The number of steps after which an episode ends
    #[arg(long, value_name = "N", default_value_t = 64)]
    horizon: usize,
    /// The probability that the agent goes in a random direction
    #[arg(long, value_name = "P", default_value_t = 0.05)]
    slip: f64,
    /// The number of equally likely messages
    #[arg(long, value_name = "N", default_value_t = 1024)]
    messages: usize,
    /// The rates to compress the message to, in bits; by default all of it, and 3/4, 1/2 and 1/4
    #[arg(long, value_name = "R,…", value_delimiter = ',', allow_hyphen_values = true)]
    rates: Vec<f64>,
    /// The policies: how much reward the agent gives for a nat of randomness
    #[arg(long, value_name = "T,…", value_delimiter = ',', default_value = "0.05,0.1,0.2,0.3,0.4,0.5,0.55,0.6")]
    temperatures: Vec<f64>,
    /// Episodes a policy and rate
    #[arg(long, value_name = "N", default_value_t = 400)]
    episodes: usize,
    /// What all coins are drawn by
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Draw accuracy against reward into a file, .svg or .png
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    messages: usize,
    episodes: usize,
    results: Vec<Point>,
}

#[derive(Clone, Serialize)]
struct Point {
    rate: f64,
    temperature: f64,
    /// What the policy earns without any message, and the standard error of a mean over as many episodes.
    value: f64,
    #[serde(skip)]
    error: f64,
    reward: f64,
    reward_error: f64,
    accuracy: f64,
    accuracy_error: f64,
    steps: f64,
}

pub fn run(args: &Args) -> anyhow::Result<Verdict> {
    let image = output::image(args.plot.as_deref())?;
    if args.episodes == 0 {
        bail!("--episodes must be at least 1");
    }
    let world = GridWorld::new(args.size, args.horizon, args.slip)?;
    let source = Pmf::uniform(args.messages).context("--messages")?;
    let bits = (args.messages as f64).log2();
    let rates = super::rates(&args.rates, || [1.0, 0.75, 0.5, 0.25].map(|share| share * bits).to_vec())?;
    let policies = args
        .temperatures
        .iter()
        .map(|&temperature| Ok((temperature, Policy::soft(world, temperature).context("--temperatures")?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let encoders = rates.iter().map(|&rate| Ok(Encoder::new(&source, rate)?)).collect::<anyhow::Result<Vec<_>>>()?;
    let results = rows::map(rates.len() * policies.len(), |job| {
        let (rate, policy) = (job / policies.len(), job % policies.len());
        // Each job has its own coins, so that the result does not depend on how the work is shared.
        let mut rng = StdRng::seed_from_u64(args.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(job as u64));
        let (temperature, policy) = &policies[policy];
        point(rates[rate], &encoders[rate], *temperature, policy, args.episodes, &mut rng)
    })?;
    let report = Report { messages: args.messages, episodes: args.episodes, results };
    if let (Some(path), Some(image)) = (&args.plot, image) {
        let series: Vec<Series> = rates
            .iter()
            .map(|&rate| {
                let points = report.results.iter().filter(|point| point.rate == rate);
                let points = points.map(|point| (point.reward, point.accuracy)).collect();
                Series::line(format!("{rate:.2} bits"), points)
            })
            .collect();
        let title = format!("One of {} messages in the actions of an agent", args.messages);
        let chart = Chart { title, axes: ["mean reward", "messages understood"], series, legend: 160 };
        output::write_file(path, |path| Ok(chart.save(image, path)?))?;
    }
    output::print(&match args.format {
        Format::Json => output::json(&report)?,
        Format::Text => text(&report),
    })?;
    let off = report.results.iter().find(|point| (point.reward - point.value).abs() > SIGMAS * point.error + 1e-9);
    Ok(match off {
        Some(point) => Verdict::Failed(format!(
            "at {} bits and temperature {} the mean reward is {:.3} ± {:.3}; the policy's is {:.3}",
            point.rate, point.temperature, point.reward, point.error, point.value
        )),
        None => Verdict::Passed,
    })
}

fn point(
    rate: f64,
    encoder: &Encoder,
    temperature: f64,
    policy: &Policy,
    episodes: usize,
    rng: &mut StdRng,
) -> anyhow::Result<Point> {
    let played = (0..episodes).map(|_| Ok(play(policy, encoder, rng)?)).collect::<anyhow::Result<Vec<_>>>()?;
    let (reward, reward_error) = mean(played.iter().map(|episode| episode.reward));
    let (accuracy, accuracy_error) =
        mean(played.iter().map(|episode| f64::from(u8::from(episode.message == episode.decoded))));
    let (steps, _) = mean(played.iter().map(|episode| episode.steps as f64));
    let (value, error) = (policy.value(), policy.deviation() / (episodes as f64).sqrt());
    Ok(Point { rate, temperature, value, error, reward, reward_error, accuracy, accuracy_error, steps })
}

/// A mean and its standard error.
fn mean(values: impl ExactSizeIterator<Item = f64> + Clone) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.clone().sum::<f64>() / count;
    let variance = values.map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    (mean, (variance / count).sqrt())
}

fn text(report: &Report) -> String {
    let mut table = output::table(["bits", "temperature", "policy's reward", "reward", "understood", "steps"], 0);
    for point in &report.results {
        table.add_row([
            format!("{:.2}", point.rate),
            format!("{:.2}", point.temperature),
            format!("{:.2}", point.value),
            format!("{:.2} ± {:.2}", point.reward, point.reward_error),
            format!("{:.3} ± {:.3}", point.accuracy, point.accuracy_error),
            format!("{:.1}", point.steps),
        ]);
    }
    format!("{} messages, {} episodes each\n{table}\n", report.messages, report.episodes)
}
