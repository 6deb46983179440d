//! The tree that the drafted paths of a round span, with the laws at its nodes.

use super::PathError;
use super::coins::{Coins, Purpose};
use super::row::Row;
use crate::pmf::Token;
use crate::problem::MAX_DRAFTS;

/// The most tokens of a path.
pub const MAX_LENGTH: usize = 64;

/// The root of a tree, where all paths start.
pub const ROOT: usize = 0;

/// Paths being drafted: what the draft model has said so far.
///
/// A token enters the tree only by being drawn from the law that the tree then keeps. All paths that reach a node go on
/// from it, each with its own draw, or all end there: whether they do may depend on the tokens up to the node and on
/// nothing else.
#[derive(Clone, Debug)]
pub struct DraftTree<R> {
    nodes: Vec<Node<R>>,
    /// The nodes of each path, the root first.
    paths: Vec<Vec<usize>>,
}

#[derive(Clone, Debug)]
struct Node<R> {
    token: Token,
    parent: usize,
    depth: usize,
    children: Vec<usize>,
    /// The paths through it, ascending.
    paths: Vec<usize>,
    /// What its children were drawn from; `None` for a leaf.
    draft: Option<R>,
    /// Whether the text ends here.
    ended: bool,
}

impl<R: Row> DraftTree<R> {
    /// Every path that is at the leaf `node` draws its next token from `law`, the `i`-th path with the coin
    /// ([`Purpose::Draft`], depth of the node, `i`). Returns the new nodes, one for each different token. `O(V)` a path.
    ///
    /// # Errors
    /// `node` is no open leaf, or is [`MAX_LENGTH`] tokens deep; `law` is over another vocabulary than those before.
    pub fn draw(&mut self, node: usize, law: R, coins: &impl Coins) -> Result<Vec<usize>, PathError> {
        let depth = self.check_leaf(node)?;
        if let Some(first) = &self.nodes[ROOT].draft
            && first.vocab() != law.vocab()
        {
            return Err(PathError::Vocabulary { node, draft: first.vocab(), other: law.vocab() });
        }
        let coins = self.nodes[node].paths.iter().map(|&path| coins.coin(Purpose::Draft, depth, path));
        let tokens: Vec<Token> = coins.map(|coin| law.draw(coin)).collect();
        self.drawn(node, law, &tokens)
    }

    /// Recorded drafts: `paths[i]` holds the tokens of path `i`, `law(i, t)` the law that its token `t` was drawn from.
    /// Where paths share a prefix the law is asked of the first of them only.
    ///
    /// # Errors
    /// The number of paths or their length is out of range; a path ends where another one goes on; a token is outside
    /// the vocabulary or has probability 0 under its law; what `law` returns.
    pub fn recorded<E: From<PathError>>(
        paths: &[&[Token]],
        mut law: impl FnMut(usize, usize) -> Result<R, E>,
    ) -> Result<Self, E> {
        let mut tree = Self::new(paths.len())?;
        let mut next = vec![ROOT];
        while let Some(node) = next.pop() {
            let through = tree.nodes[node].paths.clone();
            let depth = tree.nodes[node].depth;
            if through.iter().all(|&path| paths[path].len() == depth) {
                continue;
            }
            if let Some(&path) = through.iter().find(|&&path| paths[path].len() == depth) {
                return Err(PathError::Uneven { path, length: depth }.into());
            }
            tree.check_leaf(node)?;
            let law = law(through[0], depth)?;
            for &path in &through {
                let token = paths[path][depth];
                if token as usize >= law.vocab() {
                    return Err(PathError::OutOfVocabulary { path, depth, token, vocab: law.vocab() }.into());
                }
                if !(law.mass(token) > 0.0) {
                    return Err(PathError::NotDrawn { path, depth, token }.into());
                }
                tree.append(node, path, token);
            }
            tree.nodes[node].draft = Some(law);
            next.extend(tree.nodes[node].children.iter().rev());
        }
        Ok(tree)
    }

    /// The round that this tree makes with the target's scores: `target(node)` is asked for every node at which the
    /// text has not ended.
    ///
    /// # Errors
    /// The tree is a bare root with no draft; a law is over another vocabulary; what `target` returns.
    pub fn score<E: From<PathError>>(self, mut target: impl FnMut(usize) -> Result<R, E>) -> Result<Round<R>, E> {
        let mut targets = Vec::with_capacity(self.nodes.len());
        for (i, node) in self.nodes.iter().enumerate() {
            let law = if node.ended { None } else { Some(target(i)?) };
            targets.push(law);
        }
        let vocab = targets[ROOT].as_ref().map_or(0, R::vocab);
        for (node, laws) in self.nodes.iter().map(|node| &node.draft).zip(&targets).enumerate() {
            for law in [laws.0.as_ref(), laws.1.as_ref()].into_iter().flatten() {
                if law.vocab() != vocab {
                    return Err(PathError::Vocabulary { node, draft: law.vocab(), other: vocab }.into());
                }
            }
        }
        Ok(self.with_targets(targets, vocab))
    }
}

impl<R> DraftTree<R> {
    /// A tree of `paths` paths that are all at the root.
    ///
    /// # Errors
    /// `paths` is 0 or more than [`MAX_DRAFTS`].
    pub fn new(paths: usize) -> Result<Self, PathError> {
        if !(1..=MAX_DRAFTS).contains(&paths) {
            return Err(PathError::Paths { paths });
        }
        let root = Node {
            token: 0,
            parent: ROOT,
            depth: 0,
            children: Vec::new(),
            paths: (0..paths).collect(),
            draft: None,
            ended: false,
        };
        Ok(DraftTree { nodes: vec![root], paths: vec![vec![ROOT]; paths] })
    }

    /// The leaves at which the text has not ended, in the order in which they came to be.
    pub fn open(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&i| self.nodes[i].children.is_empty() && !self.nodes[i].ended).collect()
    }

    /// Marks a leaf as the end of the text: no token follows it, and the target's scores after it are not needed.
    ///
    /// # Errors
    /// `node` is no open leaf, or the root.
    pub fn end(&mut self, node: usize) -> Result<(), PathError> {
        self.check_leaf(node)?;
        if node == ROOT {
            return Err(PathError::NoLeaf { node });
        }
        self.nodes[node].ended = true;
        Ok(())
    }

    /// As [`draw`](DraftTree::draw), the tokens having been drawn from `law` by whoever holds its scores: one for each path
    /// at the leaf, in order.
    pub(crate) fn drawn(&mut self, node: usize, law: R, tokens: &[Token]) -> Result<Vec<usize>, PathError> {
        self.check_leaf(node)?;
        for (path, &token) in self.nodes[node].paths.clone().into_iter().zip(tokens) {
            self.append(node, path, token);
        }
        self.nodes[node].draft = Some(law);
        Ok(self.nodes[node].children.clone())
    }

    /// The round that this tree makes with the target's laws at the nodes at which the text has not ended, `None` at the
    /// others. All laws are over `vocab` tokens.
    pub(crate) fn with_targets(self, targets: Vec<Option<R>>, vocab: usize) -> Round<R> {
        Round { tree: self, targets, vocab }
    }

    fn check_leaf(&self, node: usize) -> Result<usize, PathError> {
        match self.nodes.get(node) {
            Some(leaf) if leaf.children.is_empty() && !leaf.ended && leaf.depth < MAX_LENGTH => Ok(leaf.depth),
            Some(leaf) if leaf.depth >= MAX_LENGTH => Err(PathError::Length { length: leaf.depth + 1 }),
            _ => Err(PathError::NoLeaf { node }),
        }
    }

    fn append(&mut self, node: usize, path: usize, token: Token) {
        let child = self.nodes[node].children.iter().copied().find(|&child| self.nodes[child].token == token);
        let child = child.unwrap_or_else(|| {
            let child = self.nodes.len();
            let depth = self.nodes[node].depth + 1;
            let (children, paths) = (Vec::new(), Vec::new());
            self.nodes.push(Node { token, parent: node, depth, children, paths, draft: None, ended: false });
            self.nodes[node].children.push(child);
            child
        });
        self.nodes[child].paths.push(path);
        self.paths[path].push(child);
    }

    /// The number of nodes, the root included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nothing was drafted.
    pub fn is_empty(&self) -> bool {
        self.nodes.len() == 1
    }

    /// The token of a node; of no meaning for the root.
    pub fn token(&self, node: usize) -> Token {
        self.nodes[node].token
    }

    /// The node before a node; the root is its own.
    pub fn parent(&self, node: usize) -> usize {
        self.nodes[node].parent
    }

    /// The number of tokens from the root to a node.
    pub fn depth(&self, node: usize) -> usize {
        self.nodes[node].depth
    }

    /// The nodes that follow a node, in the order of the first path through each.
    pub fn children(&self, node: usize) -> &[usize] {
        &self.nodes[node].children
    }

    /// The paths through a node, ascending.
    pub fn paths_through(&self, node: usize) -> &[usize] {
        &self.nodes[node].paths
    }

    /// Whether the text ends at a node.
    pub fn is_ended(&self, node: usize) -> bool {
        self.nodes[node].ended
    }

    /// The nodes of each path, the root first.
    pub fn paths(&self) -> &[Vec<usize>] {
        &self.paths
    }

    /// The tokens from the root to a node.
    pub fn tokens(&self, node: usize) -> Vec<Token> {
        let mut tokens = Vec::with_capacity(self.depth(node));
        let mut at = node;
        while at != ROOT {
            tokens.push(self.token(at));
            at = self.parent(at);
        }
        tokens.reverse();
        tokens
    }

    /// The child of a node with a token.
    pub fn child(&self, node: usize, token: Token) -> Option<usize> {
        self.children(node).iter().copied().find(|&child| self.token(child) == token)
    }
}

/// A drafted tree with both models' laws: what a verifier is given.
#[derive(Clone, Debug)]
pub struct Round<R> {
    tree: DraftTree<R>,
    /// The target's law after each node, `None` where the text has ended.
    targets: Vec<Option<R>>,
    vocab: usize,
}

impl<R> Round<R> {
    /// The tree.
    pub fn tree(&self) -> &DraftTree<R> {
        &self.tree
    }

    /// The size of the vocabulary.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// The same round with each law in another form.
    #[cfg(feature = "candle-cuda")]
    pub(crate) fn try_map<S, E>(&self, mut law: impl FnMut(&R) -> Result<S, E>) -> Result<Round<S>, E> {
        let mut node = |node: &Node<R>| {
            Ok(Node {
                token: node.token,
                parent: node.parent,
                depth: node.depth,
                children: node.children.clone(),
                paths: node.paths.clone(),
                draft: node.draft.as_ref().map(&mut law).transpose()?,
                ended: node.ended,
            })
        };
        let nodes = self.tree.nodes.iter().map(&mut node).collect::<Result<_, E>>()?;
        let targets =
            self.targets.iter().map(|target| target.as_ref().map(&mut law).transpose()).collect::<Result<_, E>>()?;
        Ok(Round { tree: DraftTree { nodes, paths: self.tree.paths.clone() }, targets, vocab: self.vocab })
    }

    /// Both laws at a node from which drafts went on: the draft's and the target's. `None` for a leaf.
    pub fn pair(&self, node: usize) -> Option<(&R, &R)> {
        self.tree.nodes[node].draft.as_ref().zip(self.targets[node].as_ref())
    }

    /// The target's law after a node; `None` where the text has ended.
    pub fn target(&self, node: usize) -> Option<&R> {
        self.targets[node].as_ref()
    }
}
