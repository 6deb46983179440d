//! Top-k, top-p and min-p: which tokens of many rows they leave, as the thresholds that [`Shaping`](super::Shaping) takes.

use super::launch::{Arg, Buffer, Device, Format, Kernel, Rows, Shape, Stream, View, bits};
use super::select::{Lengths, address};
use super::source::{FILTER, filter_defines};
use super::{GpuError, MAX_VOCAB};

/// Threads of a block; `THREADS` of `cluster.cuh`.
const THREADS: u32 = 256;

/// Shared memory of a block that is neither logits nor sums, and the bins of a level, as in `filter.cu`.
const COMMON_BYTES: usize = 16640;
const BINS: usize = 2048;

/// As many blocks of a multiprocessor at a time are wanted.
const BLOCKS_AT_ONCE: usize = 3;

/// The fewest tokens that are worth a block of their own.
const LEAST_CHUNK: usize = 2048;

/// One parameter for all filters of a call, or one each.
#[derive(Clone, Copy, Debug)]
pub enum Each<'a, T> {
    /// The same for all.
    All(T),
    /// One a filter, on the device.
    One(View<'a, T>),
}

impl<'a, T> Each<'a, T> {
    fn view(self) -> Option<View<'a, T>> {
        match self {
            Each::All(_) => None,
            Each::One(view) => Some(view),
        }
    }
}

/// A call: filters, each of one row.
#[derive(Clone, Copy, Debug)]
pub struct Filters<'a> {
    /// The rows.
    pub logits: Rows<'a>,
    /// The logits of a row.
    pub vocab: usize,
    /// The number of filters.
    pub count: usize,
    /// The row of each filter, as [`Pairs`](super::Pairs) have them; a negative one is no row, and its threshold −∞. Without it
    /// filter `i` has row `i`.
    pub rows: Option<View<'a, i32>>,
    /// Factors of the logits, applied in f32 before the filters: inverse temperatures, positive, one a filter.
    pub scale: Option<View<'a, f32>>,
    /// Keeps the tokens whose logit is at least the `top_k`-th largest. At least 1; the size of the vocabulary or more: all.
    pub top_k: Option<Each<'a, i32>>,
    /// Of those keeps the most probable until their mass reaches `top_p`. In `[0, 1]`; 1: all.
    pub top_p: Option<Each<'a, f32>>,
    /// Of those keeps the tokens at least `min_p` times as probable as the most probable one. In `[0, 1]`; 0: all.
    pub min_p: Option<Each<'a, f32>>,
}

/// What filters leave, in device memory: the thresholds of [`Shaping`](super::Shaping), with the same scales.
#[derive(Debug)]
pub struct Filtered {
    /// The least scaled logit that is left; −∞ where nothing is filtered, +∞ where the row or the filter was refused, so that a
    /// selection refuses the pair too.
    pub least: Buffer<f32>,
    /// Of the logits equal to it those of tokens below this number are filtered out too.
    pub tie: Buffer<i32>,
    /// Why a filter was refused; 0 if it was not. 1: a logit is NaN, +∞ or above 1e8; 4: all are −∞ or below −1e8; 256: there is
    /// no such row; 1024: a parameter is out of range.
    pub flags: Buffer<i32>,
}

impl Filtered {
    /// Room for so many filters, 12 bytes each.
    ///
    /// # Errors
    /// The driver fails, for want of memory mostly.
    pub fn new(device: &Device, filters: usize) -> Result<Self, GpuError> {
        Ok(Filtered { least: device.zeros(filters)?, tie: device.zeros(filters)?, flags: device.zeros(filters)? })
    }
}

/// A call as the kernel takes it; `Filters` of `filter.cu`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct FilterCall {
    logits: u64,
    stride: i64,
    row_count: i64,
    rows: u64,
    scale: u64,
    top_k: u64,
    top_p: u64,
    min_p: u64,
    least: u64,
    tie: u64,
    flags: u64,
    all_k: i32,
    all_p: f32,
    all_m: f32,
    count: i32,
    vocab: i32,
    chunk: i32,
}

/// Finds what top-k, top-p and min-p leave of rows, compiled for one device, format and vocabulary.
///
/// Semantics and order are those of [`Sampling`](crate::Sampling) at temperature 1 on the scaled logits, ties included. Top-k and
/// min-p are exact. Top-p adds up masses in integers, whatever the order of additions: the same row has the same threshold
/// in any batch and on any device. Each mass is within 3e-7 of itself and 2⁻⁴⁵ of the largest, so that a token may be kept or
/// dropped other than on the CPU only where the mass dropped comes within 1e-6 of itself and 1e-8 of the whole to its limit.
#[derive(Debug)]
pub struct Filter {
    device: Device,
    format: Format,
    vocab: usize,
    kernel: Kernel,
    /// Whether the chunks of a cluster fit into shared memory.
    resident: bool,
}

impl Filter {
    /// Compiles the kernel, or takes it from the cache.
    ///
    /// # Errors
    /// [`GpuError::Vocabulary`], and as for any kernel.
    pub fn new(device: &Device, format: Format, vocab: usize) -> Result<Self, GpuError> {
        if !(1..=MAX_VOCAB).contains(&vocab) {
            return Err(GpuError::Vocabulary { vocab });
        }
        let widest = Blocks::of(device.widest_cluster(), format, vocab);
        let resident = widest.shared <= device.shared_limit() as usize;
        let kernel = device.kernel(FILTER, &filter_defines(format.define(), resident), "filter_rows")?;
        Ok(Filter { device: device.clone(), format, vocab, kernel, resident })
    }

    /// The logits of a row.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// Submits a call to a stream and returns at once, without an allocation on the device: one read of each row where it fits
    /// the shared memory of a cluster of blocks, else one for each level of the search, 9 at most. The caller keeps everything
    /// that it names alive.
    ///
    /// # Errors
    /// [`GpuError::Parameter`] for one that is given for all; the call's numbers do not fit together; the driver fails. What is
    /// wrong with a row or with a parameter of its own is in its flags.
    pub fn find(&self, stream: &Stream, filters: &Filters<'_>, into: &mut Filtered) -> Result<(), GpuError> {
        self.check(filters, into)?;
        let Filters { logits, vocab, count, rows, scale, top_k, top_p, min_p } = *filters;
        let blocks = self.blocks(count);
        let call = FilterCall {
            logits: logits.address,
            stride: logits.stride as i64,
            row_count: logits.rows as i64,
            rows: address(rows),
            scale: address(scale),
            top_k: address(top_k.and_then(Each::view)),
            top_p: address(top_p.and_then(Each::view)),
            min_p: address(min_p.and_then(Each::view)),
            least: into.least.address(),
            tie: into.tie.address(),
            flags: into.flags.address(),
            all_k: for_all(top_k, i32::MAX),
            all_p: for_all(top_p, 1.0),
            all_m: for_all(min_p, 0.0),
            count: count as i32,
            vocab: vocab as i32,
            chunk: blocks.chunk as i32,
        };
        let shape = Shape {
            blocks: (count * blocks.cluster) as u32,
            threads: THREADS,
            shared: blocks.shared as u32,
            cluster: blocks.cluster as u32,
            follows: false,
        };
        self.kernel.launch(stream, shape, &[Arg::Block(bits(&call))])
    }

    fn check(&self, filters: &Filters<'_>, into: &Filtered) -> Result<(), GpuError> {
        let Filters { logits, vocab, count, rows, scale, top_k, top_p, min_p } = *filters;
        let wrong = |name, value, range| Err(GpuError::Parameter { name, value, range });
        let share = |x: f32| (0.0..=1.0).contains(&x);
        match (top_k, top_p, min_p) {
            _ if vocab != self.vocab => Err(GpuError::Vocabulary { vocab }),
            _ if logits.format != self.format => Err(GpuError::Format { format: logits.format }),
            _ if count > into.least.len() || i32::try_from(count * 16).is_err() => {
                Err(GpuError::Pairs { pairs: count })
            }
            (Some(Each::All(k)), ..) if k < 1 => wrong("top_k", k.into(), "at least 1"),
            (_, Some(Each::All(p)), _) if !share(p) => wrong("top_p", p.into(), "in [0, 1]"),
            (.., Some(Each::All(m))) if !share(m) => wrong("min_p", m.into(), "in [0, 1]"),
            _ => {
                Lengths(Ok(()))
                    .and_some("rows", rows, count)
                    .and_some("scales", scale, count)
                    .and_some("numbers of top-k", top_k.and_then(Each::view), count)
                    .and_some("masses of top-p", top_p.and_then(Each::view), count)
                    .and_some("shares of min-p", min_p.and_then(Each::view), count)
                    .0
            }
        }
    }

    /// The fewest blocks a row of which several fit on a multiprocessor; where there are few rows, as many as are worth it.
    fn blocks(&self, rows: usize) -> Blocks {
        let widest = self.device.widest_cluster();
        let of = |cluster| Blocks::of(cluster, self.format, self.vocab);
        if !self.resident {
            let blocks = of(widest);
            return Blocks { shared: blocks.shared - blocks.rows, ..blocks };
        }
        let room = self.device.shared_of_multiprocessor() as usize / BLOCKS_AT_ONCE;
        let mut cluster = 1;
        // A block takes another kilobyte.
        while cluster < widest && of(cluster).shared + 1024 > room {
            cluster *= 2;
        }
        let idle = |cluster: usize| cluster * rows <= self.device.multiprocessors() as usize;
        while cluster < widest && idle(2 * cluster) && of(2 * cluster).chunk >= LEAST_CHUNK {
            cluster *= 2;
        }
        of(cluster)
    }
}

fn for_all<T>(parameter: Option<Each<'_, T>>, none: T) -> T {
    match parameter {
        Some(Each::All(value)) => value,
        _ => none,
    }
}

/// How a row is spread over a cluster of a power of two of blocks.
#[derive(Clone, Copy, Debug)]
struct Blocks {
    cluster: usize,
    /// Tokens of a block, a multiple of 8: its part begins at a multiple of 16 bytes if the row does.
    chunk: usize,
    /// Shared memory of a block; that of the logits.
    shared: usize,
    rows: usize,
}

impl Blocks {
    fn of(cluster: usize, format: Format, vocab: usize) -> Self {
        let chunk = vocab.div_ceil(cluster).next_multiple_of(8);
        // Whole tiles: a warp takes 16 bytes a lane.
        let rows = (chunk * format.size()).next_multiple_of(32 * 16);
        Blocks { cluster, chunk, shared: COMMON_BYTES + BINS / cluster * size_of::<u64>() + rows, rows }
    }
}
