//! The page that `draftpick lab` serves, asked as a browser would: over a socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

struct Lab {
    server: Child,
    address: String,
}

impl Lab {
    fn start() -> Self {
        let mut server = Command::new(env!("CARGO_BIN_EXE_draftpick"))
            .args(["lab", "--port", "0"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.strip_prefix("http://").and_then(|rest| rest.split('/').next());
        let address = address.unwrap_or_else(|| panic!("no address in '{line}'")).to_string();
        Lab { server, address }
    }

    /// The status and the body.
    fn ask(&self, host: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_string())
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.ask(&self.address, path)
    }

    fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// The pages, and all that they load.
const FILES: [&str; 9] = ["", "paths", "lab.css", "lab.js", "paths.js", "page.js", "svg.js", "draw.js", "tree.js"];

#[test]
fn the_pages_are_served_with_all_that_they_load() {
    let lab = Lab::start();
    let mut loaded = Vec::new();
    for file in FILES {
        let (status, body) = lab.get(&format!("/{file}"));
        assert_eq!(status, 200, "{file}");
        // Nothing from elsewhere.
        let elsewhere: Vec<&str> =
            body.match_indices("http").map(|(at, _)| &body[at..(at + 28).min(body.len())]).collect();
        assert!(elsewhere.iter().all(|link| link.starts_with("http://www.w3.org/")), "{file}: {elsewhere:?}");
        for (before, after) in [("from \"./", '"'), ("src=\"", '"'), ("href=\"lab", '"')] {
            for part in body.split(before).skip(1) {
                let name = part.split(after).next().unwrap();
                loaded.push(if before.starts_with("href") { format!("lab{name}") } else { name.to_string() });
            }
        }
    }
    assert!(loaded.len() > 8, "{loaded:?}");
    assert!(loaded.iter().all(|name| FILES.contains(&name.as_str())), "{loaded:?}");
}

#[test]
fn a_problem_comes_with_everything_that_is_shown_of_it() {
    let lab = Lab::start();
    let answer = lab.json("/api/problem?p=0.5,0.3,0.2&q=0.2,0.3,0.5&k=2");
    assert!((answer["optimum"].as_f64().unwrap() - 0.86).abs() < 1e-12);
    let joint: Vec<Vec<f64>> = answer["joint"].as_array().unwrap().iter().map(numbers).collect();
    let accepted: f64 = (0..3).map(|token| joint[token][token]).sum();
    assert!((accepted - 0.86).abs() < 1e-9);
    for (token, q) in numbers(&answer["q"]).into_iter().enumerate() {
        let put_out: f64 = joint.iter().map(|row| row[token]).sum();
        assert!((put_out - q).abs() < 1e-9, "token {token} is put out with {put_out}, not {q}");
    }
    // The lowest of the sets is the optimum, and it is the set that is called H.
    let cuts = answer["cuts"].as_array().unwrap();
    let values: Vec<f64> = cuts.iter().map(|set| set["value"].as_f64().unwrap()).collect();
    let lowest = (0..3).min_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap();
    assert!((values[lowest] - 0.86).abs() < 1e-12 && values.iter().filter(|&&value| value < 0.87).count() == 1);
    let mut set = numbers(&answer["cut"]);
    let mut grown: Vec<f64> = cuts[..=lowest].iter().map(|set| set["token"].as_f64().unwrap()).collect();
    set.sort_by(f64::total_cmp);
    grown.sort_by(f64::total_cmp);
    assert_eq!(set, grown);
    assert!(answer["polytope"].is_null());
    let two = lab.json("/api/problem?p=1,1&q=3,1&k=2");
    assert_eq!(numbers(&two["polytope"]["most"]), [0.75, 0.75]);
    let accepted = numbers(&two["polytope"]["accepted"]);
    assert!((accepted[0] - 0.75).abs() < 1e-12 && (accepted[1] - 0.25).abs() < 1e-12);
    assert_eq!(numbers(&two["residual"]), [0.0, 0.0]);
}

#[test]
fn every_rule_is_listed_with_what_it_accepts() {
    let lab = Lab::start();
    let answer = lab.json("/api/rules?p=0.5,0.3,0.2&q=0.2,0.3,0.5&k=2");
    let found = |name: &str| {
        let rules = answer["rules"].as_array().unwrap();
        rules.iter().find(|rule| rule["name"] == name).unwrap_or_else(|| panic!("no {name}"))["acceptance"].as_f64()
    };
    assert_eq!(answer["rules"].as_array().unwrap().len(), 6);
    assert_eq!(found("maximal"), None);
    for (name, accepts) in [("rrs", 0.76), ("kseq", 0.791_355_287_3), ("optimal", 0.86), ("optimal-linear", 0.86)] {
        assert!((found(name).unwrap() - accepts).abs() < 1e-9, "{name}: {:?}", found(name));
    }
    assert!(found("rrs-wor").unwrap() > found("rrs").unwrap());
}

/// Three tokens, one law at the start and one after each.
const CHAIN: &str =
    "p=0.5,0.3,0.2;0.5,0.3,0.2;0.3,0.5,0.2;0.2,0.3,0.5&q=0.2,0.3,0.5;0.3,0.4,0.3;0.2,0.3,0.5;0.5,0.3,0.2";

#[test]
fn a_round_comes_with_every_number_that_decided_it() {
    let lab = Lab::start();
    let mut kept = [0; 3];
    for seed in 0..60 {
        let path = format!("/api/paths/round?{CHAIN}&paths=3&length=2&seed={seed}");
        let answer = lab.json(&path);
        assert_eq!(answer, lab.json(&path));
        let nodes = answer["nodes"].as_array().unwrap();
        let number = |node: usize, key: &str| nodes[node][key].as_f64().unwrap();
        let labels = numbers(&answer["labels"]);
        let winner = answer["winner"].as_u64().unwrap() as usize;
        assert!(labels.len() == 3 && labels.iter().all(|&label| label <= labels[winner]));
        // P along the winner, from the laws that are shown.
        let leaf = answer["leaves"][winner].as_u64().unwrap() as usize;
        let mut at = leaf;
        while at != 0 {
            let parent = nodes[at]["parent"].as_u64().unwrap() as usize;
            let tokens = nodes[parent]["tokens"].as_array().unwrap();
            let token = tokens.iter().find(|token| token["node"].as_u64() == Some(at as u64)).unwrap();
            let of = |key: &str| token[key].as_f64().unwrap();
            let wanted = (number(parent, "weight") * of("target") / of("selected")).min(1.0);
            assert!((number(at, "weight") - wanted).abs() < 1e-9);
            for key in ["draft", "selected", "target"] {
                let sum: f64 = tokens.iter().map(|token| token[key].as_f64().unwrap()).sum();
                assert!((sum - 1.0).abs() < 1e-9, "{key} adds up to {sum}");
            }
            let left: f64 = tokens
                .iter()
                .map(|token| (token["wanted"].as_f64().unwrap() - token["selected"].as_f64().unwrap()).max(0.0))
                .sum();
            assert!((left - number(parent, "residual")).abs() < 1e-9);
            at = parent;
        }
        // From the leaf up, to the first coin below its probability.
        let tosses = answer["tosses"].as_array().unwrap();
        assert_eq!(tosses[0]["node"].as_u64().unwrap() as usize, leaf);
        for (i, toss) in tosses.iter().enumerate() {
            let below = toss["coin"].as_f64().unwrap() < toss["keep"].as_f64().unwrap();
            assert_eq!(below, i + 1 == tosses.len());
            assert_eq!(toss["kept"], below);
        }
        assert_eq!(tosses[tosses.len() - 1]["node"], answer["kept"]);
        let depth = number(answer["kept"].as_u64().unwrap() as usize, "depth") as usize;
        assert_eq!(answer["output"].as_array().unwrap().len(), depth + 1);
        kept[depth] += 1;
        for verifier in answer["verifiers"].as_array().unwrap() {
            let stops = numbers(&verifier["stops"]);
            assert!((stops.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{}", verifier["name"]);
            let mean: f64 = stops.iter().enumerate().map(|(node, stop)| stop * number(node, "depth")).sum();
            assert!((mean - verifier["accepted"].as_f64().unwrap()).abs() < 1e-9);
        }
    }
    assert!(kept.iter().all(|&rounds| rounds > 0), "60 rounds keep 0, 1 and 2 tokens: {kept:?}");
}

#[test]
fn every_verifiers_length_is_the_mean_over_what_is_drafted_and_below_the_optimum() {
    let lab = Lab::start();
    let answer = lab.json(&format!("/api/paths/lengths?{CHAIN}&paths=2&length=2"));
    let optimum = answer["optimum"].as_f64().unwrap();
    let expected = |name: &str| {
        let all = answer["verifiers"].as_array().unwrap();
        all.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name}"))["expected"].as_f64().unwrap()
    };
    for name in ["token:rrs", "token:kseq", "token:optimal", "traversal", "path", "spread"] {
        assert!(expected(name) <= optimum + 1e-9, "{name}");
        let drawn = lab.json(&format!("/api/paths/draws?{CHAIN}&paths=2&length=2&verifier={name}&draws=10000&seed=5"));
        let kept = numbers(&drawn["kept"]);
        let mean = (kept[1] + 2.0 * kept[2]) / 10_000.0;
        // Of 0 to 2 tokens the standard deviation is at most 1: five standard errors.
        assert!((mean - expected(name)).abs() < 0.05, "{name}: {mean}, not {}", expected(name));
    }
    assert!(expected("token:rrs") < expected("token:optimal") && expected("token:optimal") < expected("spread"));
    let single = lab.json(&format!("/api/paths/lengths?{CHAIN}&paths=1&length=2"));
    let names: Vec<&Value> = single["verifiers"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert!(names.iter().any(|name| **name == "block"), "{names:?}");
    // Too large for the linear program: said, not left to wait for.
    assert!(lab.json(&format!("/api/paths/lengths?{CHAIN}&paths=4&length=3"))["optimum"].is_null());
}

#[test]
fn drawn_texts_have_the_targets_law_whatever_the_verifier() {
    let lab = Lab::start();
    for verifier in ["spread", "path", "traversal", "token:kseq"] {
        let ask = |draws: u32, seed: u32| {
            lab.json(&format!(
                "/api/paths/draws?{CHAIN}&paths=2&length=2&verifier={verifier}&draws={draws}&seed={seed}"
            ))
        };
        let answer = ask(10_000, 11);
        assert_eq!(answer, ask(10_000, 11));
        let (counts, target) = (numbers(&answer["counts"]), numbers(&answer["target"]));
        assert_eq!((counts.len(), counts.iter().sum::<f64>()), (27, 10_000.0));
        assert!((target.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let chi_square = |law: &[f64]| -> f64 {
            counts.iter().zip(law).map(|(count, q)| (count - 10_000.0 * q).powi(2) / (10_000.0 * q)).sum()
        };
        // 26 degrees of freedom: above 83 once in ten million.
        assert!(chi_square(&target) < 83.0, "{verifier}: {}", chi_square(&target));
        let mut wrong = target.clone();
        wrong.rotate_left(1);
        assert!(chi_square(&wrong) > 83.0, "{verifier}: another law passes");
        // The first draw is the round that is explained.
        let round = lab.json(&format!("/api/paths/round?{CHAIN}&paths=2&length=2&seed=11"));
        if verifier == "spread" {
            let depth = round["nodes"][round["kept"].as_u64().unwrap() as usize]["depth"].as_u64().unwrap();
            assert_eq!(numbers(&ask(1, 11)["kept"])[depth as usize], 1.0);
        }
    }
}

#[test]
fn recorded_rounds_are_explained_with_their_likeliest_tokens() {
    let lab = Lab::start();
    let answer = lab.json("/api/paths/recorded?row=1&paths=4&seed=3");
    assert_eq!(
        (answer["rows"].as_u64(), answer["length"].as_u64(), answer["paths"].as_u64()),
        (Some(2), Some(5), Some(4))
    );
    let nodes = answer["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 13);
    for node in nodes {
        let tokens = node["tokens"].as_array().unwrap();
        assert!(tokens.len() <= 7 && tokens[tokens.len() - 1]["name"].as_str().unwrap().ends_with("others"));
        let target: f64 = tokens.iter().map(|token| token["target"].as_f64().unwrap()).sum();
        assert!((target - 1.0).abs() < 1e-9);
    }
    let (status, message) = lab.get("/api/paths/recorded?row=2&paths=4&seed=3");
    assert_eq!((status, message.as_str()), (400, "recorded round 2; there are 2, from 0"));
}

#[cfg(feature = "candle")]
#[test]
fn a_text_is_followed_by_laws_at_any_of_its_tokens_and_by_paths() {
    let lab = Lab::start();
    let all = lab.json("/api/text?text=Returns%20the%20number%20of");
    let tokens = all["tokens"].as_array().unwrap();
    assert_eq!(all["position"].as_u64().unwrap() as usize, tokens.len());
    assert!(tokens.len() >= 3, "{tokens:?}");
    let first = lab.json("/api/text?text=Returns%20the%20number%20of&position=1");
    assert_eq!(first["tokens"], all["tokens"]);
    assert_ne!(first["q"], all["q"]);
    // The law after a beginning does not depend on what comes after it.
    let alone = lab.json("/api/text?text=Returns");
    if alone["tokens"].as_array().unwrap().len() == 1 {
        assert_eq!(first["q"], alone["q"]);
    }
    let round = lab.json("/api/paths/text?text=Returns%20the%20number%20of&paths=2&length=2&seed=1");
    assert_eq!((round["paths"].as_u64(), round["length"].as_u64()), (Some(2), Some(2)));
    let root = round["nodes"][0]["tokens"].as_array().unwrap();
    let next: f64 = root.iter().map(|token| token["target"].as_f64().unwrap()).sum();
    assert!((next - 1.0).abs() < 1e-9);
    for (path, reason) in [
        ("/api/text?text=", "the text is empty"),
        ("/api/text?text=a&position=9", "position is 9"),
        ("/api/text?text=a&position=0", "position is 0"),
        ("/api/paths/text?text=&paths=2&length=2&seed=1", "the text is empty"),
        ("/api/paths/text?text=a&paths=2&length=6&seed=1", "paths of 6 tokens"),
    ] {
        let (status, message) = lab.get(path);
        assert_eq!(status, 400, "{path}: {message}");
        assert!(message.contains(reason), "{path}: {message}");
    }
    let long = "word%20".repeat(600);
    let (status, message) = lab.get(&format!("/api/text?text={long}"));
    assert!(status == 400 && message.contains("the page takes up to 512"), "{status}: {message}");
}

#[cfg(not(feature = "candle"))]
#[test]
fn without_the_pair_a_text_is_refused_with_what_to_do() {
    let lab = Lab::start();
    for path in ["/api/text?text=a", "/api/paths/text?text=a&paths=2&length=2&seed=1"] {
        let (status, message) = lab.get(path);
        assert!(status == 400 && message.contains("--features lab,candle"), "{status}: {message}");
    }
}

#[test]
fn draws_have_the_targets_law_and_depend_on_the_seed_alone() {
    let lab = Lab::start();
    for rule in ["optimal", "kseq", "rrs"] {
        let path = format!("/api/draws?p=0.5,0.3,0.2&q=0.2,0.3,0.5&k=2&rule={rule}&draws=20000&seed=3");
        let answer = lab.json(&path);
        assert_eq!(answer, lab.json(&path));
        let counts = numbers(&answer["counts"]);
        // Two degrees of freedom: above 27.6 once in a million.
        let chi_square: f64 =
            counts.iter().zip([0.2, 0.3, 0.5]).map(|(count, q)| (count - 20_000.0 * q).powi(2) / (20_000.0 * q)).sum();
        assert!(chi_square < 27.6, "{rule}: {counts:?}");
        let wrong: f64 = counts
            .iter()
            .zip([0.22, 0.3, 0.48])
            .map(|(count, q)| (count - 20_000.0 * q).powi(2) / (20_000.0 * q))
            .sum();
        assert!(wrong > 27.6, "{rule}: a law off by 0.02 passes");
    }
}

#[test]
fn recorded_positions_are_shortened_to_laws() {
    let lab = Lab::start();
    let laws = lab.json("/api/trace?row=5&top=9");
    assert_eq!(laws["names"].as_array().unwrap().len(), 10);
    for law in ["p", "q"] {
        assert!((numbers(&laws[law]).iter().sum::<f64>() - 1.0).abs() < 1e-9);
    }
    let (status, message) = lab.get("/api/trace?row=84");
    assert_eq!((status, message.as_str()), (400, "row 84; there are 84"));
}

#[test]
fn bad_requests_are_refused_with_a_reason() {
    let lab = Lab::start();
    for (path, reason) in [
        ("/api/problem?p=0.5,x&q=1,1&k=2", "p: entry 1 is 'x'"),
        ("/api/problem?p=1,1&q=1,1,1&k=2", "the two laws"),
        ("/api/problem?p=1,1&q=1,1&k=9", "k is 9"),
        ("/api/problem?p=0,0&q=1,1&k=2", "p"),
        ("/api/problem?p=1,1&k=2", "q"),
        ("/api/draws?p=1,1&q=1,1&k=2&rule=best&draws=1&seed=1", "best"),
        ("/api/problem?p=NaN,1&q=1,1&k=2", "NaN"),
        ("/api/problem?p=inf,1&q=1,1&k=2", "inf"),
        ("/api/problem?p=-1,1&q=1,1&k=2", "-1"),
        ("/api/problem?p=1,1&q=1,-1e-3&k=2", "-0.001"),
        ("/api/problem?p=1,1&q=1,1&k=0", "k is 0"),
        ("/api/problem?p=1,1&q=1,1&k=-1", "k"),
        ("/api/problem?p=&q=1,1&k=2", "p: entry 0 is ''"),
        ("/api/rules?p=1,NaN&q=1,1&k=2", "NaN"),
        ("/api/rules?p=1,1&q=1,1&k=99", "k is 99"),
        ("/api/draws?p=1,1&q=1,1&k=2&rule=optimal&draws=0&seed=1", "0 draws"),
        ("/api/draws?p=1,1&q=1,1&k=2&rule=optimal&draws=100001&seed=1", "100001 draws"),
        ("/api/draws?p=1,1&q=1,1&k=2&rule=maximal&draws=1&seed=1", "does not take 2 drafts"),
        ("/api/trace?row=-1", "row"),
        ("/api/trace?row=1&top=0", "top is 0"),
        ("/api/paths/round?p=1,1;1,1&q=1,1;1,1;1,1&paths=2&length=2&seed=1", "p has 2 laws; 2 tokens take 3"),
        ("/api/paths/round?p=1,1;1,1;1,1&q=1,1;1,1;1,1,1&paths=2&length=2&seed=1", "law 2 of q is over 3 tokens"),
        ("/api/paths/round?p=1,1;0,0;1,1&q=1,1;1,1;1,1&paths=2&length=2&seed=1", "law 1: p"),
        ("/api/paths/round?p=1,1;1,NaN;1,1&q=1,1;1,1;1,1&paths=2&length=2&seed=1", "law 1: p"),
        ("/api/paths/round?p=1,1;1,1;1,1&q=1,1;1,-2;1,1&paths=2&length=2&seed=1", "law 1: q"),
        ("/api/paths/round?p=1;1&q=1;1&paths=2&length=2&seed=1", "1 tokens"),
        ("/api/paths/round?p=1,1;1,1;1,1&q=1,1;1,1;1,1&paths=0&length=2&seed=1", "0 paths"),
        ("/api/paths/round?p=1,1;1,1;1,1&q=1,1;1,1;1,1&paths=5&length=2&seed=1", "5 paths"),
        ("/api/paths/round?p=1,1;1,1;1,1&q=1,1;1,1;1,1&paths=2&length=0&seed=1", "paths of 0 tokens"),
        ("/api/paths/round?p=1,1;1,1;1,1&q=1,1;1,1;1,1&paths=2&length=4&seed=1", "paths of 4 tokens"),
        ("/api/paths/round?p=1,1;1,1;1,1&q=1,1;1,1;1,1&paths=2&length=2&seed=-1", "seed"),
        ("/api/paths/round?p=1,1;1,1;1,1&q=1,1;1,1;1,1&paths=2&length=2", "seed"),
        ("/api/paths/lengths?p=1,1;1,1;1,1&q=1,1;1,1;1,x&paths=2&length=2", "law 2: q: entry 1 is 'x'"),
        ("/api/paths/draws?p=1,1;1,1;1,1&q=1,1;1,1;1,1&paths=2&length=2&verifier=best&draws=1&seed=1", "best"),
        ("/api/paths/draws?p=1,1;1,1;1,1&q=1,1;1,1;1,1&paths=2&length=2&verifier=block&draws=1&seed=1", "one path"),
        (
            "/api/paths/draws?p=1,1;1,1;1,1&q=1,1;1,1;1,1&paths=2&length=2&verifier=path&draws=10001&seed=1",
            "10001 draws",
        ),
    ] {
        let (status, message) = lab.get(path);
        assert_eq!(status, 400, "{path}: {message}");
        assert!(message.contains(reason), "{path}: {message}");
    }
    // Too many tokens, and more than any link holds.
    let many = |count: usize| vec!["1"; count].join(",");
    let (status, message) = lab.get(&format!("/api/problem?p={0}&q={0}&k=2", many(33)));
    assert!(status == 400 && message.contains("33 tokens; the page takes up to 32"), "{status}: {message}");
    let (status, _) = lab.get(&format!("/api/problem?p={0}&q={0}&k=2", many(40_000)));
    assert!((400..500).contains(&status), "{status}");
    assert_eq!(lab.get("/elsewhere").0, 404);
    // A name that was made to lead here.
    assert_eq!(lab.ask("elsewhere.example", "/").0, 403);
    assert_eq!(lab.ask("localhost:1", "/").0, 200);
}
