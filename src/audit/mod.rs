//! Is an engine lossless? What its log says, whatever the engine.
//!
//! A log holds, round by round, the drafts, both models' laws and the tokens that came out ([`Record`]). Three
//! hypotheses are tested while it is read, each by bets whose wealth is evidence at any stopping time (see [`Bets`]):
//!
//! - **output**: each token of the text has the target's law given the tokens before it. This is what lossless means; it
//!   needs no knowledge of the engine. It holds for every token of a round's output by itself, also for rules that
//!   decide about whole paths: `docs/audit.md` has the proof.
//! - **drafts**: each drafted token has the stated draft law given the tokens before it on its path. If it has another, no
//!   rule can be lossless.
//! - **rule**: where the rule is known, a round's output has exactly the law that the rule gives it for these drafts.
//!
//! Beside that an audit compares what the engine accepts with the optimum and with each rule on the same scores.
//!
//! ```
//! use draftpick::Pmf;
//! use draftpick::audit::{Audit, Settings, simulate};
//! use draftpick::audit::simulate::{Chain, Engine, Mistake};
//!
//! let law = |weights: [f64; 4]| Pmf::from_weights(weights).unwrap();
//! let chain = Chain::new(vec![law([1.0, 2.0, 3.0, 4.0])], vec![law([4.0, 1.0, 1.0, 4.0])])?;
//! let run = |engine| -> Result<bool, Box<dyn std::error::Error>> {
//!     let mut audit = Audit::new(Settings::default());
//!     for record in simulate::records(&chain, engine, 2, 3, 1).take(2_000) {
//!         audit.add(audit.plan().look(audit.rounds(), &record?)?);
//!     }
//!     Ok(audit.is_lossless())
//! };
//! assert!(run(Engine::Honest("kseq".parse()?))?);
//! assert!(!run(Engine::Mistaken(Mistake::ResidualFromTarget))?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod acceptance;
mod bets;
mod evidence;
mod law;
#[cfg(feature = "audit")]
pub mod log;
mod record;
mod report;
mod rule;
pub mod simulate;

pub use acceptance::{Attainable, COMPARED, Keeps, REFERENCE};
pub use bets::{Bets, Interval, ORDERS, Sample};
pub use evidence::{DRAFT_DIRECTIONS, Impossible, OUTPUT_DIRECTIONS, RULE_DIRECTIONS};
pub use law::{DEFAULT_TOLERANCE, LoggedLaw, TopLaw, TopLawError};
pub use record::{Field, Laws, Record, RecordError};
pub use report::{AtFirst, Kept, Mean, Power, Test, Tested};
pub use rule::{KnownRule, RuleError, UnknownKnownRule};

use crate::Drawn;
use crate::path::ROOT;
use acceptance::{Sampled, attainable, keeps};
use evidence::{Outcome, evidence};
use report::Counts;

/// How an audit is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The probability with which an honest log is refused, however long it is. In `(0, 1)`.
    pub level: f64,
    /// The rule that the engine is said to follow.
    pub rule: Option<KnownRule>,
    /// How the drafts are said to be drawn.
    pub drawn: Drawn,
    /// How far the logged laws may be from those that the engine used, in total variation. 0 where they are the same.
    pub accuracy: f64,
    /// On how many rounds, at least, the engine is compared with the rules, if there are as many. Up to twice as many
    /// are kept.
    pub compared: usize,
}

impl Default for Settings {
    /// Level 1e-3, no rule, independent drafts, exact laws, 500 rounds.
    fn default() -> Self {
        Settings { level: 1e-3, rule: None, drawn: Drawn::Independent, accuracy: 0.0, compared: 500 }
    }
}

/// The least accuracy that the law of a rule is given: its residual is a difference, and where rounding decides
/// whether that is 0 an output is no proof.
const RULE_ACCURACY: f64 = 1e-9;

/// Of how many rounds that are compared one is compared with the path verifiers: their exact laws cost more.
const PATHS_STRIDE: usize = 8;

/// The most findings that are kept.
const MOST_FINDINGS: usize = 100;

/// What a log has said so far. Its size does not grow with the log.
#[derive(Clone, Debug)]
pub struct Audit {
    settings: Settings,
    output: Bets<{ OUTPUT_DIRECTIONS.len() }>,
    drafts: Bets<{ DRAFT_DIRECTIONS.len() }>,
    rule: Option<Bets<{ RULE_DIRECTIONS.len() }>>,
    rounds: u64,
    tokens: u64,
    /// The rounds to which the rule was not applied because the log does not hold what it looked at.
    without_rule: u64,
    findings: Vec<Finding>,
    counts: Counts,
    attainable: Sampled<Option<Attainable>>,
    keeps: Sampled<Option<Keeps>>,
}

/// Something that cannot be, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The round, counted from 0.
    pub round: u64,
    /// What it is.
    pub what: Impossible,
}

/// What there is to look at in each round: a copy may be taken to another thread.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    drawn: Drawn,
    rule: Option<KnownRule>,
    compare: u64,
    compare_paths: u64,
}

/// What one round says, to be [added](Audit::add).
pub struct Look {
    evidence: evidence::Evidence,
    tokens: u64,
    paths: usize,
    length: usize,
    accepted: usize,
    first: usize,
    attainable: Option<Option<Attainable>>,
    keeps: Option<Option<Keeps>>,
}

impl Plan {
    /// Looks at a round, the `round`-th of the log. `O(V)` for each token, and now and then more.
    ///
    /// # Errors
    /// The rule that the engine is said to follow does not take such drafts.
    pub fn look(self, round: u64, record: &Record) -> Result<Look, RuleError> {
        Ok(Look {
            evidence: evidence(record, self.drawn, self.rule)?,
            tokens: record.output().len() as u64,
            paths: record.paths(),
            length: record.length(),
            accepted: record.accepted(),
            first: record.next_tokens(ROOT).len(),
            attainable: round.is_multiple_of(self.compare).then(|| attainable(record)),
            keeps: round.is_multiple_of(self.compare_paths).then(|| keeps(record)),
        })
    }
}

impl Audit {
    /// An audit of a log of which nothing is known yet.
    ///
    /// # Panics
    /// If the level is not in `(0, 1)` or the accuracy not in `[0, 1)`.
    pub fn new(settings: Settings) -> Self {
        assert!(settings.level > 0.0 && settings.level < 1.0, "a level of {}", settings.level);
        assert!((0.0..1.0).contains(&settings.accuracy), "an accuracy of {}", settings.accuracy);
        // The level is shared among the hypotheses.
        let hypotheses = if settings.rule.is_some() { 3.0 } else { 2.0 };
        let threshold = f64::ln(hypotheses / settings.level);
        let rule = settings.rule.map(|_| Bets::new(threshold, settings.accuracy.max(RULE_ACCURACY)));
        Audit {
            settings,
            output: Bets::new(threshold, settings.accuracy),
            drafts: Bets::new(threshold, settings.accuracy),
            rule,
            rounds: 0,
            tokens: 0,
            without_rule: 0,
            findings: Vec::new(),
            counts: Counts::default(),
            attainable: Sampled::new(settings.compared.max(1)),
            keeps: Sampled::new((settings.compared / PATHS_STRIDE).max(1)),
        }
    }

    /// What to look at in the rounds that follow. A plan goes stale slowly: one made some hundred rounds ago is as good.
    pub fn plan(&self) -> Plan {
        let never = |stride: u64| if self.settings.compared == 0 { u64::MAX } else { stride };
        Plan {
            drawn: self.settings.drawn,
            rule: self.settings.rule,
            compare: never(self.attainable.stride),
            compare_paths: never(self.keeps.stride),
        }
    }

    /// Adds what the next round says. The order of the rounds is that of the log.
    pub fn add(&mut self, look: Look) {
        let start = self.tokens;
        for (outcome, position) in look.evidence.output.iter().zip(start..) {
            match outcome {
                Outcome::Possible(sample) => self.output.bet(sample, position + 1),
                Outcome::Impossible => self.output.impossible(position + 1),
            }
        }
        self.tokens += look.tokens;
        for outcome in &look.evidence.drafts {
            match outcome {
                Outcome::Possible(sample) => self.drafts.bet(sample, self.tokens),
                Outcome::Impossible => self.drafts.impossible(self.tokens),
            }
        }
        if let Some(rule) = &mut self.rule {
            match &look.evidence.rule {
                Some(sample) => rule.bet(sample, self.tokens),
                None => self.without_rule += u64::from(look.length > 0),
            }
        }
        let room = MOST_FINDINGS.saturating_sub(self.findings.len());
        let found = look.evidence.impossible.iter().take(room);
        self.findings.extend(found.map(|&what| Finding { round: self.rounds, what }));
        self.counts.add(&look);
        // The plan may be older than the stride.
        if self.rounds.is_multiple_of(self.attainable.stride)
            && let Some(attainable) = look.attainable
        {
            self.attainable.push(attainable);
        }
        if self.rounds.is_multiple_of(self.keeps.stride)
            && let Some(keeps) = look.keeps
        {
            self.keeps.push(keeps);
        }
        self.rounds += 1;
    }

    /// The number of rounds.
    pub fn rounds(&self) -> u64 {
        self.rounds
    }

    /// The number of tokens output.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// The number of rounds with drafts to which the rule could not be applied: the log leaves out mass, or laws.
    pub fn without_rule(&self) -> u64 {
        self.without_rule
    }

    /// What cannot be, the first hundred of it.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// How the audit is made.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether all hypotheses stand.
    pub fn is_lossless(&self) -> bool {
        self.tested().iter().all(|tested| tested.rejected_after.is_none())
    }
}
