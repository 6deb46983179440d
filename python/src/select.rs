//! Selection among the drafts of one position, for a batch of positions.

use draftpick::engine::{self, PairSampling};
use draftpick::scan::Scan;
use draftpick::{Coin, Rule, Sampling, Selection, Selector, Token};
use numpy::ndarray::ArrayViewD;
use numpy::{IntoPyArray, PyArray1, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::prelude::*;
use self_cell::self_cell;

use crate::array::{self, Logits, check_shape, refused};
use crate::coins::CoinSource;
use crate::parallel;
use crate::sampling::Parameters;

/// Output tokens, and which draft each is: −1 if it was drawn from the residual.
pub type Selected<'py> = (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>);

/// A rule by its name.
pub fn rule(name: &str) -> PyResult<Rule> {
    name.parse().map_err(refused)
}

/// Both models' logits, of one shape.
fn logit_pair<'a>(draft: ArrayViewD<'a, f32>, target: ArrayViewD<'a, f32>) -> PyResult<(Logits<'a>, Logits<'a>)> {
    let (draft, target) = (Logits::new("draft_logits", draft)?, Logits::new("target_logits", target)?);
    check_shape("target_logits", target.shape(), draft.shape(), "the shape of draft_logits")?;
    Ok((draft, target))
}

/// The tokens of `k` drafts for each of `rows`.
fn draft_tokens(drafts: &PyReadonlyArrayDyn<'_, i64>, rows: usize) -> PyResult<(Vec<Token>, usize)> {
    let k = drafts.shape()[1];
    check_shape("drafts", drafts.shape(), &[rows, k], "one row for each of the logits")?;
    Ok((array::tokens("drafts", drafts.as_array())?, k))
}

fn selected<'py>(py: Python<'py>, selections: &[Selection], drafts: &[Token], k: usize) -> Selected<'py> {
    let token = |(row, selection): (usize, &Selection)| i64::from(selection.token(&drafts[row * k..][..k]));
    let accepted = |selection: &Selection| match selection {
        Selection::Draft(draft) => *draft as i64,
        Selection::Residual(_) => -1,
    };
    let tokens: Vec<i64> = selections.iter().enumerate().map(token).collect();
    let accepted: Vec<i64> = selections.iter().map(accepted).collect();
    (tokens.into_pyarray(py), accepted.into_pyarray(py))
}

/// Prepares a rule at every position and selects among its drafts. The logits are read in place.
#[pyfunction]
pub fn select<'py>(
    py: Python<'py>,
    draft_logits: PyReadonlyArrayDyn<'py, f32>,
    target_logits: PyReadonlyArrayDyn<'py, f32>,
    drafts: PyReadonlyArrayDyn<'py, i64>,
    rule_name: &str,
    coins: CoinSource<'py>,
    parameters: Parameters<'py>,
) -> PyResult<Selected<'py>> {
    let rule = rule(rule_name)?;
    let (draft, target) = logit_pair(draft_logits.as_array(), target_logits.as_array())?;
    let rows = draft.shape()[0];
    let (drafts, k) = draft_tokens(&drafts, rows)?;
    let coins = coins.read_selection(rows, k)?;
    let samplings = parameters.read(rows)?;
    let selections = py.detach(|| {
        parallel::map(rows, 2 * draft.vocab(), |row| {
            let pair = (draft.row(&[row]), target.row(&[row]));
            engine::select(rule, pair, samplings.of(row), &drafts[row * k..][..k], &coins.selection(row, k))
        })
    });
    Ok(selected(py, &array::all(selections)?, &drafts, k))
}

type Prepared<'a> = Box<dyn Selector + Send + Sync + 'a>;

/// The two rows of a position, after temperature and filters.
struct Rows {
    draft: Vec<f32>,
    target: Vec<f32>,
}

self_cell!(
    /// A prepared selector with the rows that it reads.
    struct Position {
        owner: Rows,
        #[covariant]
        dependent: Prepared,
    }
);

impl Position {
    fn prepare(rule: Rule, k: usize, pair: (&[f32], &[f32]), sampling: &PairSampling) -> Result<Self, String> {
        let rows = |name: &str, logits: &[f32], sampling: &Sampling| match *sampling == Sampling::default() {
            true => Ok(logits.to_vec()),
            false => sampling.apply(logits).map_err(|error| format!("{name} row: {error}")),
        };
        let rows =
            Rows { draft: rows("draft", pair.0, &sampling.draft)?, target: rows("target", pair.1, &sampling.target)? };
        Position::try_new(rows, |rows| {
            let scan = Scan::new(&rows.draft, &rows.target, k).map_err(|error| error.to_string())?;
            Ok(rule.prepare_scan(&scan))
        })
    }
}

/// A rule prepared for a batch of positions: owns a copy of the logits.
#[pyclass(frozen, module = "draftpick._draftpick")]
pub struct PreparedBatch {
    positions: Vec<Position>,
    k: usize,
    vocab: usize,
}

#[pymethods]
impl PreparedBatch {
    #[new]
    fn new<'py>(
        py: Python<'py>,
        draft_logits: PyReadonlyArrayDyn<'py, f32>,
        target_logits: PyReadonlyArrayDyn<'py, f32>,
        k: usize,
        rule_name: &str,
        parameters: Parameters<'py>,
    ) -> PyResult<Self> {
        let rule = rule(rule_name)?;
        if !rule.takes(k) {
            return Err(refused(format_args!("{rule} takes one draft, not {k}")));
        }
        let (draft, target) = logit_pair(draft_logits.as_array(), target_logits.as_array())?;
        let (rows, vocab) = (draft.shape()[0], draft.vocab());
        let samplings = parameters.read(rows)?;
        let positions = py.detach(|| {
            parallel::map(rows, 2 * vocab, |row| {
                Position::prepare(rule, k, (draft.row(&[row]), target.row(&[row])), samplings.of(row))
            })
        });
        Ok(PreparedBatch { positions: array::all(positions)?, k, vocab })
    }

    /// Selects among the drafts of every position.
    fn select<'py>(
        &self,
        py: Python<'py>,
        drafts: PyReadonlyArrayDyn<'py, i64>,
        coins: CoinSource<'py>,
    ) -> PyResult<Selected<'py>> {
        let rows = self.positions.len();
        let (drafts, k) = draft_tokens(&drafts, rows)?;
        let coins = coins.read_selection(rows, k)?;
        // Most selections do not look at the rows again; those that resample do.
        let selections = py.detach(|| {
            parallel::map(rows, 2, |row| {
                let coins: Vec<Coin> = coins.selection(row, k);
                self.positions[row].borrow_dependent().select(&drafts[row * k..][..k], &coins)
            })
        });
        Ok(selected(py, &array::all(selections)?, &drafts, k))
    }

    /// The probability that a draft is accepted, at every position.
    fn acceptance<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        let acceptance = |position: &Position| position.borrow_dependent().acceptance().value;
        let all: Vec<f64> = py.detach(|| self.positions.iter().map(acceptance).collect());
        all.into_pyarray(py)
    }

    /// The number of positions, of drafts, and of tokens.
    #[getter]
    fn shape(&self) -> (usize, usize, usize) {
        (self.positions.len(), self.k, self.vocab)
    }
}
