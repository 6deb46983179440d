//! The coins of a request: given as an array, or by seed.

use draftpick::Coin;
use draftpick::path::{Coins, Purpose, RoundCoins};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::array::{self, check_shape, refused};

/// The coins of a batch as Python hands them over.
#[derive(FromPyObject)]
pub enum CoinSource<'py> {
    /// The coins themselves.
    Given(PyReadonlyArrayDyn<'py, f64>),
    /// A seed for each request, and the position at which its round starts.
    Seeded(PyReadonlyArray1<'py, u64>, PyReadonlyArray1<'py, u64>),
}

/// The coins of a batch.
pub enum BatchCoins {
    /// `each` coins for each request, in the order in which the caller addresses them.
    Given {
        /// All coins.
        coins: Vec<Coin>,
        /// The shape of one request's.
        shape: Vec<usize>,
    },
    /// A seed and a start for each request.
    Seeded(Vec<RoundCoins>),
}

impl CoinSource<'_> {
    /// Checks the coins of `rows` selections among `k` drafts: one a draft, then two.
    ///
    /// # Errors
    /// The array has another shape, or a value is no coin; the seeds or starts are not one a request.
    pub fn read_selection(&self, rows: usize, k: usize) -> PyResult<BatchCoins> {
        if let CoinSource::Given(coins) = self {
            check_shape("coins", coins.shape(), &[rows, k + 2], "one a draft and two more")?;
        }
        self.read(rows)
    }

    /// Checks the coins of `rows` rounds, addressed by purpose, depth and draft. There may be more than are needed.
    ///
    /// # Errors
    /// As [`read_selection`](CoinSource::read_selection).
    pub fn read_addressed(&self, rows: usize, depths: usize, drafts: usize) -> PyResult<BatchCoins> {
        if let CoinSource::Given(coins) = self {
            let enough = matches!(*coins.shape(), [b, p, d, k]
                if b == rows && p == Purpose::ALL.len() && d >= depths && k >= drafts);
            if !enough {
                return Err(refused(format_args!(
                    "coins has shape {:?}; it must be [{rows}, {}, {depths}, {drafts}]: request, purpose, depth, draft",
                    coins.shape(),
                    Purpose::ALL.len()
                )));
            }
        }
        self.read(rows)
    }

    fn read(&self, rows: usize) -> PyResult<BatchCoins> {
        match self {
            CoinSource::Given(coins) => {
                Ok(BatchCoins::Given { coins: array::coins(coins.as_array())?, shape: coins.shape()[1..].to_vec() })
            }
            CoinSource::Seeded(seeds, starts) => {
                check_shape("seeds", seeds.shape(), &[rows], "one a request")?;
                check_shape("positions", starts.shape(), &[rows], "one a request")?;
                let pairs = seeds.as_array().into_iter().zip(starts.as_array());
                Ok(BatchCoins::Seeded(pairs.map(|(&seed, &start)| RoundCoins { seed, start }).collect()))
            }
        }
    }
}

/// The coins of one request.
pub enum RequestCoins<'a> {
    /// An array over purposes, depths and drafts.
    Given {
        /// The coins, drafts running fastest.
        coins: &'a [Coin],
        /// The number of depths.
        depths: usize,
        /// The number of drafts.
        drafts: usize,
    },
    /// By seed.
    Seeded(RoundCoins),
}

impl BatchCoins {
    /// The coins of a round, addressed by purpose, depth and draft.
    pub fn addressed(&self, row: usize) -> RequestCoins<'_> {
        match self {
            BatchCoins::Given { coins, shape } => {
                let each: usize = shape.iter().product();
                RequestCoins::Given { coins: &coins[row * each..][..each], depths: shape[1], drafts: shape[2] }
            }
            BatchCoins::Seeded(all) => RequestCoins::Seeded(all[row]),
        }
    }

    /// The coins of a selection among `k` drafts. By seed they are those of the first level of a round.
    pub fn selection(&self, row: usize, k: usize) -> Vec<Coin> {
        match self {
            BatchCoins::Given { coins, .. } => coins[row * (k + 2)..][..k + 2].to_vec(),
            BatchCoins::Seeded(all) => {
                let labels = (0..k).map(|draft| all[row].coin(Purpose::Label, 0, draft));
                labels.chain([Purpose::Accept, Purpose::Residual].map(|what| all[row].coin(what, 0, 0))).collect()
            }
        }
    }
}

impl Coins for RequestCoins<'_> {
    fn coin(&self, purpose: Purpose, depth: usize, draft: usize) -> Coin {
        match self {
            RequestCoins::Given { coins, depths, drafts } => {
                coins[(purpose.number() as usize * depths + depth) * drafts + draft]
            }
            RequestCoins::Seeded(coins) => coins.coin(purpose, depth, draft),
        }
    }
}

/// The coins at addresses, all arrays being of one length.
#[pyfunction]
pub fn philox<'py>(
    py: Python<'py>,
    seeds: PyReadonlyArray1<'py, u64>,
    positions: PyReadonlyArray1<'py, u64>,
    purpose: usize,
    depths: PyReadonlyArray1<'py, u64>,
    drafts: PyReadonlyArray1<'py, u64>,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let purpose = *Purpose::ALL.get(purpose).ok_or_else(|| refused(format_args!("there is no purpose {purpose}")))?;
    let addresses = seeds.as_array().into_iter().zip(positions.as_array());
    let addresses = addresses.zip(depths.as_array()).zip(drafts.as_array());
    let coins: Vec<f64> = addresses
        .map(|(((&seed, &start), &depth), &draft)| {
            RoundCoins { seed, start }.coin(purpose, depth as usize, draft as usize).get()
        })
        .collect();
    Ok(coins.into_pyarray(py))
}
