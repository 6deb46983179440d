//! The Rust side of `selection.py`: the same selections on the same rows, timed when asked.
//!
//! Reads the rows from files, prints the tokens once, then for each line of standard input the seconds that the batch took.

use std::fs;
use std::io::{BufRead, stdin};
use std::path::Path;
use std::time::Instant;

use draftpick::engine::{PairSampling, select};
use draftpick::{Coin, Rule, Token};

fn main() {
    // cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [folder, batch, vocab, k] = &args[..] else {
        println!("run by selection.py");
        return;
    };
    let [batch, vocab, k] = [batch, vocab, k].map(|number| number.parse::<usize>().expect("a number"));
    let read = |name: &str| fs::read(Path::new(folder).join(name)).expect("selection.py wrote it");
    let floats =
        |name: &str| -> Vec<f32> { read(name).as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect() };
    let (draft, target) = (floats("draft"), floats("target"));
    let drafts: Vec<Token> = read("drafts").as_chunks().0.iter().map(|&bytes| Token::from_le_bytes(bytes)).collect();
    let coins: Vec<Coin> = read("coins")
        .as_chunks()
        .0
        .iter()
        .map(|&bytes| Coin::new(f64::from_le_bytes(bytes)).expect("a coin"))
        .collect();
    let work = || -> Vec<Token> {
        (0..batch)
            .map(|row| {
                let pair = (&draft[row * vocab..][..vocab], &target[row * vocab..][..vocab]);
                let drafts = &drafts[row * k..][..k];
                let coins = &coins[row * (k + 2)..][..k + 2];
                let sampling = PairSampling::default();
                select(Rule::OptimalLinear, pair, &sampling, drafts, coins).expect("honest rows").token(drafts)
            })
            .collect()
    };
    println!("{}", work().iter().map(Token::to_string).collect::<Vec<_>>().join(" "));
    for _ in stdin().lock().lines() {
        let start = Instant::now();
        std::hint::black_box(work());
        println!("{}", start.elapsed().as_secs_f64());
    }
}
