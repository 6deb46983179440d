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

#[test]
fn the_page_is_served_with_all_that_it_loads() {
    let lab = Lab::start();
    let (status, page) = lab.get("/");
    assert_eq!(status, 200);
    for file in ["lab.css", "lab.js", "draw.js"] {
        assert_eq!(lab.get(&format!("/{file}")).0, 200, "{file}");
    }
    assert!(page.contains("lab.css") && page.contains("lab.js"));
    // Nothing from elsewhere.
    for file in [page, lab.get("/lab.css").1, lab.get("/lab.js").1, lab.get("/draw.js").1] {
        let elsewhere: Vec<&str> =
            file.match_indices("http").map(|(at, _)| &file[at..(at + 28).min(file.len())]).collect();
        assert!(elsewhere.iter().all(|link| link.starts_with("http://www.w3.org/2000/svg")), "{elsewhere:?}");
    }
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
    assert!(answer["polytope"].is_null());
    let two = lab.json("/api/problem?p=1,1&q=3,1&k=2");
    assert!((two["polytope"]["most"].as_f64().unwrap() - 0.75).abs() < 1e-12);
    assert_eq!(numbers(&two["residual"]), [0.0, 0.0]);
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
        ("/api/draws?p=1,1&q=1,1&k=2&rule=optimal&draws=0&seed=1", "0 draws"),
    ] {
        let (status, message) = lab.get(path);
        assert_eq!(status, 400, "{path}: {message}");
        assert!(message.contains(reason), "{path}: {message}");
    }
    assert_eq!(lab.get("/elsewhere").0, 404);
    // A name that was made to lead here.
    assert_eq!(lab.ask("elsewhere.example", "/").0, 403);
    assert_eq!(lab.ask("localhost:1", "/").0, 200);
}
