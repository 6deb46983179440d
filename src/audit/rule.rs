//! The law of the output given the drafts, where the engine's rule is known.

use std::fmt;
use std::str::FromStr;

use super::bets::{Interval, Sample};
use super::evidence::RULE_DIRECTIONS;
use super::law::LoggedLaw;
use super::record::Record;
use crate::path::{DraftTree, OutcomeLaw, PathError, PathVerifier, ROOT, Round, Stop, Verifier};
use crate::pmf::{Pmf, PmfError, Token};
use crate::problem::Problem;
use crate::rule::Rule;
use crate::selector::SelectError;

/// The rule by which an engine says that it picks among its drafts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum KnownRule {
    /// Recursive rejection of drafts without replacement, one token at a time.
    Distinct,
    /// A path verifier; for drafts of one token, SpecTr's recursion over a token rule is the rule itself.
    Verifier(Verifier),
}

impl KnownRule {
    /// The name used on the command line and in logs.
    pub fn name(self) -> String {
        match self {
            KnownRule::Distinct => Rule::RecursiveDistinct.name().into(),
            KnownRule::Verifier(verifier) => verifier.name(),
        }
    }

    /// Whether the output's law given the drafts is determined by the two laws, however they are rounded.
    ///
    /// It is not for the rules over ratio classes (`optimal`, `optimal-linear`, `path`, `spread`): where the classes lie, and
    /// which token is on which, hangs on the last digits. Whatever that comes to the output has the target's law, but two
    /// machines may choose differently among the same drafts. Only an engine that verifies from the very numbers in the log
    /// can be held to such a rule.
    pub fn is_determined(self) -> bool {
        match self {
            KnownRule::Distinct | KnownRule::Verifier(Verifier::Block(_) | Verifier::Traversal(_)) => true,
            KnownRule::Verifier(Verifier::Token(recursion)) => {
                !matches!(recursion.rule(), Rule::Optimal | Rule::OptimalLinear)
            }
            KnownRule::Verifier(Verifier::Path(_) | Verifier::Spread(_)) => false,
        }
    }
}

impl fmt::Display for KnownRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name())
    }
}

/// No rule and no verifier has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKnownRule {
    name: String,
}

impl fmt::Display for UnknownKnownRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no rule is called '{}'; there are maximal, rrs, rrs-wor, kseq, optimal, optimal-linear, block, traversal and \
             path",
            self.name
        )
    }
}

impl std::error::Error for UnknownKnownRule {}

impl FromStr for KnownRule {
    type Err = UnknownKnownRule;

    fn from_str(name: &str) -> Result<Self, UnknownKnownRule> {
        if name == Rule::RecursiveDistinct.name() {
            return Ok(KnownRule::Distinct);
        }
        name.parse().map(KnownRule::Verifier).map_err(|_| UnknownKnownRule { name: name.into() })
    }
}

/// Why the law of a rule could not be computed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RuleError {
    /// The verifier does not take such drafts.
    Path(PathError),
    /// The rule does not take such drafts.
    Select(SelectError),
    /// The rule without replacement takes one token a draft.
    Length {
        /// The length of the drafts.
        length: usize,
    },
    /// A row is no law.
    Law(PmfError),
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuleError::Path(error) => error.fmt(f),
            RuleError::Select(error) => error.fmt(f),
            RuleError::Length { length } => {
                write!(f, "{} takes drafts of one token, not of {length}", Rule::RecursiveDistinct)
            }
            RuleError::Law(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RuleError {}

impl From<PathError> for RuleError {
    fn from(error: PathError) -> Self {
        RuleError::Path(error)
    }
}

impl From<PmfError> for RuleError {
    fn from(error: PmfError) -> Self {
        RuleError::Law(error)
    }
}

/// A record over only as many tokens as its laws list.
pub(super) struct Compact<'a> {
    record: &'a Record,
    tokens: Vec<Token>,
}

impl<'a> Compact<'a> {
    /// `None` if the log leaves out mass that a rule looked at.
    pub fn new(record: &'a Record) -> Option<Self> {
        let inner = |node: &usize| !record.is_leaf(*node);
        if !record.nodes().filter(inner).all(|node| record.draft(node).is_some() && record.target(node).is_some()) {
            return None;
        }
        let laws = || record.nodes().flat_map(|node| [record.draft(node), record.target(node)]).flatten();
        if laws().any(|law| law.tail() > 0.0) {
            return None;
        }
        let tokens = if laws().any(|law| matches!(law, LoggedLaw::Full(_))) {
            (0..record.vocab() as Token).collect()
        } else {
            let listed = laws().flat_map(LoggedLaw::listed).map(|(token, _)| token);
            let drafted = (0..record.paths()).flat_map(|path| record.path(path));
            let mut tokens: Vec<Token> = listed.chain(drafted).chain(record.output().iter().copied()).collect();
            tokens.sort_unstable();
            tokens.dedup();
            tokens
        };
        Some(Compact { record, tokens })
    }

    fn place(&self, token: Token) -> Token {
        self.tokens.binary_search(&token).expect("every token of the record is listed") as Token
    }

    fn law(&self, law: Option<&LoggedLaw>) -> Result<Pmf, RuleError> {
        Ok(law.expect("the laws that are asked for were found to be there").on(&self.tokens)?)
    }

    /// The round; leaves without scores end the text.
    pub fn round(&self) -> Result<Round<Pmf>, RuleError> {
        let record = self.record;
        let paths: Vec<Vec<Token>> = (0..record.paths())
            .map(|path| record.path(path).into_iter().map(|token| self.place(token)).collect())
            .collect();
        let paths: Vec<&[Token]> = paths.iter().map(Vec::as_slice).collect();
        let node = |path: usize, at: usize| record.node(path, at);
        let mut tree = DraftTree::recorded(&paths, |path, at| self.law(record.draft(node(path, at))))?;
        let nodes: Vec<usize> = (0..tree.len()).map(|i| node(tree.paths_through(i)[0], tree.depth(i))).collect();
        for leaf in tree.open() {
            if leaf != ROOT && record.target(nodes[leaf]).is_none() {
                tree.end(leaf)?;
            }
        }
        tree.score(|i| self.law(record.target(nodes[i])))
    }

    /// The node of the round at which the output left the drafts, and the token after it.
    fn outcome(&self, round: &Round<Pmf>) -> (usize, Option<Token>) {
        let mut node = ROOT;
        let (last, before) = self.record.output().split_last().expect("a record has output");
        for &token in before {
            node = round.tree().child(node, self.place(token)).expect("only the last token may leave the drafts");
        }
        let last = self.place(*last);
        match round.tree().child(node, last) {
            Some(child) if round.target(child).is_none() => (child, None),
            _ => (node, Some(last)),
        }
    }
}

/// The law of the outcome given the drafts.
fn outcome_law(round: &Round<Pmf>, known: KnownRule) -> Result<OutcomeLaw, RuleError> {
    let KnownRule::Verifier(verifier) = known else {
        return distinct_law(round);
    };
    Ok(verifier.law(round)?)
}

fn distinct_law(round: &Round<Pmf>) -> Result<OutcomeLaw, RuleError> {
    let tree = round.tree();
    let length = tree.paths().iter().map(|nodes| nodes.len() - 1).max().unwrap_or(0);
    let (Some((draft, target)), 1) = (round.pair(ROOT), length) else {
        return Err(RuleError::Length { length });
    };
    let drafts: Vec<Token> = tree.paths().iter().map(|nodes| tree.token(nodes[1])).collect();
    let problem = Problem::new(draft.clone(), target.clone(), drafts.len()).expect("a round is over one vocabulary");
    let mut next = Rule::RecursiveDistinct.prepare(&problem).law(&drafts).map_err(RuleError::Select)?;
    let mut law = OutcomeLaw::default();
    for &child in tree.children(ROOT) {
        let probability = std::mem::take(&mut next[tree.token(child) as usize]);
        let next = round.target(child).map(|target| target.as_slice().to_vec()).unwrap_or_default();
        law.add(Stop { node: child, probability, next });
    }
    let left: f64 = next.iter().sum();
    if left > 0.0 {
        next.iter_mut().for_each(|mass| *mass /= left);
        law.add(Stop { node: ROOT, probability: left, next });
    }
    Ok(law)
}

/// The output of a round against its law given the drafts; `None` if there are no drafts, or not all that the rule
/// looked at is in the log.
///
/// An output that the rule cannot give has a law of 0 and any ratio. Whether that is proof depends on how well the log's
/// laws are the engine's, so that the ratio is finite, and cut off where the bets are made.
pub(super) fn outcome(
    record: &Record,
    known: KnownRule,
) -> Result<Option<Sample<{ RULE_DIRECTIONS.len() }>>, RuleError> {
    let Some(compact) = Compact::new(record).filter(|_| record.length() > 0) else {
        return Ok(None);
    };
    let round = match compact.round() {
        // Found in the drafts already.
        Err(RuleError::Path(PathError::NotDrawn { .. })) => return Ok(None),
        round => round?,
    };
    let law = outcome_law(&round, known)?;
    let (node, next) = compact.outcome(&round);
    Ok(Some(sample(&round, &law, node, next)))
}

/// The mass of `next` in a law of the next token, 1 if both are nothing.
fn at(law: &[f64], next: Option<Token>) -> f64 {
    match next {
        Some(token) => law.get(token as usize).copied().unwrap_or(0.0),
        None => f64::from(law.is_empty()),
    }
}

fn sample(round: &Round<Pmf>, law: &OutcomeLaw, node: usize, next: Option<Token>) -> Sample<{ RULE_DIRECTIONS.len() }> {
    let tree = round.tree();
    let own: &[f64] = round.target(node).map_or(&[], Pmf::as_slice);
    let here = || law.stops().iter().filter(|stop| stop.node == node);
    let mass: f64 = here().map(|stop| stop.probability).sum();
    let likelihood: f64 = here().map(|stop| stop.probability * at(&stop.next, next)).sum();
    let is_leaf = tree.children(node).is_empty();
    // For the smallest positive number a ratio overflows, and is cut off.
    let ratio = |alternative: f64| match alternative {
        0.0 => Some(0.0),
        _ => Some((alternative / likelihood).min(f64::MAX)),
    };
    let mut ratios = [None; RULE_DIRECTIONS.len()];
    let kept = tree.paths_through(node).len() as f64 / tree.paths().len() as f64;
    ratios[0] = ratio(if is_leaf { kept * at(own, next) } else { 0.0 });
    let at_root = || law.stops().iter().filter(|stop| stop.node == ROOT);
    let rejected: f64 = at_root().map(|stop| stop.probability).sum();
    if rejected > 0.0 {
        ratios[1] = ratio(if node == ROOT { likelihood / rejected } else { 0.0 });
    }
    let or_else = |other: &[f64], here: bool| ratio(if here { mass * at(other, next) } else { likelihood });
    ratios[2] = or_else(own, !is_leaf);
    let before: &[f64] = round.target(tree.parent(node)).map_or(&[], Pmf::as_slice);
    ratios[3] = or_else(before, is_leaf && next.is_some());
    let draft = round.pair(node).map(|(draft, _)| draft.as_slice());
    ratios[4] = or_else(draft.unwrap_or(&[]), draft.is_some());

    // By the node, then by the token or by its target probability; and by the node alone.
    let start: f64 = law.stops().iter().filter(|stop| stop.node < node).map(|stop| stop.probability).sum();
    let within = |before: &dyn Fn(usize) -> bool| {
        let masses = here().map(|stop| {
            let masses = stop.next.iter().enumerate().filter(|(token, _)| before(*token));
            stop.probability * masses.map(|(_, mass)| mass).sum::<f64>()
        });
        Interval { start: start + masses.sum::<f64>(), length: likelihood }
    };
    let intervals = match next.map(|token| token as usize) {
        None => [Interval { start, length: mass }; 3],
        Some(next) => {
            let q = own[next];
            [
                within(&|token| token < next),
                within(&|token| own[token] > q || (own[token] == q && token < next)),
                Interval { start, length: mass },
            ]
        }
    };
    Sample { ratios, intervals }
}
