//! One text of a batch: what the models have seen of it, and its round while it is drafted.

use super::model::Extension;
use super::sampler::Leaf;
use crate::path::{DraftTree, PathError, ROOT, RoundCoins};
use crate::pmf::Token;

/// A text on its way.
#[derive(Clone, Debug)]
pub(super) struct Sequence {
    pub seed: u64,
    pub limit: usize,
    /// The number and the length of its paths; upper limits if each round chooses them.
    pub paths: usize,
    pub length: usize,
    pub generated: usize,
    /// The number of tokens of the text so far.
    pub len: usize,
    /// The end of the text that the models have not seen yet; never empty.
    pub draft_pending: Vec<Token>,
    pub target_pending: Vec<Token>,
    pub finished: bool,
}

/// One text's round while it is drafted.
pub(super) struct Drafting<L> {
    pub sequence: usize,
    pub coins: RoundCoins,
    pub tree: DraftTree<L>,
    /// The paths' length in this round.
    pub length: usize,
    /// The draft model's node for each node of the tree that it has seen.
    pub draft_nodes: Vec<Option<usize>>,
    /// The next number of a draft model's node.
    next_node: usize,
    /// The nodes of the tree whose laws are wanted next.
    wanted: Vec<usize>,
}

impl<L> Drafting<L> {
    /// Paths at the end of the text, as many and as long as the sequence has them, or as `chosen` for this round.
    pub fn new(number: usize, sequence: &Sequence, chosen: Option<(usize, usize)>) -> Result<Self, PathError> {
        let (paths, length) = chosen.unwrap_or((sequence.paths, sequence.length));
        let (paths, length) = (paths.min(sequence.paths), length.min(sequence.length));
        Ok(Drafting {
            sequence: number,
            coins: RoundCoins { seed: sequence.seed, start: sequence.len as u64 },
            tree: DraftTree::new(paths)?,
            // What is beyond the limit need not be drafted: the last token is never a drafted one's successor.
            length: length.min(sequence.limit - sequence.generated - 1),
            draft_nodes: vec![Some(sequence.draft_pending.len())],
            next_node: sequence.draft_pending.len() + 1,
            wanted: vec![ROOT],
        })
    }

    /// What the draft model is to see and score for the next level of the tree, and the nodes whose laws come of it.
    pub fn next_level(&mut self, level: usize, sequence: &Sequence, new: &mut Vec<Extension>) -> Vec<usize> {
        let wanted = std::mem::take(&mut self.wanted);
        if level >= self.length {
            return Vec::new();
        }
        if level == 0 {
            new.extend(chain(self.sequence, &sequence.draft_pending));
        }
        for &node in wanted.iter().filter(|&&node| node != ROOT) {
            let parent = self.draft_nodes[self.tree.parent(node)].expect("drafted from");
            new.push(Extension { sequence: self.sequence, parent, token: self.tree.token(node), scored: true });
            self.draft_nodes[node] = Some(self.next_node);
            self.next_node += 1;
        }
        wanted
    }

    /// What is to be drawn at a node with this law.
    pub fn leaf<'a>(&'a self, node: usize, law: &'a L) -> Leaf<'a, L> {
        Leaf { law, depth: self.tree.depth(node), paths: self.tree.paths_through(node), coins: self.coins }
    }

    /// Takes the tokens that were drawn at a node, one for each path.
    pub fn drawn(&mut self, node: usize, law: L, tokens: &[Token], stop: &[Token]) -> Result<(), PathError> {
        for child in self.tree.drawn(node, law, tokens)? {
            self.draft_nodes.push(None);
            if stop.contains(&self.tree.token(child)) {
                self.tree.end(child)?;
            } else {
                self.wanted.push(child);
            }
        }
        Ok(())
    }

    /// What the target model is to see and score.
    pub fn whole_tree(&self, pending: &[Token], new: &mut Vec<Extension>) {
        new.extend(chain(self.sequence, pending));
        for node in 1..self.tree.len() {
            let parent = pending.len() + self.tree.parent(node);
            let scored = !self.tree.is_ended(node);
            new.push(Extension { sequence: self.sequence, parent, token: self.tree.token(node), scored });
        }
    }
}

/// The nodes that append tokens to the root of a sequence, the last one scored.
fn chain(sequence: usize, tokens: &[Token]) -> impl Iterator<Item = Extension> + '_ {
    let last = tokens.len() - 1;
    tokens.iter().enumerate().map(move |(parent, &token)| Extension { sequence, parent, token, scored: parent == last })
}
