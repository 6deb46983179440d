//! What a call of the kernels is given: rows of several calls of the models, and numbers on the device.

// Views of candle's tensors.
#![allow(unsafe_code)]

use std::marker::PhantomData;

use candle_core::{Device, Tensor};

use super::address::address;
use super::cuda::{CudaSamplerError, DeviceLaw};
use super::resident::DeviceRow;
use crate::gpu::{self, Each, Filter, Filtered, Filters, Format, GpuError, Plain, Rows, Shaping, Stream, View};
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

    /// What makes laws of the draft and the target row of each pair.
    pub fn laws(&self, rounds: &[(&Round<DeviceLaw>, RoundCoins)], parcel: &mut Parcel) -> [Laws; 2] {
        let nodes = || rounds.iter().flat_map(|(round, _)| (0..round.tree().len()).map(move |node| (*round, node)));
        let drafts = Laws::new(nodes().map(|(round, node)| round.pair(node).map(|(draft, _)| draft)), parcel);
        [drafts, Laws::new(nodes().map(|(round, node)| round.target(node)), parcel)]
    }
}

/// Numbers of several kinds that go to the device together: each copy and the memory for it are a large part of what a
/// small call takes.
#[derive(Default)]
pub(super) struct Parcel {
    bytes: Vec<u8>,
}

/// Where numbers are in a parcel.
pub(super) struct Place<T> {
    start: usize,
    len: usize,
    of: PhantomData<T>,
}

impl Parcel {
    /// Adds numbers; `bytes` are one's bytes in memory.
    pub fn add<T: Plain, const N: usize>(&mut self, values: &[T], bytes: fn(T) -> [u8; N]) -> Place<T> {
        assert_eq!(N, size_of::<T>());
        let start = self.bytes.len();
        values.iter().for_each(|&value| self.bytes.extend(bytes(value)));
        // Numbers of any kind may follow.
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        Place { start, len: values.len(), of: PhantomData }
    }

    /// Copies all of it to the device, in the order of candle's stream.
    pub fn send(mut self, device: &Device) -> Result<Sent, CudaSamplerError> {
        // An empty tensor has no address.
        self.bytes.push(0);
        let len = self.bytes.len();
        Ok(Sent(Tensor::from_vec(self.bytes, len, device)?))
    }
}

/// A parcel on the device.
pub(super) struct Sent(Tensor);

impl Sent {
    /// What `place` of the parcel that was sent holds.
    pub fn view<T: Plain>(&self, place: &Place<T>) -> Result<View<'_, T>, CudaSamplerError> {
        assert!(place.start + place.len * size_of::<T>() <= self.0.elem_count());
        // SAFETY: the numbers are there and begin at a multiple of 8 bytes, as the tensor does of 256. It is borrowed for as
        // long as the view; memory that candle frees stays as it is until the work submitted to its stream before is done.
        Ok(unsafe { View::from_raw(address(&self.0)? + place.start as u64, place.len) })
    }
}

/// What makes laws of the rows of one model: factors, and thresholds with ties where some law has a filter.
pub(super) struct Laws {
    scale: Option<Place<f32>>,
    /// Top-k, top-p and min-p.
    parameters: Option<(Place<i32>, Place<f32>, Place<f32>)>,
    count: usize,
}

impl Laws {
    /// Of rows in this order; without a law a row stays as it is.
    pub fn new<'a>(laws: impl Iterator<Item = Option<&'a DeviceLaw>> + Clone, parcel: &mut Parcel) -> Self {
        let scales: Vec<f32> = laws.clone().map(|law| law.map_or(1.0, DeviceLaw::scale)).collect();
        let scale = scales.iter().any(|&scale| scale != 1.0).then(|| parcel.add(&scales, f32::to_ne_bytes));
        let parameters = laws.clone().flatten().any(DeviceLaw::is_filtered).then(|| {
            let of = |law: Option<&DeviceLaw>| law.map(DeviceLaw::filter).unwrap_or((i32::MAX, 1.0, 0.0));
            let top_k: Vec<i32> = laws.clone().map(|law| of(law).0).collect();
            let top_p: Vec<f32> = laws.clone().map(|law| of(law).1).collect();
            let min_p: Vec<f32> = laws.map(|law| of(law).2).collect();
            let mut add = |shares: &[f32]| parcel.add(shares, f32::to_ne_bytes);
            let (top_p, min_p) = (add(&top_p), add(&min_p));
            (parcel.add(&top_k, i32::to_ne_bytes), top_p, min_p)
        });
        Laws { scale, parameters, count: scales.len() }
    }

    /// The factors of the rows' logits, if some are not 1.
    pub fn scale<'s>(&self, sent: &'s Sent) -> Result<Option<View<'s, f32>>, CudaSamplerError> {
        self.scale.as_ref().map(|scale| sent.view(scale)).transpose()
    }

    /// Submits the search for the thresholds of rows, if there are filters; the room grows as it must.
    pub fn find<'r>(
        &self,
        (filter, stream): (&Filter, &Stream),
        sent: &Sent,
        (logits, rows): (&Tensor, &Place<i32>),
        room: &'r mut Room,
    ) -> Result<Option<&'r Filtered>, CudaSamplerError> {
        let Some((top_k, top_p, min_p)) = &self.parameters else { return Ok(None) };
        let into = room.of(self.count)?;
        let filters = Filters {
            logits: view_rows(logits)?,
            vocab: filter.vocab(),
            count: self.count,
            rows: Some(sent.view(rows)?),
            scale: self.scale(sent)?,
            top_k: Some(Each::One(sent.view(top_k)?)),
            top_p: Some(Each::One(sent.view(top_p)?)),
            min_p: Some(Each::One(sent.view(min_p)?)),
        };
        filter.find(stream, &filters, into)?;
        Ok(Some(into))
    }
}

/// Room for thresholds.
pub(super) struct Room {
    device: gpu::Device,
    filtered: Filtered,
}

impl Room {
    pub fn new(device: &gpu::Device) -> Result<Self, GpuError> {
        Ok(Room { device: device.clone(), filtered: Filtered::new(device, 16)? })
    }

    fn of(&mut self, count: usize) -> Result<&mut Filtered, GpuError> {
        if count > self.filtered.least.len() {
            self.filtered = Filtered::new(&self.device, count.next_power_of_two())?;
        }
        Ok(&mut self.filtered)
    }
}

pub(super) fn shaping<'a>(
    sent: &'a Sent,
    [draft, target]: [&Laws; 2],
    [draft_filtered, target_filtered]: [Option<&'a Filtered>; 2],
) -> Result<Shaping<'a>, CudaSamplerError> {
    Ok(Shaping {
        draft_scale: draft.scale(sent)?,
        target_scale: target.scale(sent)?,
        draft_least: draft_filtered.map(|filtered| View::from(&filtered.least)),
        target_least: target_filtered.map(|filtered| View::from(&filtered.least)),
        draft_tie: draft_filtered.map(|filtered| View::from(&filtered.tie)),
        target_tie: target_filtered.map(|filtered| View::from(&filtered.tie)),
    })
}

/// The rows of a tensor of f32.
pub(super) fn view_rows(tensor: &Tensor) -> Result<Rows<'_>, CudaSamplerError> {
    let (rows, logits) = tensor.dims2()?;
    // SAFETY: as of a parcel; the rows of a contiguous tensor are `logits` apart.
    Ok(unsafe { Rows::from_raw(address(tensor)?, Format::F32, rows, logits) })
}
