//! The command line, as a user meets it: exit codes, machine formats, and every kind of bad input.

#![cfg(feature = "cli")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use draftpick::bound::alpha_star;
use draftpick::trace::{Precision, Trace, Values};
use draftpick::{Pmf, Problem, Rule};
use serde_json::Value;

const DRAFT: &str = "0.5,0.3,0.2";
const TARGET: &str = "0.2,0.3,0.5";

fn draftpick() -> Command {
    Command::new(env!("CARGO_BIN_EXE_draftpick"))
}

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let output = draftpick().args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The standard output of a run that succeeds and has nothing to complain about.
#[track_caller]
fn good(args: &[&str]) -> String {
    let (code, stdout, stderr) = run(args);
    assert_eq!((code, &*stderr), (Some(0), ""), "{args:?}");
    assert!(!stdout.contains('\x1b'), "colour off a terminal");
    stdout
}

/// Bad input: exit code 2, nothing on standard output, one line on standard error with each of `words`.
#[track_caller]
fn bad(args: &[&str], words: &[&str]) {
    let (code, stdout, stderr) = run(args);
    assert_eq!((code, &*stdout), (Some(2), ""), "{args:?}: {stderr}");
    assert!(stderr.ends_with('\n') && stderr.lines().count() == 1, "{args:?}: {stderr:?}");
    words.iter().for_each(|word| assert!(stderr.contains(word), "{stderr:?} does not name {word:?}"));
}

fn temporary(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A trace of three rows and four tokens.
fn small(name: &str) -> (PathBuf, Trace) {
    let draft = [vec![0.0, 1.0, 2.0, -1.0], vec![0.5, 0.0, 0.0, 0.0], vec![3.0, f64::NEG_INFINITY, 0.0, 0.0]];
    let target = [vec![2.0, 1.0, 0.0, -1.0], vec![0.0, 0.5, 0.0, 0.0], vec![0.0, 0.0, 0.0, 0.0]];
    let trace = Trace::new(Values::Logits, Precision::F64, &draft, &target).unwrap();
    let path = temporary(name);
    trace.write(&path).unwrap();
    (path, trace)
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn solve_prints_the_optimum_and_every_rule() {
    let (p, q) = (Pmf::new([0.5, 0.3, 0.2]).unwrap(), Pmf::new([0.2, 0.3, 0.5]).unwrap());
    for (k, optimum) in [(1, 0.7), (2, 0.86), (3, 0.988)] {
        let ks = k.to_string();
        let args = ["solve", "--draft", DRAFT, "--target", TARGET, "-k", &ks, "--format", "json"];
        let json: Value = serde_json::from_str(&good(&args)).unwrap();
        assert_eq!((json["vocab"].as_u64(), json["k"].as_u64()), (Some(3), Some(k)));
        approx::assert_abs_diff_eq!(json["optimum"].as_f64().unwrap(), optimum, epsilon = 1e-12);
        let problem = Problem::new(p.clone(), q.clone(), k as usize).unwrap();
        let rules: Vec<Rule> = Rule::ALL.into_iter().filter(|rule| rule.takes(k as usize)).collect();
        assert_eq!(json["rules"].as_array().unwrap().len(), rules.len());
        for (rule, printed) in rules.iter().zip(json["rules"].as_array().unwrap()) {
            assert_eq!(printed["selector"], rule.name());
            let acceptance = rule.prepare(&problem).acceptance().value;
            // The parser here, not the printer, may be off by one in the last place.
            approx::assert_abs_diff_eq!(printed["acceptance"].as_f64().unwrap(), acceptance, epsilon = 1e-15);
        }
        let coupling = &json["coupling"];
        let joint: Vec<Vec<f64>> = serde_json::from_value(coupling["joint"].clone()).unwrap();
        let drafts: Vec<Vec<usize>> = serde_json::from_value(coupling["drafts"].clone()).unwrap();
        assert_eq!((joint.len(), drafts.len()), (3usize.pow(k as u32), 3usize.pow(k as u32)));
        // The rows are the law of the drafts, the columns that of the output, and what lies on a draft is accepted.
        for (drafts, joint) in drafts.iter().zip(&joint) {
            let probability: f64 = drafts.iter().map(|&token| p.as_slice()[token]).product();
            approx::assert_abs_diff_eq!(joint.iter().sum::<f64>(), probability, epsilon = 1e-12);
        }
        for (token, q) in q.as_slice().iter().enumerate() {
            approx::assert_abs_diff_eq!(joint.iter().map(|row| row[token]).sum::<f64>(), *q, epsilon = 1e-12);
        }
        let on_draft = |(drafts, joint): (&Vec<usize>, &Vec<f64>)| -> f64 {
            (0..3).filter(|token| drafts.contains(token)).map(|token| joint[token]).sum()
        };
        approx::assert_abs_diff_eq!(drafts.iter().zip(&joint).map(on_draft).sum::<f64>(), optimum, epsilon = 1e-12);
    }
}

#[test]
fn solve_prints_tables_and_pictures() {
    let solve = ["solve", "--draft", DRAFT, "--target", TARGET, "-k", "2"];
    let text = good(&solve);
    assert!(text.contains("α* = 0.8600000000"), "{text}");
    for rule in Rule::ALL.into_iter().filter(|rule| rule.takes(2)) {
        assert!(text.contains(&format!(" {} ", rule.name())), "{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert!(text.contains(" 2 2 "), "the coupling is missing: {text}");
    // Weights give the same as the probabilities, whatever their sum.
    let weights = good(&["solve", "--draft", "5,3,2", "--target", "2,3,5", "-k", "2", "--normalize"]);
    assert_eq!(weights, text);
    let svg = good(&[&solve[..], &["--format", "svg"]].concat());
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    assert!(svg.contains("α* = 0.8600"));
    // Too many draft tuples for a table.
    let large = good(&["solve", "--draft", DRAFT, "--target", TARGET, "-k", "5"]);
    assert!(large.contains("left out") && !large.contains("output 0"), "{large}");
}

#[test]
fn solve_selects_by_seed() {
    let sample = |seed: &str| {
        let args = ["solve", "--draft", DRAFT, "--target", TARGET, "-k", "2", "--format", "json", "--seed", seed];
        serde_json::from_str::<Value>(&good(&args)).unwrap()["samples"].clone()
    };
    assert_eq!(sample("5"), sample("5"));
    let samples: Vec<Value> = (0..8).map(|seed| sample(&seed.to_string())).collect();
    assert!(samples.iter().any(|sample| *sample != samples[0]));
    for sample in samples.iter().flat_map(|samples| samples.as_array().unwrap()) {
        let (drafts, output) = (sample["drafts"].as_array().unwrap(), &sample["output"]);
        match sample["accepted"].as_u64() {
            Some(index) => assert_eq!(&drafts[index as usize], output),
            None => assert!(sample["accepted"].is_null()),
        }
    }
}

#[test]
fn compare_prints_the_json_of_the_contract() {
    let (path, trace) = small("json.safetensors");
    let json: Value = serde_json::from_str(&good(&["compare", text(&path), "-k", "2,1", "--format", "json"])).unwrap();
    assert_eq!(keys(&json), ["results", "rows", "vocab"]);
    assert_eq!((json["rows"].as_u64(), json["vocab"].as_u64()), (Some(3), Some(4)));
    let expected: Vec<(usize, Rule)> = [2, 1]
        .into_iter()
        .flat_map(|k| Rule::ALL.into_iter().filter(move |rule| rule.takes(k)).map(move |rule| (k, rule)))
        .collect();
    let results = json["results"].as_array().unwrap();
    assert_eq!(results.len(), expected.len());
    for (result, (k, rule)) in results.iter().zip(expected) {
        assert_eq!((result["k"].as_u64(), result["selector"].as_str()), (Some(k as u64), Some(rule.name())));
        // All of them are exact for so few drafts and tokens.
        assert_eq!(keys(result), ["k", "max", "mean", "min", "optimum", "selector"]);
        let problems: Vec<Problem> = (0..3).map(|row| trace.problem(row, k).unwrap()).collect();
        let values: Vec<f64> = problems.iter().map(|problem| rule.prepare(problem).acceptance().value).collect();
        let number = |key: &str| result[key].as_f64().unwrap();
        approx::assert_abs_diff_eq!(number("min"), values.iter().copied().fold(f64::MAX, f64::min), epsilon = 1e-15);
        approx::assert_abs_diff_eq!(number("max"), values.iter().copied().fold(f64::MIN, f64::max), epsilon = 1e-15);
        approx::assert_abs_diff_eq!(number("mean"), values.iter().sum::<f64>() / 3.0, epsilon = 1e-15);
        let optimum = problems.iter().map(alpha_star).sum::<f64>() / 3.0;
        approx::assert_abs_diff_eq!(number("optimum"), optimum, epsilon = 1e-15);
    }
}

#[test]
fn compare_prints_csv_that_round_trips() {
    let (path, trace) = small("csv.safetensors");
    let csv = good(&["compare", text(&path), "-k", "1,2", "--format", "csv"]);
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("row,k,selector,acceptance,optimum"));
    for row in 0..3 {
        for k in [1, 2] {
            let problem = trace.problem(row, k).unwrap();
            for rule in Rule::ALL.into_iter().filter(|rule| rule.takes(k)) {
                let fields: Vec<&str> = lines.next().unwrap().split(',').collect();
                assert_eq!(fields[..3], [&row.to_string(), &k.to_string(), rule.name()]);
                for (field, value) in [(3, rule.prepare(&problem).acceptance().value), (4, alpha_star(&problem))] {
                    assert_eq!(fields[field].parse::<f64>(), Ok(value));
                    let digits = fields[field].split('e').next().unwrap().chars().filter(char::is_ascii_digit).count();
                    assert_eq!(digits, 17, "{}", fields[field]);
                }
            }
        }
    }
    assert_eq!(lines.next(), None);
}

#[test]
fn compare_prints_a_table_of_a_hundred_columns() {
    let (path, _) = small("text.safetensors");
    let table = good(&["compare", text(&path)]);
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
    for k in [1, 2, 4, 8] {
        assert!(table.lines().any(|line| line.trim_start().starts_with(&format!("{k} "))), "{table}");
    }
    // The maximal coupling is there at one draft, and only there.
    let line = |k: &str| table.lines().find(|line| line.trim_start().starts_with(k)).unwrap();
    assert!(line("2 ").contains('–') && !line("1 ").contains('–'), "{table}");
    let checked = good(&["compare", text(&path), "-k", "1,3", "--rounds", "200", "--seed", "7"]);
    assert!(checked.contains("200 selections") && checked.contains("seed 7"), "{checked}");
}

#[test]
fn compare_takes_the_embedded_trace_and_sampling() {
    let mean = |more: &[&str]| {
        let json: Value =
            serde_json::from_str(&good(&[&["compare", "-k", "1", "--format", "json"], more].concat())).unwrap();
        assert_eq!((json["rows"].as_u64(), json["vocab"].as_u64()), (Some(84), Some(4096)));
        json["results"][0]["mean"].as_f64().unwrap()
    };
    let problems = || (0..84).map(|row| Trace::embedded().problem(row, 1).unwrap());
    approx::assert_abs_diff_eq!(mean(&[]), problems().map(|p| alpha_star(&p)).sum::<f64>() / 84.0, epsilon = 1e-12);
    // Greedy models agree or they do not.
    let top = |pmf: &Pmf| pmf.as_slice().iter().enumerate().rev().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
    let agree = problems().filter(|p| top(p.draft()) == top(p.target())).count();
    assert!(0 < agree && agree < 84);
    approx::assert_abs_diff_eq!(mean(&["--temperature", "0"]), agree as f64 / 84.0, epsilon = 1e-12);
    assert_ne!(mean(&["--draft-temperature", "0.5"]), mean(&[]));
    assert_ne!(mean(&["--top-k", "5"]), mean(&["--top-p", "0.9"]));
}

#[test]
fn compare_draws_plots() {
    let (path, _) = small("plot.safetensors");
    let directory = temporary("plots");
    fs::create_dir_all(&directory).unwrap();
    let (svg, png) = (directory.join("out.svg"), directory.join("out.PNG"));
    for plot in [&svg, &png] {
        let table = good(&["compare", text(&path), "-k", "1,2,4", "--plot", text(plot)]);
        assert_eq!(table, good(&["compare", text(&path), "-k", "1,2,4"]));
    }
    let drawn = fs::read_to_string(&svg).unwrap();
    for word in
        Rule::ALL.map(Rule::name).into_iter().chain(["optimum α*", "drafts k", "mean acceptance", "3 positions"])
    {
        assert!(drawn.contains(word), "no {word} in the plot");
    }
    assert!(fs::read(&png).unwrap().starts_with(b"\x89PNG\r\n\x1a\n"));
    good(&["compare", text(&path), "-k", "3", "--plot", text(&svg)]);
    let mut left: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["out.PNG", "out.svg"]);
}

#[test]
fn bad_problems_are_refused() {
    let solve = |draft: &str, target: &str, k: &str, words: &[&str]| {
        bad(&["solve", "--draft", draft, "--target", target, "-k", k], words);
    };
    solve("0.5,0.4,0.2", TARGET, "2", &["--draft", "add up to 1.1", "--normalize"]);
    solve(DRAFT, "0.5,0.5", "2", &["--draft and --target", "3 tokens", "2"]);
    solve(DRAFT, TARGET, "0", &["-k", "k is 0", "1 to 64"]);
    solve(DRAFT, TARGET, "65", &["-k", "k is 65", "1 to 64"]);
    solve(DRAFT, TARGET, "two", &["-k", "two"]);
    solve(DRAFT, TARGET, "-1", &["'-1' for '-k"]);
    solve(DRAFT, "0.2,NaN,0.5", "2", &["--target", "token 1", "NaN"]);
    solve(DRAFT, "0.2,inf,0.5", "2", &["--target", "token 1", "inf"]);
    solve("-0.5,1.3,0.2", TARGET, "2", &["--draft", "token 0", "-0.5"]);
    solve("0.5,,0.5", TARGET, "2", &["--draft", "entry 1"]);
    solve("0.5,half,0.5", TARGET, "2", &["--draft", "entry 1", "half"]);
    solve("", TARGET, "2", &["--draft", "entry 0"]);
    bad(&["solve", "--draft", "0,0", "--target", "1,1", "-k", "1", "--normalize"], &["--draft", "add up to 0"]);
    bad(&["solve", "--draft", DRAFT, "-k", "2"], &["--target"]);
    bad(&["solve", "--draft", DRAFT, "--target", TARGET, "-k", "2", "--format", "csv"], &["--format", "csv", "json"]);
}

#[test]
fn bad_traces_are_refused() {
    let compare = |name: &str, bytes: &[u8], words: &[&str]| {
        let path = temporary(name);
        fs::write(&path, bytes).unwrap();
        // Nothing is drawn either.
        let plot = temporary(&format!("{name}.svg"));
        bad(&["compare", text(&path), "--plot", text(&plot)], &[&[name], words].concat());
        assert!(!plot.exists());
    };
    let rows = |rows: &[&[f64]]| -> Vec<u8> { rows.concat().iter().flat_map(|x| (*x as f32).to_le_bytes()).collect() };
    let file = |dtype: &str, shape: &str, draft: Vec<u8>, target: Vec<u8>| {
        let (middle, end) = (draft.len(), draft.len() + target.len());
        let tensor = |name, from, to| {
            format!("\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[{from},{to}]}}")
        };
        let header = format!("{{{},{}}}", tensor("draft", 0, middle), tensor("target", middle, end));
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &draft, &target].concat()
    };
    let fine = || rows(&[&[0.0, 1.0], &[1.0, 0.0]]);
    let whole = file("F32", "[2,2]", fine(), fine());
    assert!(Trace::from_bytes(whole.clone()).is_ok());

    bad(&["compare", "no-such-file.safetensors"], &["cannot read 'no-such-file.safetensors'"]);
    compare("cut.safetensors", &whole[..whole.len() - 3], &["cut off"]);
    compare("empty.safetensors", b"", &["cut off"]);
    compare("text.txt", b"0.5 0.25 0.25\n0.5 0.25 0.25\n", &["not a safetensors file"]);
    compare("shape.safetensors", &file("F32", "[4]", fine(), fine()), &["'draft'", "[4]", "[N, V]"]);
    compare("type.safetensors", &file("I32", "[2,2]", fine(), fine()), &["'draft'", "I32"]);
    let masked = rows(&[&[0.0, 1.0], &[f64::NEG_INFINITY; 2]]);
    compare("masked.safetensors", &file("F32", "[2,2]", fine(), masked), &["'target'", "row 1", "-inf"]);
    let nan = rows(&[&[0.0, f64::NAN], &[0.0, 1.0]]);
    compare("nan.safetensors", &file("F32", "[2,2]", nan, fine()), &["'draft'", "row 0", "column 1", "NaN"]);
}

#[test]
fn bad_options_are_refused() {
    bad(&["compare", "-k", "1,0"], &["-k", "k is 0"]);
    bad(&["compare", "-k", "2,65"], &["-k", "k is 65"]);
    bad(&["compare", "-k", "2,2"], &["-k", "2 is listed twice"]);
    bad(&["compare", "-k", ""], &["-k"]);
    bad(&["compare", "--format", "svg"], &["--format", "svg", "csv"]);
    // Before the trace is looked at.
    bad(&["compare", "no-such-file", "--plot", "plot.pdf"], &["--plot", "plot.pdf", ".svg or .png"]);
    bad(&["compare", "-k", "1", "--plot", "no-such-directory/plot.svg"], &["no-such-directory/plot.svg"]);
    bad(&["compare", "-k", "1", "--plot", "no-such-directory/plot.png"], &["no-such-directory/plot.png"]);
    bad(&["compare", "-k", "1", "--temperature", "-1"], &["temperature", "-1"]);
    bad(&["compare", "-k", "1", "--top-p", "1.5"], &["top_p is 1.5"]);
    bad(&["measure"], &["measure"]);
    let (code, stdout, stderr) = run(&[]);
    assert_eq!((code, &*stdout), (Some(2), ""));
    assert!(stderr.contains("Usage: draftpick"));
}

#[test]
fn help_and_version_are_answers() {
    assert!(good(&["--help"]).contains("compare"));
    assert!(good(&["compare", "--help"]).contains("--plot"));
    assert_eq!(good(&["--version"]), format!("draftpick {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = draftpick()
        .args(["compare", "-k", "1", "--format", "csv"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &[][..]));
}
