//! The lossless loop: draft, check, keep, again.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use super::adapt::Adaptive;
use super::model::{Extension, Model};
use super::statistics::Statistics;
use crate::path::{
    DraftTree, LogitRow, MAX_LENGTH, Outcome, PathCoupling, PathError, PathVerifier, ROOT, Round, RoundCoins, Verifier,
};
use crate::pmf::{PmfError, Sampling, Token};
use crate::problem::MAX_DRAFTS;
use crate::scan::ScanError;

/// How a [`Speculative`] drafts and checks.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The number `K` of drafted paths, 1 to [`MAX_DRAFTS`].
    pub paths: usize,
    /// The length `L` of a path, up to [`MAX_LENGTH`]. 0 is plain decoding: the draft model is not called.
    pub length: usize,
    /// What picks among the paths.
    pub verifier: Verifier,
    /// How the target's logits become the law of the text.
    pub sampling: Sampling,
    /// How the draft's logits become the law of the drafts: whatever it is, the text has the target's law.
    pub draft_sampling: Sampling,
    /// Tokens that end a text. They are part of it.
    pub stop: Vec<Token>,
    /// Tokens from here on are masked in both models: what a model's padded vocabulary has beyond the tokenizer's.
    /// `None`: only what the target model lacks is masked in the draft's.
    pub vocab: Option<usize>,
    /// Whether `paths` and `length` are upper limits, within which each round takes what the rounds before suggest. The
    /// text then depends on the clock as well as on the seed; its law does not.
    pub adaptive: bool,
}

impl Default for Settings {
    /// Four paths of five tokens, the path coupling, no temperature, no filters, nothing that ends a text.
    fn default() -> Self {
        Settings {
            paths: 4,
            length: 5,
            verifier: Verifier::Path(PathCoupling::default()),
            sampling: Sampling::default(),
            draft_sampling: Sampling::default(),
            stop: Vec::new(),
            vocab: None,
            adaptive: false,
        }
    }
}

/// A text to be continued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The tokens that it starts with; at least one.
    pub prompt: Vec<Token>,
    /// Keys all random numbers of the request: the same seed gives the same text, whatever else is in the batch, as
    /// long as the models' scores are the same.
    pub seed: u64,
    /// The most tokens to generate.
    pub limit: usize,
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// One of [`Settings::stop`] came out.
    Stop,
    /// [`Request::limit`] was reached.
    Limit,
}

/// What a round added to one text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The request, as [`Speculative::add`] numbered it.
    pub request: usize,
    /// The new tokens, at least one.
    pub tokens: Vec<Token>,
    /// Set if the text ends with them.
    pub finish: Option<Finish>,
}

/// Why generating failed. The text so far stands; the request cannot go on.
#[derive(Debug)]
#[non_exhaustive]
pub enum GenerateError<D, T> {
    /// The draft model failed.
    Draft(D),
    /// The target model failed.
    Target(T),
    /// The draft model's scores or their sampling were refused.
    DraftScores(PmfError),
    /// The target model's scores or their sampling were refused.
    TargetScores(PmfError),
    /// The scores are no laws.
    Scores(ScanError),
    /// The drafts could not be verified.
    Path(PathError),
    /// The prompt has no token.
    EmptyPrompt,
    /// A setting is out of range.
    Setting {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: usize,
        /// The values allowed.
        range: &'static str,
    },
    /// A model returned another number of rows than were asked for.
    Rows {
        /// `"draft"` or `"target"`.
        model: &'static str,
        /// The number wanted.
        expected: usize,
        /// The number returned.
        given: usize,
    },
    /// A row has another length than the model's vocabulary.
    RowLength {
        /// `"draft"` or `"target"`.
        model: &'static str,
        /// The vocabulary.
        expected: usize,
        /// The length.
        given: usize,
    },
}

impl<D: fmt::Display, T: fmt::Display> fmt::Display for GenerateError<D, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GenerateError::Draft(error) => write!(f, "draft model: {error}"),
            GenerateError::Target(error) => write!(f, "target model: {error}"),
            GenerateError::DraftScores(error) => write!(f, "draft scores: {error}"),
            GenerateError::TargetScores(error) => write!(f, "target scores: {error}"),
            GenerateError::Scores(error) => error.fmt(f),
            GenerateError::Path(error) => error.fmt(f),
            GenerateError::EmptyPrompt => write!(f, "the prompt has no token"),
            GenerateError::Setting { name, value, range } => write!(f, "{name} is {value}; it must be {range}"),
            GenerateError::Rows { model, expected, given } => {
                write!(f, "the {model} model returned {given} rows of scores for {expected} nodes")
            }
            GenerateError::RowLength { model, expected, given } => {
                write!(f, "the {model} model returned a row of {given} scores; its vocabulary has {expected}")
            }
        }
    }
}

impl<D: std::error::Error + 'static, T: std::error::Error + 'static> std::error::Error for GenerateError<D, T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            GenerateError::Draft(error) => Some(error),
            GenerateError::Target(error) => Some(error),
            GenerateError::DraftScores(error) | GenerateError::TargetScores(error) => Some(error),
            GenerateError::Scores(error) => Some(error),
            GenerateError::Path(error) => Some(error),
            _ => None,
        }
    }
}

impl<D, T> From<PathError> for GenerateError<D, T> {
    fn from(error: PathError) -> Self {
        GenerateError::Path(error)
    }
}

/// A text on its way.
#[derive(Clone, Debug)]
struct Sequence {
    seed: u64,
    limit: usize,
    generated: usize,
    /// The number of tokens of the text so far.
    len: usize,
    /// The end of the text that the models have not seen yet; never empty.
    draft_pending: Vec<Token>,
    target_pending: Vec<Token>,
    finished: bool,
}

/// One sequence's round while it is drafted.
struct Drafting {
    sequence: usize,
    coins: RoundCoins,
    tree: DraftTree<LogitRow>,
    /// The paths' length in this round.
    length: usize,
    /// The draft model's node for each node of the tree that it has seen.
    draft_nodes: Vec<Option<usize>>,
    /// The next number of a draft model's node.
    next_node: usize,
}

/// A round ready to be decided.
type Scored = (Round<LogitRow>, Drafting);

/// Speculative decoding of any number of texts with one pair of models: a draft model proposes trees of tokens, the
/// target model scores each tree in one forward pass, a path verifier picks.
///
/// The text has exactly the law that sampling from the target alone would give it, by the contract of [`Model`] and the
/// exactness of the verifier (within the accuracy of f32 logits, see [`scan`](crate::scan)). Both models keep their
/// caches; the prefix is shared by all paths.
///
/// ```
/// use draftpick::Token;
/// use draftpick::decode::{Extension, Model, Request, Settings, Speculative};
///
/// /// Scores that do not depend on the text.
/// struct Fixed(Vec<f32>);
///
/// impl Model for Fixed {
///     type Row = Vec<f32>;
///     type Error = std::convert::Infallible;
///     fn vocab(&self) -> usize {
///         self.0.len()
///     }
///     fn extend(&mut self, new: &[Extension]) -> Result<Vec<Vec<f32>>, Self::Error> {
///         Ok(new.iter().filter(|new| new.scored).map(|_| self.0.clone()).collect())
///     }
///     fn keep(&mut self, _: usize, _: Option<usize>) -> Result<(), Self::Error> {
///         Ok(())
///     }
/// }
///
/// let (draft, target) = (Fixed(vec![1.0, 0.0, 0.5]), Fixed(vec![0.5, 1.0, f32::NEG_INFINITY]));
/// let mut engine = Speculative::new(draft, target, Settings::default())?;
/// let text: Vec<Token> = engine.tokens(Request { prompt: vec![0], seed: 7, limit: 20 })?.collect::<Result<_, _>>()?;
/// assert!(text.len() == 20 && !text.contains(&2));
/// println!("{:.2} tokens for each call of the target", engine.statistics().block_efficiency());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Speculative<D, T> {
    draft: D,
    target: T,
    settings: Settings,
    vocab: usize,
    sequences: Vec<Sequence>,
    statistics: Statistics,
    adaptive: Option<Adaptive>,
}

type Failure<D, T> = GenerateError<<D as Model>::Error, <T as Model>::Error>;

impl<D: Model, T: Model> Speculative<D, T>
where
    D::Row: AsRef<[f32]>,
    T::Row: AsRef<[f32]>,
{
    /// Puts a pair together. The token numbers that both models know must mean the same tokens.
    ///
    /// # Errors
    /// [`GenerateError::Setting`] if a setting is out of range.
    pub fn new(draft: D, target: T, settings: Settings) -> Result<Self, Failure<D, T>> {
        let vocab = settings.vocab.unwrap_or(usize::MAX).min(target.vocab());
        let setting = |name, value, range| Err(GenerateError::Setting { name, value, range });
        if !(1..=MAX_DRAFTS).contains(&settings.paths) {
            return setting("paths", settings.paths, "1 to 64");
        }
        if settings.length > MAX_LENGTH {
            return setting("length", settings.length, "0 to 64");
        }
        if vocab == 0 {
            return setting("vocab", vocab, "at least 1");
        }
        let adaptive = settings.adaptive.then(|| Adaptive::new(settings.paths, settings.length));
        let statistics = Statistics::default();
        Ok(Speculative { draft, target, settings, vocab, sequences: Vec::new(), statistics, adaptive })
    }

    /// What was counted and timed since the engine was made.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Gives the models back.
    pub fn into_models(self) -> (D, T) {
        (self.draft, self.target)
    }

    /// Adds a text to the batch and returns its number. Numbers of finished texts are used again.
    ///
    /// # Errors
    /// The prompt is empty, or a model cannot forget an earlier text.
    pub fn add(&mut self, request: Request) -> Result<usize, Failure<D, T>> {
        if request.prompt.is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        let free = self.sequences.iter().position(|sequence| sequence.finished);
        let number = free.unwrap_or(self.sequences.len());
        self.draft.keep(number, None).map_err(GenerateError::Draft)?;
        self.target.keep(number, None).map_err(GenerateError::Target)?;
        let sequence = Sequence {
            seed: request.seed,
            limit: request.limit,
            generated: 0,
            len: request.prompt.len(),
            draft_pending: request.prompt.clone(),
            target_pending: request.prompt,
            finished: request.limit == 0,
        };
        match free {
            Some(_) => self.sequences[number] = sequence,
            None => self.sequences.push(sequence),
        }
        Ok(number)
    }

    /// Generates one text, token by token. Other texts of the batch go on alongside; what becomes of them is lost.
    ///
    /// # Errors
    /// As [`add`](Speculative::add).
    pub fn tokens(&mut self, request: Request) -> Result<Tokens<'_, D, T>, Failure<D, T>> {
        let number = self.add(request)?;
        Ok(Tokens { engine: self, number, ready: VecDeque::new(), failed: false })
    }

    /// Whether all texts are finished.
    pub fn is_idle(&self) -> bool {
        self.sequences.iter().all(|sequence| sequence.finished)
    }

    /// One round for every text that is not finished: up to `L` calls of the draft model and one of the target model.
    ///
    /// # Errors
    /// A model fails, or its scores are refused. All unfinished texts then end where they are.
    pub fn round(&mut self) -> Result<Vec<Progress>, Failure<D, T>> {
        self.observed_round(&mut |_, _| {})
    }

    /// As [`round`](Speculative::round), but shows every round to `observe` before it is decided: for logs, and to ask
    /// other verifiers about the same drafts. The coins are those that the round is about to be decided with.
    ///
    /// # Errors
    /// As [`round`](Speculative::round).
    pub fn observed_round(
        &mut self,
        observe: &mut dyn FnMut(&Round<LogitRow>, &RoundCoins),
    ) -> Result<Vec<Progress>, Failure<D, T>> {
        let result = self.try_round(observe);
        if result.is_err() {
            // The models' caches are in no state to go on from.
            self.sequences.iter_mut().for_each(|sequence| sequence.finished = true);
        }
        result
    }

    fn try_round(
        &mut self,
        observe: &mut dyn FnMut(&Round<LogitRow>, &RoundCoins),
    ) -> Result<Vec<Progress>, Failure<D, T>> {
        let before = self.statistics.clone();
        let (paths, length) = match &mut self.adaptive {
            Some(adaptive) => adaptive.choose(),
            None => (self.settings.paths, self.settings.length),
        };
        let mut rounds = Vec::new();
        for (number, sequence) in self.sequences.iter().enumerate().filter(|(_, sequence)| !sequence.finished) {
            rounds.push(Drafting {
                sequence: number,
                coins: RoundCoins { seed: sequence.seed, start: sequence.len as u64 },
                tree: DraftTree::new(paths)?,
                // What is beyond the limit need not be drafted: the last token is never a drafted one's successor.
                length: length.min(sequence.limit - sequence.generated - 1),
                draft_nodes: vec![Some(sequence.draft_pending.len())],
                next_node: sequence.draft_pending.len() + 1,
            });
        }
        if rounds.is_empty() {
            return Ok(Vec::new());
        }
        self.draft_trees(&mut rounds)?;
        let (scored, nodes) = self.score_trees(rounds)?;
        let longest = scored.iter().map(|(round, _)| depth(round.tree())).max().unwrap_or(0);
        let mut kept = Vec::with_capacity(scored.len());
        let mut progress = Vec::with_capacity(scored.len());
        for (round, drafting) in scored {
            observe(&round, &drafting.coins);
            let start = Instant::now();
            let outcome = self.settings.verifier.verify(&round, &drafting.coins)?;
            self.statistics.verify += start.elapsed();
            kept.push(outcome.accepted(&round));
            progress.push(self.accept(&round, &drafting, outcome)?);
        }
        if let Some(adaptive) = &mut self.adaptive {
            let spent = |now: Duration, then: Duration| now.saturating_sub(then);
            let draft = spent(self.statistics.draft, before.draft) + spent(self.statistics.draw, before.draw);
            let target = spent(self.statistics.target, before.target) + spent(self.statistics.verify, before.verify);
            for &kept in &kept {
                adaptive.record((paths, longest), kept, nodes / progress.len(), draft, target);
            }
        }
        Ok(progress)
    }

    /// Drafts all trees, a level of all of them in one call.
    fn draft_trees(&mut self, rounds: &mut [Drafting]) -> Result<(), Failure<D, T>> {
        let longest = rounds.iter().map(|round| round.length).max().unwrap_or(0);
        // The tree nodes whose laws are wanted next, by round: the root first.
        let mut wanted: Vec<Vec<usize>> = rounds.iter().map(|_| vec![ROOT]).collect();
        for level in 0..longest {
            let mut new = Vec::new();
            for (round, wanted) in rounds.iter_mut().zip(&wanted) {
                if level >= round.length {
                    continue;
                }
                let sequence = &self.sequences[round.sequence];
                if level == 0 {
                    new.extend(chain(round.sequence, &sequence.draft_pending));
                }
                for &node in wanted.iter().filter(|&&node| node != ROOT) {
                    let parent = round.draft_nodes[round.tree.parent(node)].expect("drafted from");
                    new.push(Extension {
                        sequence: round.sequence,
                        parent,
                        token: round.tree.token(node),
                        scored: true,
                    });
                    round.draft_nodes[node] = Some(round.next_node);
                    round.next_node += 1;
                }
            }
            if new.is_empty() {
                break;
            }
            let start = Instant::now();
            let rows = self.draft.extend(&new).map_err(GenerateError::Draft)?;
            self.statistics.draft += start.elapsed();
            self.statistics.draft_calls += 1;
            check_rows("draft", &new, rows.len())?;
            let start = Instant::now();
            let mut rows = rows.iter();
            for (round, wanted) in rounds.iter_mut().zip(&mut wanted) {
                if level >= round.length {
                    wanted.clear();
                    continue;
                }
                let mut next = Vec::new();
                for node in std::mem::take(wanted) {
                    let row = rows.next().expect("as many rows as nodes");
                    let law = self.law(row.as_ref(), Whose::Draft)?;
                    for child in round.tree.draw(node, law, &round.coins)? {
                        round.draft_nodes.push(None);
                        if self.settings.stop.contains(&round.tree.token(child)) {
                            round.tree.end(child)?;
                        } else {
                            next.push(child);
                        }
                    }
                }
                *wanted = next;
            }
            self.statistics.draw += start.elapsed();
        }
        Ok(())
    }

    /// Scores all trees in one call of the target model; also the number of nodes.
    fn score_trees(&mut self, rounds: Vec<Drafting>) -> Result<(Vec<Scored>, usize), Failure<D, T>> {
        let mut new = Vec::new();
        for round in &rounds {
            let pending = &self.sequences[round.sequence].target_pending;
            new.extend(chain(round.sequence, pending));
            for node in 1..round.tree.len() {
                let parent = pending.len() + round.tree.parent(node);
                let scored = !round.tree.is_ended(node);
                new.push(Extension { sequence: round.sequence, parent, token: round.tree.token(node), scored });
            }
        }
        let start = Instant::now();
        let rows = self.target.extend(&new).map_err(GenerateError::Target)?;
        self.statistics.target += start.elapsed();
        self.statistics.target_calls += 1;
        check_rows("target", &new, rows.len())?;
        let start = Instant::now();
        let mut rows = rows.iter();
        let mut scored = Vec::with_capacity(rounds.len());
        for mut drafting in rounds {
            let tree = std::mem::replace(&mut drafting.tree, DraftTree::new(1)?);
            let round = tree.score(|_| {
                let row = rows.next().expect("as many rows as nodes");
                self.law(row.as_ref(), Whose::Target)
            })?;
            scored.push((round, drafting));
        }
        self.statistics.verify += start.elapsed();
        Ok((scored, new.len()))
    }

    /// Takes over what the verifier decided.
    fn accept(
        &mut self,
        round: &Round<LogitRow>,
        drafting: &Drafting,
        outcome: Outcome,
    ) -> Result<Progress, Failure<D, T>> {
        let number = drafting.sequence;
        let tree = round.tree();
        let tokens = outcome.tokens(round);
        self.statistics.count(depth(tree), outcome.accepted(round), tokens.len());
        let stop = tokens.last().is_some_and(|token| self.settings.stop.contains(token));
        let sequence = &mut self.sequences[number];
        sequence.generated += tokens.len();
        let finish = match () {
            () if stop => Some(Finish::Stop),
            () if sequence.generated >= sequence.limit => Some(Finish::Limit),
            () => None,
        };
        sequence.finished = finish.is_some();
        sequence.len += tokens.len();
        if finish.is_some() {
            // Frees what the models hold.
            self.draft.keep(number, None).map_err(GenerateError::Draft)?;
            self.target.keep(number, None).map_err(GenerateError::Target)?;
            return Ok(Progress { request: number, tokens, finish });
        }
        let next = outcome.next.expect("a text that has not ended goes on");
        let target_node = sequence.target_pending.len() + outcome.node;
        self.target.keep(number, Some(target_node)).map_err(GenerateError::Target)?;
        sequence.target_pending = vec![next];
        // The draft model has not seen the last tokens of the paths, nor anything where nothing was drafted.
        let nodes = &drafting.draft_nodes;
        if drafting.length == 0 {
            sequence.draft_pending.push(next);
        } else {
            match nodes[outcome.node] {
                Some(node) => {
                    self.draft.keep(number, Some(node)).map_err(GenerateError::Draft)?;
                    sequence.draft_pending = vec![next];
                }
                None => {
                    let parent = nodes[tree.parent(outcome.node)].expect("its child was drawn from its law");
                    self.draft.keep(number, Some(parent)).map_err(GenerateError::Draft)?;
                    sequence.draft_pending = vec![tree.token(outcome.node), next];
                }
            }
        }
        Ok(Progress { request: number, tokens, finish })
    }

    /// A model's scores as a law over the shared vocabulary. What the draft model lacks it never drafts; what only it has
    /// is masked.
    fn law(&self, row: &[f32], whose: Whose) -> Result<LogitRow, Failure<D, T>> {
        let (name, expected, sampling) = match whose {
            Whose::Draft => ("draft", self.draft.vocab(), &self.settings.draft_sampling),
            Whose::Target => ("target", self.target.vocab(), &self.settings.sampling),
        };
        if row.len() != expected {
            return Err(GenerateError::RowLength { model: name, expected, given: row.len() });
        }
        let known = &row[..expected.min(self.vocab)];
        // Without temperature or filters the row is what it is.
        let mut scores = if *sampling == Sampling::default() {
            known.to_vec()
        } else {
            sampling.apply(known).map_err(|error| match whose {
                Whose::Draft => GenerateError::DraftScores(error),
                Whose::Target => GenerateError::TargetScores(error),
            })?
        };
        scores.resize(self.vocab, f32::NEG_INFINITY);
        LogitRow::new(name, scores).map_err(GenerateError::Scores)
    }
}

#[derive(Clone, Copy)]
enum Whose {
    Draft,
    Target,
}

/// The nodes that append tokens to the root of a sequence, the last one scored.
fn chain(sequence: usize, tokens: &[Token]) -> impl Iterator<Item = Extension> + '_ {
    let last = tokens.len() - 1;
    tokens.iter().enumerate().map(move |(parent, &token)| Extension { sequence, parent, token, scored: parent == last })
}

fn depth<R>(tree: &DraftTree<R>) -> usize {
    tree.paths().iter().map(|nodes| nodes.len() - 1).max().unwrap_or(0)
}

fn check_rows<D, T>(model: &'static str, new: &[Extension], given: usize) -> Result<(), GenerateError<D, T>> {
    let expected = new.iter().filter(|new| new.scored).count();
    if given == expected { Ok(()) } else { Err(GenerateError::Rows { model, expected, given }) }
}

/// The tokens of one text as they come.
#[derive(Debug)]
pub struct Tokens<'e, D, T> {
    engine: &'e mut Speculative<D, T>,
    number: usize,
    ready: VecDeque<Token>,
    failed: bool,
}

impl<D: Model, T: Model> Iterator for Tokens<'_, D, T>
where
    D::Row: AsRef<[f32]>,
    T::Row: AsRef<[f32]>,
{
    type Item = Result<Token, Failure<D, T>>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() && !self.failed && !self.engine.sequences[self.number].finished {
            match self.engine.round() {
                Ok(progress) => {
                    let mine = progress.into_iter().filter(|progress| progress.request == self.number);
                    self.ready.extend(mine.flat_map(|progress| progress.tokens));
                }
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
        self.ready.pop_front().map(Ok)
    }
}
