//! Calls captured in a CUDA graph: replayed on changed inputs they do what plain calls do. Capture fails on a call that
//! allocates or waits, so that none does; two that do are captured to see that it fails.
//!
//! Where there is no device, each test says so and does nothing.

// Streams of cudarc, which has the capture.
#![allow(unsafe_code)]

#[path = "gpu/cases.rs"]
mod cases;
#[path = "gpu/device.rs"]
mod device;
#[path = "gpu/trees.rs"]
mod trees;

use std::sync::Arc;

use cases::{Case, cases, rounded};
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUresult, CUstreamCaptureMode};
use cudarc::driver::{CudaContext, CudaGraph, CudaStream, DriverError};
use device::{Uploaded, device};
use draftpick::gpu::{
    Buffer, CoinSource, Device, Draws, Each, Filter, Filtered, Filters, Forest, Format, GpuError, Pairs, Plain, Rows,
    Score, Selections, Shaping, Stream, TokenRule, TokenSelector, TreeVerifier, Trees, View,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A stream that can be captured, as both libraries see it.
struct Capturing {
    stream: Arc<CudaStream>,
    same: Stream,
    default: Stream,
}

impl Capturing {
    fn new(device: &Device) -> Self {
        let stream = CudaContext::new(0).and_then(|context| context.new_stream()).expect("a stream");
        // SAFETY: a stream of the device's primary context, which lives as long as its copy here; the default stream.
        let (same, default) = unsafe { (device.stream_from_raw(stream.cu_stream() as u64), device.stream_from_raw(0)) };
        Capturing { stream, same, default }
    }

    /// The graph of what `submit` submits to the stream. What is not allowed in a capture fails for this thread alone.
    fn capture(&self, submit: impl FnOnce(&Stream)) -> Result<CudaGraph, DriverError> {
        self.stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
        submit(&self.same);
        let graph = self.stream.end_capture(CUgraphInstantiate_flags(0))?;
        graph.ok_or(DriverError(CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED))
    }

    /// Replays a graph once the copies to the device are done, and waits for it.
    fn replay(&self, graph: &CudaGraph) {
        self.default.synchronize().expect("the device is there");
        graph.launch().unwrap_or_else(|error| panic!("the graph does not run: {error}"));
        self.same.synchronize().unwrap_or_else(|error| panic!("the graph fails: {error}"));
    }

    fn plain(&self, submit: impl FnOnce(&Stream)) {
        self.default.synchronize().expect("the device is there");
        submit(&self.same);
        self.same.synchronize().unwrap_or_else(|error| panic!("{error}"));
    }
}

fn upload<T: Plain>(device: &Device, values: &[T]) -> Buffer<T> {
    device.upload(values).expect("memory")
}

/// What a call of a token rule reads.
struct Inputs {
    draft: Uploaded,
    target: Uploaded,
    tokens: Buffer<i32>,
    coins: Buffer<f64>,
    scale: Buffer<f32>,
    top_p: Buffer<f32>,
    vocab: usize,
    pairs: usize,
    k: usize,
}

fn tokens(cases: &[Case]) -> Vec<i32> {
    cases.iter().flat_map(|case| &case.drafts).map(|token| *token as i32).collect()
}

fn coins(cases: &[Case]) -> Vec<f64> {
    cases.iter().flat_map(|case| &case.coins).map(|coin| coin.get()).collect()
}

impl Inputs {
    fn new(device: &Device, format: Format, cases: &[Case], seed: u64) -> Self {
        let (vocab, pairs, k) = (cases[0].draft.len(), cases.len(), cases[0].drafts.len());
        let stride = vocab.next_multiple_of(8);
        let mut inputs = Inputs {
            draft: Uploaded::new(device, format, stride, cases.iter().map(|case| &case.draft[..])),
            target: Uploaded::new(device, format, stride, cases.iter().map(|case| &case.target[..])),
            tokens: upload(device, &tokens(cases)),
            coins: upload(device, &coins(cases)),
            scale: upload(device, &vec![1.0f32; pairs]),
            top_p: upload(device, &vec![1.0f32; pairs]),
            vocab,
            pairs,
            k,
        };
        inputs.overwrite(cases, seed);
        inputs
    }

    /// Other numbers in the same memory.
    fn overwrite(&mut self, cases: &[Case], seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        self.draft.overwrite(cases.iter().map(|case| &case.draft[..]));
        self.target.overwrite(cases.iter().map(|case| &case.target[..]));
        self.tokens.write(&tokens(cases)).expect("written");
        self.coins.write(&coins(cases)).expect("written");
        let mut numbers =
            |low: f32, high: f32| (0..self.pairs).map(|_| rng.random_range(low..high)).collect::<Vec<_>>();
        self.scale.write(&numbers(0.5, 1.5)).expect("written");
        self.top_p.write(&numbers(0.6, 1.0)).expect("written");
    }

    fn pairs<'a>(&'a self, shaping: Shaping<'a>) -> Pairs<'a> {
        Pairs {
            draft: self.draft.rows(),
            target: self.target.rows(),
            vocab: self.vocab,
            pairs: self.pairs,
            k: self.k,
            draft_rows: None,
            target_rows: None,
            tokens: View::from(&self.tokens),
            counts: None,
            shaping,
            coins: CoinSource::Given(View::from(&self.coins)),
        }
    }

    /// The target's filter.
    fn filters(&self) -> Filters<'_> {
        Filters {
            logits: self.target.rows(),
            vocab: self.vocab,
            count: self.pairs,
            rows: None,
            scale: Some(View::from(&self.scale)),
            top_k: Some(Each::All(200)),
            top_p: Some(Each::One(View::from(&self.top_p))),
            min_p: None,
        }
    }
}

const RULES: [TokenRule; 3] = [TokenRule::Maximal, TokenRule::KSeq, TokenRule::OptimalLinear];

/// Token, draft and flags of every pair.
fn results(into: &Selections) -> (Vec<i32>, Vec<i32>, Vec<i32>) {
    let flags = into.stats.read().expect("read").iter().map(|stats| stats.flags).collect();
    (into.output.read().expect("read"), into.selected.read().expect("read"), flags)
}

/// Each rule, without and with temperatures and a filter that is found in the same graph. The first call of a selector is the
/// captured one: what it needs is there when it is made.
#[test]
fn token_rules_replay() {
    let Some(device) = device("graphs of token rules") else { return };
    let capturing = Capturing::new(&device);
    for rule in RULES {
        for (format, vocab) in
            [(Format::F32, 33), (Format::Bf16, 4_096), (Format::F32, 50_257), (Format::Bf16, 128_256)]
        {
            for filtered in [false, true] {
                let place = format!("{rule:?} {format:?} V={vocab}, {}", if filtered { "filtered" } else { "plain" });
                let k = if rule == TokenRule::Maximal { 1 } else { 4 };
                let all = [1, 2].map(|seed| cases(format, vocab, k, seed));
                let mut inputs = Inputs::new(&device, format, &all[0], 1);
                let filter = Filter::new(&device, format, vocab).unwrap_or_else(|error| panic!("{error}"));
                let selector = || {
                    let selector = TokenSelector::new(&device, rule, format, vocab);
                    let selector = selector.unwrap_or_else(|error| panic!("{error}"));
                    if filtered {
                        selector.prepare_shaped().unwrap_or_else(|error| panic!("{error}"));
                    }
                    selector
                };
                let submit = |inputs: &Inputs,
                              selector: &TokenSelector,
                              thresholds: &mut Filtered,
                              into: &mut Selections,
                              stream: &Stream|
                 -> Result<(), GpuError> {
                    if !filtered {
                        return selector.select(stream, &inputs.pairs(Shaping::default()), into);
                    }
                    filter.find(stream, &inputs.filters(), thresholds)?;
                    let shaping = Shaping {
                        target_scale: Some(View::from(&inputs.scale)),
                        target_least: Some(View::from(&thresholds.least)),
                        target_tie: Some(View::from(&thresholds.tie)),
                        ..Shaping::default()
                    };
                    selector.select(stream, &inputs.pairs(shaping), into)
                };
                let room = || {
                    let thresholds = Filtered::new(&device, inputs.pairs).expect("memory");
                    (thresholds, Selections::new(&device, rule, inputs.pairs).expect("memory"))
                };
                let ((mut thresholds, mut into), captured) = (room(), selector());
                let mut submitted = Ok(());
                let graph = capturing.capture(|stream| {
                    submitted = submit(&inputs, &captured, &mut thresholds, &mut into, stream);
                });
                submitted.unwrap_or_else(|error| panic!("{place}: a call cannot be captured: {error}"));
                let graph = graph.unwrap_or_else(|error| panic!("{place}: the capture fails: {error}"));
                // Nothing ran yet.
                assert!(into.output.read().expect("read").iter().all(|token| *token == 0), "{place}");
                let ((mut others, mut expected), plain) = (room(), selector());
                let mut outputs = Vec::new();
                for (step, which) in [0usize, 1, 1, 0].into_iter().enumerate() {
                    inputs.overwrite(&all[which], which as u64);
                    capturing.replay(&graph);
                    capturing.plain(|stream| {
                        submit(&inputs, &plain, &mut others, &mut expected, stream)
                            .unwrap_or_else(|error| panic!("{place}: {error}"));
                    });
                    assert_eq!(results(&into), results(&expected), "{place}: replay {step}, inputs {which}");
                    outputs.push(results(&into).0);
                }
                assert_eq!(outputs[0], outputs[3], "{place}: the same inputs give other tokens");
                // Otherwise a replay that reads nothing would pass.
                assert!(vocab < 100 || outputs[0] != outputs[1], "{place}: other inputs give the same tokens");
            }
        }
    }
}

/// A call with room for what it reads and writes; `wrong` is done in the capture too. Whether that fails.
fn captured_with(capturing: &Capturing, device: &Device, wrong: impl FnOnce(&Stream) -> Result<(), GpuError>) -> bool {
    let all = cases(Format::F32, 33, 1, 1);
    let inputs = Inputs::new(device, Format::F32, &all, 1);
    let selector = TokenSelector::new(device, TokenRule::Maximal, Format::F32, 33).expect("compiles");
    let mut into = Selections::new(device, TokenRule::Maximal, inputs.pairs).expect("memory");
    let mut done = Ok(());
    let graph = capturing.capture(|stream| {
        selector.select(stream, &inputs.pairs(Shaping::default()), &mut into).expect("a call can be captured");
        done = wrong(stream);
    });
    let failed = graph.is_err();
    assert_eq!(failed, done.is_err(), "{:?}, but the capture says {:?}", done, graph.err());
    failed
}

/// What the other tests go by: a capture in which something waits or allocates fails.
#[test]
fn a_call_that_waits_or_allocates_is_not_captured() {
    let Some(device) = device("captures that fail") else { return };
    let capturing = Capturing::new(&device);
    assert!(!captured_with(&capturing, &device, |_| Ok(())), "a call by itself");
    assert!(captured_with(&capturing, &device, Stream::synchronize), "waiting for the stream went unnoticed");
    let allocates = |_: &Stream| device.zeros::<f32>(1 << 20).map(|_| ());
    assert!(captured_with(&capturing, &device, allocates), "an allocation went unnoticed");
    // The stream is as good as before.
    assert!(!captured_with(&capturing, &device, |_| Ok(())), "a call by itself, after captures that failed");
}

/// Rows of trees, in a format, at random.
fn logits<T: Score>(vocab: usize, rows: usize, seed: u64, number: impl Fn(f32) -> T) -> Vec<T> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut noise = || 3.0 * ((0..4).map(|_| rng.random::<f32>()).sum::<f32>() - 2.0);
    (0..rows * vocab).map(|_| number(rounded(T::FORMAT, noise()))).collect()
}

fn trees_replay<T: Score>(device: &Device, capturing: &Capturing, case: &trees::Case, number: impl Fn(f32) -> T) {
    let rounds = trees::rounds(case, 5, |row| row);
    let forest = Forest::new(rounds.iter().map(|(round, _)| round.tree()));
    let (vocab, pairs) = (case.vocab, forest.pairs());
    let mut rows = trees::upload(device, &forest, &rounds, vocab, &trees::Raw::new(), &number);
    for rule in trees::RULES {
        let place = format!("{rule:?}, {:?}, V = {vocab}, {} x {}", T::FORMAT, case.paths, case.length);
        let verifier = || TreeVerifier::new(device, rule, T::FORMAT, vocab).unwrap_or_else(|error| panic!("{error}"));
        let (captured, plain) = (verifier(), verifier());
        let room = || captured.outcomes(forest.trees(), pairs, forest.paths, forest.length).expect("memory");
        let (mut into, mut expected) = (room(), room());
        let submit = |rows: &trees::OnDevice<T>, verifier: &TreeVerifier, into: &mut _, stream: &Stream| {
            let trees = Trees {
                draft: Rows::new(&rows.draft, vocab, vocab),
                target: Rows::new(&rows.target, vocab, vocab),
                vocab,
                draft_rows: View::from(&rows.draft_rows),
                target_rows: View::from(&rows.target_rows),
                shaping: Shaping::default(),
                trees: forest.trees(),
                pairs,
                paths: forest.paths,
                length: forest.length,
                nodes: View::from(&rows.nodes),
                tokens: View::from(&rows.tokens),
                lengths: View::from(&rows.lengths),
                paths_of: View::from(&rows.paths_of),
                seeds: View::from(&rows.seeds),
                starts: View::from(&rows.starts),
            };
            verifier.verify(stream, &trees, into)
        };
        let mut submitted = Ok(());
        let graph = capturing.capture(|stream| submitted = submit(&rows, &captured, &mut into, stream));
        submitted.unwrap_or_else(|error| panic!("{place}: a call cannot be captured: {error}"));
        let graph = graph.unwrap_or_else(|error| panic!("{place}: the capture fails: {error}"));
        let mut outputs = Vec::new();
        for (step, which) in [0u64, 1, 1, 0].into_iter().enumerate() {
            rows.draft.write(&logits(vocab, pairs, 2 * which, &number)).expect("written");
            rows.target.write(&logits(vocab, pairs, 2 * which + 1, &number)).expect("written");
            rows.seeds.write(&(0..forest.trees() as u64).map(|i| 7 * i + which).collect::<Vec<_>>()).expect("written");
            capturing.replay(&graph);
            capturing.plain(|stream| {
                submit(&rows, &plain, &mut expected, stream).unwrap_or_else(|error| panic!("{place}: {error}"));
            });
            let read = |outcomes: &draftpick::gpu::Outcomes| {
                let [accepted, winners, output, flags] =
                    [&outcomes.accepted, &outcomes.winners, &outcomes.output, &outcomes.flags]
                        .map(|buffer| buffer.read().expect("read"));
                (accepted, winners, output, flags)
            };
            assert_eq!(read(&into), read(&expected), "{place}: replay {step}, inputs {which}");
            assert!(read(&into).3.iter().all(|flags| *flags == 0), "{place}: a tree is refused");
            outputs.push(read(&into).2);
        }
        assert_eq!(outputs[0], outputs[3], "{place}: the same inputs give other tokens");
        assert_ne!(outputs[0], outputs[1], "{place}: other inputs give the same tokens");
    }
}

#[test]
fn trees_replay_on_other_rows() {
    let Some(device) = device("graphs of trees") else { return };
    let capturing = Capturing::new(&device);
    for (vocab, trees, paths, length) in [(257, 12, 1, 5), (257, 12, 4, 4), (4_096, 6, 8, 3), (50_257, 4, 2, 3)] {
        let case = trees::Case { vocab, trees, paths, length, noise: 0.5 };
        trees_replay(&device, &capturing, &case, half::bf16::from_f32);
        trees_replay(&device, &capturing, &case, |x| x);
    }
}

#[test]
fn drafts_replay_on_other_rows_and_coins() {
    let Some(device) = device("graphs of drafts") else { return };
    let capturing = Capturing::new(&device);
    let (vocab, laws, each) = (4_096, 6, 3);
    let verifier = TreeVerifier::new(&device, trees::RULES[0], Format::F32, vocab).expect("compiles");
    let mut rows = upload(&device, &logits(vocab, laws, 1, |x| x));
    let mut coins = upload(&device, &vec![0.5f64; laws * each]);
    let order = upload(&device, &(0..laws as i32).rev().collect::<Vec<_>>());
    let first = upload(&device, &(0..=laws).map(|law| (law * each) as i32).collect::<Vec<_>>());
    let mut drawn = [0, 1].map(|_| verifier.drawn(laws, laws * each).expect("memory"));
    let submit = |rows: &Buffer<f32>, coins: &Buffer<f64>, into: &mut _, stream: &Stream| {
        let draws = Draws {
            logits: Rows::new(rows, vocab, vocab),
            vocab,
            laws,
            rows: View::from(&order),
            scale: None,
            least: None,
            tie: None,
            first: View::from(&first),
            coins: View::from(coins),
        };
        verifier.draw(stream, &draws, into)
    };
    let mut submitted = Ok(());
    let graph = capturing.capture(|stream| submitted = submit(&rows, &coins, &mut drawn[0], stream));
    submitted.unwrap_or_else(|error| panic!("a call cannot be captured: {error}"));
    let graph = graph.unwrap_or_else(|error| panic!("the capture fails: {error}"));
    let mut outputs = Vec::new();
    for which in [0u64, 1, 1, 0] {
        let mut rng = StdRng::seed_from_u64(which);
        rows.write(&logits(vocab, laws, 10 + which, |x| x)).expect("written");
        coins.write(&(0..laws * each).map(|_| rng.random()).collect::<Vec<f64>>()).expect("written");
        capturing.replay(&graph);
        capturing.plain(|stream| {
            submit(&rows, &coins, &mut drawn[1], stream).unwrap_or_else(|error| panic!("{error}"));
        });
        let [replayed, plain] = [0, 1].map(|i| drawn[i].tokens.read().expect("read"));
        assert_eq!(replayed, plain, "inputs {which}");
        outputs.push(replayed);
    }
    assert!(outputs[0] == outputs[3] && outputs[0] != outputs[1], "{outputs:?}");
}
