//! Whole drafted trees: block verification, the path coupling and the spread coupling over many trees in one call, and the
//! drawing of drafts.
//!
//! ```text
//! count_nodes   a cluster of blocks a node    both rows once: the masses of the ratio cells
//! plan_nodes    a block a node                the cells thinned to the edges that matter
//! walk_trees    a block a tree                nests along the paths that may still win; where the winner stops
//! walk_spread   a block a tree                the same by laws of labels, level by level
//! draw_next     some blocks a tree            that one node's rows again: the next token
//! ```
//!
//! Outcomes are those of [`PathCoupling`](crate::path::PathCoupling) or [`SpreadCoupling`](crate::path::SpreadCoupling), and
//! of [`Block`](crate::path::Block) for trees of one path, with the coins of [`RoundCoins`](crate::path::RoundCoins): the same node and the same next token, unless a
//! coin lies within the rounding of f32 logits of the edge between two outcomes.

use super::launch::{Arg, Buffer, Device, Format, Kernel, Rows, Shape, Stream, View, bits};
use super::select::{Call, Grid, Lengths, Shaping, Spread, address};
use super::source::{NEXT, NODES, PATH, SPREAD, rows_defines};
use super::{GpuError, MAX_CELLS, MAX_VOCAB, RowStats};
use crate::path::{DEFAULT_LOSS, DraftTree, ROOT};
use crate::scan::classes_per_unit;

/// The most paths of a tree on the GPU.
pub const MAX_PATHS: usize = 16;

/// The most tokens of a path on the GPU.
pub const MAX_LENGTH: usize = 32;

/// How far below `1/K` the ratio edges reach; `HEADROOM` of `classes.cuh`.
const HEADROOM: f64 = 6.0;

/// Threads of a block that draws, and of one that plans; `DRAW_THREADS` and `PLAN_THREADS` of `path.cu`.
const DRAW_THREADS: u32 = 256;
const PLAN_THREADS: u32 = 128;

/// The most warps of a tree: so many groups of paths are laid out at a time.
const MOST_WARPS: usize = 8;

/// The blocks that draw the token of one tree, or of one row, at most.
const MOST_SPLITS: usize = 16;

/// How trees of several paths are verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TreeRule {
    /// The path coupling: [`PathCoupling`](crate::path::PathCoupling).
    Path,
    /// The spread coupling: [`SpreadCoupling`](crate::path::SpreadCoupling).
    Spread,
}

/// Which nodes a batch of trees has, for the kernels: `K × L` arrays, ragged ones padded.
///
/// The pairs of rows of a batch are numbered tree by tree, and in a tree as its nodes are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forest {
    /// The number of paths of the tree that has most.
    pub paths: usize,
    /// The tokens of the longest path.
    pub length: usize,
    /// The first pair of each tree; then the number of pairs.
    pub first: Vec<usize>,
    /// `[trees][paths][length + 1]`: the pair of each node of a path, −1 after its last, and for one where the text ends.
    pub nodes: Vec<i32>,
    /// `[trees][paths][length]`: its tokens.
    pub tokens: Vec<i32>,
    /// `[trees][paths]`: the number of its tokens; −1 where a tree has no such path.
    pub lengths: Vec<i32>,
    /// For each pair that has a draft row the number of paths of its tree, else 0.
    pub paths_of: Vec<i32>,
}

impl Forest {
    /// The arrays of some trees.
    pub fn new<'t, R: 't>(trees: impl IntoIterator<Item = &'t DraftTree<R>> + Clone) -> Self {
        let mut forest = Forest { first: vec![0], ..Forest::default() };
        for tree in trees.clone() {
            forest.paths = forest.paths.max(tree.paths().len());
            forest.length = tree.paths().iter().map(|nodes| nodes.len() - 1).fold(forest.length, usize::max);
        }
        for tree in trees {
            let first = forest.paths_of.len();
            let inner = |node: usize| !tree.children(node).is_empty();
            let paths = tree.paths().len() as i32;
            forest.paths_of.extend((ROOT..tree.len()).map(|node| if inner(node) { paths } else { 0 }));
            for path in 0..forest.paths {
                let nodes = tree.paths().get(path).map_or(&[][..], Vec::as_slice);
                forest.lengths.push(nodes.len() as i32 - 1);
                for depth in 0..=forest.length {
                    let node = nodes.get(depth).filter(|&&node| !tree.is_ended(node));
                    forest.nodes.push(node.map_or(-1, |node| (first + node) as i32));
                    if depth > 0 {
                        forest.tokens.push(nodes.get(depth).map_or(-1, |&node| tree.token(node) as i32));
                    }
                }
            }
            forest.first.push(forest.paths_of.len());
        }
        forest
    }

    /// The number of trees.
    pub fn trees(&self) -> usize {
        self.first.len() - 1
    }

    /// The number of pairs.
    pub fn pairs(&self) -> usize {
        self.paths_of.len()
    }
}

/// One call: trees with the rows of their nodes.
#[derive(Clone, Copy, Debug)]
pub struct Trees<'a> {
    /// The draft model's rows.
    pub draft: Rows<'a>,
    /// The target model's rows, in the same format.
    pub target: Rows<'a>,
    /// The logits of a row.
    pub vocab: usize,
    /// The draft row of each pair, negative for a leaf.
    pub draft_rows: View<'a, i32>,
    /// The target row of each pair, negative where the text ends.
    pub target_rows: View<'a, i32>,
    /// Temperatures and masks, one number a pair.
    pub shaping: Shaping<'a>,
    /// The number of trees, of pairs, of paths and of tokens of a path, as [`Forest`] has them.
    pub trees: usize,
    /// See `trees`.
    pub pairs: usize,
    /// See `trees`.
    pub paths: usize,
    /// See `trees`.
    pub length: usize,
    /// The arrays of a [`Forest`] on the device.
    pub nodes: View<'a, i32>,
    /// See `nodes`.
    pub tokens: View<'a, i32>,
    /// See `nodes`.
    pub lengths: View<'a, i32>,
    /// See `nodes`.
    pub paths_of: View<'a, i32>,
    /// Each tree's seed.
    pub seeds: View<'a, u64>,
    /// The number of tokens before each tree's root.
    pub starts: View<'a, u64>,
}

/// What comes out of a call, in device memory; made once for the largest batch.
#[derive(Debug)]
pub struct Outcomes {
    /// The number of drafted tokens that are output of each tree; −1 for a tree that was refused.
    pub accepted: Buffer<i32>,
    /// The path that they are of.
    pub winners: Buffer<i32>,
    /// `[trees][length + 1]`: those tokens and the next one, −1 after it, and in its place where the text ends.
    pub output: Buffer<i32>,
    /// Why a tree was refused: the flags of its rows, and those of trees; 0 if it was not.
    pub flags: Buffer<i32>,
    /// What was found of each pair of rows.
    pub stats: Buffer<RowStats>,
    counted: Buffer<u64>,
    plans: Buffer<u8>,
    labels: Buffer<u8>,
    stops: Buffer<u8>,
    weights: Buffer<f64>,
    decisions: Buffer<i32>,
    tiles: Buffer<[f64; 2]>,
    done: Buffer<u32>,
    ignored: Buffer<i32>,
    coins: Buffer<f64>,
    /// Trees, pairs, paths of a tree, tokens of a path.
    room: [usize; 4],
}

/// A batch as the kernels take it; `Trees` of `path.cu`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct TreeCall {
    draft: u64,
    target: u64,
    draft_stride: i64,
    target_stride: i64,
    target_count: i64,
    draft_rows: u64,
    target_rows: u64,
    draft_scale: u64,
    target_scale: u64,
    draft_least: u64,
    target_least: u64,
    draft_tie: u64,
    target_tie: u64,
    stats: u64,
    counted: u64,
    nodes: u64,
    tokens: u64,
    lengths: u64,
    paths_of: u64,
    seeds: u64,
    starts: u64,
    plans: u64,
    labels: u64,
    stops: u64,
    weights: u64,
    decisions: u64,
    tiles: u64,
    done: u64,
    output: u64,
    accepted: u64,
    winners: u64,
    flags: u64,
    loss: f64,
    per_width: f32,
    vocab: i32,
    trees: i32,
    paths: i32,
    length: i32,
    splits: i32,
    pairs: i32,
    unused: i32,
}

/// Rows to draw from as the kernel takes them; `Draws` of `path.cu`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct DrawCall {
    logits: u64,
    stride: i64,
    rows: u64,
    scale: u64,
    least: u64,
    tie: u64,
    first: u64,
    coins: u64,
    tiles: u64,
    done: u64,
    tokens: u64,
    count: i32,
    vocab: i32,
    splits: i32,
    room: i32,
}

/// What the device's structures take: the sizes that `path_room` and `spread_room` name.
#[derive(Clone, Copy, Debug)]
struct Room {
    node: usize,
    stop: usize,
    counts: usize,
    tiles: usize,
    /// Shared memory of a walk: of a tree, of each of its paths, of each warp.
    walk: [usize; 3],
    /// A law of labels, of which a tree has two for each path; 0 where there are none.
    label: usize,
}

/// The kernels for trees, compiled for one device, format and vocabulary.
#[derive(Debug)]
pub struct TreeVerifier {
    device: Device,
    rule: TreeRule,
    format: Format,
    vocab: usize,
    resident: bool,
    /// Counting without temperatures and masks, and with.
    count: [Kernel; 2],
    plan: Kernel,
    walk: Kernel,
    draw: Kernel,
    rows: Kernel,
    room: Room,
    /// By the number of paths, from 1.
    grids: Vec<Buffer<Grid>>,
}

impl TreeVerifier {
    /// Compiles the kernels, or takes them from the cache.
    ///
    /// # Errors
    /// [`GpuError::Vocabulary`], and as for any kernel.
    pub fn new(device: &Device, rule: TreeRule, format: Format, vocab: usize) -> Result<Self, GpuError> {
        if !(1..=MAX_VOCAB).contains(&vocab) {
            return Err(GpuError::Vocabulary { vocab });
        }
        let room = Room::of(device, rule, format)?;
        let widest = Spread::of(room.counts, format, vocab, device.widest_cluster());
        let resident = widest.shared <= device.shared_limit() as usize;
        let count = |shaped| device.kernel(NODES, &rows_defines(format.define(), shaped, resident), "count_nodes");
        let kernel = |file, name| device.kernel(file, &[format.define()], name);
        let grid = |paths: usize| {
            let log_lowest = -(paths as f64).ln() - HEADROOM;
            device.upload(&[Grid::of_scan(paths, log_lowest)])
        };
        Ok(TreeVerifier {
            device: device.clone(),
            rule,
            format,
            vocab,
            resident,
            count: [count(false)?, count(true)?],
            plan: kernel(PATH, "plan_nodes")?,
            walk: match rule {
                TreeRule::Path => kernel(PATH, "walk_trees")?,
                TreeRule::Spread => kernel(SPREAD, "walk_spread")?,
            },
            draw: kernel(NEXT, "draw_next")?,
            rows: kernel(NEXT, "draw_rows")?,
            room,
            grids: (1..=MAX_PATHS).map(grid).collect::<Result<_, _>>()?,
        })
    }

    /// How trees of several paths are verified.
    pub fn rule(&self) -> TreeRule {
        self.rule
    }

    /// Room for outcomes of up to so many trees, with so many pairs, paths of a tree and tokens of a path: 30 kB a pair, and
    /// for the spread coupling 33 kB a path.
    ///
    /// # Errors
    /// The driver fails, for want of memory mostly.
    pub fn outcomes(&self, trees: usize, pairs: usize, paths: usize, length: usize) -> Result<Outcomes, GpuError> {
        let device = &self.device;
        Ok(Outcomes {
            accepted: device.zeros(trees)?,
            winners: device.zeros(trees)?,
            output: device.zeros(trees * (length + 1))?,
            flags: device.zeros(trees)?,
            stats: device.zeros(pairs)?,
            counted: device.zeros(2 * pairs * MAX_CELLS)?,
            plans: device.zeros(pairs * self.room.node)?,
            labels: device.zeros(trees * 2 * paths * self.room.label)?,
            stops: device.zeros(trees * self.room.stop)?,
            weights: device.zeros(trees * (length + 1))?,
            decisions: device.zeros(trees * (length + 1))?,
            tiles: device.zeros(trees * self.room.tiles)?,
            done: device.zeros(trees)?,
            ignored: device.zeros(pairs)?,
            coins: device.zeros(2 * pairs)?,
            room: [trees, pairs, paths, length],
        })
    }

    /// Submits a call to a stream and returns at once. The caller keeps everything that it names alive, and reads
    /// `into` no sooner than the stream has got there.
    ///
    /// # Errors
    /// The call's numbers do not fit together, or the driver fails. What is wrong with a tree itself is in its flags.
    pub fn verify(&self, stream: &Stream, trees: &Trees<'_>, into: &mut Outcomes) -> Result<(), GpuError> {
        self.check(trees, into)?;
        if trees.trees == 0 {
            return Ok(());
        }
        let spread =
            Spread::chosen(&self.device, self.resident, self.room.counts, self.format, self.vocab, trees.pairs);
        // `check` has seen to it that as many blocks a pair as there may be are a number of a launch.
        let pairs = trees.pairs as u32;
        let count = &self.count[usize::from(trees.shaping.is_some())];
        count.launch(stream, spread.shape(pairs), &[Arg::Block(bits(&self.counting(trees, spread.chunk, into)))])?;
        let splits = self.splits(trees.trees);
        let call = self.call(trees, splits, into);
        let args = [Arg::Block(bits(&call))];
        let shape = |blocks: usize, threads, shared: usize| Shape {
            blocks: blocks as u32,
            threads,
            shared: shared as u32,
            cluster: 1,
            follows: self.device.widest_cluster() > 1,
        };
        if trees.paths > 1 {
            self.plan.launch(stream, shape(trees.pairs, PLAN_THREADS, 0), &args)?;
        }
        // One path has a warp for each of its nodes.
        let warps = if trees.paths > 1 { trees.paths.min(MOST_WARPS) } else { MOST_WARPS };
        let [of_tree, of_path, of_warp] = self.room.walk;
        let fixed = of_tree + trees.paths * of_path;
        let warps = warps.min((self.device.shared_limit() as usize).saturating_sub(fixed) / of_warp).max(1);
        let shared = fixed + warps * of_warp;
        self.walk.launch(stream, shape(trees.trees, 32 * warps as u32, shared), &args)?;
        self.draw.launch(stream, shape(trees.trees * splits, DRAW_THREADS, 0), &args)
    }

    /// As many blocks a tree as fill the device twice.
    fn splits(&self, trees: usize) -> usize {
        (2 * self.device.multiprocessors() as usize / trees.max(1)).clamp(1, MOST_SPLITS)
    }

    fn check(&self, trees: &Trees<'_>, into: &Outcomes) -> Result<(), GpuError> {
        let Trees { draft, target, vocab, trees: count, pairs, paths, length, shaping, .. } = *trees;
        match () {
            () if vocab != self.vocab => Err(GpuError::Vocabulary { vocab }),
            () if draft.format != self.format => Err(GpuError::Format { format: draft.format }),
            () if target.format != self.format => Err(GpuError::Format { format: target.format }),
            () if !(1..=MAX_PATHS.min(into.room[2])).contains(&paths) => Err(GpuError::Paths { paths }),
            () if length > MAX_LENGTH.min(into.room[3]) => Err(GpuError::PathLength { length }),
            () if pairs > into.room[1] || i32::try_from(pairs * MOST_SPLITS).is_err() => Err(GpuError::Pairs { pairs }),
            () if count > into.room[0] => Err(GpuError::Pairs { pairs: count }),
            () => {
                Lengths::new("nodes", trees.nodes, count * paths * (length + 1))
                    .and("tokens", trees.tokens, count * paths * length)
                    .and("lengths", trees.lengths, count * paths)
                    .and("paths of pairs", trees.paths_of, pairs)
                    .and("seeds", trees.seeds, count)
                    .and("starts", trees.starts, count)
                    .and("draft rows", trees.draft_rows, pairs)
                    .and("target rows", trees.target_rows, pairs)
                    .and_some("draft scales", shaping.draft_scale, pairs)
                    .and_some("target scales", shaping.target_scale, pairs)
                    .and_some("draft thresholds", shaping.draft_least, pairs)
                    .and_some("target thresholds", shaping.target_least, pairs)
                    .and_some("draft ties", shaping.draft_tie, pairs)
                    .and_some("target ties", shaping.target_tie, pairs)
                    .0
            }
        }
    }

    /// The call of the counting kernel: no drafts, and what it leaves of a selection is ignored.
    fn counting(&self, trees: &Trees<'_>, chunk: usize, into: &Outcomes) -> Call {
        Call {
            grids: self.grids[trees.paths - 1].address(),
            stats: into.stats.address(),
            counted: into.counted.address(),
            coins: into.coins.address(),
            selected: into.ignored.address(),
            output: into.ignored.address(),
            draft_rows: trees.draft_rows.address(),
            target_rows: trees.target_rows.address(),
            pairs: trees.pairs as i32,
            chunk: chunk as i32,
            ..Call::rows(trees.draft, trees.target, trees.vocab, trees.shaping)
        }
    }

    fn call(&self, trees: &Trees<'_>, splits: usize, into: &Outcomes) -> TreeCall {
        TreeCall {
            draft: trees.draft.address,
            target: trees.target.address,
            draft_stride: trees.draft.stride as i64,
            target_stride: trees.target.stride as i64,
            target_count: trees.target.rows as i64,
            draft_rows: trees.draft_rows.address(),
            target_rows: trees.target_rows.address(),
            draft_scale: address(trees.shaping.draft_scale),
            target_scale: address(trees.shaping.target_scale),
            draft_least: address(trees.shaping.draft_least),
            target_least: address(trees.shaping.target_least),
            draft_tie: address(trees.shaping.draft_tie),
            target_tie: address(trees.shaping.target_tie),
            stats: into.stats.address(),
            counted: into.counted.address(),
            nodes: trees.nodes.address(),
            tokens: trees.tokens.address(),
            lengths: trees.lengths.address(),
            paths_of: trees.paths_of.address(),
            seeds: trees.seeds.address(),
            starts: trees.starts.address(),
            plans: into.plans.address(),
            labels: into.labels.address(),
            stops: into.stops.address(),
            weights: into.weights.address(),
            decisions: into.decisions.address(),
            tiles: into.tiles.address(),
            done: into.done.address(),
            output: into.output.address(),
            accepted: into.accepted.address(),
            winners: into.winners.address(),
            flags: into.flags.address(),
            loss: DEFAULT_LOSS,
            per_width: classes_per_unit(trees.paths),
            vocab: trees.vocab as i32,
            trees: trees.trees as i32,
            paths: trees.paths as i32,
            length: trees.length as i32,
            splits: splits as i32,
            pairs: trees.pairs as i32,
            unused: 0,
        }
    }

    /// Submits the drawing of tokens, as [`Row::draw`](crate::path::Row::draw) draws them: the law that is the softmax of row `rows[i]`, shaped,
    /// with the coins from `first[i]` up to `first[i + 1]`, by inversion in the order of the tokens. A row that is no
    /// law gives −1.
    ///
    /// # Errors
    /// The call's numbers do not fit together, or the driver fails.
    pub fn draw(&self, stream: &Stream, draws: &Draws<'_>, into: &mut Drawn) -> Result<(), GpuError> {
        let Draws { logits, vocab, laws, .. } = *draws;
        match () {
            () if vocab != self.vocab => return Err(GpuError::Vocabulary { vocab }),
            () if logits.format != self.format => return Err(GpuError::Format { format: logits.format }),
            () if laws > into.laws => return Err(GpuError::Pairs { pairs: laws }),
            () => {
                Lengths::new("rows", draws.rows, laws)
                    .and("first coins", draws.first, laws + 1)
                    .and("coins", draws.coins, draws.coins.len().max(into.tokens.len()))
                    .and_some("scales", draws.scale, laws)
                    .and_some("thresholds", draws.least, laws)
                    .and_some("ties", draws.tie, laws)
                    .0?
            }
        }
        let splits = self.splits(laws);
        let call = DrawCall {
            logits: logits.address,
            stride: logits.stride as i64,
            rows: draws.rows.address(),
            scale: address(draws.scale),
            least: address(draws.least),
            tie: address(draws.tie),
            first: draws.first.address(),
            coins: draws.coins.address(),
            tiles: into.tiles.address(),
            done: into.done.address(),
            tokens: into.tokens.address(),
            count: laws as i32,
            vocab: vocab as i32,
            splits: splits as i32,
            room: into.tokens.len() as i32,
        };
        let shape =
            Shape { blocks: (laws * splits) as u32, threads: DRAW_THREADS, shared: 0, cluster: 1, follows: false };
        self.rows.launch(stream, shape, &[Arg::Block(bits(&call))])
    }

    /// Room for so many tokens of so many laws.
    ///
    /// # Errors
    /// The driver fails, for want of memory mostly.
    pub fn drawn(&self, laws: usize, tokens: usize) -> Result<Drawn, GpuError> {
        Ok(Drawn {
            tokens: self.device.zeros(tokens)?,
            tiles: self.device.zeros(laws * self.room.tiles)?,
            done: self.device.zeros(laws)?,
            laws,
        })
    }
}

/// Tokens to draw from rows.
#[derive(Clone, Copy, Debug)]
pub struct Draws<'a> {
    /// The rows.
    pub logits: Rows<'a>,
    /// The logits of a row.
    pub vocab: usize,
    /// The number of laws.
    pub laws: usize,
    /// The row of each law.
    pub rows: View<'a, i32>,
    /// Inverse temperatures, one a law.
    pub scale: Option<View<'a, f32>>,
    /// Logits below it, after scaling, are masked; one a law.
    pub least: Option<View<'a, f32>>,
    /// Of the logits that equal it those of tokens below this number are masked too; one a law.
    pub tie: Option<View<'a, i32>>,
    /// The first coin of each law, ascending, and the end of the last one's.
    pub first: View<'a, i32>,
    /// The coins, each in `[0, 1)`; as many as there is room for tokens, at least.
    pub coins: View<'a, f64>,
}

/// Drawn tokens, in device memory; made once for the largest call.
#[derive(Debug)]
pub struct Drawn {
    /// One a coin.
    pub tokens: Buffer<i32>,
    tiles: Buffer<[f64; 2]>,
    done: Buffer<u32>,
    laws: usize,
}

impl Room {
    fn of(device: &Device, rule: TreeRule, format: Format) -> Result<Self, GpuError> {
        let sizes = device.zeros::<i32>(10)?;
        let stream = device.stream()?;
        let one = Shape { blocks: 1, threads: 1, shared: 0, cluster: 1, follows: false };
        let at = |place: usize| [Arg::Address(sizes.address() + (place * size_of::<i32>()) as u64)];
        device.kernel(PATH, &[format.define()], "path_room")?.launch(&stream, one, &at(0))?;
        let nodes = device.kernel(NODES, &rows_defines(format.define(), false, true), "nodes_room")?;
        nodes.launch(&stream, one, &at(5))?;
        if rule == TreeRule::Spread {
            device.kernel(SPREAD, &[format.define()], "spread_room")?.launch(&stream, one, &at(6))?;
        }
        stream.synchronize()?;
        let sizes: Vec<usize> = sizes.read()?.into_iter().map(|size| size as usize).collect();
        let [node, stop, tree, nest, tiles, counts, spread_tree, spread, scratch, label] = sizes[..] else {
            unreachable!("ten were read")
        };
        let walk = match rule {
            TreeRule::Path => [tree, 0, nest],
            TreeRule::Spread => [spread_tree, spread, scratch],
        };
        Ok(Room { node, stop, counts, tiles, walk, label })
    }
}
