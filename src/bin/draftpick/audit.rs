//! `draftpick audit`: whether an engine is lossless, from its log.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;
use draftpick::audit::log::{
    AcceptanceSummary, FindingSummary, Header, MeanSummary, Pass, PowerSummary, Reader, Summary, Writer,
};
use draftpick::audit::simulate::{self, Chain, Engine, Mistake};
use draftpick::audit::{Audit, KnownRule, Test, UnknownKnownRule};
use draftpick::picture::{Evidence, Picture};
use draftpick::trace::{Precision, Trace, Values};
use draftpick::{Drawn, Sampling};

use crate::Verdict;
use crate::compare::refused;
use crate::{output, rows};

/// The most findings that are printed.
const SHOWN_FINDINGS: usize = 5;

#[derive(clap::Args)]
pub struct Args {
    /// What an engine logged, in JSON Lines (docs/audit.md); - is standard input
    log: PathBuf,
    /// The rule that the engine follows, if the log does not say, or none if what it says is not to be believed
    #[arg(long, value_name = "RULE", value_parser = rule)]
    rule: Option<Rule>,
    /// The probability of refusing an honest log, however long it is
    #[arg(long, value_name = "P", default_value_t = 0.001, allow_negative_numbers = true)]
    level: f64,
    /// How far the logged laws may be from those that the engine used, in total variation [default: by the precision]
    #[arg(long, value_name = "TV", allow_negative_numbers = true)]
    accuracy: Option<f64>,
    /// On how many rounds, at least, the engine is compared with the rules
    #[arg(long, value_name = "N", default_value_t = 500)]
    compare: usize,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Also draw the evidence along the log, into an .svg or a .png file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Make LOG first, by an engine that follows this rule
    #[arg(long, value_name = "RULE", help_heading = "Making a log", conflicts_with = "mistake")]
    simulate: Option<KnownRule>,
    /// Make LOG first, by an engine with a mistake: lax-coin[=BITS], bonus-row, draft-temperature[=T], residual, or
    /// unchecked[=SHARE]
    #[arg(long, value_name = "MISTAKE", help_heading = "Making a log", value_parser = mistake)]
    mistake: Option<Mistake>,
    /// The recorded scores that the models draw from [default: those that come along]
    #[arg(long, value_name = "TRACE", help_heading = "Making a log")]
    trace: Option<PathBuf>,
    /// The number of drafted paths
    #[arg(short = 'K', long, value_name = "K", default_value_t = 1, help_heading = "Making a log")]
    paths: usize,
    /// The length of a path
    #[arg(short = 'L', long, value_name = "L", default_value_t = 1, help_heading = "Making a log")]
    length: usize,
    /// The number of rounds
    #[arg(short = 'n', long, value_name = "N", default_value_t = 2000, help_heading = "Making a log")]
    rounds: usize,
    /// Log only so many tokens of each law, the most probable, and the mass of the rest
    #[arg(long, value_name = "N", help_heading = "Making a log")]
    log_top: Option<usize>,
    /// Temperature of both models
    #[arg(long, value_name = "T", default_value_t = 1.0, help_heading = "Making a log", allow_negative_numbers = true)]
    temperature: f64,
    /// Keep only the most probable tokens, this many, of both models
    #[arg(long, value_name = "N", help_heading = "Making a log")]
    top_k: Option<usize>,
    /// The seed of the engine
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Making a log")]
    seed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Tables
    Text,
    /// One object
    Json,
}

/// What `--rule` says.
#[derive(Clone, Copy)]
enum Rule {
    None,
    Known(KnownRule),
}

fn rule(name: &str) -> Result<Rule, UnknownKnownRule> {
    if name == "none" { Ok(Rule::None) } else { name.parse().map(Rule::Known) }
}

fn mistake(text: &str) -> anyhow::Result<Mistake> {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    let number = |default: f64| value.map_or(Ok(default), |value| value.parse::<f64>().context("not a number"));
    Ok(match name {
        "lax-coin" => {
            let bits = value.map_or(Ok(8), |value| value.parse::<u32>().context("not a number of bits"))?;
            if !(1..=53).contains(&bits) {
                bail!("{bits} bits; there must be 1 to 53");
            }
            Mistake::LaxCoin { bits }
        }
        "bonus-row" if value.is_none() => Mistake::BonusFromRowBefore,
        "residual" if value.is_none() => Mistake::ResidualFromTarget,
        "draft-temperature" => {
            let temperature = number(1.5)?;
            if !(temperature > 0.0 && temperature.is_finite()) {
                bail!("a temperature of {temperature}; it must be positive");
            }
            Mistake::DraftTemperature(temperature)
        }
        "unchecked" => {
            let share = number(0.1)?;
            if !(0.0..=1.0).contains(&share) {
                bail!("a share of {share}; it must be in [0, 1]");
            }
            Mistake::Unchecked(share)
        }
        _ => bail!("there are lax-coin[=BITS], bonus-row, draft-temperature[=T], residual, unchecked[=SHARE]"),
    })
}

pub fn run(args: &Args) -> anyhow::Result<Verdict> {
    if !(args.level > 0.0 && args.level < 1.0) {
        bail!("--level: {}; it must be between 0 and 1", args.level);
    }
    if let Some(accuracy) = args.accuracy
        && !(0.0..1.0).contains(&accuracy)
    {
        bail!("--accuracy: {accuracy}; it must be in [0, 1)");
    }
    let image = output::image(args.plot.as_deref())?;
    if args.simulate.is_some() || args.mistake.is_some() {
        make_log(args)?;
    } else if args.trace.is_some() {
        bail!("--trace: is for making a log; --simulate or --mistake say by what engine");
    }
    let name = args.log.display().to_string();
    let (audit, header) = if args.log == Path::new("-") {
        read(args, std::io::stdin().lock(), 0)
    } else {
        let file = File::open(&args.log).with_context(|| format!("cannot read '{name}'"))?;
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        read(args, BufReader::with_capacity(1 << 20, file), length)
    }
    .with_context(|| format!("log '{name}'"))?;
    let report = Report(Summary::new(&audit, &header));
    if let (Some(path), Some(image)) = (&args.plot, image) {
        let title = format!("Evidence against {name}");
        let tests = audit.tested().into_iter().map(|test| (test.test.name().into(), test)).collect();
        let evidence = Evidence { title, tests };
        output::write_file(path, |path| Ok(evidence.save(image, path)?))?;
    }
    output::print(&match args.format {
        Format::Text => report.text(&name, args.level),
        Format::Json => output::json(&report.0)?,
    })?;
    Ok(report.verdict())
}

/// Writes the log of an engine made for the purpose.
fn make_log(args: &Args) -> anyhow::Result<()> {
    if args.log.exists() {
        bail!("'{}' is there already; a log is not made in its place", args.log.display());
    }
    let trace = match &args.trace {
        Some(path) => Trace::open(path).map_err(|error| refused(path, error))?,
        None => Trace::embedded(),
    };
    let sampling = Sampling { temperature: args.temperature, top_k: args.top_k, ..Sampling::default() };
    let draft = (0..trace.rows()).map(|row| trace.draft_with(row, &sampling)).collect::<Result<_, _>>()?;
    let target = (0..trace.rows()).map(|row| trace.target_with(row, &sampling)).collect::<Result<_, _>>()?;
    let mut chain = Chain::new(draft, target)?;
    if let Some(most) = args.log_top {
        chain = chain.logging_top(most);
    }
    let mut header = Header::new(chain.vocab(), Values::Logits, Some(Precision::F32));
    let engine = match args.mistake {
        Some(mistake) => Engine::Mistaken(mistake),
        None => {
            header.rule = args.simulate;
            if args.simulate == Some(KnownRule::Distinct) {
                header.drawn = Drawn::WithoutReplacement;
            }
            Engine::Honest(args.simulate.expect("an engine was asked for"))
        }
    };
    output::write_file(&args.log, |path| {
        let mut writer = Writer::new(BufWriter::new(File::create(path)?), header)?;
        let bar = rows::Bar::new(args.rounds as u64);
        for record in simulate::records(&chain, engine, args.paths, args.length, args.seed).take(args.rounds) {
            writer.write(&record?)?;
            bar.advance(1);
        }
        bar.finish();
        writer.finish()?;
        Ok(())
    })
}

/// Reads a log in one pass.
fn read(args: &Args, input: impl BufRead, length: u64) -> anyhow::Result<(Audit, Header)> {
    let pass = Pass {
        level: args.level,
        rule: args.rule.map(|rule| match rule {
            Rule::None => None,
            Rule::Known(rule) => Some(rule),
        }),
        accuracy: args.accuracy,
        compared: args.compare,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
    };
    let bar = rows::Bar::of_bytes(length);
    let audited = Reader::new(input)?.audit(&pass, |bytes| {
        bar.advance(bytes);
        ControlFlow::Continue(())
    });
    bar.finish();
    Ok(audited?)
}

/// What is printed.
struct Report(Summary);

impl Report {
    fn verdict(&self) -> Verdict {
        let rejected: Vec<String> = self
            .0
            .tests
            .iter()
            .filter_map(|test| Some((test, test.rejected_after?)))
            .map(|(test, after)| format!("{} (after {after} tokens)", hypothesis(test.test)))
            .collect();
        match rejected.is_empty() {
            true => Verdict::Passed,
            false => Verdict::Failed(format!("not lossless: it does not hold that {}", rejected.join(" and that "))),
        }
    }

    fn text(&self, name: &str, level: f64) -> String {
        let Summary { rounds, tokens, vocab, .. } = &self.0;
        let mut text =
            format!("Audit of {name}: {tokens} tokens in {rounds} rounds, {vocab} tokens in the vocabulary\n");
        let header = ["test", "outcomes", "log10 e", "highest", "refused at", "p", "verdict"];
        let mut table = output::table(header, 1);
        for test in &self.0.tests {
            let verdict = test.rejected_after.map_or("holds".into(), |after| format!("fails after {after} tokens"));
            table.add_row([
                test.test.into(),
                test.outcomes.to_string(),
                format!("{:.2}", test.log10_e),
                format!("{:.2}", test.highest),
                format!("{:.2}", test.threshold),
                format!("{:.1e}", test.p_value),
                verdict,
            ]);
        }
        text += &format!("{table}\n");
        for test in &self.0.tests {
            text += &format!("{}: {}\n", test.test, hypothesis(test.test));
        }
        text +=
            &format!("e: the wealth of a bet against it; an honest log is refused with probability {level} at most\n");
        for test in self.0.tests.iter().filter(|test| test.rejected_after.is_some()) {
            text += &match (test.impossible, test.richest_bet) {
                (0, Some(bet)) => format!("{}: the bet that won most was on {bet}\n", test.test),
                (0, None) => format!("{}: the bet that won most had learned the density by itself\n", test.test),
                (impossible, _) => format!("{}: {impossible} outcomes cannot be\n", test.test),
            };
        }
        if self.0.tests.iter().any(|test| test.test == Test::Rule.name() && test.rejected_after.is_some())
            && let Some(rule) = &self.0.rule
            && rule.parse().is_ok_and(|rule: KnownRule| !rule.is_determined())
        {
            text += &format!(
                "rule: what {rule} chooses among given drafts hangs on the last digits of the laws; --rule none leaves it out\n"
            );
        }
        for FindingSummary { line, finding } in self.0.findings.iter().take(SHOWN_FINDINGS) {
            text += &format!("line {line}: {finding}\n");
        }
        if self.0.rounds_without_rule > 0 {
            text += &format!(
                "rule: not applied to {} rounds, whose scores the log cuts off or leaves out\n",
                self.0.rounds_without_rule
            );
        }
        text += &self.acceptance_text();
        text += &self.kept_text();
        for PowerSummary { towards, tokens, .. } in &self.0.power {
            text += &match tokens.is_finite() {
                true => {
                    format!("an output that is off by 1 % towards {towards} is found after some {tokens:.0} tokens\n")
                }
                false => {
                    format!("an output that is off by 1 % towards {towards} is not found: the log rounds too much\n")
                }
            };
        }
        text
    }

    fn acceptance_text(&self) -> String {
        let compared = |at: &&AcceptanceSummary| at.optimum.is_some();
        let Some(first) = self.0.acceptance.iter().find(compared) else {
            return String::new();
        };
        let names: Vec<&str> = first.rules.iter().map(|rule| rule.rule).collect();
        let names = if names.contains(&"maximal") { names } else { [vec!["maximal"], names].concat() };
        let header = ["k", "rounds", "engine"].into_iter().chain(names.iter().copied()).chain(["optimum", "left"]);
        let mut table = output::table(header, 0);
        for at in self.0.acceptance.iter().filter(compared) {
            let Some(optimum) = &at.optimum else { continue };
            let engine = format!("{:.4} ±{:.4}", at.engine.mean, at.engine.standard_error);
            let mut cells = vec![at.k.to_string(), at.rounds.to_string(), engine];
            for name in &names {
                let rule = at.rules.iter().find(|rule| rule.rule == *name);
                cells.push(rule.map_or("–".into(), |rule| range(&rule.acceptance)));
            }
            cells.push(range(optimum));
            cells.push(format!("{:.4}", optimum[0].mean - at.engine.mean));
            table.add_row(cells);
        }
        let rows: usize = self.0.acceptance.iter().map(|at| at.compared).sum();
        format!(
            "\nAcceptance of the first token of a round\n{table}\nrules and optimum: means over {rows} of the rounds; \
             left: what the optimum is above the engine\n"
        )
    }

    fn kept_text(&self) -> String {
        let mut text = String::new();
        for kept in &self.0.kept {
            let mut table = output::table(["verifier", "kept", "±"], 1);
            let mut row = |name: &str, mean: &MeanSummary| {
                table.add_row([name.into(), format!("{:.4}", mean.mean), format!("{:.4}", mean.standard_error)]);
            };
            row("this engine", &kept.engine);
            kept.verifiers.iter().for_each(|verifier| row(&verifier.verifier, &verifier.kept));
            text += &format!(
                "\nDrafted tokens kept of {} paths of {} ({} rounds; the verifiers on the drafts of {})\n{table}\n",
                kept.paths, kept.length, kept.rounds, kept.compared
            );
        }
        text
    }
}

fn hypothesis(test: &str) -> &'static str {
    match test {
        name if name == Test::Output.name() => "each token of the text has the target's law, given those before it",
        name if name == Test::Drafts.name() => "each drafted token has the stated draft law",
        _ => "the output has the law that the rule gives it for these drafts",
    }
}

/// One number, or two where the tails make a difference.
fn range([low, high]: &[MeanSummary; 2]) -> String {
    let (low, high) = (format!("{:.4}", low.mean), format!("{:.4}", high.mean));
    if low == high { low } else { format!("{low}–{high}") }
}
