//! Single problems and tables of them: what any rule can reach, and what each reaches.

use draftpick::bound::{alpha_star as optimum, guarantee, min_cut};
use draftpick::lp::{self, Solver};
use draftpick::{Coin, Drawn, Pmf, Problem, Rule, Selection, Selector, Token};
use numpy::ndarray::{Array2, Array3};
use numpy::{
    IntoPyArray, PyArray1, PyArray2, PyArray3, PyReadonlyArray1, PyReadonlyArray2, PyReadonlyArrayDyn,
    PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use self_cell::self_cell;

use crate::array::{self, check_shape, refused};
use crate::parallel;
use crate::sampling::Parameters;
use crate::select::rule;

/// How closely the linear program's answer must meet the conditions of optimality: it is exact to rounding.
const TOLERANCE: f64 = 1e-9;

fn law(name: &str, probabilities: &PyReadonlyArray1<'_, f64>) -> PyResult<Pmf> {
    Pmf::new(probabilities.as_array().to_vec()).map_err(|error| refused(format_args!("{name}: {error}")))
}

fn problem(draft: &PyReadonlyArray1<'_, f64>, target: &PyReadonlyArray1<'_, f64>, k: usize) -> PyResult<Problem> {
    Problem::new(law("draft", draft)?, law("target", target)?, k).map_err(refused)
}

/// The names of all rules, in the order of tables.
#[pyfunction]
pub fn rule_names() -> Vec<&'static str> {
    Rule::ALL.iter().map(|rule| rule.name()).collect()
}

/// The largest acceptance of any rule.
#[pyfunction]
pub fn alpha_star(
    py: Python<'_>,
    draft: PyReadonlyArray1<'_, f64>,
    target: PyReadonlyArray1<'_, f64>,
    k: usize,
) -> PyResult<f64> {
    let problem = problem(&draft, &target, k)?;
    Ok(py.detach(|| optimum(&problem)))
}

/// What `solve` found: the optimum, the set that proves it, the guarantee, each rule's acceptance with its standard error,
/// and the linear program's optimum if it was asked for.
type Solved<'py> = (f64, Bound<'py, PyArray1<i64>>, f64, Vec<(&'static str, f64, f64)>, Option<f64>);

/// One problem: the optimum, and what each rule attains.
#[pyfunction]
pub fn solve<'py>(
    py: Python<'py>,
    draft: PyReadonlyArray1<'py, f64>,
    target: PyReadonlyArray1<'py, f64>,
    k: usize,
    exact: bool,
) -> PyResult<Solved<'py>> {
    let problem = problem(&draft, &target, k)?;
    let solved = py.detach(|| -> Result<_, String> {
        let program = match exact {
            true => {
                let solution = lp::solve(&problem, Solver::MaxFlow).map_err(|error| error.to_string())?;
                solution.verify(&problem, TOLERANCE).map_err(|error| error.to_string())?;
                Some(solution.objective)
            }
            false => None,
        };
        let attained = Rule::ALL.into_iter().filter(|rule| rule.takes(k)).map(|rule| {
            let acceptance = rule.prepare(&problem).acceptance();
            (rule.name(), acceptance.value, acceptance.standard_error)
        });
        Ok((min_cut(&problem), attained.collect(), program))
    });
    let (cut, attained, program) = solved.map_err(refused)?;
    let tokens: Vec<i64> = cut.tokens.into_iter().map(i64::from).collect();
    let share = guarantee(k).map_err(refused)?;
    Ok((cut.acceptance, tokens.into_pyarray(py), share, attained, program))
}

/// Scores of both models, a row for each position.
#[derive(FromPyObject)]
pub enum Scores<'py> {
    /// Logits in f32.
    Single(PyReadonlyArray2<'py, f32>),
    /// Logits or probabilities in f64.
    Double(PyReadonlyArray2<'py, f64>),
}

impl Scores<'_> {
    /// The number of rows.
    pub fn len(&self) -> usize {
        self.shape()[0]
    }

    /// A row.
    pub fn row(&self, at: usize) -> Vec<f64> {
        match self {
            Scores::Single(scores) => scores.as_array().row(at).iter().map(|&score| score.into()).collect(),
            Scores::Double(scores) => scores.as_array().row(at).to_vec(),
        }
    }

    fn shape(&self) -> &[usize] {
        match self {
            Scores::Single(scores) => scores.shape(),
            Scores::Double(scores) => scores.shape(),
        }
    }

    /// All rows as laws.
    fn laws(
        &self,
        name: &str,
        probabilities: bool,
        sampling: impl Fn(usize) -> draftpick::Sampling,
    ) -> PyResult<Vec<Pmf>> {
        let at = |row: usize| {
            match self {
                Scores::Single(_) if probabilities => return Err("probabilities must be float64".into()),
                Scores::Single(scores) => Pmf::from_logits(&scores.as_array().row(row).to_vec(), &sampling(row)),
                Scores::Double(scores) if probabilities => Pmf::new(scores.as_array().row(row).to_vec()),
                Scores::Double(scores) => Pmf::from_logits(&scores.as_array().row(row).to_vec(), &sampling(row)),
            }
            .map_err(|error| error.to_string())
        };
        let rows = self.shape()[0];
        (0..rows)
            .map(|row| at(row).map_err(|error: String| refused(format_args!("{name} row {row}: {error}"))))
            .collect()
    }
}

/// By position and number of drafts the optimum, and with the rules as a third axis acceptance and standard error; NaN
/// where a rule does not take that number.
type Measured<'py> = (Bound<'py, PyArray2<f64>>, Bound<'py, PyArray3<f64>>, Bound<'py, PyArray3<f64>>);

/// Every rule against the optimum on recorded scores.
#[pyfunction]
pub fn measure<'py>(
    py: Python<'py>,
    draft: Scores<'py>,
    target: Scores<'py>,
    ks: Vec<usize>,
    probabilities: bool,
    parameters: Parameters<'py>,
) -> PyResult<Measured<'py>> {
    check_shape("target", target.shape(), draft.shape(), "the shape of draft")?;
    let (rows, vocab) = (draft.shape()[0], draft.shape()[1]);
    let samplings = parameters.read(rows)?;
    let drafts = draft.laws("draft", probabilities, |row| samplings.of(row).draft)?;
    let targets = target.laws("target", probabilities, |row| samplings.of(row).target)?;
    type Cell = (f64, Vec<(f64, f64)>);
    let cells = py.detach(|| {
        parallel::map(rows, vocab * 8 * ks.len(), |row| -> Result<Vec<Cell>, String> {
            let cell = |&k: &usize| {
                let problem = Problem::new(drafts[row].clone(), targets[row].clone(), k);
                let problem = problem.map_err(|error| error.to_string())?;
                let attained = |rule: Rule| match rule.takes(k) {
                    true => {
                        let acceptance = rule.prepare(&problem).acceptance();
                        (acceptance.value, acceptance.standard_error)
                    }
                    false => (f64::NAN, f64::NAN),
                };
                Ok((optimum(&problem), Rule::ALL.map(attained).to_vec()))
            };
            ks.iter().map(cell).collect()
        })
    });
    let cells = array::all(cells)?;
    let optima = Array2::from_shape_fn((rows, ks.len()), |(row, k)| cells[row][k].0);
    let size = (rows, ks.len(), Rule::ALL.len());
    let acceptance = Array3::from_shape_fn(size, |(row, k, rule)| cells[row][k].1[rule].0);
    let errors = Array3::from_shape_fn(size, |(row, k, rule)| cells[row][k].1[rule].1);
    Ok((optima.into_pyarray(py), acceptance.into_pyarray(py), errors.into_pyarray(py)))
}

type Prepared<'a> = Box<dyn Selector + Send + Sync + 'a>;

self_cell!(
    struct Cell {
        owner: Problem,
        #[covariant]
        dependent: Prepared,
    }
);

/// One rule prepared for one problem in f64: exact, with its law.
#[pyclass(frozen, module = "draftpick._draftpick")]
pub struct PreparedSelector {
    cell: Cell,
}

#[pymethods]
impl PreparedSelector {
    #[new]
    fn new(
        py: Python<'_>,
        draft: PyReadonlyArray1<'_, f64>,
        target: PyReadonlyArray1<'_, f64>,
        k: usize,
        rule_name: &str,
    ) -> PyResult<Self> {
        let rule = rule(rule_name)?;
        let problem = problem(&draft, &target, k)?;
        if !rule.takes(k) {
            return Err(refused(format_args!("{rule} takes one draft, not {k}")));
        }
        Ok(PreparedSelector { cell: py.detach(|| Cell::new(problem, |problem| rule.prepare(problem))) })
    }

    /// The acceptance and its standard error.
    #[getter]
    fn acceptance(&self) -> (f64, f64) {
        let acceptance = self.cell.borrow_dependent().acceptance();
        (acceptance.value, acceptance.standard_error)
    }

    /// Whether the drafts must be drawn without replacement.
    #[getter]
    fn without_replacement(&self) -> bool {
        self.cell.borrow_dependent().drawn() == Drawn::WithoutReplacement
    }

    /// The law of the output given the drafts.
    fn law<'py>(&self, py: Python<'py>, drafts: PyReadonlyArrayDyn<'py, i64>) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let drafts = array::tokens("drafts", drafts.as_array())?;
        let law = py.detach(|| self.cell.borrow_dependent().law(&drafts)).map_err(refused)?;
        Ok(law.into_pyarray(py))
    }

    /// The output token, and the draft that it is, −1 for none.
    fn select(
        &self,
        drafts: PyReadonlyArrayDyn<'_, i64>,
        coins: PyReadonlyArrayDyn<'_, f64>,
    ) -> PyResult<(Token, i64)> {
        let drafts = array::tokens("drafts", drafts.as_array())?;
        let coins: Vec<Coin> = array::coins(coins.as_array())?;
        let selection = self.cell.borrow_dependent().select(&drafts, &coins).map_err(refused)?;
        let accepted = match selection {
            Selection::Draft(draft) => draft as i64,
            Selection::Residual(_) => -1,
        };
        Ok((selection.token(&drafts), accepted))
    }
}
