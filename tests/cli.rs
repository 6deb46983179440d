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
fn solve_shows_the_layout() {
    let (p, q) = ([0.4, 0.2, 0.2, 0.0, 0.2], [0.1, 0.14, 0.05, 0.51, 0.2]);
    let list = |law: [f64; 5]| law.map(|share| share.to_string()).join(",");
    let (draft, target) = (list(p), list(q));
    for k in [1, 2, 3, 7] {
        let ks = k.to_string();
        let solve = ["solve", "--draft", &draft, "--target", &target, "-k", &ks];
        let json: Value = serde_json::from_str(&good(&[&solve[..], &["--format", "json"]].concat())).unwrap();
        let layout = json["layout"].as_array().unwrap();
        assert_eq!(layout.len(), 5);
        let (mut all, mut accepted) = (Vec::new(), 0.0);
        for (token, region) in layout.iter().enumerate() {
            let number = |key: &str| region[key].as_f64().unwrap();
            assert_eq!(region["token"].as_u64(), Some(token as u64));
            approx::assert_abs_diff_eq!(number("draft"), p[token], epsilon = 1e-15);
            approx::assert_abs_diff_eq!(number("target"), q[token], epsilon = 1e-15);
            accepted += number("selected").min(q[token]);
            let segments: Vec<(f64, f64)> = serde_json::from_value(region["segments"].clone()).unwrap();
            assert_eq!(segments.is_empty(), p[token] == 0.0);
            let owners: Vec<usize> = (0..5).filter(|&other| layout[other]["segments"] == region["segments"]).collect();
            // Equal ratios share a region.
            let shares_with = (owners[0] < token).then_some(owners[0] as u64);
            assert_eq!(region["shares_with"].as_u64(), shares_with);
            let (length, owned) = (segments.iter().map(|(lo, hi)| hi - lo).sum::<f64>(), |&token: &usize| p[token]);
            approx::assert_abs_diff_eq!(length, owners.iter().map(owned).sum::<f64>(), epsilon = 1e-12);
            if shares_with.is_none() {
                let mass: f64 = segments.iter().map(|(lo, hi)| hi.powi(k) - lo.powi(k)).sum();
                let selected = owners.iter().map(|&owner| layout[owner]["selected"].as_f64().unwrap()).sum::<f64>();
                approx::assert_abs_diff_eq!(selected, mass, epsilon = 1e-12);
                all.extend(segments);
            }
        }
        // The regions cover [0, 1] and do not overlap.
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        // Within the rounding of an end: a segment holds its length, and its end is a sum.
        let same = |a: f64, b: f64| (a - b).abs() <= 4.0 * f64::EPSILON;
        assert!(same(all[0].0, 0.0) && same(all[all.len() - 1].1, 1.0), "{all:?}");
        assert!(all.windows(2).all(|pair| same(pair[0].1, pair[1].0)), "{all:?}");
        approx::assert_abs_diff_eq!(accepted, json["optimum"].as_f64().unwrap(), epsilon = 1e-12);

        let table = good(&solve);
        for words in ["Layout of 'optimal'", "never drafted", "that of token 0", "0.0000–"] {
            assert!(table.contains(words), "no '{words}' in {table}");
        }
        assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
        let svg = good(&[&solve[..], &["--format", "svg"]].concat());
        for words in ["every token owns as much", "0+2", "token 4", "Selected and wanted"] {
            assert!(svg.contains(words), "no '{words}' in the picture");
        }
    }
    // Too many tokens to tell their regions apart.
    let weights = vec!["1"; 13].join(",");
    let solve = ["solve", "--draft", &weights, "--target", &weights, "-k", "2", "--normalize"];
    assert!(good(&solve).contains("layout is left out"));
    let svg = good(&[&solve[..], &["--format", "svg"]].concat());
    assert!(svg.contains("up to 12 tokens") && svg.contains("optimal-linear") && !svg.contains("token 0"));
}

#[test]
fn solve_proves_the_optimum_by_linear_program() {
    let (p, q, k) = ([0.5, 0.3, 0.2], [0.2, 0.3, 0.5], 2);
    let solve = ["solve", "--draft", DRAFT, "--target", TARGET, "-k", "2", "--exact"];
    let table = good(&solve);
    assert_eq!(table.matches(" 0.8600000000 ").count(), 3, "{table}");
    assert_eq!(table.matches("holds within").count(), 3, "{table}");
    for words in ["good_lp", "minilp", "max-flow", "6 draft sets", "H = {0, 1}\n", "p(H)^2", "= 0.8600000000\n"] {
        assert!(table.contains(words), "no '{words}' in {table}");
    }
    let json: Value = serde_json::from_str(&good(&[&solve[..], &["--format", "json"]].concat())).unwrap();
    let exact = &json["exact"];
    let numbers = |value: &Value| serde_json::from_value::<Vec<f64>>(value.clone()).unwrap();
    let sets: Vec<Vec<usize>> = serde_json::from_value(exact["draft_sets"].clone()).unwrap();
    for answer in exact["answers"].as_array().unwrap() {
        approx::assert_abs_diff_eq!(answer["optimum"].as_f64().unwrap(), 0.86, epsilon = 1e-9);
        assert!(answer["complaint"].is_null());
        // The prices as printed are a proof: whoever reads them can check it.
        let (drafts, target) = (numbers(&answer["draft_prices"]), numbers(&answer["target_prices"]));
        let mut value: f64 = q.iter().zip(&target).map(|(q, price)| q * price).sum();
        for (set, price) in sets.iter().zip(&drafts) {
            assert!(set.iter().all(|&token| price + target[token] >= 1.0 - 1e-9));
            // The tuples whose tokens are exactly the set.
            let tuples = (0..3).flat_map(|a| (0..3).map(move |b| [a, b]));
            let same = |tuple: &[usize; 2]| (0..3).all(|token| tuple.contains(&token) == set.contains(&token));
            value += price * tuples.filter(same).map(|[a, b]| p[a] * p[b]).sum::<f64>();
        }
        approx::assert_abs_diff_eq!(value, 0.86, epsilon = 1e-9);
    }
    assert_eq!(exact["min_cut"]["tokens"], serde_json::json!([0, 1]));
    let number = |key: &str| exact["min_cut"][key].as_f64().unwrap();
    approx::assert_abs_diff_eq!(1.0 + number("target") - number("draft").powi(k), 0.86, epsilon = 1e-12);

    // Nothing holds the drafts back: there is no cut.
    let table = good(&["solve", "--draft", DRAFT, "--target", DRAFT, "-k", "3", "--exact"]);
    assert!(table.contains("no set of tokens holds the drafts back"), "{table}");
    // Without the option there is no program.
    assert!(!good(&solve[..7]).contains("max-flow"));
}

#[test]
fn solve_leaves_large_linear_programs_to_who_can() {
    let weights = |n: usize| (1..=n).map(|i| (i * i % 17 + 1).to_string()).collect::<Vec<_>>().join(",");
    let reverse = |list: &str| list.split(',').rev().collect::<Vec<_>>().join(",");
    let solve = |n: usize, k: &str, more: &[&str]| -> Vec<String> {
        let draft = weights(n);
        let args = ["solve", "--draft", &draft, "--target", &reverse(&draft), "-k", k, "--normalize", "--exact"];
        args.iter().chain(more).map(|arg| arg.to_string()).collect()
    };
    fn borrowed(args: &[String]) -> Vec<&str> {
        args.iter().map(String::as_str).collect()
    }
    let table = good(&borrowed(&solve(33, "3", &[])));
    assert_eq!(table.matches("left out: 17457 variables, it takes at most 16000").count(), 2, "{table}");
    assert_eq!(table.matches("holds within").count(), 1, "{table}");
    for format in ["text", "json", "svg"] {
        let args = solve(100, "4", &["--format", format]);
        bad(&borrowed(&args), &["--exact", "16180000 variables", "at most 131072"]);
    }
    bad(&borrowed(&solve(200, "64", &[])), &["--exact", "over 10^38 variables"]);
    // The optimum itself has no such limit.
    let args = solve(200, "64", &[]);
    good(&borrowed(&args[..args.len() - 1]));
}

#[test]
fn solve_takes_drafts_too_unlikely_to_have_a_law() {
    // Three drafts of token 1 have probability 2e-20; nothing can be resampled after them.
    let table = good(&["solve", "--draft", "1,2.7e-7", "--target", "1,0", "-k", "3", "--normalize"]);
    assert!(table.contains(" 1 1 1 "), "{table}");
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
fn compare_prints_the_error_of_a_mean_of_estimates() {
    // So many tokens that recursive rejection without replacement is simulated.
    let rows: Vec<Vec<f64>> =
        (0..6).map(|row| (0..600).map(|i| f64::from((i * (row + 2)) % 23) / 4.0).collect()).collect();
    let trace = Trace::new(Values::Logits, Precision::F64, &rows[..3], &rows[3..]).unwrap();
    let path = temporary("estimates.safetensors");
    trace.write(&path).unwrap();
    let json: Value = serde_json::from_str(&good(&["compare", text(&path), "-k", "3", "--format", "json"])).unwrap();
    let mut estimates = 0;
    for result in json["results"].as_array().unwrap() {
        let rule: Rule = result["selector"].as_str().unwrap().parse().unwrap();
        let error = |row| rule.prepare(&trace.problem(row, 3).unwrap()).acceptance().standard_error;
        let errors: Vec<f64> = (0..3).map(error).collect();
        match result["standard_error"].as_f64() {
            None => assert_eq!(errors, [0.0; 3], "{rule}"),
            Some(printed) => {
                let expected = errors.iter().map(|error| error * error).sum::<f64>().sqrt() / 3.0;
                approx::assert_relative_eq!(printed, expected, max_relative = 1e-12);
                estimates += 1;
            }
        }
    }
    assert_eq!(estimates, 1);
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
