//! What an audit of a log comes to, in the form in which other programs read it.

use serde::Serialize;

use super::Header;
use crate::audit::{AtFirst, Audit, Kept, KnownRule, Mean, Power, Tested};

/// All figures of an audit: what `draftpick audit --format json` prints. An infinite number is null there.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The number of rounds.
    pub rounds: u64,
    /// The number of tokens output.
    pub tokens: u64,
    /// The size of the vocabulary.
    pub vocab: usize,
    /// Whether all hypotheses stand.
    pub lossless: bool,
    /// The probability with which an honest log is refused.
    pub level: f64,
    /// How far the laws were taken to be from those that the engine used.
    pub accuracy: f64,
    /// The rule that the engine was held to.
    pub rule: Option<String>,
    /// The rounds to which it could not be applied.
    pub rounds_without_rule: u64,
    /// Each hypothesis.
    pub tests: Vec<TestSummary>,
    /// What cannot be, the first hundred of it.
    pub findings: Vec<FindingSummary>,
    /// Acceptance of the first token of a round, by the number of drafts.
    pub acceptance: Vec<AcceptanceSummary>,
    /// Drafted tokens kept, by the number and length of paths.
    pub kept: Vec<KeptSummary>,
    /// How soon an output that is off by 1 % would be found.
    pub power: Vec<PowerSummary>,
}

/// A hypothesis; logarithms are to the base 10.
#[derive(Clone, Debug, Serialize)]
pub struct TestSummary {
    /// `output`, `drafts` or `rule`.
    pub test: &'static str,
    /// The number of outcomes that were bet on.
    pub outcomes: u64,
    /// The number of those that cannot be.
    pub impossible: u64,
    /// The wealth of the bets against it.
    pub log10_e: f64,
    /// The highest that it was.
    pub highest: f64,
    /// The wealth at which it is rejected.
    pub threshold: f64,
    /// Valid at any stopping time, for this hypothesis alone.
    pub p_value: f64,
    /// The tokens output when it was rejected.
    pub rejected_after: Option<u64>,
    /// What the bet that won most was on; none if it is one that learned a density.
    pub richest_bet: Option<&'static str>,
}

/// Something that cannot be.
#[derive(Clone, Debug, Serialize)]
pub struct FindingSummary {
    /// The line of the log, the header being line 1.
    pub line: u64,
    /// What it is.
    pub finding: String,
}

/// A mean and its standard error.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct MeanSummary {
    /// The mean.
    pub mean: f64,
    /// Its standard error.
    pub standard_error: f64,
}

/// The first tokens of all rounds with one number of drafts.
#[derive(Clone, Debug, Serialize)]
pub struct AcceptanceSummary {
    /// The number of drafts.
    pub k: usize,
    /// The number of rounds.
    pub rounds: u64,
    /// How often the engine's output was drafted.
    pub engine: MeanSummary,
    /// The number of rounds that the other figures are means of.
    pub compared: usize,
    /// The optimum, with the tails that the log leaves out apart, and together.
    pub optimum: Option<[MeanSummary; 2]>,
    /// Each rule, in the same way.
    pub rules: Vec<RuleSummary>,
}

/// What a rule would accept.
#[derive(Clone, Debug, Serialize)]
pub struct RuleSummary {
    /// Its name.
    pub rule: &'static str,
    /// With the tails apart, and together.
    pub acceptance: [MeanSummary; 2],
}

/// All rounds with one number and length of paths.
#[derive(Clone, Debug, Serialize)]
pub struct KeptSummary {
    /// The number of paths.
    #[serde(rename = "K")]
    pub paths: usize,
    /// The length of the longest.
    #[serde(rename = "L")]
    pub length: usize,
    /// The number of rounds.
    pub rounds: u64,
    /// The drafted tokens that the engine kept in a round.
    pub engine: MeanSummary,
    /// The number of rounds that the other figures are means of.
    pub compared: usize,
    /// What each verifier would keep of the same drafts.
    pub verifiers: Vec<VerifierSummary>,
}

/// What a verifier would keep.
#[derive(Clone, Debug, Serialize)]
pub struct VerifierSummary {
    /// Its name.
    pub verifier: String,
    /// Drafted tokens of a round.
    pub kept: MeanSummary,
}

/// How many tokens it takes to find an output that is off.
#[derive(Clone, Debug, Serialize)]
pub struct PowerSummary {
    /// By how much.
    pub total_variation: f64,
    /// In which direction.
    pub towards: &'static str,
    /// The number of tokens.
    pub tokens: f64,
}

impl From<Mean> for MeanSummary {
    fn from(Mean { value, standard_error }: Mean) -> Self {
        MeanSummary { mean: value, standard_error }
    }
}

impl From<Tested> for TestSummary {
    fn from(tested: Tested) -> Self {
        let log10 = |ln: f64| ln / std::f64::consts::LN_10;
        TestSummary {
            test: tested.test.name(),
            outcomes: tested.outcomes,
            impossible: tested.impossible,
            log10_e: log10(tested.log_e),
            highest: log10(tested.peak),
            threshold: log10(tested.log_threshold),
            p_value: tested.p_value,
            rejected_after: tested.rejected_after,
            richest_bet: tested.richest.map(|(direction, _)| direction),
        }
    }
}

impl From<AtFirst> for AcceptanceSummary {
    fn from(at: AtFirst) -> Self {
        let pair = |(low, high): (Mean, Mean)| [low.into(), high.into()];
        let rules = at.rules.into_iter();
        AcceptanceSummary {
            k: at.k,
            rounds: at.rounds,
            engine: at.engine.into(),
            compared: at.compared,
            optimum: (at.compared > 0).then(|| pair(at.optimum)),
            rules: rules.map(|(rule, low, high)| RuleSummary { rule, acceptance: pair((low, high)) }).collect(),
        }
    }
}

impl From<Kept> for KeptSummary {
    fn from(kept: Kept) -> Self {
        let Kept { paths, length, rounds, engine, compared, verifiers } = kept;
        let verifier = |(verifier, kept): (String, Mean)| VerifierSummary { verifier, kept: kept.into() };
        let verifiers = verifiers.into_iter().map(verifier).collect();
        KeptSummary { paths, length, rounds, engine: engine.into(), compared, verifiers }
    }
}

impl Summary {
    /// The figures of an audit of rounds under this header.
    pub fn new(audit: &Audit, header: &Header) -> Self {
        let power = |Power { towards, tokens }: Power| PowerSummary {
            total_variation: audit.reference(),
            towards,
            tokens: tokens.ceil(),
        };
        let findings = audit.findings().iter();
        Summary {
            rounds: audit.rounds(),
            tokens: audit.tokens(),
            vocab: header.vocab,
            lossless: audit.is_lossless(),
            level: audit.settings().level,
            accuracy: header.accuracy,
            rule: header.rule.map(KnownRule::name),
            rounds_without_rule: audit.without_rule(),
            tests: audit.tested().into_iter().map(TestSummary::from).collect(),
            findings: findings
                .map(|finding| FindingSummary { line: finding.round + 2, finding: finding.what.to_string() })
                .collect(),
            acceptance: audit.at_first().into_iter().map(AcceptanceSummary::from).collect(),
            kept: audit.kept().into_iter().map(KeptSummary::from).collect(),
            power: audit.power().into_iter().map(power).collect(),
        }
    }

    /// The figures as one JSON object.
    ///
    /// # Panics
    /// Never: there is nothing in it that JSON does not have.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers, text and lists")
    }
}
