//! `draftpick generate` as a user meets it: with the pair that comes along, with checkpoints from folders that differ in
//! what pairs may differ in, and with pairs that do not fit.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use draftpick::decode::candle::{Device, Llama};
use draftpick::decode::{Extension, Model};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde_json::Value;

const PROMPT: &str = "Returns the number of bytes that";

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_draftpick")).arg("generate").args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[track_caller]
fn good(args: &[&str]) -> String {
    let (code, stdout, stderr) = run(args);
    assert_eq!((code, &*stderr), (Some(0), ""), "{args:?}");
    stdout
}

#[track_caller]
fn bad(args: &[&str], words: &[&str]) {
    let (code, stdout, stderr) = run(args);
    assert_eq!((code, &*stdout), (Some(2), ""), "{args:?}: {stderr}");
    words.iter().for_each(|word| assert!(stderr.contains(word), "{stderr:?} does not name {word:?}"));
}

/// A text of the embedded pair, or of the checkpoints in two folders.
fn text(folders: &[&str]) -> String {
    let settings = ["--prompt", PROMPT, "-n", "24", "-K", "3", "-L", "3", "--seed", "5", "--text-only"];
    good(&[folders, &settings].concat())
}

/// The two models of the embedded pair in folders of their own, each with the tokenizer.
struct Folders(PathBuf);

impl Folders {
    fn new(test: &str) -> Self {
        let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("generate-{test}"));
        let _ = fs::remove_dir_all(&root);
        let pair = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tiny-pair");
        for model in ["target", "draft"] {
            fs::create_dir_all(root.join(model)).unwrap();
            for file in ["config.json", "generation_config.json", "model.safetensors"] {
                fs::copy(pair.join(model).join(file), root.join(model).join(file)).unwrap();
            }
            fs::copy(pair.join("tokenizer.json"), root.join(model).join("tokenizer.json")).unwrap();
        }
        Folders(root)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().into()
    }

    fn text(&self) -> String {
        text(&["--target", &self.path("target"), "--draft", &self.path("draft")])
    }

    #[track_caller]
    fn refused(&self, words: &[&str]) {
        bad(&["--target", &self.path("target"), "--draft", &self.path("draft"), "-n", "4"], words);
    }

    fn change(&self, file: &str, change: impl FnOnce(&mut Value)) {
        let path = self.0.join(file);
        let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut json);
        fs::write(path, json.to_string()).unwrap();
    }

    /// Rewrites each tensor of a model: its name, type, shape and bytes.
    fn rewrite(&self, model: &str, change: impl Fn(&str, &mut Dtype, &mut Vec<usize>, &mut Vec<u8>)) {
        let path = self.0.join(model).join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let changed: Vec<_> = tensors
            .tensors()
            .into_iter()
            .map(|(name, view)| {
                let (mut dtype, mut shape, mut data) = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
                change(&name, &mut dtype, &mut shape, &mut data);
                (name, dtype, shape, data)
            })
            .collect();
        let views: HashMap<&str, TensorView> = changed
            .iter()
            .map(|(name, dtype, shape, data)| (&**name, TensorView::new(*dtype, shape.clone(), data).unwrap()))
            .collect();
        fs::write(path, serialize(views, None).unwrap()).unwrap();
    }

    /// Adds rows to a model's vocabulary that its tokenizer has no tokens for, and that the model likes best.
    fn pad(&self, model: &str, rows: usize) {
        self.rewrite(model, |name, _, shape, data| {
            if name == "model.embed_tokens.weight" {
                // The head is tied to the embedding: four times a token's row gets four times its logit.
                let width = 2 * shape[1];
                let quadrupled = data[256 * width..(256 + rows) * width].chunks_exact(2).flat_map(|bf16| {
                    let wide = f32::from_bits(u32::from(u16::from_le_bytes([bf16[0], bf16[1]])) << 16);
                    (((wide * 4.0).to_bits() >> 16) as u16).to_le_bytes()
                });
                let quadrupled: Vec<u8> = quadrupled.collect();
                data.extend(quadrupled);
                shape[0] += rows;
            }
        });
        self.change(&format!("{model}/config.json"), |config| config["vocab_size"] = (4096 + rows).into());
        let mut model = Llama::load(self.0.join(model), &Device::Cpu, None).unwrap();
        let row = model.extend(&[Extension { sequence: 0, parent: 0, token: 300, scored: true }]).unwrap().remove(0);
        let likeliest = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
        assert!(row.len() == 4096 + rows && likeliest >= Some(4096), "the padding is not even wanted: {likeliest:?}");
    }
}

#[test]
fn the_pair_that_comes_along_writes_and_is_measured() {
    let args = ["--prompt", PROMPT, "-n", "16", "-K", "2", "-L", "3", "--seed", "4", "--format", "json"];
    let report: Value = serde_json::from_str(&good(&args)).unwrap();
    let again: Value = serde_json::from_str(&good(&args)).unwrap();
    assert_eq!(report["text"], again["text"]);
    assert!(report["text"].as_str().unwrap().len() > 16);
    let results = report["results"].as_array().unwrap();
    let of = |name: &str| results.iter().find(|line| line["verifier"] == name).unwrap();
    assert_eq!(of("plain")["block_efficiency"], 1.0);
    for name in ["block", "token:kseq", "traversal", "path"] {
        let efficiency = of(name)["block_efficiency"].as_f64().unwrap();
        assert!((1.0..=4.0).contains(&efficiency), "{name}: {efficiency}");
    }
    let other = [&args[..9], &["5"], &args[10..]].concat();
    assert_ne!(report["text"], serde_json::from_str::<Value>(&good(&other)).unwrap()["text"]);
}

#[test]
fn many_prompts_are_decoded_in_every_way() {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("prompts.txt");
    fs::write(&file, "The iterator returns\nA closure is\n\n").unwrap();
    let args = ["--bench", file.to_str().unwrap(), "-n", "8", "-K", "2", "-L", "2", "--format", "json"];
    let report: Value = serde_json::from_str(&good(&args)).unwrap();
    assert_eq!(report["prompts"], 2);
    let paired = report["same_drafts"].as_array().unwrap();
    assert!(paired.iter().any(|line| line["verifier"] == "traversal" && line["over_traversal"] == 1.0));
    fs::write(&file, "\n").unwrap();
    bad(&["--bench", file.to_str().unwrap()], &["there is no prompt"]);
}

#[test]
fn checkpoints_may_differ_in_type_and_padding() {
    let folders = Folders::new("padding");
    let plain = text(&[]);
    assert_eq!(folders.text(), plain);
    // The same numbers in f32: the same text.
    folders.rewrite("draft", |_, dtype, _, data| {
        assert_eq!(*dtype, Dtype::BF16);
        *dtype = Dtype::F32;
        *data = data.chunks_exact(2).flat_map(|bf16| [0, 0, bf16[0], bf16[1]]).collect();
    });
    assert_eq!(folders.text(), plain);
    // Padded on both sides, each in its own way: nothing of it is ever drafted or written.
    let folders = Folders::new("both-padded");
    folders.pad("draft", 64);
    assert_eq!(folders.text(), plain);
    folders.pad("target", 192);
    assert_eq!(folders.text(), plain);
}

#[test]
fn pairs_that_do_not_fit_are_refused() {
    let folders = Folders::new("refused");
    let swapped = |json: &mut Value| json["model"]["merges"].as_array_mut().unwrap().swap(3, 4);
    folders.change("draft/tokenizer.json", swapped);
    folders.refused(&["the two models' tokenizers", "merges"]);
    folders.change("target/tokenizer.json", swapped);
    folders.change("draft/tokenizer.json", |json| json["added_tokens"][0]["content"] = "<other>".into());
    folders.refused(&["the two models' tokenizers", "token 4096"]);
    fs::remove_file(folders.0.join("draft/tokenizer.json")).unwrap();
    folders.refused(&["tokenizer of", "draft", "tokenizer.json"]);

    let folders = Folders::new("cut");
    let weights = folders.0.join("target/model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    folders.refused(&["target model", "cut off"]);
    bad(&["--target", &folders.path("target")], &["--draft"]);
    bad(&["-n", "0"], &["0 tokens"]);
    bad(&["-K", "0"], &["paths is 0"]);
    bad(&["--device", "cuda:0x"], &["--device", "unknown device"]);
    bad(&["--temperature", "nan", "--text-only"], &["temperature"]);
}

/// What the loop logs is honest, and the rule is named where a log can be held to it.
#[test]
fn what_is_logged_passes_the_audit() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("generate-log");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    for (verifier, paths, rule) in [
        ("path", "3", None),
        ("optimal", "3", None),
        ("kseq", "3", Some("token:kseq")),
        ("traversal", "3", Some("traversal")),
        ("block", "1", Some("block")),
    ] {
        let log = folder.join(format!("{verifier}.jsonl"));
        let log = log.to_str().unwrap();
        let drafts = ["--verifier", verifier, "-K", paths, "-L", "3", "--draft-temperature", "1.2"];
        good(&[&["--prompt", PROMPT, "-n", "60", "--seed", "4", "--log", log], &drafts[..]].concat());
        let audit =
            Command::new(env!("CARGO_BIN_EXE_draftpick")).args(["audit", log, "--format", "json"]).output().unwrap();
        assert_eq!(audit.status.code(), Some(0), "{verifier}: {}", String::from_utf8_lossy(&audit.stderr));
        let figures: Value = serde_json::from_slice(&audit.stdout).unwrap();
        assert_eq!((&figures["lossless"], figures["rule"].as_str()), (&Value::Bool(true), rule));
        assert!(figures["tokens"].as_u64().unwrap() > 20 && figures["rounds"].as_u64().unwrap() > 5, "{figures}");
        // One there is left alone.
        bad(&["--prompt", PROMPT, "-n", "4", "--log", log], &["--log", "cannot make"]);
    }
    // What is refused leaves none behind.
    let log = folder.join("refused.jsonl");
    bad(&["-K", "0", "--log", log.to_str().unwrap()], &["paths is 0"]);
    assert!(!log.exists());
}
