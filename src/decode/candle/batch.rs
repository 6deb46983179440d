//! What a call of the kernels is given: rows of several calls of the models, and numbers on the device.

// Views of candle's tensors.
#![allow(unsafe_code)]

use candle_core::{Device, Tensor, WithDType};

use super::address::address;
use super::cuda::{CudaSamplerError, DeviceLaw};
use super::resident::DeviceRow;
use crate::gpu::{Format, Plain, Rows, Shaping, View};
use crate::path::{Round, RoundCoins};

/// The rows of several calls of a model, one after the other.
#[derive(Default)]
pub(super) struct Stack {
    calls: Vec<Tensor>,
    /// The rows before each call's.
    before: Vec<usize>,
    len: usize,
}

impl Stack {
    /// The number of a row.
    pub fn place(&mut self, row: &DeviceRow) -> Result<i32, CudaSamplerError> {
        // Rows come call by call, mostly.
        let call = match self.calls.iter().rposition(|call| call.id() == row.call.id()) {
            Some(call) => call,
            None => {
                self.before.push(self.len);
                self.len += row.call.dim(0)?;
                self.calls.push(row.call.clone());
                self.calls.len() - 1
            }
        };
        Ok((self.before[call] + row.row) as i32)
    }

    /// All of them; `None` if there are none.
    pub fn rows(&self) -> Result<Option<Tensor>, CudaSamplerError> {
        Ok(match self.calls.as_slice() {
            [] => None,
            [one] => Some(one.contiguous()?),
            calls => Some(Tensor::cat(calls, 0)?),
        })
    }
}

/// The rows of all nodes of some rounds; each node is a pair, tree by tree.
pub(super) struct NodeRows {
    pub vocab: usize,
    /// The first pair of each round.
    pub first: Vec<usize>,
    /// The draft row of each pair, −1 for a leaf; the target row, −1 where the text ends.
    pub draft_rows: Vec<i32>,
    pub target_rows: Vec<i32>,
    drafts: Stack,
    targets: Stack,
}

impl NodeRows {
    pub fn new(rounds: &[(&Round<DeviceLaw>, RoundCoins)]) -> Result<Self, CudaSamplerError> {
        let (draft_rows, target_rows, first) = (Vec::new(), Vec::new(), Vec::new());
        let (drafts, targets) = (Stack::default(), Stack::default());
        let mut rows = NodeRows { vocab: 0, first, draft_rows, target_rows, drafts, targets };
        for (round, _) in rounds {
            rows.first.push(rows.draft_rows.len());
            rows.vocab = round.vocab();
            for node in 0..round.tree().len() {
                let draft = round.pair(node).map(|(draft, _)| rows.drafts.place(draft.row()));
                rows.draft_rows.push(draft.transpose()?.unwrap_or(-1));
                let target = round.target(node).map(|target| rows.targets.place(target.row()));
                rows.target_rows.push(target.transpose()?.unwrap_or(-1));
            }
        }
        Ok(rows)
    }

    /// The draft and the target rows.
    pub fn tensors(&self) -> Result<(Tensor, Tensor), CudaSamplerError> {
        let target = self.targets.rows()?.ok_or(CudaSamplerError::NotCuda)?;
        // Without drafts there is no draft row: any does, none is read.
        Ok((self.drafts.rows()?.unwrap_or_else(|| target.clone()), target))
    }

    /// Factors of the draft and the target logits of each pair; `None` where all are 1.
    pub fn scales(
        &self,
        rounds: &[(&Round<DeviceLaw>, RoundCoins)],
        device: &Device,
    ) -> Result<(Option<Tensor>, Option<Tensor>), CudaSamplerError> {
        let nodes = || rounds.iter().flat_map(|(round, _)| (0..round.tree().len()).map(move |node| (*round, node)));
        let drafts = scales(nodes().map(|(round, node)| round.pair(node).map(|(draft, _)| draft)), device)?;
        Ok((drafts, scales(nodes().map(|(round, node)| round.target(node)), device)?))
    }
}

/// Factors of logits, 1 where there is no law; `None` where all are 1.
pub(super) fn scales<'a>(
    laws: impl Iterator<Item = Option<&'a DeviceLaw>>,
    device: &Device,
) -> Result<Option<Tensor>, CudaSamplerError> {
    let scales: Vec<f32> = laws.map(|law| law.map_or(1.0, DeviceLaw::scale)).collect();
    if scales.iter().all(|&scale| scale == 1.0) { Ok(None) } else { upload(&scales, device).map(Some) }
}

pub(super) fn shaping<'a>(
    draft_scale: &'a Option<Tensor>,
    target_scale: &'a Option<Tensor>,
) -> Result<Shaping<'a>, CudaSamplerError> {
    Ok(Shaping {
        draft_scale: draft_scale.as_ref().map(view).transpose()?,
        target_scale: target_scale.as_ref().map(view).transpose()?,
        ..Shaping::default()
    })
}

/// Copies numbers to the device, in the order of candle's stream. There is room for one at least: an empty tensor has no
/// address.
pub(super) fn upload<T: WithDType>(values: &[T], device: &Device) -> Result<Tensor, CudaSamplerError> {
    let padded = if values.is_empty() { &[T::zero()] } else { values };
    Ok(Tensor::from_slice(padded, padded.len(), device)?)
}

/// The numbers of a tensor of as wide a type.
pub(super) fn view<T: Plain>(tensor: &Tensor) -> Result<View<'_, T>, CudaSamplerError> {
    assert_eq!(tensor.dtype().size_in_bytes(), size_of::<T>());
    // SAFETY: the tensor is borrowed for as long as the view and holds as many numbers; memory that candle frees stays as
    // it is until the work submitted to its stream before is done.
    Ok(unsafe { View::from_raw(address(tensor)?, tensor.elem_count()) })
}

/// The rows of a tensor of f32.
pub(super) fn view_rows(tensor: &Tensor) -> Result<Rows<'_>, CudaSamplerError> {
    let (rows, logits) = tensor.dims2()?;
    // SAFETY: as above; the rows of a contiguous tensor are `logits` apart.
    Ok(unsafe { Rows::from_raw(address(tensor)?, Format::F32, rows, logits) })
}
