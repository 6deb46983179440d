//! The `draftpick` command line: parse, call the library, print.
//!
//! To add a subcommand, add a file with its arguments and `run`, a variant to [`Command`] and a line to [`run`].

mod audit;
mod compare;
#[cfg(feature = "candle")]
mod contest;
mod exact;
mod generate;
#[cfg(feature = "lab")]
mod lab;
mod measure;
mod mec;
mod output;
mod paths;
mod regions;
mod rows;
mod solve;
#[cfg(feature = "candle")]
mod texts;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

/// Lossless draft selection for speculative decoding, by optimal transport.
#[derive(Parser)]
#[command(version, after_help = "Exit status: 0 on success, 1 if something that was checked failed, 2 on bad input.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One problem: the optimum, what each rule attains, the coupling
    Solve(solve::Args),
    /// What each rule attains on recorded scores, beside the optimum
    Compare(compare::Args),
    /// A page to play with, for this machine only
    #[cfg(feature = "lab")]
    Lab(lab::Args),
    /// Minimum-entropy couplings: of laws, through a bottleneck, in a game
    Mec(mec::Args),
    /// Whether an engine is lossless, and what it leaves on the table, from its log
    Audit(audit::Args),
    /// Text from a draft and a target model, and what speculative decoding makes of them
    Generate(generate::Args),
}

/// How a subcommand that ran to its end came out.
enum Verdict {
    /// All that it checks held.
    Passed,
    /// A check failed; what it was.
    Failed(String),
}

const CHECK_FAILED: u8 = 1;
const BAD_INPUT: u8 = 2;

fn run(command: &Command) -> anyhow::Result<Verdict> {
    match command {
        Command::Solve(args) => solve::run(args),
        Command::Compare(args) => compare::run(args),
        #[cfg(feature = "lab")]
        Command::Lab(args) => lab::run(args),
        Command::Mec(args) => mec::run(args),
        Command::Audit(args) => audit::run(args),
        Command::Generate(args) => generate::run(args),
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match run(&cli.command) {
        Ok(Verdict::Passed) => ExitCode::SUCCESS,
        Ok(Verdict::Failed(check)) => {
            eprintln!("draftpick: check failed: {check}");
            ExitCode::from(CHECK_FAILED)
        }
        Err(error) => {
            eprintln!("draftpick: {error:#}");
            ExitCode::from(BAD_INPUT)
        }
    }
}

/// Prints help where it was asked for, and any other parse error on one line.
fn usage(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => match error.print().and_then(|()| output::flush()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(BAD_INPUT),
        },
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            eprint!("{text}");
            ExitCode::from(BAD_INPUT)
        }
        _ => {
            // The rest is the usage and a pointer to the help.
            let lines = text.lines().take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
            let line = lines.map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
            eprintln!("draftpick: {} (draftpick --help tells more)", line.trim_start_matches("error: "));
            ExitCode::from(BAD_INPUT)
        }
    }
}
