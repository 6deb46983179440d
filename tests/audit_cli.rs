//! `draftpick audit` as a user meets it.

#![cfg(feature = "cli")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_draftpick")).arg("audit").args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A place for a log that is not there yet.
fn fresh(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_file(&path);
    path
}

/// Bad input: exit code 2, nothing on standard output, one line on standard error with each of `words`.
#[track_caller]
fn bad(args: &[&str], words: &[&str]) {
    let (code, stdout, stderr) = run(args);
    assert_eq!((code, &*stdout), (Some(2), ""), "{args:?}: {stderr}");
    assert!(stderr.ends_with('\n') && stderr.lines().count() == 1, "{args:?}: {stderr:?}");
    words.iter().for_each(|word| assert!(stderr.contains(word), "{stderr:?} does not name {word:?}"));
}

#[test]
fn an_honest_log_passes() {
    let (log, plot) = (fresh("honest.jsonl"), fresh("honest.svg"));
    let (log, plot) = (log.to_str().unwrap(), plot.to_str().unwrap());
    let (code, text, stderr) = run(&[log, "--simulate", "kseq", "-K", "3", "-n", "300", "--plot", plot]);
    assert_eq!((code, &*stderr), (Some(0), ""));
    for word in ["output", "drafts", "rule", "holds", "Acceptance", "optimum", "off by 1 %"] {
        assert!(text.contains(word), "{text}");
    }
    let drawn = fs::read_to_string(plot).unwrap();
    for word in ["output", "drafts", "rule", "refused", "log10 e", "tokens output", "honest.jsonl"] {
        assert!(drawn.contains(word), "no {word} in the plot");
    }
    // The log again, now without the rule that it names; then with another one.
    let (code, json, _) = run(&[log, "--format", "json", "--rule", "none"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, json["rounds"].as_u64(), json["vocab"].as_u64()), (Some(0), Some(300), Some(4096)));
    assert_eq!((json["lossless"].as_bool(), json["tests"].as_array().unwrap().len()), (Some(true), 2));
    assert_eq!(json["acceptance"][0]["k"], 3);
    let value = |name: &str| {
        let rules = json["acceptance"][0]["rules"].as_array().unwrap();
        let rule = rules.iter().find(|rule| rule["rule"] == name).unwrap();
        rule["acceptance"][0]["mean"].as_f64().unwrap()
    };
    let optimum = json["acceptance"][0]["optimum"][0]["mean"].as_f64().unwrap();
    assert!(value("rrs") < value("kseq") && value("kseq") < optimum && optimum < 1.0);
    let (code, _, stderr) = run(&[log, "--rule", "optimal-linear"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("not lossless") && stderr.contains("the rule gives it"), "{stderr}");
    bad(&[log, "--rule", "block"], &["line 2", "block takes one path, not 3"]);
    bad(&[log, "--simulate", "kseq"], &["is there already"]);
}

#[test]
fn a_mistake_is_found_and_standard_input_is_read() {
    let log = fresh("mistake.jsonl");
    let log = log.to_str().unwrap();
    let (code, text, stderr) = run(&[log, "--mistake", "bonus-row", "-L", "2", "-n", "300", "--log-top", "100"]);
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(stderr.lines().count(), 1);
    assert!(stderr.starts_with("draftpick: check failed: not lossless: it does not hold that each token"), "{stderr}");
    assert!(text.contains("the bonus token is from the wrong row"), "{text}");
    let mut child = Command::new(env!("CARGO_BIN_EXE_draftpick"))
        .args(["audit", "-", "--format", "json"])
        .stdin(fs::File::open(log).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut json = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut json).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["lossless"].as_bool(), Some(false));
    assert!(json["tests"][0]["rejected_after"].as_u64().unwrap() < 400);
    // The tails are not logged: the optimum is known within bounds.
    let optimum = |i: usize| json["acceptance"][0]["optimum"][i]["mean"].as_f64().unwrap();
    assert!(optimum(0) < optimum(1));
}

#[test]
fn tokens_that_cannot_be_are_named_by_line() {
    let log = fresh("impossible.jsonl");
    let lines = [
        r#"{"format":"draftpick-log","version":1,"vocab":3}"#,
        r#"{"drafts":[1],"draft":[0,0,0],"target":[0,0,null],"output":[1]}"#,
        r#"{"drafts":[2],"draft":[0,0,null],"target":[0,0,null],"output":[2]}"#,
    ];
    fs::write(&log, lines.join("\n")).unwrap();
    let (code, text, _) = run(&[log.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(text.contains("line 3: output[0] is token 2, which has target probability 0"), "{text}");
    assert!(text.contains("line 3: drafts[0][0] is token 2, which has draft probability 0"), "{text}");
}

#[test]
fn bad_input_is_refused() {
    bad(&["no-such-log"], &["cannot read 'no-such-log'"]);
    let log = fresh("bad.jsonl");
    let name = log.to_str().unwrap();
    fs::write(&log, "").unwrap();
    bad(&[name], &["bad.jsonl", "line 1", "no header"]);
    let header = "{\"format\":\"draftpick-log\",\"version\":1,\"vocab\":3}\n";
    fs::write(&log, header).unwrap();
    bad(&[name], &["no rounds"]);
    // The first wrong line is the one named, whichever thread finds it.
    let good = "{\"drafts\":[],\"target\":[0,0,0],\"output\":[1]}\n";
    let lines = [header, &good.repeat(40), "{\"drafts\":[],\"target\":[0,0],\"output\":[1]}\n", &good.repeat(5), "x\n"];
    fs::write(&log, lines.concat()).unwrap();
    let plot = fresh("bad.svg");
    bad(&[name, "--plot", plot.to_str().unwrap()], &["line 42: target: 2 numbers; the vocabulary has 3"]);
    assert!(!plot.exists());
    bad(&[name, "--level", "0"], &["--level", "0"]);
    bad(&[name, "--accuracy", "NaN"], &["--accuracy", "NaN"]);
    bad(&[name, "--rule", "best"], &["--rule", "best", "kseq"]);
    bad(&[name, "--plot", "plot.pdf"], &["plot.pdf"]);
    bad(&[name, "--trace", "x"], &["--trace", "--simulate"]);
    let absent = fresh("absent.jsonl");
    let absent = absent.to_str().unwrap();
    bad(&[absent, "--mistake", "lax-coin=0"], &["--mistake", "0 bits"]);
    bad(&[absent, "--mistake", "slow"], &["--mistake", "residual"]);
    bad(&[absent, "--simulate", "kseq", "--trace", "no-such-trace"], &["no-such-trace"]);
    bad(&[absent, "--simulate", "block", "-K", "2"], &["block takes one path"]);
    bad(&[absent, "--simulate", "kseq", "-K", "0"], &["0 paths"]);
    assert!(!fs::exists(absent).unwrap());
}
