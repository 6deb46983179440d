//! Temperature and filters, one for all requests or one each; drawing by them.

use std::borrow::Cow;

use draftpick::engine::PairSampling;
use draftpick::path::{LogitRow, Row};
use draftpick::{Sampling, Token};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::array::{self, Logits, check_shape, refused};
use crate::parallel;

/// A parameter: the same for all requests, or one each.
#[derive(FromPyObject)]
pub enum Parameter<'py> {
    /// For all.
    One(f64),
    /// For each.
    Each(PyReadonlyArray1<'py, f64>),
}

/// The parameters as Python hands them over: temperature, draft temperature, top-k, top-p, min-p.
#[derive(FromPyObject)]
pub struct Parameters<'py>(
    Parameter<'py>,
    Option<Parameter<'py>>,
    Option<Parameter<'py>>,
    Option<Parameter<'py>>,
    Option<Parameter<'py>>,
);

/// The largest top-k that is a number of tokens and not a mistake: more than any vocabulary, and exact in f64.
const MAX_TOP_K: f64 = 4_294_967_296.0;

impl Parameters<'_> {
    /// The sampling of each of `rows` requests, or one for all.
    ///
    /// # Errors
    /// A parameter has another number of values; top-k is no number of tokens. Ranges are the library's to check.
    pub fn read(&self, rows: usize) -> PyResult<Samplings> {
        let named = [
            ("temperature", Some(&self.0)),
            ("draft_temperature", self.1.as_ref()),
            ("top_k", self.2.as_ref()),
            ("top_p", self.3.as_ref()),
            ("min_p", self.4.as_ref()),
        ];
        for (name, parameter) in named {
            if let Some(Parameter::Each(values)) = parameter {
                check_shape(name, &[values.as_array().len()], &[rows], "one value for each request")?;
            }
        }
        let each = named.iter().any(|(_, parameter)| matches!(parameter, Some(Parameter::Each(_))));
        let value = |parameter: Option<&Parameter>, row: usize| match parameter? {
            Parameter::One(value) => Some(*value),
            Parameter::Each(values) => Some(values.as_array()[row]),
        };
        let at = |row: usize| -> PyResult<PairSampling> {
            let [temperature, draft_temperature, top_k, top_p, min_p] =
                named.map(|(_, parameter)| value(parameter, row));
            let top_k = match top_k {
                Some(k) if !((0.0..=MAX_TOP_K).contains(&k) && k.fract() == 0.0) => {
                    return Err(refused(format_args!("top_k is {k}; it must be a number of tokens")));
                }
                top_k => top_k.map(|k| k as usize),
            };
            let target = Sampling { temperature: temperature.unwrap_or(1.0), top_k, top_p, min_p };
            let draft = Sampling { temperature: draft_temperature.unwrap_or(target.temperature), ..target };
            Ok(PairSampling { draft, target })
        };
        Ok(if each { Samplings::Each((0..rows).map(at).collect::<PyResult<_>>()?) } else { Samplings::One(at(0)?) })
    }
}

/// The sampling of all requests.
pub enum Samplings {
    /// The same for all.
    One(PairSampling),
    /// One for each.
    Each(Vec<PairSampling>),
}

impl Samplings {
    /// That of a request.
    pub fn of(&self, row: usize) -> &PairSampling {
        match self {
            Samplings::One(sampling) => sampling,
            Samplings::Each(samplings) => &samplings[row],
        }
    }
}

/// Draws one token a row by inversion; the temperature is the draft's, if that has its own.
#[pyfunction]
pub fn draw<'py>(
    py: Python<'py>,
    logits: PyReadonlyArrayDyn<'py, f32>,
    coins: PyReadonlyArrayDyn<'py, f64>,
    parameters: Parameters<'py>,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let logits = Logits::new("logits", logits.as_array())?;
    let rows = logits.shape()[0];
    check_shape("coins", coins.shape(), &[rows], "one coin a row")?;
    let coins = array::coins(coins.as_array())?;
    let samplings = parameters.read(rows)?;
    let drawn = py.detach(|| {
        parallel::map(rows, logits.vocab(), |row| -> Result<Token, String> {
            let (sampling, logits) = (&samplings.of(row).draft, logits.row(&[row]));
            let logits = match *sampling == Sampling::default() {
                true => Cow::Borrowed(logits),
                false => Cow::Owned(sampling.apply(logits).map_err(|error| error.to_string())?),
            };
            Ok(LogitRow::of("draft", logits).map_err(|error| error.to_string())?.draw(coins[row]))
        })
    });
    let drawn: Vec<i64> = array::all(drawn)?.into_iter().map(i64::from).collect();
    Ok(drawn.into_pyarray(py))
}
