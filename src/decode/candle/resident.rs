//! A decoder whose scores stay on its device.

use candle_core::Tensor;

use super::llama::{CallError, Llama};
use crate::decode::sampler::law;
use crate::decode::{Extension, HostSampler, Leaf, Model, SampleError, Sampler, Source};
use crate::path::{LogitRow, Outcome, Round, RoundCoins, Verifier};
use crate::pmf::Token;

/// A [`Llama`] as a [`Model`] whose rows stay on its device: a call copies tokens there and nothing back.
pub struct Resident(pub Llama);

/// A row of scores on a device: one of those that a call left there. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DeviceRow {
    /// All rows of the call, `[rows, vocab]`.
    pub(super) call: Tensor,
    pub(super) row: usize,
}

impl DeviceRow {
    /// All rows of the call, `[rows, vocab]`, and which of them this one is.
    pub fn place(&self) -> (&Tensor, usize) {
        (&self.call, self.row)
    }

    /// A copy on the host.
    ///
    /// # Errors
    /// The device fails.
    pub fn to_host(&self) -> Result<Vec<f32>, CallError> {
        Ok(self.call.get(self.row)?.to_vec1()?)
    }
}

impl Model for Resident {
    type Row = DeviceRow;
    type Error = CallError;

    fn vocab(&self) -> usize {
        self.0.config().vocab()
    }

    fn extend(&mut self, new: &[Extension]) -> Result<Vec<DeviceRow>, CallError> {
        let call = self.0.forward(new)?;
        Ok((0..call.dim(0)?).map(|row| DeviceRow { call: call.clone(), row }).collect())
    }

    fn keep(&mut self, sequence: usize, node: Option<usize>) -> Result<(), CallError> {
        self.0.keep(sequence, node)
    }
}

/// Copies each call's rows to the host at once, and goes on there.
impl Sampler<DeviceRow> for HostSampler {
    type Law = LogitRow;

    fn laws(&mut self, rows: Vec<DeviceRow>, source: &Source<'_>) -> Result<Vec<LogitRow>, SampleError> {
        let mut laws = Vec::with_capacity(rows.len());
        for rows in rows.chunk_by(|a, b| a.call.id() == b.call.id()) {
            let call = rows[0].call.to_vec2::<f32>().map_err(|error| SampleError::Device(error.into()))?;
            for row in rows {
                laws.push(law(&call[row.row], source)?);
            }
        }
        Ok(laws)
    }

    fn draw(&mut self, leaves: &[Leaf<'_, LogitRow>]) -> Result<Vec<Vec<Token>>, SampleError> {
        <HostSampler as Sampler<Vec<f32>>>::draw(self, leaves)
    }

    fn verify(
        &mut self,
        rounds: &[(&Round<LogitRow>, RoundCoins)],
        verifier: Verifier,
    ) -> Result<Vec<Outcome>, SampleError> {
        <HostSampler as Sampler<Vec<f32>>>::verify(self, rounds, verifier)
    }
}
