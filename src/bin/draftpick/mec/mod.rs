//! `draftpick mec`: minimum-entropy couplings, with a bottleneck, and in a game.

mod bottleneck;
mod couple;
mod game;

use anyhow::bail;
use clap::{Subcommand, ValueEnum};

use crate::Verdict;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The greedy coupling of some laws, with the bound that certifies it
    Couple(couple::Args),
    /// How much of one law reaches another through a code of limited entropy
    Bottleneck(bottleneck::Args),
    /// A message carried in the actions of an agent: reward against what the receiver understands
    Game(game::Args),
}

/// How to print a result.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Tables
    Text,
    /// One object
    Json,
}

pub fn run(args: &Args) -> anyhow::Result<Verdict> {
    match &args.command {
        Command::Couple(args) => couple::run(args),
        Command::Bottleneck(args) => bottleneck::run(args),
        Command::Game(args) => game::run(args),
    }
}

/// Refuses rates that are none; a list that is empty means `default`.
fn rates(given: &[f64], default: impl FnOnce() -> Vec<f64>) -> anyhow::Result<Vec<f64>> {
    if let Some(rate) = given.iter().find(|rate| !(**rate >= 0.0 && rate.is_finite())) {
        bail!("--rates: {rate} is no number of bits");
    }
    Ok(if given.is_empty() { default() } else { given.to_vec() })
}
