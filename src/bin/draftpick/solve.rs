//! `draftpick solve`: one problem, small enough to look at.

use anyhow::{Context, bail};
use clap::ValueEnum;
use draftpick::bound::alpha_star;
use draftpick::picture::{Picture, ProblemPicture};
use draftpick::pmf::PmfError;
use draftpick::problem::{MAX_DRAFTS, ProblemError};
use draftpick::{Acceptance, Pmf, Problem, Rule, Selection, Token};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::Serialize;

use crate::exact::{Exact, exact};
use crate::measure::{Measure, draw, is_optimal, measure};
use crate::regions::{self, Region, regions};
use crate::{Verdict, output};

/// The most draft tuples a coupling is shown for: a screen of rows.
const MAX_TUPLES: usize = 64;
/// The largest vocabulary a coupling is shown for: 100 columns of text.
const MAX_COLUMNS: usize = 8;
/// How far the columns of a coupling may be from the target law.
const TOLERANCE: f64 = 1e-9;

#[derive(clap::Args)]
pub struct Args {
    /// The draft law: probabilities that add up to 1
    #[arg(long, value_name = "P,…", allow_hyphen_values = true)]
    draft: String,
    /// The target law, over the same tokens
    #[arg(long, value_name = "Q,…", allow_hyphen_values = true)]
    target: String,
    /// The number of drafts
    #[arg(short, value_name = "K", allow_negative_numbers = true)]
    k: usize,
    /// Take the numbers as weights, and divide them by their sum
    #[arg(long)]
    normalize: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Also solve the transport as a linear program, with its dual and certificate
    #[arg(long)]
    exact: bool,
    /// Also make one selection with each rule, with coins of this seed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Tables
    Text,
    /// One object
    Json,
    /// A picture of the layout and the acceptances
    Svg,
}

#[derive(Serialize)]
struct Report {
    vocab: usize,
    k: usize,
    optimum: f64,
    rules: Vec<Attained>,
    layout: Vec<Region>,
    /// None if it is too large to show.
    coupling: Option<Coupling>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exact: Option<Exact>,
    #[serde(skip_serializing_if = "Option::is_none")]
    samples: Option<Vec<Sample>>,
}

#[derive(Serialize)]
struct Attained {
    selector: &'static str,
    acceptance: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    standard_error: Option<f64>,
    #[serde(skip)]
    rule: Rule,
}

/// The joint law of drafts and output.
#[derive(Serialize)]
struct Coupling {
    selector: &'static str,
    /// The draft tuples of positive probability.
    drafts: Vec<Vec<Token>>,
    /// `P(drafts)`.
    probability: Vec<f64>,
    /// `P(drafts, output)`: a row for each tuple, a column for each token.
    joint: Vec<Vec<f64>>,
    /// The sums of the columns: the law of the output.
    #[serde(skip)]
    output: Vec<f64>,
}

/// One selection.
#[derive(Serialize)]
struct Sample {
    selector: &'static str,
    drafts: Vec<Token>,
    output: Token,
    /// Which draft was accepted; None if the output was resampled.
    accepted: Option<usize>,
}

pub fn run(args: &Args) -> anyhow::Result<Verdict> {
    if !(1..=MAX_DRAFTS).contains(&args.k) {
        return Err(ProblemError::Drafts { k: args.k }).context("-k");
    }
    let draft = law("--draft", &args.draft, args.normalize)?;
    let target = law("--target", &args.target, args.normalize)?;
    let problem = Problem::new(draft, target, args.k).context("--draft and --target")?;

    // First: it may be refused.
    let exact = args.exact.then(|| exact(&problem)).transpose()?;
    let optimum = alpha_star(&problem);
    let measures = measure(&problem);
    let coupling = coupling(&problem, &measures)?;
    let verdict = judge(&problem, optimum, &measures, coupling.as_ref(), exact.as_ref());
    let attained = |measure: &Measure| {
        let Acceptance { value, standard_error } = measure.acceptance;
        let standard_error = (standard_error > 0.0).then_some(standard_error);
        Attained { selector: measure.rule.name(), acceptance: value, standard_error, rule: measure.rule }
    };
    let report = Report {
        vocab: problem.target().vocab(),
        k: args.k,
        optimum,
        rules: measures.iter().map(attained).collect(),
        layout: regions(&problem),
        coupling,
        exact,
        samples: args.seed.map(|seed| samples(&problem, &measures, seed)).transpose()?,
    };
    let text = match args.format {
        Format::Text => text(&report, &problem),
        Format::Json => output::json(&report)?,
        Format::Svg => {
            let values: Vec<_> = report.rules.iter().map(|attained| (attained.rule, attained.acceptance)).collect();
            ProblemPicture::new(&problem, values).svg()?
        }
    };
    output::print(&text)?;
    Ok(verdict)
}

/// Reads a law from the command line.
pub fn law(option: &'static str, list: &str, normalize: bool) -> anyhow::Result<Pmf> {
    let mut numbers = Vec::new();
    for (i, number) in list.split(',').enumerate() {
        let number = number.trim();
        numbers.push(number.parse::<f64>().with_context(|| format!("{option}: entry {i} is '{number}'"))?);
    }
    let law = if normalize { Pmf::from_weights(numbers) } else { Pmf::new(numbers) };
    match law {
        Err(PmfError::Sum { sum }) => {
            bail!(
                "{option}: the probabilities add up to {sum}, not 1; correct them, or take them as weights: --normalize"
            )
        }
        law => law.context(option),
    }
}

/// The coupling of a rule that attains the optimum, if it is small enough to show.
fn coupling(problem: &Problem, measures: &[Measure]) -> anyhow::Result<Option<Coupling>> {
    let (draft, vocab) = (problem.draft(), problem.draft().vocab());
    let tuples = u32::try_from(problem.k()).ok().and_then(|k| vocab.checked_pow(k));
    // The last one that promises it: the maximal coupling comes before the general rule.
    let rule = measures.iter().rev().map(|measure| measure.rule).find(|&rule| is_optimal(rule));
    let (Some(tuples), Some(rule)) = (tuples, rule) else { return Ok(None) };
    if tuples > MAX_TUPLES || vocab > MAX_COLUMNS {
        return Ok(None);
    }
    let coupling = draftpick::coupling::Coupling::enumerate(&*rule.prepare(problem), draft)?;
    Ok(Some(Coupling {
        selector: rule.name(),
        drafts: coupling.drafts().to_vec(),
        probability: coupling.probabilities().to_vec(),
        joint: coupling.joint().rows().into_iter().map(|row| row.to_vec()).collect(),
        output: coupling.output().to_vec(),
    }))
}

fn samples(problem: &Problem, measures: &[Measure], seed: u64) -> anyhow::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for Measure { rule, .. } in measures {
        let selector = rule.prepare(problem);
        // Each rule from the same coins.
        let mut rng = StdRng::seed_from_u64(seed);
        let drafts = draw(problem, &*selector, &mut rng)?;
        let selection = selector.select_with(&drafts, &mut rng)?;
        let accepted = match selection {
            Selection::Draft(index) => Some(index),
            Selection::Residual(_) => None,
        };
        samples.push(Sample { selector: rule.name(), output: selection.token(&drafts), drafts, accepted });
    }
    Ok(samples)
}

/// The first check that fails.
fn judge(
    problem: &Problem,
    optimum: f64,
    measures: &[Measure],
    coupling: Option<&Coupling>,
    exact: Option<&Exact>,
) -> Verdict {
    if let Some(complaint) = measures.iter().find_map(|measure| measure.complaint(optimum)) {
        return Verdict::Failed(complaint);
    }
    if let Some(coupling) = coupling {
        for (token, (output, q)) in coupling.output.iter().zip(problem.target().as_slice()).enumerate() {
            if !(0.0..=TOLERANCE).contains(&(output - q).abs()) {
                let rule = coupling.selector;
                return Verdict::Failed(format!("{rule} outputs token {token} with probability {output}, not {q}"));
            }
        }
    }
    match exact.and_then(|exact| exact.complaint(optimum)) {
        Some(complaint) => Verdict::Failed(format!("the linear program: {complaint}")),
        None => Verdict::Passed,
    }
}

fn text(report: &Report, problem: &Problem) -> String {
    let drafts = if report.k == 1 { "draft" } else { "drafts" };
    let mut text = format!("{} tokens, {} {drafts}\noptimum α* = {:.10}\n\n", report.vocab, report.k, report.optimum);

    let mut table = output::table(["rule", "acceptance", "of the optimum", ""], 1);
    if let Some(column) = table.column_mut(3) {
        column.set_cell_alignment(comfy_table::CellAlignment::Left);
    }
    for Attained { selector, acceptance, standard_error, rule } in &report.rules {
        let error = standard_error.map_or(String::new(), |error| format!(" ±{error:.0e}"));
        let share =
            if report.optimum > 0.0 { format!("{:.2} %", 100.0 * acceptance / report.optimum) } else { "–".into() };
        table.add_row([selector.to_string(), format!("{acceptance:.6}{error}"), share, rule.description().into()]);
    }
    text += &format!("{table}\n\n{}\n", regions::text(&report.layout));

    match &report.coupling {
        Some(coupling) => {
            text +=
                &format!("Coupling of '{}': the probability of each draft tuple with each output\n", coupling.selector);
            let tokens = (0..report.vocab).map(|token| format!("output {token}"));
            let mut table = output::table(["drafts".to_string()].into_iter().chain(tokens).chain(["sum".into()]), 1);
            for ((drafts, probability), joint) in coupling.drafts.iter().zip(&coupling.probability).zip(&coupling.joint)
            {
                let drafts = drafts.iter().map(Token::to_string).collect::<Vec<_>>().join(" ");
                table.add_row(line(drafts, joint, *probability));
            }
            table.add_row(line("sum".into(), &coupling.output, coupling.probability.iter().sum()));
            table.add_row(line("target".into(), problem.target().as_slice(), 1.0));
            text += &format!("{table}\n");
        }
        None => {
            text += &format!(
                "The coupling is left out: it is shown up to {MAX_TUPLES} draft tuples and {MAX_COLUMNS} tokens.\n"
            );
        }
    }
    if let Some(exact) = &report.exact {
        text += &format!("\n{}", exact.text(report.k));
    }
    if let Some(samples) = &report.samples {
        text += "\nOne selection with each rule\n";
        let mut table = output::table(["rule", "drafts", "output", ""], 4);
        for Sample { selector, drafts, output, accepted } in samples {
            let drafts = drafts.iter().map(Token::to_string).collect::<Vec<_>>().join(" ");
            let how = accepted.map_or("resampled".into(), |index| format!("draft {index} accepted"));
            table.add_row([selector.to_string(), drafts, output.to_string(), how]);
        }
        text += &format!("{table}\n");
    }
    text
}

/// A line of the coupling's table.
fn line(label: String, numbers: &[f64], sum: f64) -> Vec<String> {
    let number = |value: &f64| format!("{value:.4}");
    [label].into_iter().chain(numbers.iter().map(number)).chain([number(&sum)]).collect()
}
