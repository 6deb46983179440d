//! The decoder against logits that another implementation recorded, and against itself: a tree, a batch and a rollback
//! change nothing.

use std::fs;
use std::path::{Path, PathBuf};

use draftpick::Token;
use draftpick::decode::candle::{
    CallError, ConfigError, DType, Device, Llama, LoadError, Resident, Tokenizer, TokenizerError, WeightsError,
    embedded, parse_device,
};
use draftpick::decode::{Extension, HostSampler, Model, Request, Settings, Speculative};
use serde_json::Value;

/// How far a logit may be from the recorded one: the order of the sums differs, and so does the exponential function.
const RECORDED: f64 = 2e-4;
/// How far two ways to the same logit may be apart on a GPU.
const SAME_ON_GPU: f64 = 1e-4;

/// Where the models run: on the CPU, or where `DRAFTPICK_TEST_DEVICE` says, in f32 there too.
fn device() -> Device {
    parse_device(std::env::var("DRAFTPICK_TEST_DEVICE").as_deref().unwrap_or("cpu")).unwrap()
}

fn data(name: &str) -> PathBuf {
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&root).join("tests/data").join(name)
}

fn json(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(data(name)).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn tokens(value: &Value) -> Vec<Token> {
    numbers(value).into_iter().map(|x| x as Token).collect()
}

/// A chain below `parent`, where `nodes` nodes are there already, the root among them.
fn chain(sequence: usize, parent: usize, nodes: usize, tokens: &[Token]) -> Vec<Extension> {
    let parents = std::iter::once(parent).chain(nodes..);
    parents.zip(tokens).map(|(parent, &token)| Extension { sequence, parent, token, scored: true }).collect()
}

/// The rows of a chain in a sequence of its own, which is forgotten after.
fn fresh(model: &mut Llama, tokens: &[Token]) -> Vec<Vec<f32>> {
    const UNUSED: usize = usize::MAX;
    let rows = model.extend(&chain(UNUSED, 0, 1, tokens)).unwrap();
    model.keep(UNUSED, None).unwrap();
    rows
}

/// The largest difference; a NaN on either side is one of ∞.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let difference = |(&a, &b): (&f32, &f32)| (f64::from(a) - f64::from(b)).abs();
    a.iter()
        .zip(b)
        .map(difference)
        .fold(0.0, |max, d| if d <= max { max } else { d.max(if d.is_nan() { f64::INFINITY } else { d }) })
}

/// Two ways to the same logits, which are to be the same in every bit on the CPU.
#[track_caller]
fn assert_same(a: &[Vec<f32>], b: &[Vec<f32>]) {
    assert_eq!(a.len(), b.len());
    for (row, (a, b)) in a.iter().zip(b).enumerate() {
        let near = a == b || (!device().is_cpu() && distance(a, b) < SAME_ON_GPU);
        assert!(near, "row {row} is off by {}", distance(a, b));
    }
}

fn sample(seed: u32, len: usize) -> Vec<Token> {
    (0..len as u32).map(|i| (seed * 977 + i * i * 31 + i * 7) % 4096).collect()
}

#[test]
fn the_embedded_pair_has_the_recorded_logits() {
    let mut pair = embedded(&device(), DType::F32).unwrap();
    let mut worst: f64 = 0.0;
    for record in json("tiny-pair.json").as_array().unwrap() {
        let prompt = pair.tokenizer.encode(record["prompt"].as_str().unwrap()).unwrap();
        assert_eq!(prompt, tokens(&record["tokens"]));
        for (name, model) in [("draft", &mut pair.draft), ("target", &mut pair.target)] {
            let rows = fresh(model, &prompt);
            for expected in record[name].as_array().unwrap() {
                let row = &rows[expected["position"].as_u64().unwrap() as usize];
                let logits = tokens(&expected["tokens"]).into_iter().map(|token| f64::from(row[token as usize]));
                let max = row.iter().copied().fold(f32::MIN, f32::max);
                let sum: f64 = row.iter().map(|&x| f64::from(x - max).exp()).sum();
                let found = logits.chain([f64::from(max) + sum.ln()]);
                let wanted = numbers(&expected["logits"]).into_iter().chain(expected["log_sum_exp"].as_f64());
                for (found, wanted) in found.zip(wanted) {
                    assert!((found - wanted).abs() <= RECORDED, "{name}: {found}, recorded {wanted}");
                    worst = worst.max((found - wanted).abs());
                }
            }
        }
    }
    println!("largest difference {worst:e}");
}

#[test]
fn other_architectures_have_the_recorded_logits() {
    let expected = json("variants.json");
    let tokens = tokens(&expected["tokens"]);
    for (name, wanted) in expected.as_object().unwrap() {
        if name == "tokens" || name == "positions" {
            continue;
        }
        let dir = data("variants").join(name);
        let mut model = Llama::load(&dir, &device(), DType::F32).unwrap();
        assert_eq!(model.end_of_text(), [2, 5], "{name}");
        let rows = fresh(&mut model, &tokens);
        let mut worst: f64 = 0.0;
        for (position, wanted) in numbers(&expected["positions"]).into_iter().zip(wanted.as_array().unwrap()) {
            let wanted: Vec<f32> = numbers(wanted).into_iter().map(|x| x as f32).collect();
            worst = worst.max(distance(&rows[position as usize], &wanted));
        }
        println!("{name}: largest difference {worst:e}");
        assert!(worst <= RECORDED, "{name} is off by {worst}");
    }
}

#[test]
fn a_node_attends_to_its_way_only() {
    let pair = embedded(&device(), DType::F32).unwrap();
    for mut model in [pair.draft, pair.target] {
        let prompt = sample(1, 30);
        model.extend(&chain(0, 0, 1, &prompt)).unwrap();
        model.keep(0, Some(30)).unwrap();
        // Four paths of five tokens, of which two and two share their first two.
        let paths: Vec<Vec<Token>> = (0..4).map(|k| [sample(7 + k / 2, 2), sample(20 + k, 3)].concat()).collect();
        let mut nodes = chain(0, 0, 1, &paths[0]);
        nodes.extend(chain(0, 2, 6, &paths[1][2..]));
        nodes.extend(chain(0, 0, 9, &paths[2]));
        nodes.extend(chain(0, 10, 14, &paths[3][2..]));
        let tree = model.extend(&nodes).unwrap();
        let rows_of = [[0, 1, 2, 3, 4], [0, 1, 5, 6, 7], [8, 9, 10, 11, 12], [8, 9, 13, 14, 15]];
        for (path, rows) in paths.iter().zip(rows_of) {
            let alone = fresh(&mut model, &[prompt.clone(), path.clone()].concat());
            let in_tree: Vec<_> = rows.iter().map(|&row| tree[row].clone()).collect();
            assert_same(&in_tree, &alone[30..]);
        }
        // Paths that differ have rows that differ: nothing above compares a row with itself.
        assert!(distance(&tree[4], &tree[7]) > 0.1);
    }
}

#[test]
fn what_is_kept_goes_on_as_if_it_had_always_been_there() {
    let mut model = embedded(&device(), DType::F32).unwrap().target;
    let prompt = sample(3, 20);
    model.extend(&chain(4, 0, 1, &prompt)).unwrap();
    model.keep(4, Some(20)).unwrap();
    let mut text = prompt;
    // Long enough for the cache to grow several times.
    for round in 0..60 {
        let (first, second) = (sample(100 + round, 4), sample(500 + round, 4));
        let mut nodes = chain(4, 0, 1, &first);
        nodes.extend(chain(4, 1, 5, &second));
        model.extend(&nodes).unwrap();
        // In two calls the tree is the same.
        model.extend(&chain(4, 8, 9, &[9])).unwrap();
        match round % 4 {
            0 => {
                model.keep(4, Some(3)).unwrap();
                text.extend(&first[..3]);
            }
            1 => {
                model.keep(4, Some(9)).unwrap();
                text.push(first[0]);
                text.extend(&second);
                text.push(9);
            }
            2 => model.keep(4, Some(0)).unwrap(),
            _ => {
                model.keep(4, Some(6)).unwrap();
                text.push(first[0]);
                text.extend(&second[..2]);
            }
        }
        if round % 10 == 9 {
            let after = sample(round, 3);
            let rows = model.extend(&chain(4, 0, 1, &after)).unwrap();
            model.keep(4, Some(0)).unwrap();
            let alone = fresh(&mut model, &[text.clone(), after].concat());
            assert_same(&rows, &alone[text.len()..]);
        }
    }
    assert!(text.len() > 150);
    model.keep(4, None).unwrap();
    assert_same(&model.extend(&chain(4, 0, 1, &text[..5])).unwrap(), &fresh(&mut model, &text[..5]));
}

#[test]
fn a_long_prompt_is_cut_into_blocks() {
    let mut model = embedded(&device(), DType::F32).unwrap().draft;
    let text = sample(5, 600);
    let at_once = fresh(&mut model, &text);
    let mut in_pieces = Vec::new();
    for (piece, tokens) in text.chunks(100).enumerate() {
        in_pieces.extend(model.extend(&chain(0, 0, 1, tokens)).unwrap());
        model.keep(0, Some(100)).unwrap_or_else(|error| panic!("piece {piece}: {error}"));
    }
    assert_same(&at_once, &in_pieces);
}

#[test]
fn sequences_in_a_batch_do_not_meet() {
    let mut model = embedded(&device(), DType::F32).unwrap().target;
    let texts = [sample(1, 12), sample(2, 1), sample(3, 40)];
    let mut nodes: Vec<Extension> = Vec::new();
    // Interleaved, and only every second one scored.
    for step in 0..40 {
        for (sequence, text) in texts.iter().enumerate() {
            let Some(&token) = text.get(step) else { continue };
            nodes.push(Extension { sequence, parent: step, token, scored: step % 2 == 0 });
        }
    }
    let mut rows = model.extend(&nodes).unwrap().into_iter();
    let alone: Vec<_> = texts.iter().map(|text| fresh(&mut model, text)).collect();
    for node in nodes.iter().filter(|node| node.scored) {
        assert_same(&[rows.next().unwrap()], &[alone[node.sequence][node.parent].clone()]);
    }
    assert!(rows.next().is_none());
    assert!(model.extend(&[]).unwrap().is_empty());
}

#[test]
fn a_call_that_fails_changes_nothing() {
    let mut model = embedded(&device(), DType::F32).unwrap().draft;
    let text = sample(8, 6);
    model.extend(&chain(0, 0, 1, &text[..4])).unwrap();
    let at = |parent, token| Extension { sequence: 0, parent, token, scored: true };

    let error = model.extend(&[at(4, 1), at(6, 1)]).unwrap_err();
    assert!(matches!(error, CallError::Parent { index: 1, sequence: 0, parent: 6, nodes: 6 }));
    assert_eq!(error.to_string(), "extension 1: sequence 0 has nodes 0 to 5, not 6");
    let error = model.extend(&[at(4, 1), at(5, 4096)]).unwrap_err();
    assert!(matches!(error, CallError::Token { index: 1, token: 4096, vocab: 4096 }));
    let long = chain(0, 4, 5, &sample(1, 1021));
    let error = model.extend(&long).unwrap_err();
    assert!(matches!(error, CallError::Context { index: 1020, length: 1025, context: 1024, .. }));
    assert!(matches!(model.keep(0, Some(5)), Err(CallError::Node { sequence: 0, node: 5, nodes: 5 })));
    assert!(matches!(model.keep(9, Some(1)), Err(CallError::Node { sequence: 9, node: 1, nodes: 1 })));
    model.keep(9, Some(0)).unwrap();
    model.keep(9, None).unwrap();

    let rows = model.extend(&chain(0, 4, 5, &text[4..])).unwrap();
    assert_same(&rows, &fresh(&mut model, &text)[4..]);
    // A context that is exactly full is allowed.
    model.keep(0, None).unwrap();
    assert_eq!(model.extend(&chain(0, 0, 1, &sample(2, 1024))).unwrap().len(), 1024);
    assert!(matches!(model.extend(&[at(1024, 0)]), Err(CallError::Context { length: 1025, .. })));
}

/// A copy of a recorded checkpoint to damage.
struct Copy(PathBuf);

impl Copy {
    fn of(variant: &str, test: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("draftpick-{}-{test}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        for entry in fs::read_dir(data("variants").join(variant)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
        }
        Copy(dir)
    }

    fn load(&self) -> Result<Llama, LoadError> {
        Llama::load(&self.0, &Device::Cpu, None)
    }

    fn set(&self, file: &str, field: &str, value: Value) {
        let path = self.0.join(file);
        let mut json: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        json[field] = value;
        fs::write(path, json.to_string()).unwrap();
    }

    /// The error of loading.
    fn refused(&self) -> LoadError {
        match self.load() {
            Ok(_) => panic!("a damaged checkpoint was loaded"),
            Err(error) => error,
        }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn a_file_that_is_cut_off_is_refused() {
    let copy = Copy::of("qwen2", "cut");
    let path = copy.0.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    for len in (0..64).chain((64..bytes.len()).step_by(97)).chain([bytes.len() - 1]) {
        fs::write(&path, &bytes[..len]).unwrap();
        let error = copy.refused();
        assert!(matches!(error, LoadError::Weights(WeightsError::Truncated { .. })), "{len} bytes: {error}");
        assert!(error.to_string().contains("model.safetensors"), "{error}");
    }
    fs::write(&path, [bytes.as_slice(), &[0]].concat()).unwrap();
    assert!(matches!(copy.refused(), LoadError::Weights(WeightsError::Truncated { .. })));
    // A byte of the header turned: an error of some kind, or still a valid header; never a panic.
    for at in 0..bytes.len().min(2000) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&path, bytes).unwrap();
        let _ = copy.load();
    }
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let copy = Copy::of("biased", "fit");
    copy.set("config.json", "intermediate_size", 20.into());
    assert_eq!(
        copy.refused().to_string(),
        "model.layers.0.mlp.gate_proj.weight has shape [24, 16], the configuration asks for [20, 16]"
    );
    copy.set("config.json", "intermediate_size", 24.into());
    copy.set("config.json", "num_hidden_layers", 3.into());
    let error = copy.refused();
    assert!(
        matches!(&error, LoadError::Weights(WeightsError::Missing { tensor, .. })
            if tensor == "model.layers.2.input_layernorm.weight"),
        "{error}"
    );
    copy.set("config.json", "num_hidden_layers", 1.into());
    let error = copy.refused();
    assert!(matches!(&error, LoadError::Weights(WeightsError::Unused { tensor }) if tensor.contains("layers.1")));
    copy.set("config.json", "num_hidden_layers", 2.into());
    // Biases that the configuration does not speak of are no reason to compute without them.
    copy.set("config.json", "mlp_bias", false.into());
    let error = copy.refused();
    assert!(matches!(&error, LoadError::Weights(WeightsError::Unused { tensor }) if tensor.ends_with("_proj.bias")));
    copy.set("config.json", "mlp_bias", true.into());
    copy.load().unwrap();

    copy.set("config.json", "hidden_act", "gelu".into());
    let error = copy.refused();
    assert!(matches!(error, LoadError::Config(ConfigError::Unsupported { field: "hidden_act", .. })));
    assert_eq!(error.to_string(), "config.json: hidden_act = \"gelu\" is not supported, only silu");
    fs::remove_file(copy.0.join("config.json")).unwrap();
    assert!(matches!(copy.refused(), LoadError::Io { path, .. } if path.ends_with("config.json")));
}

#[test]
fn an_index_that_leads_nowhere_is_refused() {
    let copy = Copy::of("grouped-sharded", "index");
    const INDEX: &str = "model.safetensors.index.json";
    let index: Value = serde_json::from_str(&fs::read_to_string(copy.0.join(INDEX)).unwrap()).unwrap();
    let change = |tensor: &str, file: &str| {
        let mut map = index["weight_map"].clone();
        map[tensor] = file.into();
        copy.set(INDEX, "weight_map", map);
    };
    change("lm_head.weight", "../other.safetensors");
    assert!(
        matches!(copy.refused(), LoadError::Weights(WeightsError::ShardName { file, .. }) if file.starts_with(".."))
    );
    change("lm_head.weight", "other.safetensors");
    assert!(
        matches!(copy.refused(), LoadError::Weights(WeightsError::Io { path, .. }) if path.ends_with("other.safetensors"))
    );
    change("lm_head.bias", "model-00001-of-00006.safetensors");
    assert!(
        matches!(copy.refused(), LoadError::Weights(WeightsError::Missing { tensor, .. }) if tensor == "lm_head.bias")
    );
    copy.set(INDEX, "weight_map", 7.into());
    assert!(matches!(copy.refused(), LoadError::Weights(WeightsError::Index { .. })));
    copy.set(INDEX, "weight_map", index["weight_map"].clone());
    copy.load().unwrap();
    fs::remove_file(copy.0.join(INDEX)).unwrap();
    assert!(
        matches!(copy.refused(), LoadError::Weights(WeightsError::Io { path, .. }) if path.ends_with("model.safetensors"))
    );
}

#[test]
fn a_type_the_cpu_cannot_compute_in_is_refused() {
    let error = embedded(&Device::Cpu, DType::BF16).err().unwrap();
    assert_eq!(error.to_string(), "cannot compute in BF16 on the CPU, only in f32");
}

#[test]
fn text_comes_in_whole_characters() {
    let tokenizer = embedded(&Device::Cpu, None).unwrap().tokenizer;
    assert_eq!(tokenizer.vocab(), 4096);
    let text = "naïve — 日本語 🦀🦀 \u{fffd} and then some more words, so that the window moves on: ".repeat(5) + "é";
    let tokens = tokenizer.encode(&text).unwrap();
    let mut stream = tokenizer.stream();
    let mut streamed = String::new();
    for &token in &tokens {
        streamed += &stream.push(token).unwrap();
        assert!(text.starts_with(&streamed));
    }
    streamed += &stream.finish().unwrap();
    assert_eq!(streamed, text);
    assert_eq!(tokenizer.decode(&tokens).unwrap(), text);

    // Any tokens at all: what the stream prints is what decoding at once gives.
    for seed in 0..200 {
        let tokens: Vec<Token> =
            sample(seed, 60).iter().map(|token| if seed % 2 == 0 { token % 300 } else { *token }).collect();
        let mut stream = tokenizer.stream();
        let mut streamed = String::new();
        for &token in &tokens {
            streamed += &stream.push(token).unwrap();
        }
        streamed += &stream.finish().unwrap();
        assert_eq!(streamed, tokenizer.decode(&tokens).unwrap(), "seed {seed}");
    }
}

#[test]
fn tokenizers_that_differ_are_told_apart() {
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tiny-pair/tokenizer.json")).unwrap();
    let ours = Tokenizer::from_bytes(text.as_bytes()).unwrap();
    ours.check_same(&embedded(&Device::Cpu, None).unwrap().tokenizer).unwrap();

    let changed = |change: &dyn Fn(&mut Value)| {
        let mut json: Value = serde_json::from_str(&text).unwrap();
        change(&mut json);
        ours.check_same(&Tokenizer::from_bytes(json.to_string().as_bytes()).unwrap()).unwrap_err()
    };
    let error = changed(&|json| json["model"]["merges"].as_array_mut().unwrap().swap(0, 1));
    assert!(matches!(error, TokenizerError::Rules { part: "merges" }), "{error}");
    let error = changed(&|json| json["pre_tokenizer"]["add_prefix_space"] = true.into());
    assert!(matches!(error, TokenizerError::Rules { part: "pre-tokenizer" }), "{error}");
    let error = changed(&|json| json["added_tokens"][0]["content"] = "<|end|>".into());
    assert!(matches!(error, TokenizerError::Vocabulary { .. }), "{error}");
    assert!(matches!(Tokenizer::from_bytes(b"{}"), Err(TokenizerError::Format(_))));
    assert!(matches!(Tokenizer::load("/nowhere"), Err(TokenizerError::Io { .. })));
}

/// Rows that stay with the model and are copied for the sampler alone: the same texts.
#[test]
fn rows_left_on_the_device_give_the_same_text() {
    let settings = Settings { stop: vec![0], ..Settings::default() };
    let prompt = vec![5, 700, 31];
    let text = |seed| Request { prompt: prompt.clone(), seed, limit: 24, ..Request::default() };
    let pair = embedded(&device(), DType::F32).unwrap();
    let mut host = Speculative::new(pair.draft, pair.target, settings.clone()).unwrap();
    let pair = embedded(&device(), DType::F32).unwrap();
    let (draft, target) = (Resident(pair.draft), Resident(pair.target));
    let mut resident = Speculative::with_sampler(draft, target, settings, HostSampler).unwrap();
    for seed in 0..3 {
        let one: Result<Vec<Token>, _> = host.tokens(text(seed)).unwrap().collect();
        let other: Result<Vec<Token>, _> = resident.tokens(text(seed)).unwrap().collect();
        assert_eq!(one.unwrap(), other.unwrap());
    }
}

/// On a GPU: from the same rows and coins the kernels draw and decide as the host does. A coin would have to lie within the
/// rounding of f32 logits of the edge between two tokens for a text to differ.
#[cfg(feature = "candle-cuda")]
#[test]
fn the_gpu_draws_and_verifies_as_the_host_does() {
    use draftpick::decode::candle::CudaSampler;
    use draftpick::decode::{GenerateError, Sampler};

    type Failure = GenerateError<CallError, CallError>;

    fn texts<S: Sampler<draftpick::decode::candle::DeviceRow>>(
        settings: &Settings,
        sampler: S,
        seed: u64,
    ) -> Result<Vec<Vec<Token>>, Failure> {
        let pair = embedded(&device(), DType::F32).unwrap();
        let models = (Resident(pair.draft), Resident(pair.target));
        let mut engine = Speculative::with_sampler(models.0, models.1, settings.clone(), sampler)?;
        let mut texts = vec![Vec::new(); 6];
        for request in 0..6 {
            engine.add(Request {
                prompt: vec![5, 700, 31 + request as Token],
                seed: seed + request,
                limit: 30,
                ..Request::default()
            })?;
        }
        while !engine.is_idle() {
            engine.round()?.into_iter().for_each(|progress| texts[progress.request].extend(progress.tokens));
        }
        Ok(texts)
    }

    if device().is_cpu() {
        eprintln!("skipped: DRAFTPICK_TEST_DEVICE names no GPU");
        return;
    }
    for (verifier, paths, length) in [
        ("path", 1, 0),
        ("maximal", 1, 5),
        ("block", 1, 5),
        ("kseq", 4, 5),
        ("optimal-linear", 4, 5),
        ("traversal", 4, 5),
        ("path", 4, 5),
        ("path", 8, 8),
        ("spread", 4, 5),
        ("spread", 8, 8),
    ] {
        // The host takes a row less its largest logit before it divides by a temperature, the GPU does not: the couplings over
        // ratio classes then have other edges, and make other texts of the same law.
        let by_class = paths > 1 && ["path", "spread", "optimal-linear"].contains(&verifier);
        let temperatures: &[(f64, f64)] = if by_class { &[(1.0, 1.0)] } else { &[(1.0, 1.2), (0.8, 1.2)] };
        for &(temperature, of_drafts) in temperatures {
            let sampling = draftpick::Sampling { temperature, ..Default::default() };
            let draft_sampling = draftpick::Sampling { temperature: of_drafts, ..Default::default() };
            let verifier = verifier.parse().unwrap();
            assert_eq!(CudaSampler::is_on_device(verifier), !verifier.to_string().contains("traversal"));
            let stop = vec![0];
            let settings = Settings { paths, length, verifier, sampling, draft_sampling, stop, ..Settings::default() };
            let host = texts(&settings, HostSampler, 1).unwrap();
            let gpu = texts(&settings, CudaSampler::new(&device()).unwrap(), 1).unwrap();
            // Which edges of the ratio classes are kept hangs on sums that f32 rounds: now and then a round is another.
            let differ = host.iter().zip(&gpu).filter(|(host, gpu)| host != gpu).count();
            eprintln!("{verifier}, K {paths}, L {length}, temperature {temperature}: {differ} of 6 texts differ");
            assert!(differ <= usize::from(by_class), "{host:?}, not {gpu:?}");
            assert_ne!(host, texts(&settings, HostSampler, 100).unwrap());
        }
        // Filters, of both models, whose thresholds the device finds: the same tokens are left. The host then takes rows less their
        // largest logit, so that the couplings over ratio classes make other texts here too.
        for (top_k, top_p, min_p) in
            [(Some(20), None, None), (None, Some(0.9), None), (Some(200), Some(0.8), Some(0.02))]
        {
            let sampling = draftpick::Sampling { temperature: 1.0, top_k, top_p, min_p };
            let draft_sampling = draftpick::Sampling { top_k: None, ..sampling };
            let verifier = verifier.parse().unwrap();
            let settings = Settings { paths, length, verifier, sampling, draft_sampling, ..Settings::default() };
            let host = texts(&settings, HostSampler, 1).unwrap();
            let gpu = texts(&settings, CudaSampler::new(&device()).unwrap(), 1).unwrap();
            let differ = host.iter().zip(&gpu).filter(|(host, gpu)| host != gpu).count();
            eprintln!("{verifier}, K {paths}, L {length}, {sampling:?}: {differ} of 6 texts differ");
            assert!(by_class || differ == 0, "{sampling:?}: {host:?}, not {gpu:?}");
            assert!(gpu.iter().all(|text| !text.is_empty()), "{gpu:?}");
        }
    }
    let wrong = draftpick::Sampling { top_p: Some(1.5), ..Default::default() };
    let settings = Settings { sampling: wrong, ..Settings::default() };
    let error = texts(&settings, CudaSampler::new(&device()).unwrap(), 1).unwrap_err();
    assert!(error.to_string().contains("top_p is 1.5"), "{error}");
}
