//! One round of an engine, as it was logged.

use std::fmt;
use std::sync::Arc;

use super::law::LoggedLaw;
use crate::path::{MAX_LENGTH, ROOT, Round, Row};
use crate::pmf::{Pmf, Token};
use crate::problem::MAX_DRAFTS;

/// The drafts of a round, both models' laws as far as they were logged, and the tokens that the engine output.
///
/// Owning one is the proof that its parts fit together: every token is in the vocabulary, every law is over it, and
/// every output token comes with the target's law before it. Whether the engine did right is another question: a drafted
/// token of draft probability 0, or an output token of target probability 0, makes no malformed record.
#[derive(Clone, Debug)]
pub struct Record {
    vocab: usize,
    nodes: Vec<Node>,
    /// The nodes of each path, the root first.
    paths: Vec<Vec<usize>>,
    output: Vec<Token>,
    /// The node before each output token.
    before: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Node {
    token: Token,
    children: Vec<usize>,
    paths: Vec<usize>,
    draft: Option<Arc<LoggedLaw>>,
    target: Option<Arc<LoggedLaw>>,
}

/// A law at each position of each path; `None` where it was given by an earlier path with the same tokens up to
/// there, or was not logged.
pub type Laws = Vec<Vec<Option<Arc<LoggedLaw>>>>;

/// A part of a record, as a log names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Field {
    /// The drafted tokens.
    Drafts,
    /// The draft model's laws.
    Draft,
    /// The target model's laws.
    Target,
    /// The tokens output.
    Output,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Field::Drafts => "drafts",
            Field::Draft => "draft",
            Field::Target => "target",
            Field::Output => "output",
        })
    }
}

/// Why a [`Record`] was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordError {
    /// There are more paths than [`MAX_DRAFTS`].
    Paths {
        /// The number of paths.
        paths: usize,
    },
    /// A path is longer than [`MAX_LENGTH`].
    Length {
        /// The path.
        path: usize,
        /// Its length.
        length: usize,
    },
    /// A field has another number of entries than the drafts make necessary.
    Count {
        /// The field.
        field: Field,
        /// The path whose entries are counted; `None` if the paths are.
        path: Option<usize>,
        /// The number wanted.
        expected: usize,
        /// The number given.
        given: usize,
    },
    /// A token is outside the vocabulary.
    OutOfVocabulary {
        /// The field.
        field: Field,
        /// The path, 0 in the output.
        path: usize,
        /// The position.
        position: usize,
        /// The token.
        token: Token,
        /// The size of the vocabulary.
        vocab: usize,
    },
    /// A law is over a vocabulary of another size.
    Vocabulary {
        /// The field.
        field: Field,
        /// The path.
        path: usize,
        /// The position.
        position: usize,
        /// The size of its vocabulary.
        given: usize,
        /// That of the log.
        expected: usize,
    },
    /// Some draft laws are there and others are not.
    MissingDraft {
        /// The path.
        path: usize,
        /// The position.
        position: usize,
    },
    /// The target's law before an output token is not there.
    MissingTarget {
        /// The number of the output token.
        output: usize,
        /// A path through the place, and the position on it.
        place: (usize, usize),
    },
    /// Nothing was output.
    NoOutput,
    /// The output goes on after a token that was not drafted.
    Beyond {
        /// The number of the output token for which there can be no law.
        output: usize,
    },
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::Paths { paths } => write!(f, "drafts: {paths} paths; {MAX_DRAFTS} are the most"),
            RecordError::Length { path, length } => {
                write!(f, "drafts[{path}]: {length} tokens; {MAX_LENGTH} are the most")
            }
            RecordError::Count { field, path: Some(path), expected, given } => {
                write!(f, "{field}[{path}]: {given} entries where the drafts need {expected}")
            }
            RecordError::Count { field, path: None, expected, given } => {
                write!(f, "{field}: {given} entries where the drafts need {expected}")
            }
            RecordError::OutOfVocabulary { field: Field::Output, position, token, vocab, .. } => {
                write!(f, "output[{position}]: token {token} is outside the vocabulary of {vocab}")
            }
            RecordError::OutOfVocabulary { field, path, position, token, vocab } => {
                write!(f, "{field}[{path}][{position}]: token {token} is outside the vocabulary of {vocab}")
            }
            RecordError::Vocabulary { field, path, position, given, expected } => {
                write!(f, "{field}[{path}][{position}]: {given} tokens; the vocabulary has {expected}")
            }
            RecordError::MissingDraft { path, position } => write!(
                f,
                "draft[{path}][{position}]: no scores, and no earlier path gave them; give all of them or leave out 'draft'"
            ),
            RecordError::MissingTarget { output, place: (path, position) } => write!(
                f,
                "target[{path}][{position}]: no scores, and output[{output}] comes from them; no earlier path gave them"
            ),
            RecordError::NoOutput => write!(f, "output: there is no token"),
            RecordError::Beyond { output } => {
                write!(f, "output[{output}]: follows a token that was not drafted, so that there are no scores for it")
            }
        }
    }
}

impl std::error::Error for RecordError {}

impl Record {
    /// Puts a round together: the tokens of each drafted path; the draft model's law before each of them, or nothing at
    /// all where the drafts have no law; the target model's law before each and after the last; the output.
    ///
    /// Without paths `target` holds one law, the one before the only output token.
    ///
    /// # Errors
    /// The number of paths, of tokens or of laws does not fit; a token is outside the vocabulary, a law over another
    /// one; laws that are needed are missing; the output is empty or leaves the drafts before its last token.
    pub fn new(
        vocab: usize,
        drafts: &[Vec<Token>],
        draft: Laws,
        target: Laws,
        output: Vec<Token>,
    ) -> Result<Self, RecordError> {
        check(vocab, drafts, &draft, &target, &output)?;
        let root =
            Node { token: 0, children: Vec::new(), paths: (0..drafts.len()).collect(), draft: None, target: None };
        let mut record =
            Record { vocab, nodes: vec![root], paths: Vec::with_capacity(drafts.len()), output, before: Vec::new() };
        for (path, tokens) in drafts.iter().enumerate() {
            let mut nodes = vec![ROOT];
            for &token in tokens {
                nodes.push(record.child_or_new(nodes[nodes.len() - 1], token, path));
            }
            record.paths.push(nodes);
        }
        let has_drafts = draft.iter().flatten().any(Option::is_some);
        for (path, laws) in draft.into_iter().enumerate() {
            for (position, law) in laws.into_iter().enumerate() {
                let node = record.paths[path][position];
                let known = &mut record.nodes[node].draft;
                if known.is_none() {
                    *known = law;
                }
                if known.is_none() && has_drafts {
                    return Err(RecordError::MissingDraft { path, position });
                }
            }
        }
        for (path, laws) in target.into_iter().enumerate() {
            for (position, law) in laws.into_iter().enumerate() {
                let node = record.paths.get(path).map_or(ROOT, |nodes| nodes[position]);
                let known = &mut record.nodes[node].target;
                *known = known.take().or(law);
            }
        }
        record.follow()?;
        Ok(record)
    }

    /// A round of the [loop](crate::decode::Speculative), with what it output. `O(V)` a node.
    ///
    /// # Errors
    /// The output is none that the round can have.
    ///
    /// # Panics
    /// If a row of the round is no law.
    pub fn of_round<R: Row>(round: &Round<R>, output: Vec<Token>) -> Result<Self, RecordError> {
        let tree = round.tree();
        let vocab = round.vocab();
        let law = |row: &R| {
            let masses: Vec<f64> = (0..vocab as Token).map(|token| row.mass(token)).collect();
            Arc::new(LoggedLaw::Full(Pmf::from_weights(masses).expect("the rows of a round are laws")))
        };
        let mut seen = vec![false; tree.len()];
        let (mut drafts, mut draft, mut target) = (Vec::new(), Laws::new(), Laws::new());
        for nodes in tree.paths() {
            drafts.push(nodes[1..].iter().map(|&node| tree.token(node)).collect());
            let fresh: Vec<bool> = nodes.iter().map(|&node| !std::mem::replace(&mut seen[node], true)).collect();
            let new = || nodes.iter().zip(&fresh);
            let last = nodes.len() - 1;
            draft.push(
                new()
                    .take(last)
                    .map(|(&node, fresh)| round.pair(node).filter(|_| *fresh).map(|(row, _)| law(row)))
                    .collect(),
            );
            target.push(new().map(|(&node, fresh)| round.target(node).filter(|_| *fresh).map(law)).collect());
        }
        Record::new(vocab, &drafts, draft, target, output)
    }

    fn child_or_new(&mut self, node: usize, token: Token, path: usize) -> usize {
        let child = self.child(node, token).unwrap_or_else(|| {
            self.nodes.push(Node { token, children: Vec::new(), paths: Vec::new(), draft: None, target: None });
            let child = self.nodes.len() - 1;
            self.nodes[node].children.push(child);
            child
        });
        self.nodes[child].paths.push(path);
        child
    }

    /// Finds the node before each output token.
    fn follow(&mut self) -> Result<(), RecordError> {
        let mut node = Some(ROOT);
        for (output, &token) in self.output.iter().enumerate() {
            let at = node.ok_or(RecordError::Beyond { output })?;
            if self.nodes[at].target.is_none() {
                let place = (self.nodes[at].paths.first().copied().unwrap_or(0), output);
                return Err(RecordError::MissingTarget { output, place });
            }
            self.before.push(at);
            node = self.child(at, token);
        }
        Ok(())
    }

    /// The size of the vocabulary.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// The number of paths.
    pub fn paths(&self) -> usize {
        self.paths.len()
    }

    /// The tokens of a path.
    pub fn path(&self, path: usize) -> Vec<Token> {
        self.paths[path][1..].iter().map(|&node| self.nodes[node].token).collect()
    }

    /// The length of the longest path.
    pub fn length(&self) -> usize {
        self.paths.iter().map(|nodes| nodes.len() - 1).max().unwrap_or(0)
    }

    /// The tokens output.
    pub fn output(&self) -> &[Token] {
        &self.output
    }

    /// The number of output tokens that were drafted, on one path from the start.
    pub fn accepted(&self) -> usize {
        let drafted = self.before.iter().zip(&self.output);
        drafted.take_while(|&(&node, &token)| self.child(node, token).is_some()).count()
    }

    /// The nodes of the tree that the paths span, the root first; parents come before their children.
    pub(super) fn nodes(&self) -> std::ops::Range<usize> {
        0..self.nodes.len()
    }

    /// The node after the first `length` tokens of a path.
    pub(super) fn node(&self, path: usize, length: usize) -> usize {
        self.paths[path][length]
    }

    /// The node before each output token.
    pub(super) fn before(&self) -> &[usize] {
        &self.before
    }

    pub(super) fn child(&self, node: usize, token: Token) -> Option<usize> {
        self.nodes[node].children.iter().copied().find(|&child| self.nodes[child].token == token)
    }

    pub(super) fn is_leaf(&self, node: usize) -> bool {
        self.nodes[node].children.is_empty()
    }

    /// The tokens that the paths through a node go on with, in the order of the paths.
    pub(super) fn next_tokens(&self, node: usize) -> Vec<Token> {
        let through = self.nodes[node].paths.iter().map(|&path| &self.paths[path]);
        let next = through.filter_map(|nodes| {
            let at = nodes.iter().position(|&other| other == node)?;
            nodes.get(at + 1).map(|&child| self.nodes[child].token)
        });
        next.collect()
    }

    /// The path and the position of the `draw`-th token that was drafted after a node.
    pub(super) fn place(&self, node: usize, draw: usize) -> (usize, usize) {
        let goes_on = |path: &usize| self.paths[*path].iter().position(|&other| other == node);
        let through = self.nodes[node].paths.iter().filter_map(|path| Some((*path, goes_on(path)?)));
        through.filter(|&(path, at)| at + 1 < self.paths[path].len()).nth(draw).unwrap_or((0, 0))
    }

    /// The leaves, in the order of the paths.
    pub(super) fn leaves(&self) -> impl Iterator<Item = usize> + '_ {
        self.paths.iter().filter_map(|nodes| nodes.last().copied())
    }

    /// The draft law after a node.
    pub(super) fn draft(&self, node: usize) -> Option<&LoggedLaw> {
        self.nodes[node].draft.as_deref()
    }

    /// The target law after a node.
    pub(super) fn target(&self, node: usize) -> Option<&LoggedLaw> {
        self.nodes[node].target.as_deref()
    }

    /// For each path the laws that no earlier path has given: how a log holds them.
    pub fn laws(&self) -> (Laws, Laws) {
        let mut seen = vec![false; self.nodes.len()];
        let (mut draft, mut target) = (Laws::new(), Laws::new());
        for nodes in &self.paths {
            let fresh: Vec<bool> = nodes.iter().map(|&node| !std::mem::replace(&mut seen[node], true)).collect();
            let pick = |law: &Option<Arc<LoggedLaw>>, fresh: bool| law.clone().filter(|_| fresh);
            let last = nodes.len() - 1;
            draft.push((0..last).map(|i| pick(&self.nodes[nodes[i]].draft, fresh[i])).collect());
            target.push((0..=last).map(|i| pick(&self.nodes[nodes[i]].target, fresh[i])).collect());
        }
        if self.paths.is_empty() {
            target.push(vec![self.nodes[ROOT].target.clone()]);
        }
        (draft, target)
    }
}

fn check(
    vocab: usize,
    drafts: &[Vec<Token>],
    draft: &Laws,
    target: &Laws,
    output: &[Token],
) -> Result<(), RecordError> {
    if drafts.len() > MAX_DRAFTS {
        return Err(RecordError::Paths { paths: drafts.len() });
    }
    let in_vocabulary = |field, path, tokens: &[Token]| match tokens.iter().position(|&t| t as usize >= vocab) {
        None => Ok(()),
        Some(position) => Err(RecordError::OutOfVocabulary { field, path, position, token: tokens[position], vocab }),
    };
    for (path, tokens) in drafts.iter().enumerate() {
        if tokens.len() > MAX_LENGTH {
            return Err(RecordError::Length { path, length: tokens.len() });
        }
        in_vocabulary(Field::Drafts, path, tokens)?;
    }
    let count = |field, path, expected: usize, given: usize| match given == expected {
        true => Ok(()),
        false => Err(RecordError::Count { field, path, expected, given }),
    };
    if !draft.is_empty() {
        count(Field::Draft, None, drafts.len(), draft.len())?;
    }
    count(Field::Target, None, drafts.len().max(1), target.len())?;
    for (field, laws, more) in [(Field::Draft, draft, 0), (Field::Target, target, 1)] {
        for (path, laws) in laws.iter().enumerate() {
            count(field, Some(path), drafts.get(path).map_or(0, Vec::len) + more, laws.len())?;
            for (position, law) in laws.iter().enumerate() {
                if let Some(law) = law
                    && law.vocab() != vocab
                {
                    let (given, expected) = (law.vocab(), vocab);
                    return Err(RecordError::Vocabulary { field, path, position, given, expected });
                }
            }
        }
    }
    if output.is_empty() {
        return Err(RecordError::NoOutput);
    }
    in_vocabulary(Field::Output, 0, output)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn law() -> Option<Arc<LoggedLaw>> {
        Some(Arc::new(Pmf::uniform(4).unwrap().into()))
    }

    fn record(drafts: &[Vec<Token>], draft: Laws, target: Laws, output: &[Token]) -> Result<Record, RecordError> {
        Record::new(4, drafts, draft, target, output.to_vec())
    }

    #[test]
    fn paths_share_nodes_and_laws() {
        let drafts = [vec![1, 2], vec![1, 3]];
        let draft = vec![vec![law(), law()], vec![None, None]];
        let target = vec![vec![law(), law(), None], vec![None, None, law()]];
        let record = record(&drafts, draft, target, &[1, 3, 0]).unwrap();
        assert_eq!((record.nodes().len(), record.accepted(), record.length()), (4, 2, 2));
        assert_eq!(record.next_tokens(ROOT), [1, 1]);
        assert_eq!(record.next_tokens(record.before()[1]), [2, 3]);
        assert!(record.is_leaf(record.before()[2]));
        let (draft, target) = record.laws();
        let given = |laws: &Laws| laws.iter().flatten().map(Option::is_some).collect::<Vec<_>>();
        assert_eq!(given(&draft), [true, true, false, false]);
        assert_eq!(given(&target), [true, true, false, false, false, true]);
        assert_eq!(record.path(1), [1, 3]);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let refused = |drafts: &[Vec<Token>], draft: Laws, target: Laws, output: &[Token], message: &str| {
            let error = record(drafts, draft, target, output).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        };
        let two = || vec![vec![law(), law()]];
        refused(&[vec![4]], vec![], two(), &[1], "drafts[0][0]: token 4");
        refused(&[vec![1]], vec![], two(), &[4], "output[0]: token 4");
        refused(&[vec![1]], vec![], two(), &[], "output: there is no token");
        refused(&[vec![1]], vec![], vec![vec![law()]], &[1], "target[0]: 1 entries where the drafts need 2");
        refused(&[vec![1], vec![2]], vec![], two(), &[1], "target: 1 entries where the drafts need 2");
        refused(&[vec![1]], vec![vec![]], two(), &[1], "draft[0]: 0 entries where the drafts need 1");
        refused(&[vec![1, 2]], vec![two().remove(0), vec![]], vec![], &[1], "draft: 2 entries");
        let half = vec![vec![law(), None]];
        refused(&[vec![1, 2]], half, vec![vec![law(), law(), law()]], &[1], "draft[0][1]: no scores");
        refused(&[vec![1]], vec![], vec![vec![law(), None]], &[1, 2], "target[0][1]: no scores, and output[1]");
        refused(&[vec![1]], vec![], two(), &[2, 2], "output[1]: follows a token that was not drafted");
        let other: Option<Arc<LoggedLaw>> = Some(Arc::new(Pmf::uniform(3).unwrap().into()));
        refused(&[vec![1]], vec![], vec![vec![law(), other]], &[1], "target[0][1]: 3 tokens; the vocabulary has 4");
        refused(&vec![vec![1]; 65], vec![], vec![], &[1], "drafts: 65 paths");
        refused(&[vec![1; 65]], vec![], vec![], &[1], "drafts[0]: 65 tokens");
    }
}
