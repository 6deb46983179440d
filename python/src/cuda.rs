//! Rows of logits in the memory of an NVIDIA GPU, as tensors of another library: their addresses go to the kernels.
//!
//! With `dlpack.rs` the only file of this crate with `unsafe` code: an address and a stream are what Python says they are.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use draftpick::Sampling;
use draftpick::gpu::{
    self, Buffer, CoinSource, Device, Each, Filter, Filtered, Filters, Forest, Format, GpuError, Pairs, Selections,
    Shaping, Stream, TokenRule, TokenSelector, TreeRule, TreeVerifier, Trees, View,
};
use numpy::ndarray::Array2;
use numpy::{IntoPyArray, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::array::{check_shape, refused, tokens};
use crate::coins::{BatchCoins, CoinSource as Given};
use crate::paths::Verified;
use crate::sampling::Parameters;
use crate::select::Selected;

/// Rows of logits: an address, the type of a number, the number of rows, from one row to the next, the tokens of a row.
pub type Rows = (u64, String, usize, usize, usize);

/// What a flag of a row says, from the lowest bit.
const FLAGS: [&str; 10] = [
    "a draft logit is NaN, +inf or above 1e8",
    "a target logit is NaN, +inf or above 1e8",
    "all draft logits are -inf",
    "all target logits are -inf",
    "a draft has probability 0 under its draft law: was it drawn after another temperature or filter?",
    "a draft is outside the vocabulary",
    "the residual has no mass: the two laws agree within rounding",
    "the laws are too far apart for the kernels' classes",
    "a row that there is not",
    "more drafts than there is room for",
];

fn failed(error: GpuError) -> PyErr {
    refused(error)
}

fn flagged(row: usize, flags: i32, token: i32) -> PyErr {
    let text: Vec<&str> =
        FLAGS.iter().enumerate().filter(|(bit, _)| flags >> bit & 1 == 1).map(|(_, text)| *text).collect();
    let text = if text.is_empty() { "the kernels have no room for it".into() } else { text.join("; ") };
    match token {
        0.. => refused(format_args!("row {row}: {text} (at {token})")),
        _ => refused(format_args!("row {row}: {text}")),
    }
}

fn format(name: &str) -> PyResult<Format> {
    match name {
        "float32" => Ok(Format::F32),
        "float16" => Ok(Format::F16),
        "bfloat16" => Ok(Format::Bf16),
        _ => Err(refused(format_args!("logits are {name}; on a GPU they may be float32, float16 or bfloat16"))),
    }
}

fn rows<'a>(tensor: &Rows) -> PyResult<gpu::Rows<'a>> {
    let (address, dtype, count, stride, _) = tensor;
    // SAFETY: Python hands over a tensor that it holds for the call, which ends after the stream has done the work.
    Ok(unsafe { gpu::Rows::from_raw(*address, format(dtype)?, *count, *stride) })
}

/// The kernels of one device. Compiled when they are first needed.
#[pyclass(frozen, module = "draftpick._draftpick")]
pub struct CudaDevice {
    device: Device,
    selectors: Mutex<HashMap<(TokenRule, Format, usize), TokenSelector>>,
    verifiers: Mutex<HashMap<(Format, usize), TreeVerifier>>,
    filters: Mutex<HashMap<(Format, usize), Filter>>,
}

/// What makes laws of the rows of one model: factors and filters, one a pair; and the thresholds that those leave.
struct Laws {
    scale: Option<Buffer<f32>>,
    filters: Option<Parts>,
    pairs: usize,
}

/// Filters on the device: top-k, top-p, min-p, and what they leave.
struct Parts {
    top_k: Buffer<i32>,
    top_p: Buffer<f32>,
    min_p: Buffer<f32>,
    left: Filtered,
}

impl CudaDevice {
    fn stream(&self, handle: u64) -> Stream {
        // SAFETY: Python hands over the handle of a stream of this device, which it holds for the call.
        unsafe { self.device.stream_from_raw(handle) }
    }

    fn upload<T: draftpick::gpu::Plain>(&self, values: &[T]) -> PyResult<Buffer<T>> {
        self.device.upload(values).map_err(failed)
    }

    /// Temperatures as factors, nothing where all are 1; filters, nothing where there are none.
    fn laws(&self, samplings: &[Sampling]) -> PyResult<Laws> {
        for sampling in samplings {
            let temperature = sampling.temperature;
            if !(temperature > 0.0 && temperature.is_finite()) {
                return Err(refused(format_args!("temperature is {temperature}; on a GPU it must be positive")));
            }
            sampling.apply(&[0.0]).map_err(refused)?;
        }
        let numbers = |of: fn(&Sampling) -> f64| samplings.iter().map(|one| of(one) as f32).collect::<Vec<_>>();
        let scale = match samplings.iter().all(|one| one.temperature == 1.0) {
            true => None,
            false => Some(self.upload(&numbers(|one| 1.0 / one.temperature))?),
        };
        let is_filtered = |one: &Sampling| one.top_k.is_some() || one.top_p.is_some() || one.min_p.is_some();
        let filters = match samplings.iter().any(is_filtered) {
            false => None,
            true => {
                let top_k =
                    samplings.iter().map(|one| one.top_k.map_or(i32::MAX, |k| k.try_into().unwrap_or(i32::MAX)));
                Some(Parts {
                    top_k: self.upload(&top_k.collect::<Vec<i32>>())?,
                    top_p: self.upload(&numbers(|one| one.top_p.unwrap_or(1.0)))?,
                    min_p: self.upload(&numbers(|one| one.min_p.unwrap_or(0.0)))?,
                    left: Filtered::new(&self.device, samplings.len()).map_err(failed)?,
                })
            }
        };
        Ok(Laws { scale, filters, pairs: samplings.len() })
    }

    /// Submits the search for the thresholds of a model's rows, if there are filters.
    fn find(
        &self,
        stream: &Stream,
        logits: gpu::Rows<'_>,
        (format, vocab): (Format, usize),
        rows: Option<View<'_, i32>>,
        laws: &mut Laws,
    ) -> Result<(), GpuError> {
        let Some(Parts { top_k, top_p, min_p, left }) = &mut laws.filters else { return Ok(()) };
        let mut all = self.filters.lock().unwrap_or_else(PoisonError::into_inner);
        let filter = match all.entry((format, vocab)) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => place.insert(Filter::new(&self.device, format, vocab)?),
        };
        let filters = Filters {
            logits,
            vocab,
            count: laws.pairs,
            rows,
            scale: laws.scale.as_ref().map(View::from),
            top_k: Some(Each::One(View::from(&*top_k))),
            top_p: Some(Each::One(View::from(&*top_p))),
            min_p: Some(Each::One(View::from(&*min_p))),
        };
        filter.find(stream, &filters, left)
    }
}

fn shaping<'a>(draft: &'a Laws, target: &'a Laws) -> Shaping<'a> {
    let filtered = |laws: &'a Laws| laws.filters.as_ref().map(|parts| &parts.left);
    Shaping {
        draft_scale: draft.scale.as_ref().map(View::from),
        target_scale: target.scale.as_ref().map(View::from),
        draft_least: filtered(draft).map(|filtered| View::from(&filtered.least)),
        target_least: filtered(target).map(|filtered| View::from(&filtered.least)),
        draft_tie: filtered(draft).map(|filtered| View::from(&filtered.tie)),
        target_tie: filtered(target).map(|filtered| View::from(&filtered.tie)),
    }
}

#[pymethods]
impl CudaDevice {
    /// The device with this number.
    #[new]
    fn new(ordinal: usize) -> PyResult<Self> {
        let device = Device::new(ordinal).map_err(failed)?;
        let (selectors, verifiers, filters) = Default::default();
        Ok(CudaDevice { device, selectors, verifiers, filters })
    }

    /// Selects among the drafts of every position.
    #[expect(clippy::too_many_arguments, reason = "what a call of the kernels takes")]
    fn select<'py>(
        &self,
        py: Python<'py>,
        stream: u64,
        rule_name: &str,
        draft: Rows,
        target: Rows,
        drafts: PyReadonlyArrayDyn<'py, i64>,
        coins: Given<'py>,
        parameters: Parameters<'py>,
    ) -> PyResult<Selected<'py>> {
        let rule = match rule_name {
            "maximal" => TokenRule::Maximal,
            "kseq" => TokenRule::KSeq,
            "optimal-linear" => TokenRule::OptimalLinear,
            _ => {
                return Err(refused(format_args!(
                    "{rule_name} has no kernel; there are maximal, kseq and optimal-linear"
                )));
            }
        };
        let (count, vocab, k) = (draft.2, draft.4, drafts.shape()[1]);
        check_shape("target_logits", &[target.2, target.4], &[count, vocab], "the shape of draft_logits")?;
        check_shape("drafts", drafts.shape(), &[count, k], "one row for each of the logits")?;
        if k == 0 || (rule == TokenRule::Maximal && k != 1) {
            return Err(refused(format_args!("{rule_name} does not take {k} drafts")));
        }
        let read = tokens("drafts", drafts.as_array())?;
        let coins = coins.read_selection(count, k)?;
        let flat: Vec<f64> = (0..count).flat_map(|row| coins.selection(row, k)).map(|coin| coin.get()).collect();
        let (given, coins) = (read.iter().map(|&t| t as i32).collect::<Vec<_>>(), flat);
        let (given, coins) = (self.upload(&given)?, self.upload(&coins)?);
        let samplings = parameters.read(count)?;
        let of = |draft: bool| -> Vec<Sampling> {
            (0..count).map(|row| samplings.of(row)).map(|pair| if draft { pair.draft } else { pair.target }).collect()
        };
        let mut laws = [self.laws(&of(true))?, self.laws(&of(false))?];
        let pairs = Pairs {
            draft: rows(&draft)?,
            target: rows(&target)?,
            vocab,
            pairs: count,
            k,
            draft_rows: None,
            target_rows: None,
            tokens: View::from(&given),
            counts: None,
            shaping: Shaping::default(),
            coins: CoinSource::Given(View::from(&coins)),
        };
        let format = format(&draft.1)?;
        let stream = self.stream(stream);
        let done = py.detach(|| -> Result<_, GpuError> {
            let mut all = self.selectors.lock().unwrap_or_else(PoisonError::into_inner);
            let selector = match all.entry((rule, format, vocab)) {
                std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::hash_map::Entry::Vacant(place) => {
                    place.insert(TokenSelector::new(&self.device, rule, format, vocab)?)
                }
            };
            let mut into = Selections::new(&self.device, rule, count)?;
            for (logits, laws) in [pairs.draft, pairs.target].into_iter().zip(&mut laws) {
                self.find(&stream, logits, (format, vocab), None, laws)?;
            }
            let pairs = Pairs { shaping: shaping(&laws[0], &laws[1]), ..pairs };
            selector.select(&stream, &pairs, &mut into)?;
            stream.synchronize()?;
            Ok((into.stats.read()?, into.output.read()?, into.selected.read()?))
        });
        let (stats, output, selected) = done.map_err(failed)?;
        if let Some(row) = stats.iter().take(count).position(|stats| stats.flags != 0) {
            return Err(flagged(row, stats[row].flags, stats[row].token));
        }
        let wide = |values: Vec<i32>| values.into_iter().map(i64::from).collect::<Vec<_>>().into_pyarray(py);
        Ok((wide(output), wide(selected)))
    }

    /// Verifies the paths of every request by the path coupling.
    #[expect(clippy::too_many_arguments, reason = "what a call of the kernels takes")]
    fn verify<'py>(
        &self,
        py: Python<'py>,
        stream: u64,
        given: PyReadonlyArrayDyn<'py, i64>,
        draft: Rows,
        target: Rows,
        coins: Given<'py>,
        parameters: Parameters<'py>,
    ) -> PyResult<Verified<'py>> {
        let &[count, paths, length] = given.shape() else { unreachable!("tokens have three axes") };
        let vocab = target.4;
        check_shape("draft_logits", &[draft.2, draft.4], &[count * paths * length, vocab], "[B, K, L] tokens")?;
        check_shape(
            "target_logits",
            &[target.2, target.4],
            &[count * paths * (length + 1), vocab],
            "[B, K, L] tokens",
        )?;
        let read = tokens("tokens", given.as_array())?;
        let BatchCoins::Seeded(rounds) = coins.read_addressed(count, length + 1, paths)? else {
            return Err(refused("on a GPU paths are verified by seeds and positions: give those, not coins"));
        };
        let batch = Batch::new(&read, count, paths, length);
        let (seeds, starts): (Vec<u64>, Vec<u64>) = rounds.iter().map(|round| (round.seed, round.start)).unzip();
        let samplings = parameters.read(count)?;
        let of = |draft: bool| -> Vec<Sampling> {
            let pairs = batch.request_of.iter().map(|&request| samplings.of(request));
            pairs.map(|pair| if draft { pair.draft } else { pair.target }).collect()
        };
        let mut laws = [self.laws(&of(true))?, self.laws(&of(false))?];
        let Batch { forest, draft_rows, target_rows, .. } = &batch;
        let (draft_rows, target_rows) = (self.upload(draft_rows)?, self.upload(target_rows)?);
        let (nodes, drafted) = (self.upload(&forest.nodes)?, self.upload(&forest.tokens)?);
        let (lengths, paths_of) = (self.upload(&forest.lengths)?, self.upload(&forest.paths_of)?);
        let (seeds, starts) = (self.upload(&seeds)?, self.upload(&starts)?);
        let trees = Trees {
            draft: rows(&draft)?,
            target: rows(&target)?,
            vocab,
            draft_rows: View::from(&draft_rows),
            target_rows: View::from(&target_rows),
            shaping: Shaping::default(),
            trees: count,
            pairs: forest.pairs(),
            paths,
            length,
            nodes: View::from(&nodes),
            tokens: View::from(&drafted),
            lengths: View::from(&lengths),
            paths_of: View::from(&paths_of),
            seeds: View::from(&seeds),
            starts: View::from(&starts),
        };
        let format = format(&target.1)?;
        let stream = self.stream(stream);
        let done = py.detach(|| -> Result<_, GpuError> {
            let mut all = self.verifiers.lock().unwrap_or_else(PoisonError::into_inner);
            let verifier = match all.entry((format, vocab)) {
                std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::hash_map::Entry::Vacant(place) => {
                    place.insert(TreeVerifier::new(&self.device, TreeRule::Path, format, vocab)?)
                }
            };
            let mut into = verifier.outcomes(count, forest.pairs(), paths, length)?;
            let models = [(trees.draft, trees.draft_rows), (trees.target, trees.target_rows)];
            for ((logits, rows), laws) in models.into_iter().zip(&mut laws) {
                self.find(&stream, logits, (format, vocab), Some(rows), laws)?;
            }
            let trees = Trees { shaping: shaping(&laws[0], &laws[1]), ..trees };
            verifier.verify(&stream, &trees, &mut into)?;
            stream.synchronize()?;
            Ok((into.flags.read()?, into.output.read()?, into.accepted.read()?, into.winners.read()?))
        });
        let (flags, output, accepted, winners) = done.map_err(failed)?;
        if let Some(row) = flags.iter().take(count).position(|&flags| flags != 0) {
            return Err(flagged(row, flags[row], -1));
        }
        let output = Array2::from_shape_fn((count, length + 1), |(row, at)| i64::from(output[row * (length + 1) + at]));
        let lengths: Vec<i64> = accepted.iter().take(count).map(|&accepted| i64::from(accepted) + 1).collect();
        let winners: Vec<i64> = winners.iter().take(count).map(|&path| path.into()).collect();
        Ok((output.into_pyarray(py), lengths.into_pyarray(py), winners.into_pyarray(py)))
    }
}

/// The trees of a batch of `K` paths of `L` tokens, and the rows of their nodes.
struct Batch {
    forest: Forest,
    draft_rows: Vec<i32>,
    target_rows: Vec<i32>,
    /// The request of each pair.
    request_of: Vec<usize>,
}

impl Batch {
    fn new(tokens: &[u32], count: usize, paths: usize, length: usize) -> Self {
        let mut batch = Batch {
            forest: Forest { paths, length, first: vec![0], ..Forest::default() },
            draft_rows: Vec::new(),
            target_rows: Vec::new(),
            request_of: Vec::new(),
        };
        for request in 0..count {
            let path = |path: usize| &tokens[(request * paths + path) * length..][..length];
            for at in 0..paths {
                let mut earlier: Vec<usize> = (0..at).collect();
                batch.forest.lengths.push(length as i32);
                for depth in 0..=length {
                    earlier.retain(|&other| path(other)[..depth] == path(at)[..depth]);
                    let node = match earlier.first() {
                        Some(&other) => batch.forest.nodes[(request * paths + other) * (length + 1) + depth],
                        None => batch.node(request, (request * paths + at, depth), paths, length),
                    };
                    batch.forest.nodes.push(node);
                    if depth > 0 {
                        batch.forest.tokens.push(path(at)[depth - 1] as i32);
                    }
                }
            }
            batch.forest.first.push(batch.forest.paths_of.len());
        }
        batch
    }

    /// A new pair, at `depth` of a path of the batch.
    fn node(&mut self, request: usize, (path, depth): (usize, usize), paths: usize, length: usize) -> i32 {
        let inner = depth < length;
        self.draft_rows.push(if inner { (path * length + depth) as i32 } else { -1 });
        self.target_rows.push((path * (length + 1) + depth) as i32);
        self.forest.paths_of.push(if inner { paths as i32 } else { 0 });
        self.request_of.push(request);
        self.forest.paths_of.len() as i32 - 1
    }
}
