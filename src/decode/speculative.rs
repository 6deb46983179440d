//! The lossless loop: draft, check, keep, again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::adapt::{Adaptive, Played};
use super::error::{GenerateError, SampleError};
use super::model::{Extension, Model};
use super::sampler::{HostSampler, Sampler, Source};
use super::sequence::{Drafting, Sequence};
use super::settings::{Finish, Progress, Request, Settings};
use super::statistics::Statistics;
use crate::path::{DraftTree, MAX_LENGTH, Outcome, Round, RoundCoins};
use crate::pmf::Token;
use crate::problem::MAX_DRAFTS;

/// What a round left to keep: where the texts stand and what their models have seen.
type Draftings<L> = Vec<(Round<L>, Drafting<L>)>;

/// Speculative decoding of any number of texts with one pair of models: a draft model proposes trees of tokens, the
/// target model scores each tree in one forward pass, a path verifier picks.
///
/// The text has exactly the law that sampling from the target alone would give it, by the contract of [`Model`] and the
/// exactness of the verifier (within the accuracy of f32 logits, see [`scan`](crate::scan)). Both models keep their
/// caches; the prefix is shared by all paths. A [`Sampler`] draws and verifies where the models' rows of scores are.
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
/// let request = Request { prompt: vec![0], seed: 7, limit: 20, ..Request::default() };
/// let text: Vec<Token> = engine.tokens(request)?.collect::<Result<_, _>>()?;
/// assert!(text.len() == 20 && !text.contains(&2));
/// println!("{:.2} tokens for each call of the target", engine.statistics().block_efficiency());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Speculative<D, T, S = HostSampler> {
    draft: D,
    target: T,
    sampler: S,
    settings: Settings,
    vocab: usize,
    sequences: Vec<Sequence>,
    statistics: Statistics,
    adaptive: Option<Adaptive>,
}

type Failure<D, T> = GenerateError<<D as Model>::Error, <T as Model>::Error>;

impl<D, T> Speculative<D, T>
where
    D: Model<Row: AsRef<[f32]>>,
    T: Model<Row = D::Row>,
{
    /// Puts a pair together whose rows are on the host. The token numbers that both models know must mean the same
    /// tokens.
    ///
    /// # Errors
    /// [`GenerateError::Setting`] if a setting is out of range.
    pub fn new(draft: D, target: T, settings: Settings) -> Result<Self, Failure<D, T>> {
        Self::with_sampler(draft, target, settings, HostSampler)
    }
}

impl<D, T, S> Speculative<D, T, S>
where
    D: Model,
    T: Model<Row = D::Row>,
    S: Sampler<D::Row>,
{
    /// Puts a pair together, and what draws from their rows and verifies. The token numbers that both models know must
    /// mean the same tokens.
    ///
    /// # Errors
    /// [`GenerateError::Setting`] if a setting is out of range.
    pub fn with_sampler(draft: D, target: T, settings: Settings, sampler: S) -> Result<Self, Failure<D, T>> {
        let vocab = settings.vocab.unwrap_or(usize::MAX).min(target.vocab());
        check_drafting(settings.paths, settings.length)?;
        if vocab == 0 {
            return Err(GenerateError::Setting { name: "vocab", value: vocab, range: "at least 1" });
        }
        let adaptive = settings.adaptive.then(|| Adaptive::new(settings.paths, settings.length));
        let statistics = Statistics::default();
        Ok(Speculative { draft, target, sampler, settings, vocab, sequences: Vec::new(), statistics, adaptive })
    }

    /// What was counted and timed since the engine was made.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Gives the models back.
    pub fn into_models(self) -> (D, T) {
        (self.draft, self.target)
    }

    /// Gives the models back, and what draws and verifies: on a device it has its kernels loaded.
    pub fn into_parts(self) -> (D, T, S) {
        (self.draft, self.target, self.sampler)
    }

    /// Adds a text to the batch and returns its number. Numbers of finished texts are used again.
    ///
    /// # Errors
    /// The prompt is empty, its number or length of paths out of range, or a model cannot forget an earlier text.
    pub fn add(&mut self, request: Request) -> Result<usize, Failure<D, T>> {
        if request.prompt.is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        let paths = request.paths.unwrap_or(self.settings.paths);
        let length = request.length.unwrap_or(self.settings.length);
        check_drafting(paths, length)?;
        let free = self.sequences.iter().position(|sequence| sequence.finished);
        let number = free.unwrap_or(self.sequences.len());
        self.draft.keep(number, None).map_err(GenerateError::Draft)?;
        self.target.keep(number, None).map_err(GenerateError::Target)?;
        let sequence = Sequence {
            seed: request.seed,
            limit: request.limit,
            paths,
            length,
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
    pub fn tokens(&mut self, request: Request) -> Result<Tokens<'_, D, T, S>, Failure<D, T>> {
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
        observe: &mut dyn FnMut(&Round<S::Law>, &RoundCoins),
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
        observe: &mut dyn FnMut(&Round<S::Law>, &RoundCoins),
    ) -> Result<Vec<Progress>, Failure<D, T>> {
        let before = self.statistics.clone();
        let chosen = self.adaptive.as_mut().map(Adaptive::choose);
        let unfinished = self.sequences.iter().enumerate().filter(|(_, sequence)| !sequence.finished);
        let mut draftings = unfinished
            .map(|(number, sequence)| Drafting::new(number, sequence, chosen))
            .collect::<Result<Vec<_>, _>>()?;
        if draftings.is_empty() {
            return Ok(Vec::new());
        }
        self.draft_trees(&mut draftings)?;
        let seen =
            |drafting: &Drafting<_>| drafting.tree.len() - 1 + self.sequences[drafting.sequence].target_pending.len();
        let nodes: usize = draftings.iter().map(seen).sum();
        let rounds = self.score_trees(draftings)?;
        let longest = rounds.iter().map(|(round, _)| depth(round.tree())).max().unwrap_or(0);
        rounds.iter().for_each(|(round, drafting)| observe(round, &drafting.coins));

        let start = Instant::now();
        let asked: Vec<_> = rounds.iter().map(|(round, drafting)| (round, drafting.coins)).collect();
        let outcomes = self.sampler.verify(&asked, self.settings.verifier)?;
        check_answers("rounds", asked.len(), outcomes.len())?;
        self.statistics.verify += start.elapsed();

        let start = Instant::now();
        let mut progress = Vec::with_capacity(rounds.len());
        for ((round, drafting), &outcome) in rounds.iter().zip(&outcomes) {
            progress.push(self.accept(round, drafting, outcome)?);
        }
        self.statistics.keep += start.elapsed();
        if let (Some(adaptive), Some((paths, _))) = (&mut self.adaptive, chosen) {
            let spent = |now: Duration, then: Duration| now.saturating_sub(then);
            let draft = spent(self.statistics.draft, before.draft) + spent(self.statistics.draw, before.draw);
            let target = spent(self.statistics.target, before.target) + spent(self.statistics.verify, before.verify);
            for ((round, _), outcome) in rounds.iter().zip(&outcomes) {
                adaptive.record(&Played {
                    paths,
                    length: depth(round.tree()),
                    kept: outcome.accepted(round),
                    calls: longest,
                    nodes: nodes / progress.len(),
                    draft,
                    target,
                });
            }
        }
        Ok(progress)
    }

    /// Drafts all trees, a level of all of them in one call of the model and one of the sampler.
    fn draft_trees(&mut self, draftings: &mut [Drafting<S::Law>]) -> Result<(), Failure<D, T>> {
        let longest = draftings.iter().map(|drafting| drafting.length).max().unwrap_or(0);
        for level in 0..longest {
            let mut new = Vec::new();
            let mut wanted = Vec::new();
            for (number, drafting) in draftings.iter_mut().enumerate() {
                let sequence = &self.sequences[drafting.sequence];
                let nodes = drafting.next_level(level, sequence, &mut new);
                wanted.extend(nodes.into_iter().map(|node| (number, node)));
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
            let logits = self.draft.vocab();
            let sampling = &self.settings.draft_sampling;
            let laws = self.sampler.laws(rows, &Source { model: "draft", logits, vocab: self.vocab, sampling })?;
            check_answers("rows", wanted.len(), laws.len())?;
            let leaf = |(&(number, node), law): (&(usize, usize), _)| draftings[number].leaf(node, law);
            let leaves: Vec<_> = wanted.iter().zip(&laws).map(leaf).collect();
            let drawn = self.sampler.draw(&leaves)?;
            check_answers("leaves", leaves.len(), drawn.len())?;
            for (leaf, tokens) in leaves.iter().zip(&drawn) {
                check_answers("paths", leaf.paths.len(), tokens.len())?;
            }
            for ((&(number, node), law), tokens) in wanted.iter().zip(laws).zip(&drawn) {
                draftings[number].drawn(node, law, tokens, &self.settings.stop)?;
            }
            self.statistics.draw += start.elapsed();
        }
        Ok(())
    }

    /// Scores all trees in one call of the target model.
    fn score_trees(&mut self, draftings: Vec<Drafting<S::Law>>) -> Result<Draftings<S::Law>, Failure<D, T>> {
        let mut new = Vec::new();
        for drafting in &draftings {
            drafting.whole_tree(&self.sequences[drafting.sequence].target_pending, &mut new);
        }
        let start = Instant::now();
        let rows = self.target.extend(&new).map_err(GenerateError::Target)?;
        self.statistics.target += start.elapsed();
        self.statistics.target_calls += 1;
        check_rows("target", &new, rows.len())?;

        let start = Instant::now();
        let given = rows.len();
        let (logits, sampling) = (self.target.vocab(), &self.settings.sampling);
        let laws = self.sampler.laws(rows, &Source { model: "target", logits, vocab: self.vocab, sampling })?;
        check_answers("rows", given, laws.len())?;
        let mut laws = laws.into_iter();
        let mut rounds = Vec::with_capacity(draftings.len());
        for mut drafting in draftings {
            let tree = std::mem::replace(&mut drafting.tree, DraftTree::new(1)?);
            let law = |node| if tree.is_ended(node) { None } else { laws.next() };
            let targets = (0..tree.len()).map(law).collect();
            rounds.push((tree.with_targets(targets, self.vocab), drafting));
        }
        self.statistics.verify += start.elapsed();
        Ok(rounds)
    }

    /// Takes over what the verifier decided.
    fn accept(
        &mut self,
        round: &Round<S::Law>,
        drafting: &Drafting<S::Law>,
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
}

fn check_drafting<D, T>(paths: usize, length: usize) -> Result<(), GenerateError<D, T>> {
    if !(1..=MAX_DRAFTS).contains(&paths) {
        return Err(GenerateError::Setting { name: "paths", value: paths, range: "1 to 64" });
    }
    if length > MAX_LENGTH {
        return Err(GenerateError::Setting { name: "length", value: length, range: "0 to 64" });
    }
    Ok(())
}

fn depth<R>(tree: &DraftTree<R>) -> usize {
    tree.paths().iter().map(|nodes| nodes.len() - 1).max().unwrap_or(0)
}

fn check_rows<D, T>(model: &'static str, new: &[Extension], given: usize) -> Result<(), GenerateError<D, T>> {
    let expected = new.iter().filter(|new| new.scored).count();
    if given == expected { Ok(()) } else { Err(GenerateError::Rows { model, expected, given }) }
}

fn check_answers(asked: &'static str, expected: usize, given: usize) -> Result<(), SampleError> {
    if given == expected { Ok(()) } else { Err(SampleError::Answers { asked, expected, given }) }
}

/// The tokens of one text as they come.
#[derive(Debug)]
pub struct Tokens<'e, D, T, S = HostSampler> {
    engine: &'e mut Speculative<D, T, S>,
    number: usize,
    ready: VecDeque<Token>,
    failed: bool,
}

impl<D, T, S> Iterator for Tokens<'_, D, T, S>
where
    D: Model,
    T: Model<Row = D::Row>,
    S: Sampler<D::Row>,
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
