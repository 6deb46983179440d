//! `draftpick generate`: text from a pair of models, then what each way of decoding made of it.

use std::path::PathBuf;

use clap::ValueEnum;
use draftpick::path::{UnknownVerifier, Verifier};

#[cfg(not(feature = "candle"))]
use crate::Verdict;

#[derive(clap::Args)]
pub struct Args {
    /// The text to go on with
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "Returns the number of elements in the",
        conflicts_with = "bench"
    )]
    pub prompt: String,
    /// Run every way of decoding over the prompts of a file, one a line
    #[arg(long, value_name = "PROMPTS")]
    pub bench: Option<PathBuf>,
    /// With --bench: only ask all verifiers about the same drafts, and time no way of decoding
    #[arg(long, requires = "bench")]
    pub same_drafts: bool,
    /// The number of drafted paths
    #[arg(short = 'K', long, value_name = "K", default_value_t = 4, allow_negative_numbers = true)]
    pub paths: usize,
    /// The length of a path
    #[arg(short = 'L', long, value_name = "L", default_value_t = 5, allow_negative_numbers = true)]
    pub length: usize,
    /// What picks among the paths: path, traversal, block (K = 1), or a token rule
    #[arg(long, default_value = "path", value_parser = verifier)]
    pub verifier: Verifier,
    /// The number of tokens to generate
    #[arg(short = 'n', long, value_name = "N", default_value_t = 64)]
    pub tokens: usize,
    /// The target model's folder, in the Hugging Face layout; without it, the small pair that comes along
    #[arg(long, value_name = "DIR", requires = "draft")]
    pub target: Option<PathBuf>,
    /// The draft model's folder
    #[arg(long, value_name = "DIR", requires = "target")]
    pub draft: Option<PathBuf>,
    /// What computes: cpu, or cuda:0 and so on
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: String,
    /// On a GPU: where drafts are drawn and verified
    #[cfg(feature = "candle")]
    #[arg(long, value_enum, default_value_t = crate::texts::Rows::Device)]
    pub rows: crate::texts::Rows,
    /// Temperature of the target, and of the draft unless it has its own; 0 is greedy
    #[arg(long, value_name = "T", default_value_t = 1.0, allow_negative_numbers = true)]
    pub temperature: f64,
    /// Temperature of the draft model, if it is another: the text has the target's law all the same
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub draft_temperature: Option<f64>,
    /// Keep only the most probable tokens, this many, of both models
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub top_k: Option<usize>,
    /// Keep only the most probable tokens up to this mass, of both models
    #[arg(long, value_name = "MASS", allow_negative_numbers = true)]
    pub top_p: Option<f64>,
    /// Keep only tokens at least this share as probable as the most probable one, of both models
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub min_p: Option<f64>,
    /// Take K and L as upper limits, and in each round what the rounds before suggest
    #[arg(long)]
    pub adaptive: bool,
    /// Also log every round, for `draftpick audit`
    #[arg(long, value_name = "FILE", conflicts_with = "bench")]
    pub log: Option<PathBuf>,
    /// Print the text only
    #[arg(long, conflicts_with = "bench")]
    pub text_only: bool,
    /// The seed of all random numbers
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The text as it comes, then a table
    Text,
    /// One object
    Json,
}

fn verifier(name: &str) -> Result<Verifier, UnknownVerifier> {
    name.parse()
}

#[cfg(not(feature = "candle"))]
pub fn run(_: &Args) -> anyhow::Result<Verdict> {
    anyhow::bail!(
        "this build has no model decoder: build it with `cargo run --release --features candle -- generate` (some \
         minutes the first time)"
    )
}

#[cfg(feature = "candle")]
pub use decoding::run;

#[cfg(feature = "candle")]
mod decoding {
    use std::fs::File;
    use std::io::{BufWriter, Write};
    use std::path::Path;

    use anyhow::{Context, bail};
    use draftpick::audit::log::{Header, Writer};
    use draftpick::audit::{KnownRule, Record};
    use draftpick::decode::candle::{Llama, Pair, TextStream, Tokenizer, embedded, parse_device};
    use draftpick::decode::{Model, Progress, Request, Settings};
    use draftpick::path::{LogitRow, Round, RoundCoins};
    use draftpick::trace::{Precision, Values};
    use draftpick::{Sampling, Token};

    use super::{Args, Format};
    use crate::contest::{self, Mode};
    use crate::texts::{Listener, Models, Rows, decode, rows_of};
    use crate::{Verdict, output};

    pub fn run(args: &Args) -> anyhow::Result<Verdict> {
        if args.tokens == 0 {
            bail!("-n: 0 tokens were asked for; there must be at least 1");
        }
        let pair = load(args)?;
        let settings = settings(args, &pair);
        if let Some(file) = &args.bench {
            let prompts = prompts(file, &pair.tokenizer)?;
            let report = contest::bench(Models::new(pair.draft, pair.target), &settings, &prompts, args)?;
            output::print(&match args.format {
                Format::Text => report.text(),
                Format::Json => output::json(&report)?,
            })?;
            return Ok(Verdict::Passed);
        }
        let prompt = pair.tokenizer.encode(&args.prompt)?;
        if prompt.is_empty() {
            bail!("--prompt: '{}' has no token", args.prompt);
        }
        let request = Request { prompt: prompt.clone(), seed: args.seed, limit: args.tokens, ..Request::default() };
        let Pair { draft, target, tokenizer } = pair;
        let vocab = settings.vocab.unwrap_or(usize::MAX).min(target.vocab());
        // A log holds the rows.
        let asked = if args.log.is_some() { Rows::Host } else { args.rows };
        let rows = rows_of(settings.verifier, asked, &settings, target.device());
        let mut listener = Telling {
            args,
            settings: &settings,
            vocab,
            stream: tokenizer.stream(),
            started: false,
            text: String::new(),
            log: None,
            seen: None,
        };
        let models = Models::new(draft, target);
        let (models, _) = decode(models, settings.clone(), rows, &[request], &mut listener)?;
        let text = listener.finish()?;
        if args.text_only {
            return Ok(Verdict::Passed);
        }
        let own = Mode { paths: args.paths, length: args.length, verifier: settings.verifier, rows };
        let report = contest::table(models, &settings, &prompt, own, &text, args)?;
        output::print(&match args.format {
            Format::Text => report.text(),
            Format::Json => output::json(&report)?,
        })?;
        Ok(Verdict::Passed)
    }

    /// Prints the text as it comes, and logs its rounds if asked to.
    struct Telling<'a> {
        args: &'a Args,
        settings: &'a Settings,
        vocab: usize,
        stream: TextStream<'a>,
        started: bool,
        text: String,
        /// Made when the first round is over: what is refused before leaves no file.
        log: Option<Writer<BufWriter<File>>>,
        /// The round that is about to be decided, if it is to be logged.
        seen: Option<Round<LogitRow>>,
    }

    impl Telling<'_> {
        /// The whole text.
        fn finish(self) -> anyhow::Result<String> {
            if let Some(log) = self.log {
                log.finish()?;
            }
            let rest = self.stream.finish()?;
            say(self.args, &rest)?;
            say(self.args, "\n")?;
            Ok(self.text + &rest)
        }
    }

    fn say(args: &Args, piece: &str) -> anyhow::Result<()> {
        if args.format == Format::Text {
            output::print(piece)?;
            std::io::stdout().flush()?;
        }
        Ok(())
    }

    impl Listener for Telling<'_> {
        fn drafted(&mut self, round: &Round<LogitRow>, _: &RoundCoins) {
            if self.args.log.is_some() {
                self.seen = Some(round.clone());
            }
        }

        fn heard(&mut self, Progress { tokens, .. }: Progress) -> anyhow::Result<()> {
            if let (Some(path), Some(round)) = (&self.args.log, self.seen.take()) {
                let log = match &mut self.log {
                    Some(log) => log,
                    None => self.log.insert(open_log(path, self.settings, self.vocab)?),
                };
                log.write(&Record::of_round(&round, tokens.clone())?)?;
            }
            // The prompt is shown once there is something to go on with: bad settings show in the first round.
            if !std::mem::replace(&mut self.started, true) {
                say(self.args, &self.args.prompt)?;
            }
            for token in tokens.into_iter().filter(|token| !self.settings.stop.contains(token)) {
                let piece = self.stream.push(token)?;
                say(self.args, &piece)?;
                self.text += &piece;
            }
            Ok(())
        }
    }

    /// A log of the rounds to come; one that is there already is left alone.
    fn open_log(path: &Path, settings: &Settings, vocab: usize) -> anyhow::Result<Writer<BufWriter<File>>> {
        let file = File::create_new(path).with_context(|| format!("--log: cannot make '{}'", path.display()))?;
        let mut header = Header::new(vocab, Values::Logits, Some(Precision::F32));
        // From the log's rounded laws another choice may come of the same drafts than the loop made, if the rule lets it.
        header.rule = Some(KnownRule::Verifier(settings.verifier)).filter(|rule| rule.is_determined());
        Ok(Writer::new(BufWriter::new(file), header)?)
    }

    fn load(args: &Args) -> anyhow::Result<Pair> {
        let device = parse_device(&args.device).context("--device")?;
        let (Some(target), Some(draft)) = (&args.target, &args.draft) else {
            return Ok(embedded(&device, None)?);
        };
        let model = |dir: &Path, name: &str| {
            Llama::load(dir, &device, None).with_context(|| format!("{name} model '{}'", dir.display()))
        };
        let tokenizer = |dir: &Path| Tokenizer::load(dir).with_context(|| format!("tokenizer of '{}'", dir.display()));
        let (of_target, of_draft) = (tokenizer(target)?, tokenizer(draft)?);
        of_target.check_same(&of_draft).context("the two models' tokenizers")?;
        Ok(Pair { target: model(target, "target")?, draft: model(draft, "draft")?, tokenizer: of_target })
    }

    fn settings(args: &Args, pair: &Pair) -> Settings {
        let sampling =
            Sampling { temperature: args.temperature, top_k: args.top_k, top_p: args.top_p, min_p: args.min_p };
        let draft_temperature = args.draft_temperature.unwrap_or(args.temperature);
        let vocab = pair.tokenizer.vocab();
        Settings {
            paths: args.paths,
            length: args.length,
            verifier: args.verifier,
            sampling,
            draft_sampling: Sampling { temperature: draft_temperature, ..sampling },
            stop: pair.target.end_of_text().to_vec(),
            // Models pad their vocabularies, each in its own way; no text has those tokens.
            vocab: (pair.target.vocab() > vocab || pair.draft.vocab() > vocab).then_some(vocab),
            adaptive: args.adaptive,
        }
    }

    fn prompts(file: &Path, tokenizer: &Tokenizer) -> anyhow::Result<Vec<Vec<Token>>> {
        let name = || format!("--bench '{}'", file.display());
        let text = std::fs::read_to_string(file).with_context(name)?;
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        let prompts: Vec<Vec<Token>> = lines.map(|line| tokenizer.encode(line)).collect::<Result<_, _>>()?;
        if prompts.is_empty() {
            bail!("{}: there is no prompt", name());
        }
        Ok(prompts)
    }
}
