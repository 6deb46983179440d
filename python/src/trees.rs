//! Drafts as engines hold them: ragged batches of chains, and trees of parents.

use draftpick::engine::{EngineError, Followed, Shape, chain, follow, verify};
use draftpick::path::{Coins, Verifier};
use draftpick::{Sampling, Token};
use numpy::ndarray::{Array2, ArrayView1};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyReadonlyArray1, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::array::{self, Logits, check_shape, refused};
use crate::coins::CoinSource;
use crate::parallel;
use crate::paths::{Output, PLACEHOLDER, lengths, padded, verifier};
use crate::sampling::Parameters;

/// A ragged batch of chains: request `row` has the drafts from `starts[row]` up to and without `starts[row + 1]`.
struct Chains<'a> {
    tokens: Vec<Token>,
    starts: Vec<usize>,
    draft: Option<Logits<'a>>,
    target: Logits<'a>,
    bonus: Vec<Token>,
}

impl Chains<'_> {
    fn output(
        &self,
        row: usize,
        verifier: Verifier,
        sampling: &Sampling,
        coins: &dyn Coins,
    ) -> Result<Output, EngineError> {
        let start = self.starts[row];
        let tokens = &self.tokens[start..self.starts[row + 1]];
        let draft = self.draft.as_ref().map(|draft| move |depth: usize| draft.row(&[start + depth]));
        let draft = draft.as_ref().map(|draft| draft as &dyn Fn(usize) -> _);
        let kept = chain(tokens, draft, |depth| self.target.row(&[start + depth]), sampling, verifier, coins)?;
        let next = kept.next.unwrap_or(self.bonus[row]);
        Ok(Output { tokens: [&tokens[..kept.accepted], &[next]].concat(), path: 0, nodes: Vec::new() })
    }
}

/// The first draft of each request, and the end of the last, from the cumulative counts.
fn starts(cumulative: ArrayView1<'_, i64>, tokens: usize) -> PyResult<Vec<usize>> {
    let mut starts = vec![0];
    for (row, &end) in cumulative.iter().enumerate() {
        let start = starts[row];
        match usize::try_from(end) {
            Ok(end) if (start..=tokens).contains(&end) => starts.push(end),
            _ => {
                return Err(refused(format_args!(
                    "cu_num_draft_tokens[{row}] is {end}; it must be from {start} to {tokens}, the number of drafts"
                )));
            }
        }
    }
    match starts[starts.len() - 1] {
        end if end == tokens => Ok(starts),
        end => Err(refused(format_args!("cu_num_draft_tokens ends at {end}, but there are {tokens} drafts"))),
    }
}

/// Verifies one drafted chain for each request. A row of the result holds the output, padded with −1 to `width`.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "the conventions of the engines' samplers")]
pub fn verify_chains<'py>(
    py: Python<'py>,
    draft_token_ids: PyReadonlyArray1<'py, i64>,
    cu_num_draft_tokens: PyReadonlyArray1<'py, i64>,
    draft_probs: Option<PyReadonlyArrayDyn<'py, f32>>,
    target_logits: PyReadonlyArrayDyn<'py, f32>,
    bonus_token_ids: PyReadonlyArray1<'py, i64>,
    width: usize,
    verifier_name: &str,
    coins: CoinSource<'py>,
    parameters: Parameters<'py>,
) -> PyResult<Bound<'py, PyArray2<i64>>> {
    let verifier = verifier(verifier_name)?;
    let tokens = array::tokens("draft_token_ids", draft_token_ids.as_array().into_dyn())?;
    let starts = starts(cu_num_draft_tokens.as_array(), tokens.len())?;
    let rows = starts.len() - 1;
    let target = Logits::new("target_logits", target_logits.as_array())?;
    let vocab = target.vocab();
    check_shape("target_logits", target.shape(), &[tokens.len(), vocab], "one row a draft")?;
    let draft = draft_probs.as_ref().map(|probs| Logits::new("draft_probs", probs.as_array())).transpose()?;
    if let Some(draft) = &draft {
        check_shape("draft_probs", draft.shape(), &[tokens.len(), vocab], "one row a draft")?;
    }
    check_shape("bonus_token_ids", bonus_token_ids.shape(), &[rows], "one a request")?;
    let bonus = array::tokens("bonus_token_ids", bonus_token_ids.as_array().into_dyn())?;
    let longest = starts.windows(2).map(|ends| ends[1] - ends[0]).max().unwrap_or(0);
    if width <= longest {
        return Err(refused(format_args!("max_spec_len is {}, but a request has {longest} drafts", width as i64 - 1)));
    }
    let coins = coins.read_addressed(rows, longest + 1, 1)?;
    let samplings = parameters.read(rows)?;
    let chains = Chains { tokens, starts, draft, target, bonus };
    let outputs = py.detach(|| {
        parallel::map(rows, 2 * vocab * longest, |row| {
            chains.output(row, verifier, &samplings.of(row).target, &coins.addressed(row))
        })
    });
    Ok(padded(&array::all(outputs)?, width).into_pyarray(py))
}

/// Output tokens padded with −1, how many there are, and the nodes of the kept ones, padded with −1.
type Verified<'py> = (Bound<'py, PyArray2<i64>>, Bound<'py, PyArray1<i64>>, Bound<'py, PyArray2<i64>>);

/// The shapes and tokens of a batch of trees of one size.
fn shapes(
    tokens: &PyReadonlyArrayDyn<'_, i64>,
    parents: &PyReadonlyArrayDyn<'_, i64>,
) -> PyResult<(Vec<Shape>, Vec<Vec<Token>>)> {
    check_shape("parents", parents.shape(), tokens.shape(), "the shape of tokens")?;
    let nodes = tokens.shape()[1];
    let parents: Vec<i64> = parents.as_array().iter().copied().collect();
    let read = |row: usize| Shape::new(&parents[row * nodes..][..nodes]);
    let shapes = array::all((0..tokens.shape()[0]).map(read).collect())?;
    // The root's token is the last of the text; some engines hold none there.
    let token = |(at, &value): (usize, &i64)| if at % nodes == 0 { Ok(0) } else { array::token(value, at) };
    let tokens: Vec<Token> = tokens.as_array().iter().enumerate().map(token).collect::<PyResult<_>>()?;
    Ok((shapes, tokens.chunks(nodes.max(1)).map(<[Token]>::to_vec).collect()))
}

fn finish<'py>(py: Python<'py>, outputs: &[Output], depth: usize) -> Verified<'py> {
    let node = |(row, place): (usize, usize)| outputs[row].nodes.get(place).map_or(PLACEHOLDER, |&node| node as i64);
    let nodes = Array2::from_shape_fn((outputs.len(), depth), node);
    (padded(outputs, depth + 1).into_pyarray(py), lengths(outputs).into_pyarray(py), nodes.into_pyarray(py))
}

/// The tokens of the nodes that were kept, and the one after them.
fn output(kept: Followed, tokens: &[Token]) -> Output {
    let all = kept.nodes.iter().map(|&node| tokens[node]).chain(kept.next).collect();
    Output { tokens: all, path: 0, nodes: kept.nodes }
}

/// The length of the longest path.
fn depth(shapes: &[Shape]) -> usize {
    shapes.iter().flat_map(Shape::paths).map(|path| path.len() - 1).max().unwrap_or(0)
}

/// Verifies trees whose leaves are the ends of independent paths.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "the conventions of the engines' samplers")]
pub fn verify_tree<'py>(
    py: Python<'py>,
    tokens: PyReadonlyArrayDyn<'py, i64>,
    parents: PyReadonlyArrayDyn<'py, i64>,
    draft_logits: PyReadonlyArrayDyn<'py, f32>,
    target_logits: PyReadonlyArrayDyn<'py, f32>,
    verifier_name: &str,
    coins: CoinSource<'py>,
    parameters: Parameters<'py>,
) -> PyResult<Verified<'py>> {
    let verifier = verifier(verifier_name)?;
    let (draft, target) = (Logits::new("draft_logits", draft_logits.as_array())?, target_logits);
    let target = Logits::new("target_logits", target.as_array())?;
    let size = [tokens.shape(), &[target.vocab()]].concat();
    check_shape("draft_logits", draft.shape(), &size, "one row a node")?;
    check_shape("target_logits", target.shape(), &size, "one row a node")?;
    let (shapes, tokens) = shapes(&tokens, &parents)?;
    let (rows, depth) = (shapes.len(), depth(&shapes));
    let most = shapes.iter().map(|shape| shape.paths().len()).max().unwrap_or(1);
    let coins = coins.read_addressed(rows, depth + 1, most)?;
    let samplings = parameters.read(rows)?;
    let outputs = py.detach(|| {
        parallel::map(rows, 2 * target.vocab() * size[1], |row| {
            let draft = |node: usize| draft.row(&[row, node]);
            let target = |node: usize| Some(target.row(&[row, node]));
            let coins = coins.addressed(row);
            let kept = verify(&shapes[row], &tokens[row], draft, target, samplings.of(row), verifier, &coins)?;
            Ok::<_, EngineError>(output(kept, &tokens[row]))
        })
    });
    Ok(finish(py, &array::all(outputs)?, depth))
}

/// Verifies trees that were not drawn at random.
#[pyfunction]
pub fn follow_tree<'py>(
    py: Python<'py>,
    tokens: PyReadonlyArrayDyn<'py, i64>,
    parents: PyReadonlyArrayDyn<'py, i64>,
    target_logits: PyReadonlyArrayDyn<'py, f32>,
    coins: CoinSource<'py>,
    parameters: Parameters<'py>,
) -> PyResult<Verified<'py>> {
    let target = Logits::new("target_logits", target_logits.as_array())?;
    let size = [tokens.shape(), &[target.vocab()]].concat();
    check_shape("target_logits", target.shape(), &size, "one row a node")?;
    let (shapes, tokens) = shapes(&tokens, &parents)?;
    let (rows, depth) = (shapes.len(), depth(&shapes));
    let coins = coins.read_addressed(rows, depth + 1, 1)?;
    let samplings = parameters.read(rows)?;
    let outputs = py.detach(|| {
        parallel::map(rows, target.vocab() * (depth + 1), |row| {
            let target = |node: usize| Some(target.row(&[row, node]));
            let coins = coins.addressed(row);
            let kept = follow(&shapes[row], &tokens[row], target, &samplings.of(row).target, &coins)?;
            Ok::<_, EngineError>(output(kept, &tokens[row]))
        })
    });
    Ok(finish(py, &array::all(outputs)?, depth))
}
