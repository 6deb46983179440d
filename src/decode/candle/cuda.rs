//! Drafts drawn and rounds verified on the GPU that holds the scores, by the kernels of [`gpu`](crate::gpu).

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use candle_core::{CudaDevice, Device};

use super::address::gpu_of;
use super::batch::{Laws, NodeRows, Parcel, Room, Stack, shaping, view_rows};
use super::resident::DeviceRow;
use crate::decode::{HostSampler, Leaf, SampleError, Sampler, Source};
use crate::gpu::{
    self, CoinSource, Drawn, Draws, Filter, Forest, Format, GpuError, MAX_LENGTH, MAX_PATHS, Outcomes, Pairs,
    Selections, TokenRule, TokenSelector, TreeRule, TreeVerifier, Trees, View,
};
use crate::path::{Coins, LogitRow, Outcome, PathCoupling, Purpose, ROOT, Round, RoundCoins, SpreadCoupling, Verifier};
use crate::pmf::{Sampling, Token};
use crate::rule::Rule;

/// Why a GPU's sampler cannot be made, or refuses what is asked of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CudaSamplerError {
    /// The device is no GPU.
    #[error("the scores are not on a GPU")]
    NotCuda,
    /// The law asks for what the kernels do not do.
    #[error("{what} is not done on the GPU: take the rows to the host")]
    Unsupported {
        /// What.
        what: &'static str,
    },
    /// The rows of a round were refused: one is no law, or does not go with the drafts.
    #[error("the rows at node {node} of round {round} were refused; the kernel's flags are {flags:#x}")]
    Refused {
        /// The round's number in the call.
        round: usize,
        /// The node of its tree; the root if it is not known.
        node: usize,
        /// What the kernel says.
        flags: i32,
    },
    /// The kernels or the driver fail.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// candle fails.
    #[error("the device failed: {0}")]
    Backend(#[from] candle_core::Error),
}

impl From<CudaSamplerError> for SampleError {
    fn from(error: CudaSamplerError) -> Self {
        SampleError::Device(error.into())
    }
}

/// A row on the GPU and what makes a law of it.
#[derive(Clone, Debug)]
pub struct DeviceLaw {
    row: DeviceRow,
    model: &'static str,
    logits: usize,
    vocab: usize,
    sampling: Sampling,
}

impl DeviceLaw {
    pub(super) fn row(&self) -> &DeviceRow {
        &self.row
    }

    /// The factor of the logits.
    pub(super) fn scale(&self) -> f32 {
        (1.0 / self.sampling.temperature) as f32
    }

    pub(super) fn is_filtered(&self) -> bool {
        let Sampling { top_k, top_p, min_p, .. } = self.sampling;
        top_k.is_some() || top_p.is_some() || min_p.is_some()
    }

    /// The number of top-k, the mass of top-p, the share of min-p; what keeps all tokens where there is none.
    pub(super) fn filter(&self) -> (i32, f32, f32) {
        let Sampling { top_k, top_p, min_p, .. } = self.sampling;
        let top_k = top_k.map_or(i32::MAX, |k| i32::try_from(k).unwrap_or(i32::MAX));
        (top_k, top_p.unwrap_or(1.0) as f32, min_p.unwrap_or(0.0) as f32)
    }
}

/// Draws and verifies on the GPU: its kernels run in candle's own stream, and tokens alone are copied to the host.
///
/// On the device are [`Verifier::Path`], [`Verifier::Spread`], [`Verifier::Block`], and [`Verifier::Token`] over `maximal`, `kseq` and
/// `optimal-linear`, for up to 16 paths of 32 tokens. For the others the rows of a round are copied to the host:
/// [`is_on_device`](CudaSampler::is_on_device) tells.
///
/// The coins are those of the host, and so are the outcomes, unless a coin lies within the rounding of f32 logits of the
/// edge between two. Temperature and filters (top-k, top-p, min-p) are applied on the device, in f32; temperature 0 is refused.
pub struct CudaSampler {
    candle: CudaDevice,
    device: gpu::Device,
    stream: gpu::Stream,
    kernels: Option<Kernels>,
}

/// The kernels for one vocabulary, and room for what comes out of them.
struct Kernels {
    vocab: usize,
    selectors: HashMap<TokenRule, (TokenSelector, Selections)>,
    trees: HashMap<TreeRule, TreeKernels>,
    drawer: TreeVerifier,
    filter: Filter,
    /// The thresholds of draft and of target rows; of drawn ones the first.
    thresholds: [Room; 2],
    drawn: Drawn,
    /// The laws and tokens of `drawn`.
    draw_room: [usize; 2],
}

/// A verifier of trees, and room for what comes out of it: trees, pairs, paths of a tree, tokens of a path.
struct TreeKernels {
    verifier: TreeVerifier,
    outcomes: Outcomes,
    room: [usize; 4],
}

type Asked<'r> = (&'r Round<DeviceLaw>, RoundCoins);

impl CudaSampler {
    /// For models on `device`.
    ///
    /// # Errors
    /// The device is no GPU, or cannot be opened.
    pub fn new(device: &Device) -> Result<Self, CudaSamplerError> {
        let Device::Cuda(candle) = device else {
            return Err(CudaSamplerError::NotCuda);
        };
        let (device, stream) = gpu_of(candle)?;
        Ok(CudaSampler { candle: candle.clone(), device, stream, kernels: None })
    }

    /// Whether a verifier runs where the rows are.
    pub fn is_on_device(verifier: Verifier) -> bool {
        tree_rule(verifier).is_some() || token_rule(verifier).is_some()
    }

    fn kernels(&mut self, vocab: usize) -> Result<&mut Kernels, CudaSamplerError> {
        if self.kernels.as_ref().is_none_or(|kernels| kernels.vocab != vocab) {
            let drawer = TreeVerifier::new(&self.device, TreeRule::Path, Format::F32, vocab)?;
            let draw_room = [16, 16];
            self.kernels = Some(Kernels {
                vocab,
                selectors: HashMap::new(),
                trees: HashMap::new(),
                drawn: drawer.drawn(draw_room[0], draw_room[1])?,
                drawer,
                filter: Filter::new(&self.device, Format::F32, vocab)?,
                thresholds: [Room::new(&self.device)?, Room::new(&self.device)?],
                draw_room,
            });
        }
        self.kernels.as_mut().ok_or(CudaSamplerError::NotCuda)
    }

    /// Draws from each law with its coins.
    fn draw_from(&mut self, laws: &[(&DeviceLaw, Vec<f64>)]) -> Result<Vec<Vec<Token>>, CudaSamplerError> {
        let Some(&(first_law, _)) = laws.first() else {
            return Ok(Vec::new());
        };
        let (device, stream) = (Device::Cuda(self.candle.clone()), self.stream.clone());
        let (mut stack, mut rows, mut first, mut coins) = (Stack::default(), Vec::new(), vec![0], Vec::new());
        for (law, of_law) in laws {
            rows.push(stack.place(&law.row)?);
            coins.extend_from_slice(of_law);
            first.push(coins.len() as i32);
        }
        let kernels = self.kernels(first_law.vocab)?;
        let tokens = coins.len();
        if laws.len() > kernels.draw_room[0] || tokens > kernels.draw_room[1] {
            kernels.draw_room = [laws.len().next_power_of_two(), tokens.next_power_of_two()];
            kernels.drawn = kernels.drawer.drawn(kernels.draw_room[0], kernels.draw_room[1])?;
        }
        // The kernel is given as many coins as there is room for tokens.
        coins.resize(kernels.draw_room[1], 0.0);
        let logits = stack.rows()?.ok_or(CudaSamplerError::NotCuda)?;
        let mut parcel = Parcel::default();
        let shaped = Laws::new(laws.iter().map(|(law, _)| Some(*law)), &mut parcel);
        let rows_of = parcel.add(&rows, i32::to_ne_bytes);
        let first_of = parcel.add(&first, i32::to_ne_bytes);
        let coins_of = parcel.add(&coins, f64::to_ne_bytes);
        let sent = parcel.send(&device)?;
        let Kernels { drawer, filter, thresholds: [thresholds, _], drawn, .. } = kernels;
        let filtered = shaped.find((filter, &stream), &sent, (&logits, &rows_of), thresholds)?;
        let draws = Draws {
            logits: view_rows(&logits)?,
            vocab: first_law.vocab,
            laws: laws.len(),
            rows: sent.view(&rows_of)?,
            scale: shaped.scale(&sent)?,
            least: filtered.map(|filtered| View::from(&filtered.least)),
            tie: filtered.map(|filtered| View::from(&filtered.tie)),
            first: sent.view(&first_of)?,
            coins: sent.view(&coins_of)?,
        };
        drawer.draw(&stream, &draws, drawn)?;
        stream.synchronize()?;
        let drawn = drawn.tokens.read()?;
        let mut tokens = Vec::with_capacity(laws.len());
        for (round, bounds) in first.windows(2).enumerate() {
            let of_law = drawn[bounds[0] as usize..bounds[1] as usize].iter().map(|&token| Token::try_from(token));
            let refused = |_| CudaSamplerError::Refused { round, node: ROOT, flags: 0 };
            tokens.push(of_law.collect::<Result<_, _>>().map_err(refused)?);
        }
        Ok(tokens)
    }

    /// SpecTr's recursion: the rule at every node at once, then the way down.
    fn recursion(&mut self, rule: TokenRule, rounds: &[Asked<'_>]) -> Result<Vec<Outcome>, CudaSamplerError> {
        let (device, stream) = (Device::Cuda(self.candle.clone()), self.stream.clone());
        let nodes = NodeRows::new(rounds)?;
        let pairs = nodes.draft_rows.len();
        let k = rounds.iter().map(|(round, _)| round.tree().paths().len()).max().unwrap_or(0);
        let (mut tokens, mut counts) = (vec![0; pairs * k], vec![0; pairs]);
        let mut given = vec![0.0; pairs * (k + 2)];
        for ((round, coins), &first) in rounds.iter().zip(&nodes.first) {
            let tree = round.tree();
            for node in 0..tree.len() {
                let (pair, depth) = (first + node, tree.depth(node));
                let alive = if round.pair(node).is_some() { tree.paths_through(node) } else { &[] };
                let given = &mut given[pair * (k + 2)..];
                for (i, &path) in alive.iter().enumerate() {
                    tokens[pair * k + i] = tree.token(tree.paths()[path][depth + 1]) as i32;
                    given[i] = coins.coin(Purpose::Label, depth, path).get();
                }
                counts[pair] = alive.len() as i32;
                given[alive.len()] = coins.coin(Purpose::Accept, depth, 0).get();
                given[alive.len() + 1] = coins.coin(Purpose::Residual, depth, 0).get();
            }
        }
        let (draft, target) = nodes.tensors()?;
        let gpu = self.device.clone();
        let Kernels { selectors, filter, thresholds, .. } = self.kernels(nodes.vocab)?;
        let (selector, selections) = match selectors.entry(rule) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let selector = TokenSelector::new(&gpu, rule, Format::F32, nodes.vocab)?;
                entry.insert((selector, Selections::new(&gpu, rule, 128)?))
            }
        };
        if selections.output.len() < pairs {
            *selections = Selections::new(&gpu, rule, pairs.next_power_of_two())?;
        }
        let mut parcel = Parcel::default();
        let [drafts, targets] = nodes.laws(rounds, &mut parcel);
        let mut add = |numbers: &[i32]| parcel.add(numbers, i32::to_ne_bytes);
        let (draft_rows, target_rows) = (add(&nodes.draft_rows), add(&nodes.target_rows));
        let (tokens, counts) = (add(&tokens), add(&counts));
        let given = parcel.add(&given, f64::to_ne_bytes);
        let sent = parcel.send(&device)?;
        let [of_drafts, of_targets] = thresholds;
        let filtered = [
            drafts.find((filter, &stream), &sent, (&draft, &draft_rows), of_drafts)?,
            targets.find((filter, &stream), &sent, (&target, &target_rows), of_targets)?,
        ];
        let call = Pairs {
            draft: view_rows(&draft)?,
            target: view_rows(&target)?,
            vocab: nodes.vocab,
            pairs,
            k,
            draft_rows: Some(sent.view(&draft_rows)?),
            target_rows: Some(sent.view(&target_rows)?),
            tokens: sent.view(&tokens)?,
            counts: Some(sent.view(&counts)?),
            shaping: shaping(&sent, [&drafts, &targets], filtered)?,
            coins: CoinSource::Given(sent.view(&given)?),
        };
        selector.select(&stream, &call, selections)?;
        stream.synchronize()?;
        let output = selections.output.read()?;
        let mut outcomes = Vec::with_capacity(rounds.len());
        for (number, ((round, _), &first)) in rounds.iter().zip(&nodes.first).enumerate() {
            let mut node = ROOT;
            let outcome = loop {
                if round.target(node).is_none() {
                    break Outcome { node, next: None };
                }
                let Ok(token) = Token::try_from(output[first + node]) else {
                    let flags = selections.stats.read()?[first + node].flags;
                    return Err(CudaSamplerError::Refused { round: number, node, flags });
                };
                match round.tree().child(node, token) {
                    Some(child) => node = child,
                    None => break Outcome { node, next: Some(token) },
                }
            };
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    /// The path or the spread coupling, and block verification of one path.
    fn trees(&mut self, rule: TreeRule, rounds: &[Asked<'_>]) -> Result<Vec<Outcome>, CudaSamplerError> {
        let (device, stream) = (Device::Cuda(self.candle.clone()), self.stream.clone());
        let nodes = NodeRows::new(rounds)?;
        let forest = Forest::new(rounds.iter().map(|(round, _)| round.tree()));
        let (draft, target) = nodes.tensors()?;
        let gpu = self.device.clone();
        let Kernels { trees, filter, thresholds, .. } = self.kernels(nodes.vocab)?;
        let kernels = match trees.entry(rule) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let verifier = TreeVerifier::new(&gpu, rule, Format::F32, nodes.vocab)?;
                let room = [1, 128, 8, 8];
                let outcomes = verifier.outcomes(room[0], room[1], room[2], room[3])?;
                entry.insert(TreeKernels { verifier, outcomes, room })
            }
        };
        let wanted = [forest.trees(), forest.pairs(), forest.paths, forest.length];
        if wanted.iter().zip(&kernels.room).any(|(wanted, room)| wanted > room) {
            let room = |i: usize| wanted[i].max(kernels.room[i]).next_power_of_two();
            kernels.room = [room(0), room(1), room(2), room(3).min(MAX_LENGTH)];
            let [trees, pairs, paths, length] = kernels.room;
            kernels.outcomes = kernels.verifier.outcomes(trees, pairs, paths, length)?;
        }
        let mut parcel = Parcel::default();
        let [drafts, targets] = nodes.laws(rounds, &mut parcel);
        let mut add = |numbers: &[i32]| parcel.add(numbers, i32::to_ne_bytes);
        let (draft_rows, target_rows) = (add(&nodes.draft_rows), add(&nodes.target_rows));
        let (pairs_of, tokens) = (add(&forest.nodes), add(&forest.tokens));
        let (lengths, paths_of) = (add(&forest.lengths), add(&forest.paths_of));
        let mut add = |of: fn(&RoundCoins) -> u64| {
            let numbers: Vec<u64> = rounds.iter().map(|(_, coins)| of(coins)).collect();
            parcel.add(&numbers, u64::to_ne_bytes)
        };
        let (seeds, starts) = (add(|coins| coins.seed), add(|coins| coins.start));
        let sent = parcel.send(&device)?;
        let [of_drafts, of_targets] = thresholds;
        let filtered = [
            drafts.find((filter, &stream), &sent, (&draft, &draft_rows), of_drafts)?,
            targets.find((filter, &stream), &sent, (&target, &target_rows), of_targets)?,
        ];
        let call = Trees {
            draft: view_rows(&draft)?,
            target: view_rows(&target)?,
            vocab: nodes.vocab,
            draft_rows: sent.view(&draft_rows)?,
            target_rows: sent.view(&target_rows)?,
            shaping: shaping(&sent, [&drafts, &targets], filtered)?,
            trees: forest.trees(),
            pairs: forest.pairs(),
            paths: forest.paths,
            length: forest.length,
            nodes: sent.view(&pairs_of)?,
            tokens: sent.view(&tokens)?,
            lengths: sent.view(&lengths)?,
            paths_of: sent.view(&paths_of)?,
            seeds: sent.view(&seeds)?,
            starts: sent.view(&starts)?,
        };
        kernels.verifier.verify(&stream, &call, &mut kernels.outcomes)?;
        stream.synchronize()?;
        let (accepted, winners) = (kernels.outcomes.accepted.read()?, kernels.outcomes.winners.read()?);
        let output = kernels.outcomes.output.read()?;
        let mut outcomes = Vec::with_capacity(rounds.len());
        for (number, (round, _)) in rounds.iter().enumerate() {
            let (Ok(kept), Ok(path)) = (usize::try_from(accepted[number]), usize::try_from(winners[number])) else {
                let flags = kernels.outcomes.flags.read()?[number];
                return Err(CudaSamplerError::Refused { round: number, node: ROOT, flags });
            };
            let node = round.tree().paths()[path][kept];
            let next = Token::try_from(output[number * (forest.length + 1) + kept]).ok();
            outcomes.push(Outcome { node, next: next.filter(|_| !round.tree().is_ended(node)) });
        }
        Ok(outcomes)
    }

    /// On copies of the rows.
    fn on_the_host(rounds: &[Asked<'_>], verifier: Verifier) -> Result<Vec<Outcome>, SampleError> {
        let mut calls = HashMap::new();
        let mut copy = |law: &DeviceLaw| -> Result<LogitRow, SampleError> {
            let call = match calls.entry(law.row.call.id()) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(law.row.call.to_vec2::<f32>().map_err(CudaSamplerError::Backend)?),
            };
            let DeviceLaw { row, model, logits, vocab, sampling } = law;
            let source = Source { model, logits: *logits, vocab: *vocab, sampling };
            crate::decode::sampler::law(&call[row.row], &source)
        };
        let copies = rounds.iter().map(|(round, coins)| Ok((round.try_map(&mut copy)?, *coins)));
        let copies = copies.collect::<Result<Vec<_>, SampleError>>()?;
        let copies: Vec<_> = copies.iter().map(|(round, coins)| (round, *coins)).collect();
        <HostSampler as Sampler<Vec<f32>>>::verify(&mut HostSampler, &copies, verifier)
    }
}

impl Sampler<DeviceRow> for CudaSampler {
    type Law = DeviceLaw;

    fn laws(&mut self, rows: Vec<DeviceRow>, source: &Source<'_>) -> Result<Vec<DeviceLaw>, SampleError> {
        let &Source { model, logits, vocab, sampling } = source;
        sampling.check().map_err(|error| SampleError::Sampling { model, error })?;
        let temperature = sampling.temperature;
        let unsupported = match () {
            () if !(temperature > 0.0 && temperature.is_finite()) => Some("a temperature that is not positive"),
            () if logits < vocab => Some("a model that lacks tokens of the other"),
            () => None,
        };
        if let Some(what) = unsupported {
            return Err(CudaSamplerError::Unsupported { what }.into());
        }
        let law = |row: DeviceRow| {
            let given = row.call.dim(1).map_err(CudaSamplerError::Backend)?;
            if given != logits {
                return Err(SampleError::RowLength { model, expected: logits, given });
            }
            Ok(DeviceLaw { row, model, logits, vocab, sampling: *sampling })
        };
        rows.into_iter().map(law).collect()
    }

    fn draw(&mut self, leaves: &[Leaf<'_, DeviceLaw>]) -> Result<Vec<Vec<Token>>, SampleError> {
        let coins = |leaf: &Leaf<'_, DeviceLaw>| {
            let coins = leaf.paths.iter().map(|&path| leaf.coins.coin(Purpose::Draft, leaf.depth, path).get());
            coins.collect()
        };
        let laws: Vec<_> = leaves.iter().map(|leaf| (leaf.law, coins(leaf))).collect();
        Ok(self.draw_from(&laws)?)
    }

    fn verify(&mut self, rounds: &[Asked<'_>], verifier: Verifier) -> Result<Vec<Outcome>, SampleError> {
        let fits = rounds.iter().all(|(round, _)| {
            let paths = round.tree().paths();
            paths.len() <= MAX_PATHS && paths.iter().all(|nodes| nodes.len() <= MAX_LENGTH + 1)
        });
        // Without drafts there is nothing to decide.
        let bare = |(round, coins): &Asked<'_>| {
            let target = round.target(ROOT).filter(|_| round.tree().is_empty());
            target.map(|law| (*law).clone()).zip(Some(vec![coins.coin(Purpose::Residual, 0, 0).get()]))
        };
        if let Some(laws) = rounds.iter().map(bare).collect::<Option<Vec<_>>>() {
            let laws: Vec<_> = laws.iter().map(|(law, coins)| (law, coins.clone())).collect();
            let tokens = self.draw_from(&laws)?;
            return Ok(tokens
                .into_iter()
                .map(|tokens| Outcome { node: ROOT, next: tokens.first().copied() })
                .collect());
        }
        let one_path = rounds.iter().all(|(round, _)| round.tree().paths().len() == 1);
        match token_rule(verifier) {
            Some(rule) if fits => Ok(self.recursion(rule, rounds)?),
            None => match tree_rule(verifier) {
                Some(rule) if fits && (one_path || !matches!(verifier, Verifier::Block(_))) => {
                    Ok(self.trees(rule, rounds)?)
                }
                _ => Self::on_the_host(rounds, verifier),
            },
            _ => Self::on_the_host(rounds, verifier),
        }
    }
}

fn tree_rule(verifier: Verifier) -> Option<TreeRule> {
    match verifier {
        Verifier::Block(_) => Some(TreeRule::Path),
        Verifier::Path(path) if path == PathCoupling::default() => Some(TreeRule::Path),
        Verifier::Spread(spread) if spread == SpreadCoupling::default() => Some(TreeRule::Spread),
        _ => None,
    }
}

fn token_rule(verifier: Verifier) -> Option<TokenRule> {
    match verifier {
        Verifier::Token(recursion) => match recursion.rule() {
            Rule::Maximal => Some(TokenRule::Maximal),
            Rule::KSeq => Some(TokenRule::KSeq),
            Rule::OptimalLinear => Some(TokenRule::OptimalLinear),
            _ => None,
        },
        _ => None,
    }
}
