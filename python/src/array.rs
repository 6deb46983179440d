//! From arrays to rows, tokens and errors.

use draftpick::{Coin, Token};
use numpy::ndarray::{ArrayView1, ArrayViewD, IxDyn};
use pyo3::PyErr;
use pyo3::exceptions::PyValueError;

/// A `ValueError` with this message.
pub fn refused(message: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(message.to_string())
}

/// The first error of a batch, with its row in front, or all values. A batch of one needs no row.
pub fn all<T, E: std::fmt::Display>(results: Vec<Result<T, E>>) -> Result<Vec<T>, PyErr> {
    let rows = results.len();
    let with_row = |(row, result): (usize, Result<T, E>)| {
        result.map_err(|error| if rows == 1 { refused(error) } else { refused(format_args!("row {row}: {error}")) })
    };
    results.into_iter().enumerate().map(with_row).collect()
}

/// Logits: an array whose last axis is the vocabulary, and lies in one piece in memory.
pub struct Logits<'a> {
    view: ArrayViewD<'a, f32>,
}

impl<'a> Logits<'a> {
    /// Checks the layout. The other axes may have any strides.
    ///
    /// # Errors
    /// The last axis is strided.
    pub fn new(name: &str, view: ArrayViewD<'a, f32>) -> Result<Self, PyErr> {
        let last = view.ndim() - 1;
        if view.shape()[last] > 1 && view.strides()[last] != 1 && !view.is_empty() {
            return Err(refused(format_args!(
                "the last axis of {name} is strided ({} elements apart); its rows must be contiguous, as \
                 numpy.ascontiguousarray makes them",
                view.strides()[last]
            )));
        }
        Ok(Logits { view })
    }

    /// The shape.
    pub fn shape(&self) -> &[usize] {
        self.view.shape()
    }

    /// The length of a row.
    pub fn vocab(&self) -> usize {
        self.view.shape()[self.view.ndim() - 1]
    }

    /// The row at an index of all axes but the last.
    pub fn row(&self, index: &[usize]) -> &'a [f32] {
        let mut view = self.view.clone();
        for &at in index {
            view.index_axis_inplace(numpy::ndarray::Axis(0), at);
        }
        let row: ArrayView1<'a, f32> = view.into_dimensionality().expect("all axes but the last are indexed");
        row.to_slice().expect("the last axis is contiguous")
    }
}

/// Checks the shape of an array.
///
/// # Errors
/// It is another one.
pub fn check_shape(name: &str, given: &[usize], expected: &[usize], what: &str) -> Result<(), PyErr> {
    match given == expected {
        true => Ok(()),
        false => Err(refused(format_args!("{name} has shape {given:?}; {what} makes that {expected:?}"))),
    }
}

/// A token from an integer.
///
/// # Errors
/// It is negative or larger than any vocabulary.
pub fn token(value: i64, place: impl std::fmt::Display) -> Result<Token, PyErr> {
    Token::try_from(value).map_err(|_| refused(format_args!("token {value} at {place} is not in any vocabulary")))
}

/// All tokens of an array, in order.
///
/// # Errors
/// As [`token`].
pub fn tokens(name: &str, view: ArrayViewD<'_, i64>) -> Result<Vec<Token>, PyErr> {
    let place = |index: IxDyn| format!("{name}{:?}", numpy::ndarray::Dimension::slice(&index));
    view.indexed_iter().map(|(index, &value)| token(value, place(index))).collect()
}

/// All coins of an array, in order.
///
/// # Errors
/// One is not in `[0, 1)`.
pub fn coins(view: ArrayViewD<'_, f64>) -> Result<Vec<Coin>, PyErr> {
    view.iter().map(|&value| Coin::new(value).map_err(refused)).collect()
}
