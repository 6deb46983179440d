//! Verification of `K` drafted paths, for a batch of requests.

use draftpick::Token;
use draftpick::engine::{EngineError, EngineRow, PairSampling, round};
use draftpick::path::{PathVerifier, Round, Stop, Verifier};
use numpy::ndarray::{Array2, ArrayViewD};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyReadonlyArrayDyn};
use pyo3::prelude::*;

use crate::array::{self, Logits, check_shape, refused};
use crate::coins::CoinSource;
use crate::parallel;
use crate::sampling::Parameters;

/// What takes the place of a token where there is none.
pub const PLACEHOLDER: i64 = -1;

/// A verifier by its name.
pub fn verifier(name: &str) -> PyResult<Verifier> {
    name.parse().map_err(refused)
}

/// The output of one request.
pub struct Output {
    /// The tokens: kept drafts, then one more.
    pub tokens: Vec<Token>,
    /// A path that begins with the kept ones.
    pub path: usize,
    /// The nodes of the kept tokens, if the drafts came as a tree.
    pub nodes: Vec<usize>,
}

/// `K` paths of `L` tokens with the logits along them, for each request.
struct Drafts<'a> {
    tokens: Vec<Token>,
    draft: Logits<'a>,
    target: Logits<'a>,
    rows: usize,
    paths: usize,
    length: usize,
}

impl<'a> Drafts<'a> {
    fn new(tokens: ArrayViewD<'a, i64>, draft: ArrayViewD<'a, f32>, target: ArrayViewD<'a, f32>) -> PyResult<Self> {
        let (draft, target) = (Logits::new("draft_logits", draft)?, Logits::new("target_logits", target)?);
        let &[rows, paths, length] = tokens.shape() else { unreachable!("tokens have three axes") };
        let vocab = target.vocab();
        check_shape("draft_logits", draft.shape(), &[rows, paths, length, vocab], "[B, K, L] tokens")?;
        check_shape("target_logits", target.shape(), &[rows, paths, length + 1, vocab], "[B, K, L] tokens")?;
        Ok(Drafts { tokens: array::tokens("tokens", tokens)?, draft, target, rows, paths, length })
    }

    fn paths(&self, row: usize) -> Vec<&[Token]> {
        let path = |path: usize| &self.tokens[(row * self.paths + path) * self.length..][..self.length];
        (0..self.paths).map(path).collect()
    }

    /// The round of a request.
    fn round(&self, row: usize, sampling: &PairSampling) -> Result<Round<EngineRow<'a>>, EngineError> {
        let draft = |path: usize, depth: usize| self.draft.row(&[row, path, depth]);
        let target = |path: usize, depth: usize| Some(self.target.row(&[row, path, depth]));
        round(&self.paths(row), draft, target, sampling)
    }
}

/// Output tokens padded with −1, how many there are, and a path that begins with the kept ones.
pub type Verified<'py> = (Bound<'py, PyArray2<i64>>, Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>);

/// All outputs in rows of `width`.
pub fn padded(outputs: &[Output], width: usize) -> Array2<i64> {
    let token = |(row, place): (usize, usize)| outputs[row].tokens.get(place).map_or(PLACEHOLDER, |&t| i64::from(t));
    Array2::from_shape_fn((outputs.len(), width), token)
}

/// The number of tokens of each output.
pub fn lengths(outputs: &[Output]) -> Vec<i64> {
    outputs.iter().map(|output| output.tokens.len() as i64).collect()
}

/// Verifies the paths of every request.
#[pyfunction]
pub fn verify_paths<'py>(
    py: Python<'py>,
    tokens: PyReadonlyArrayDyn<'py, i64>,
    draft_logits: PyReadonlyArrayDyn<'py, f32>,
    target_logits: PyReadonlyArrayDyn<'py, f32>,
    verifier_name: &str,
    coins: CoinSource<'py>,
    parameters: Parameters<'py>,
) -> PyResult<Verified<'py>> {
    let verifier = verifier(verifier_name)?;
    let drafts = Drafts::new(tokens.as_array(), draft_logits.as_array(), target_logits.as_array())?;
    let coins = coins.read_addressed(drafts.rows, drafts.length + 1, drafts.paths)?;
    let samplings = parameters.read(drafts.rows)?;
    let cost = drafts.draft.vocab() * drafts.paths * (2 * drafts.length + 1);
    let outputs = py.detach(|| {
        parallel::map(drafts.rows, cost, |row| -> Result<Output, EngineError> {
            let round = drafts.round(row, samplings.of(row))?;
            let outcome = verifier.verify(&round, &coins.addressed(row))?;
            let path = round.tree().paths_through(outcome.node)[0];
            Ok(Output { tokens: outcome.tokens(&round), path, nodes: Vec::new() })
        })
    });
    let outputs = array::all(outputs)?;
    let paths: Vec<i64> = outputs.iter().map(|output| output.path as i64).collect();
    let tokens = padded(&outputs, drafts.length + 1);
    Ok((tokens.into_pyarray(py), lengths(&outputs).into_pyarray(py), paths.into_pyarray(py)))
}

/// A way in which a round may end: the kept tokens, the probability of that, and the law of the next token.
type Ending<Law> = (Vec<Token>, f64, Law);

/// The exact law of the outcome of one request, given its drafts.
#[pyfunction]
pub fn outcome_law<'py>(
    py: Python<'py>,
    tokens: PyReadonlyArrayDyn<'py, i64>,
    draft_logits: PyReadonlyArrayDyn<'py, f32>,
    target_logits: PyReadonlyArrayDyn<'py, f32>,
    verifier_name: &str,
    parameters: Parameters<'py>,
) -> PyResult<Vec<Ending<Bound<'py, PyArray1<f64>>>>> {
    let verifier = verifier(verifier_name)?;
    let drafts = Drafts::new(tokens.as_array(), draft_logits.as_array(), target_logits.as_array())?;
    check_shape("tokens", &[drafts.rows], &[1], "one request")?;
    let samplings = parameters.read(1)?;
    let stops = py.detach(|| -> Result<Vec<Ending<Vec<f64>>>, EngineError> {
        let round = drafts.round(0, samplings.of(0))?;
        let law = verifier.law(&round)?;
        let stop = |stop: &Stop| (round.tree().tokens(stop.node), stop.probability, stop.next.clone());
        Ok(law.stops().iter().map(stop).collect())
    });
    let stops = stops.map_err(refused)?;
    Ok(stops.into_iter().map(|(tokens, share, next)| (tokens, share, next.into_pyarray(py))).collect())
}
