//! Token rules on pairs of rows: many positions in one call.

use std::sync::OnceLock;

use super::launch::{Arg, Buffer, Device, Format, Kernel, Rows, Shape, Stream, View, bits};
use super::source::{COUNT, DECIDE, DRAW, SELECT, rows_defines};
use super::{GpuError, MAX_CELLS, RowStats};
use crate::problem::MAX_DRAFTS;
use crate::scan::classes_per_unit;

/// The largest vocabulary of the kernels.
pub const MAX_VOCAB: usize = 1 << 18;

/// Threads of a block, and the most blocks of a multiprocessor at a time; `THREADS`, `BLOCKS_AT_ONCE` of `rows.cuh`.
pub(super) const THREADS: u32 = 256;
const BLOCKS_AT_ONCE: usize = 3;

/// Shared memory of a block that is not logits: what blocks tell each other, and the counts (`EXCHANGE_BYTES`, `Counts`).
const EXCHANGE_BYTES: usize = 3072;
const COUNTS_BYTES: usize = 2 * 1040 * 4;

/// Threads of a block that decides; `Block::LANES` of `team.cuh`.
const DECIDE_THREADS: u32 = 256;

/// The fewest tokens that are worth a block of their own.
const LEAST_CHUNK: usize = 2048;

/// A rule that selects a token at a position from the drafts there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenRule {
    /// [`Maximal`](crate::maximal::Maximal): the first draft; without a draft, a token of the target's law.
    Maximal,
    /// [`KSeq`](crate::kseq::KSeq).
    KSeq,
    /// [`OptimalLinear`](crate::optimal::OptimalLinear).
    OptimalLinear,
}

/// Where the coins of a call come from.
#[derive(Clone, Copy, Debug)]
pub enum CoinSource<'a> {
    /// From the caller, `k + 2` a pair: one a draft, the accept coin, the residual coin; of a pair with fewer drafts, the
    /// two follow its last draft's. Each in `[0, 1)`.
    Given(View<'a, f64>),
    /// Those of [`RoundCoins`](crate::path::RoundCoins), made on the device: each pair's seed, the round's start, and the
    /// depth below it (0 without).
    Philox {
        /// The request's seed.
        seeds: View<'a, u64>,
        /// The number of tokens before the round's first.
        starts: View<'a, u64>,
        /// The number of tokens from there to the pair's position.
        depths: Option<View<'a, i32>>,
    },
}

/// What makes the laws of the logits: one number a pair. All are applied in f32, in this order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shaping<'a> {
    /// Factors of the draft logits: inverse temperatures, positive.
    pub draft_scale: Option<View<'a, f32>>,
    /// Factors of the target logits.
    pub target_scale: Option<View<'a, f32>>,
    /// Draft logits below it, after scaling, are masked: the threshold of a top-k, top-p or min-p filter. What is left is
    /// normalised anew.
    pub draft_least: Option<View<'a, f32>>,
    /// The same of the target logits.
    pub target_least: Option<View<'a, f32>>,
    /// Of the draft logits that equal their threshold those of tokens below this number are masked too: a top-p filter splits
    /// a tie. Nothing without a threshold.
    pub draft_tie: Option<View<'a, i32>>,
    /// The same of the target logits.
    pub target_tie: Option<View<'a, i32>>,
}

impl Shaping<'_> {
    pub(super) fn is_some(self) -> bool {
        self.draft_scale.is_some()
            || self.target_scale.is_some()
            || self.draft_least.is_some()
            || self.target_least.is_some()
            || self.draft_tie.is_some()
            || self.target_tie.is_some()
    }
}

/// One call: pairs of a draft and a target row, with the drafts at each.
#[derive(Clone, Copy, Debug)]
pub struct Pairs<'a> {
    /// The draft model's rows.
    pub draft: Rows<'a>,
    /// The target model's rows, in the same format.
    pub target: Rows<'a>,
    /// The logits of a row.
    pub vocab: usize,
    /// The number of pairs.
    pub pairs: usize,
    /// Room for drafts of each pair.
    pub k: usize,
    /// The draft row of each pair, negative for a pair without one and without drafts; without it pair `i` has row `i`.
    pub draft_rows: Option<View<'a, i32>>,
    /// The target row of each pair; without it pair `i` has row `i`.
    pub target_rows: Option<View<'a, i32>>,
    /// The drafts, `k` a pair.
    pub tokens: View<'a, i32>,
    /// The number of drafts of each pair; without it all have `k`.
    pub counts: Option<View<'a, i32>>,
    /// Temperatures and masks.
    pub shaping: Shaping<'a>,
    /// The coins.
    pub coins: CoinSource<'a>,
}

/// What comes out of a call, in device memory, and room for what is in between; made once for a largest number of pairs.
#[derive(Debug)]
pub struct Selections {
    /// What was found of each pair of rows; its flags say whether the pair was refused.
    pub stats: Buffer<RowStats>,
    /// The draft accepted at each pair, −1 where the token was drawn from the residual, or the pair refused.
    pub selected: Buffer<i32>,
    /// The token of each pair, −1 where it was refused.
    pub output: Buffer<i32>,
    between: Option<Between>,
}

/// The numbers that are counted of a pair; `CellCounts`, `CELLS_OF_RULE` of `batch.cuh`.
const COUNTS: usize = 2 * 1040;

/// What the kernels of a call leave for each other.
#[derive(Debug)]
struct Between {
    /// What has been counted of each pair.
    counted: Buffer<u64>,
    /// What is left to draw, `MAX_CELLS` a pair; the masses of the drafts; the coins.
    cells: Buffer<[f64; 2]>,
    masses: Buffer<[f64; 2]>,
    draws: Buffer<f64>,
    /// How many pairs were rejected, a number of the kernels' own, and which.
    rejected: Buffer<i32>,
}

impl Selections {
    /// Room for `pairs` pairs: 40 bytes a pair for [`TokenRule::Maximal`], 44 kB for the others.
    ///
    /// # Errors
    /// The driver fails, for want of memory mostly.
    pub fn new(device: &Device, rule: TokenRule, pairs: usize) -> Result<Self, GpuError> {
        let between = || -> Result<Between, GpuError> {
            Ok(Between {
                counted: device.zeros(pairs * COUNTS)?,
                cells: device.zeros(pairs * MAX_CELLS)?,
                masses: device.zeros(pairs * MAX_DRAFTS)?,
                draws: device.zeros(pairs * (MAX_DRAFTS + 2))?,
                rejected: device.zeros(2 + pairs)?,
            })
        };
        Ok(Selections {
            stats: device.zeros(pairs)?,
            selected: device.zeros(pairs)?,
            output: device.zeros(pairs)?,
            between: if rule == TokenRule::Maximal { None } else { Some(between()?) },
        })
    }
}

/// A call as the kernels take it; `Batch` of `batch.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Call {
    pub draft: u64,
    pub target: u64,
    pub draft_stride: i64,
    pub target_stride: i64,
    pub draft_count: i64,
    pub target_count: i64,
    pub draft_rows: u64,
    pub target_rows: u64,
    pub tokens: u64,
    pub counts: u64,
    pub draft_scale: u64,
    pub target_scale: u64,
    pub draft_least: u64,
    pub target_least: u64,
    pub draft_tie: u64,
    pub target_tie: u64,
    pub coins: u64,
    pub seeds: u64,
    pub starts: u64,
    pub depths: u64,
    pub grids: u64,
    pub stats: u64,
    pub cells: u64,
    pub counted: u64,
    pub masses: u64,
    pub draws: u64,
    pub rejected: u64,
    pub selected: u64,
    pub output: u64,
    pub vocab: i32,
    pub pairs: i32,
    pub k: i32,
    pub chunk: i32,
    pub logit_bytes: i32,
    pub unused: i32,
}

/// The ratio grid for a number of drafts; `Grid` of `row.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub per_width: f32,
    pub unused: u32,
    pub log_lowest: f64,
}

impl Grid {
    /// The classes of a scan for `k` drafts, down to a log-ratio.
    pub fn of_scan(k: usize, log_lowest: f64) -> Self {
        Grid { per_width: classes_per_unit(k), unused: 0, log_lowest }
    }
}

/// A token rule, compiled for one device, format and vocabulary.
#[derive(Debug)]
pub struct TokenSelector {
    device: Device,
    rule: TokenRule,
    format: Format,
    vocab: usize,
    /// Whether the chunks of a cluster fit into shared memory.
    resident: bool,
    /// The kernels for calls without temperatures and masks, and with.
    plain: OnceLock<Stages>,
    shaped: OnceLock<Stages>,
    grids: Buffer<Grid>,
}

/// The kernels of a rule, in their order.
#[derive(Debug)]
enum Stages {
    /// One does it all.
    One(Kernel),
    /// Counting, deciding (with so much shared memory), drawing for what was rejected.
    Counted { count: Kernel, decide: Kernel, room: u32, draw: Kernel },
}

/// How a pair of rows is spread over blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spread {
    pub cluster: usize,
    pub chunk: usize,
    pub shared: usize,
}

impl TokenSelector {
    /// Compiles the rule, or takes it from the cache.
    ///
    /// # Errors
    /// [`GpuError::Vocabulary`], and as for any kernel.
    pub fn new(device: &Device, rule: TokenRule, format: Format, vocab: usize) -> Result<Self, GpuError> {
        if !(1..=MAX_VOCAB).contains(&vocab) {
            return Err(GpuError::Vocabulary { vocab });
        }
        let widest = Spread::of(counts_of(rule), format, vocab, device.widest_cluster());
        let resident = widest.shared <= device.shared_limit() as usize;
        let grid = |k: usize| Grid::of_scan(k, -(k as f64).ln());
        let grids: Vec<Grid> = (0..=MAX_DRAFTS).map(|k| grid(k.max(1))).collect();
        let selector = TokenSelector {
            device: device.clone(),
            rule,
            format,
            vocab,
            resident,
            plain: OnceLock::new(),
            shaped: OnceLock::new(),
            grids: device.upload(&grids)?,
        };
        selector.stages(false)?;
        Ok(selector)
    }

    /// Compiles the kernels for calls with temperatures or masks too, which else happens in the first such call.
    ///
    /// # Errors
    /// As [`new`](TokenSelector::new).
    pub fn prepare_shaped(&self) -> Result<(), GpuError> {
        self.stages(true).map(|_| ())
    }

    fn stages(&self, shaped: bool) -> Result<&Stages, GpuError> {
        let cell = if shaped { &self.shaped } else { &self.plain };
        if let Some(stages) = cell.get() {
            return Ok(stages);
        }
        let device = &self.device;
        let defines = rows_defines(self.format.define(), shaped, self.resident);
        let stages = match self.rule {
            TokenRule::Maximal => Stages::One(device.kernel(SELECT, &defines, "select_maximal")?),
            TokenRule::KSeq | TokenRule::OptimalLinear => {
                let (decide, draw) = match self.rule {
                    TokenRule::KSeq => ("decide_kseq", "draw_kseq"),
                    _ => ("decide_optimal", "draw_optimal"),
                };
                Stages::Counted {
                    count: device.kernel(COUNT, &defines, "count")?,
                    decide: device.kernel(DECIDE, &[], decide)?,
                    room: decide_room(device)?,
                    draw: device.kernel(DRAW, &defines, draw)?,
                }
            }
        };
        Ok(cell.get_or_init(|| stages))
    }

    /// Submits a call to a stream and returns at once. The caller keeps everything that it names alive, and reads
    /// `into` no sooner than the stream has got there.
    ///
    /// # Errors
    /// The call's numbers do not fit together, or the driver fails. What is wrong with a pair itself is in its flags.
    pub fn select(&self, stream: &Stream, pairs: &Pairs<'_>, into: &mut Selections) -> Result<(), GpuError> {
        self.check(pairs, into)?;
        let counts = counts_of(self.rule);
        let spread = Spread::chosen(&self.device, self.resident, counts, self.format, self.vocab, pairs.pairs);
        let call = self.call(pairs, spread, into);
        let args = [Arg::Block(bits(&call))];
        let count = pairs.pairs as u32;
        match self.stages(pairs.shaping.is_some())? {
            Stages::One(kernel) => kernel.launch(stream, spread.shape(count), &args),
            Stages::Counted { count: counting, decide, room, draw } => {
                let follows = self.device.widest_cluster() > 1;
                counting.launch(stream, spread.shape(count), &args)?;
                let block_a_pair = Shape { blocks: count, threads: DECIDE_THREADS, shared: *room, cluster: 1, follows };
                decide.launch(stream, block_a_pair, &args)?;
                // As many clusters as run at a time go round the pairs that were rejected.
                let spread = match self.rule {
                    TokenRule::KSeq => spread,
                    _ => Spread { shared: spread.shared - counts, ..spread },
                };
                let at_once =
                    self.device.multiprocessors() * spread.at_once(&self.device) as u32 / spread.cluster as u32;
                draw.launch(stream, Shape { follows, ..spread.shape(count.min(at_once.max(1))) }, &args)
            }
        }
    }

    fn check(&self, pairs: &Pairs<'_>, into: &Selections) -> Result<(), GpuError> {
        let Pairs { draft, target, vocab, pairs: count, k, .. } = *pairs;
        let room = into.output.len();
        match () {
            () if vocab != self.vocab => Err(GpuError::Vocabulary { vocab }),
            () if draft.format != self.format => Err(GpuError::Format { format: draft.format }),
            () if target.format != self.format => Err(GpuError::Format { format: target.format }),
            () if k > MAX_DRAFTS => Err(GpuError::Drafts { k }),
            () if (self.rule != TokenRule::Maximal && into.between.is_none())
                || count > room
                || i32::try_from(count * 16).is_err() =>
            {
                Err(GpuError::Pairs { pairs: count })
            }
            () => {
                let coins = match pairs.coins {
                    CoinSource::Given(coins) => Lengths::new("coins", coins, count * (k + 2)),
                    CoinSource::Philox { seeds, starts, depths } => Lengths::new("seeds", seeds, count)
                        .and("starts", starts, count)
                        .and_some("depths", depths, count),
                };
                let shaping = pairs.shaping;
                coins
                    .and("tokens", pairs.tokens, count * k)
                    .and_some("counts", pairs.counts, count)
                    .and_some("draft rows", pairs.draft_rows, count)
                    .and_some("target rows", pairs.target_rows, count)
                    .and_some("draft scales", shaping.draft_scale, count)
                    .and_some("target scales", shaping.target_scale, count)
                    .and_some("draft thresholds", shaping.draft_least, count)
                    .and_some("target thresholds", shaping.target_least, count)
                    .and_some("draft ties", shaping.draft_tie, count)
                    .and_some("target ties", shaping.target_tie, count)
                    .0
            }
        }
    }

    fn call(&self, pairs: &Pairs<'_>, spread: Spread, into: &mut Selections) -> Call {
        let (coins, seeds, starts, depths) = match pairs.coins {
            CoinSource::Given(coins) => (coins.address(), 0, 0, 0),
            CoinSource::Philox { seeds, starts, depths } => (0, seeds.address(), starts.address(), address(depths)),
        };
        let between = |of: fn(&Between) -> u64| into.between.as_ref().map_or(0, of);
        Call {
            draft_rows: address(pairs.draft_rows),
            target_rows: address(pairs.target_rows),
            tokens: pairs.tokens.address(),
            counts: address(pairs.counts),
            coins,
            seeds,
            starts,
            depths,
            grids: self.grids.address(),
            stats: into.stats.address(),
            cells: between(|between| between.cells.address()),
            counted: between(|between| between.counted.address()),
            masses: between(|between| between.masses.address()),
            draws: between(|between| between.draws.address()),
            rejected: between(|between| between.rejected.address()),
            selected: into.selected.address(),
            output: into.output.address(),
            pairs: pairs.pairs as i32,
            k: pairs.k as i32,
            chunk: spread.chunk as i32,
            ..Call::rows(pairs.draft, pairs.target, pairs.vocab, pairs.shaping)
        }
    }
}

impl Call {
    /// The rows of a call, and nothing else.
    pub fn rows(draft: Rows<'_>, target: Rows<'_>, vocab: usize, shaping: Shaping<'_>) -> Self {
        Call {
            draft: draft.address,
            target: target.address,
            draft_stride: draft.stride as i64,
            target_stride: target.stride as i64,
            draft_count: draft.rows as i64,
            target_count: target.rows as i64,
            draft_scale: address(shaping.draft_scale),
            target_scale: address(shaping.target_scale),
            draft_least: address(shaping.draft_least),
            target_least: address(shaping.target_least),
            draft_tie: address(shaping.draft_tie),
            target_tie: address(shaping.target_tie),
            vocab: vocab as i32,
            logit_bytes: draft.format.size() as i32,
            ..Call::default()
        }
    }
}

/// The bytes of counts in a block's shared memory.
fn counts_of(rule: TokenRule) -> usize {
    if rule == TokenRule::Maximal { 0 } else { COUNTS_BYTES }
}

/// The address of the first value, or 0.
pub(super) fn address<T>(view: Option<View<'_, T>>) -> u64 {
    view.map_or(0, View::address)
}

/// The shared memory of a block that decides.
fn decide_room(device: &Device) -> Result<u32, GpuError> {
    let bytes = device.zeros::<i32>(1)?;
    let one = Shape { blocks: 1, threads: 1, shared: 0, cluster: 1, follows: false };
    let stream = device.stream()?;
    device.kernel(DECIDE, &[], "decide_room")?.launch(&stream, one, &[Arg::Address(bytes.address())])?;
    stream.synchronize()?;
    Ok(bytes.read()?[0] as u32)
}

/// The tokens that a warp looks at in one step; `TILE` of `rows.cuh`.
fn tile(format: Format) -> usize {
    32 * 16 / format.size()
}

impl Spread {
    /// Over a cluster of so many blocks, each with `counts` bytes of counts. A multiple of 8 tokens a block: then each
    /// block's part of a row begins at a multiple of 16 bytes if the row does.
    pub fn of(counts: usize, format: Format, vocab: usize, cluster: usize) -> Self {
        let chunk = vocab.div_ceil(cluster).next_multiple_of(8);
        let rows = 2 * chunk.next_multiple_of(tile(format)) * format.size();
        Spread { cluster, chunk, shared: rows + Self::fixed(counts, format, chunk) }
    }

    fn fixed(counts: usize, format: Format, chunk: usize) -> usize {
        EXCHANGE_BYTES + (8 * chunk.div_ceil(tile(format))).next_multiple_of(128) + counts
    }

    /// The launch of so many clusters.
    pub fn shape(self, clusters: u32) -> Shape {
        let cluster = self.cluster as u32;
        Shape { blocks: clusters * cluster, threads: THREADS, shared: self.shared as u32, cluster, follows: false }
    }

    /// How many of its blocks a multiprocessor has room for.
    fn at_once(self, device: &Device) -> usize {
        // A block takes another kilobyte.
        (device.shared_of_multiprocessor() as usize / (self.shared + 1024)).min(BLOCKS_AT_ONCE)
    }

    /// As many blocks of a multiprocessor at a time as can be, and then the fewest for a pair; where there are few pairs, one
    /// that spreads them further. Where chunks are not `resident` in shared memory, the widest.
    pub fn chosen(device: &Device, resident: bool, counts: usize, format: Format, vocab: usize, pairs: usize) -> Self {
        let widest = device.widest_cluster();
        let of = |cluster| Spread::of(counts, format, vocab, cluster);
        if !resident {
            return Spread { shared: Spread::fixed(counts, Format::F32, of(widest).chunk), ..of(widest) };
        }
        let at_once = |cluster: usize| of(cluster).at_once(device);
        let mut best = (1..widest).rev().fold(
            widest,
            |best, cluster| {
                if at_once(cluster) >= at_once(best) { cluster } else { best }
            },
        );
        for cluster in best + 1..=widest {
            if cluster * pairs <= device.multiprocessors() as usize && of(cluster).chunk >= LEAST_CHUNK {
                best = cluster;
            }
        }
        of(best)
    }
}

/// Whether all views are long enough.
pub(super) struct Lengths(pub Result<(), GpuError>);

impl Lengths {
    pub fn new<T>(what: &'static str, view: View<'_, T>, wanted: usize) -> Self {
        Lengths(Ok(())).and(what, view, wanted)
    }

    pub fn and<T>(self, what: &'static str, view: View<'_, T>, wanted: usize) -> Self {
        let given = view.len();
        Lengths(self.0.and(if given >= wanted { Ok(()) } else { Err(GpuError::Length { what, given, wanted }) }))
    }

    pub fn and_some<T>(self, what: &'static str, view: Option<View<'_, T>>, wanted: usize) -> Self {
        match view {
            Some(view) => self.and(what, view, wanted),
            None => self,
        }
    }
}
