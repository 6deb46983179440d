//! A round with every number that decided it.

use draftpick::Token;
use draftpick::layout::Segment;
use draftpick::path::{Explanation, PathVerifier, Round, RoundCoins, Row, SpreadCoupling, Verifier};
use serde::Serialize;

/// The tokens that are shown one by one at a node besides the drafted ones, if the vocabulary is large.
const SHOWN: usize = 6;

#[derive(Serialize)]
pub struct Answer {
    /// The number of paths, and the length of the longest.
    paths: usize,
    length: usize,
    nodes: Vec<Node>,
    /// The last node of each path, and its label.
    leaves: Vec<usize>,
    labels: Vec<f64>,
    winner: usize,
    tosses: Vec<Tossed>,
    /// The node that is kept, and the token after it.
    kept: usize,
    next: Option<String>,
    /// The tokens that come out.
    output: Vec<String>,
    verifiers: Vec<Given>,
    /// The number of recorded rounds to choose from, where this is one.
    rows: usize,
}

#[derive(Serialize)]
struct Node {
    name: Option<String>,
    parent: usize,
    depth: usize,
    /// The paths through it.
    paths: Vec<usize>,
    /// The law of the labels of a path that passes.
    label: Vec<Piece>,
    /// `P_t`, `S_t` (of an inner node) and `h_t`.
    weight: f64,
    residual: Option<f64>,
    keep: f64,
    /// What may follow, and how the text goes on if this node is kept.
    tokens: Vec<Next>,
}

/// Labels `lo` to `hi`, over which a law is even, and its share on them.
#[derive(Serialize)]
struct Piece {
    lo: f64,
    hi: f64,
    share: f64,
}

/// A next token, or all that are not shown one by one.
#[derive(Serialize)]
struct Next {
    name: String,
    /// The node of the tree, if it was drafted.
    node: Option<usize>,
    /// Its probability: when a path is drafted, as the winner's (`a`), and as the target wants it.
    draft: Option<f64>,
    selected: Option<f64>,
    target: f64,
    /// `P_t·q`.
    wanted: f64,
    /// What is left of it for this node: `(P_t·q − a)₊`, normalised.
    next: f64,
    /// The law of the labels of a path that goes on with it; `None` for what is not one token.
    label: Option<Vec<Piece>>,
}

#[derive(Serialize)]
struct Tossed {
    node: usize,
    keep: f64,
    coin: f64,
    kept: bool,
}

/// What a verifier makes of these drafts.
#[derive(Serialize)]
struct Given {
    name: String,
    /// The expected number of drafted tokens that it keeps.
    accepted: f64,
    /// The probability of stopping at each node.
    stops: Vec<f64>,
}

pub fn explain<R: Row>(
    round: &Round<R>,
    coins: &RoundCoins,
    name: impl Fn(Token) -> String,
    rows: usize,
) -> anyhow::Result<Answer> {
    let tree = round.tree();
    let explanation = SpreadCoupling::default().explain(round, coins)?;
    let outcome = explanation.outcome();
    let leaves: Vec<usize> = tree.paths().iter().map(|path| path[path.len() - 1]).collect();
    let verifiers = Verifier::all(tree.paths().len()).into_iter().map(|verifier| {
        let law = verifier.law(round)?;
        let mut stops = vec![0.0; tree.len()];
        law.stops().iter().for_each(|stop| stops[stop.node] += stop.probability);
        Ok(Given { name: verifier.name(), accepted: law.expected_accepted(round), stops })
    });
    Ok(Answer {
        paths: leaves.len(),
        length: leaves.iter().map(|&leaf| tree.depth(leaf)).max().unwrap_or(0),
        nodes: (0..tree.len()).map(|at| node(round, &explanation, at, &name)).collect(),
        labels: explanation.labels().to_vec(),
        winner: explanation.winner(),
        tosses: explanation
            .tosses()
            .iter()
            .map(|toss| Tossed { node: toss.node, keep: toss.keep, coin: toss.coin, kept: toss.is_kept() })
            .collect(),
        kept: outcome.node,
        next: outcome.next.map(&name),
        output: outcome.tokens(round).into_iter().map(&name).collect(),
        verifiers: verifiers.collect::<anyhow::Result<_>>()?,
        leaves,
        rows,
    })
}

fn node<R: Row>(
    round: &Round<R>,
    explanation: &Explanation<'_, R>,
    at: usize,
    name: &impl Fn(Token) -> String,
) -> Node {
    let tree = round.tree();
    Node {
        name: (at > 0).then(|| name(tree.token(at))),
        parent: tree.parent(at),
        depth: tree.depth(at),
        paths: tree.paths_through(at).to_vec(),
        label: pieces(explanation.label_law(at)),
        weight: explanation.weight(at),
        residual: explanation.residual(at),
        keep: explanation.keep(at),
        tokens: tokens(round, explanation, at, name),
    }
}

fn tokens<R: Row>(
    round: &Round<R>,
    explanation: &Explanation<'_, R>,
    at: usize,
    name: &impl Fn(Token) -> String,
) -> Vec<Next> {
    let tree = round.tree();
    let (selected, next, weight) = (explanation.selected(at), explanation.next_law(at), explanation.weight(at));
    let draft = |token: Token| round.pair(at).map(|(draft, _)| draft.mass(token));
    let target = |token: Token| round.target(at).map_or(0.0, |target| target.mass(token));
    let share = |law: &[f64], token: Token| law.get(token as usize).copied();
    let mut all: Vec<Token> = (0..round.vocab() as Token).collect();
    let mut rest = Vec::new();
    if all.len() > SHOWN + 1 {
        let rank = |token: Token| {
            let most = target(token).max(draft(token).unwrap_or(0.0));
            if tree.child(at, token).is_some() { 1.0 + most } else { most }
        };
        all.sort_by(|&a, &b| rank(b).total_cmp(&rank(a)));
        rest = all.split_off(SHOWN.max(tree.children(at).len()));
    }
    let one = |token: Token| Next {
        name: name(token),
        node: tree.child(at, token),
        draft: draft(token),
        selected: share(&selected, token),
        target: target(token),
        wanted: weight * target(token),
        next: share(&next, token).unwrap_or(0.0),
        label: draft(token).map(|_| pieces(explanation.label_law_after(at, token))),
    };
    let mut shown: Vec<Next> = all.into_iter().map(one).collect();
    if !rest.is_empty() {
        let left: f64 = rest.iter().map(|&token| target(token)).sum();
        let sum = |value: &dyn Fn(Token) -> Option<f64>| rest.iter().map(|&token| value(token)).sum::<Option<f64>>();
        shown.push(Next {
            name: format!("{} others", rest.len()),
            node: None,
            draft: sum(&draft),
            selected: sum(&|token| share(&selected, token)),
            target: left,
            wanted: weight * left,
            next: sum(&|token| share(&next, token)).unwrap_or(0.0),
            label: None,
        });
    }
    shown
}

fn pieces(pieces: Vec<(Segment, f64)>) -> Vec<Piece> {
    pieces.into_iter().map(|(segment, share)| Piece { lo: segment.lo, hi: segment.hi(), share }).collect()
}
