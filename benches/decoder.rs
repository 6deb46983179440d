//! How long a call of the embedded models takes: one node, a row of drafts, a whole tree.
//!
//! `cargo bench --features candle --bench decoder [-- draft|target]`

use std::time::Instant;

use draftpick::decode::candle::{Device, Llama, embedded};
use draftpick::decode::{Extension, Model};

/// Tokens kept before the nodes that are timed.
const KEPT: usize = 64;
const CALLS: usize = 200;

/// The number and length of the paths below the last token.
const SHAPES: [(usize, usize); 8] = [(0, 0), (1, 1), (1, 3), (1, 5), (2, 5), (4, 5), (8, 5), (8, 8)];

/// `paths` paths of `length` nodes below the last token, which is the first node.
fn tree(paths: usize, length: usize) -> Vec<Extension> {
    let at = |parent, token: usize| Extension { sequence: 0, parent, token: (token * 37 % 4096) as u32, scored: true };
    let mut nodes = vec![at(0, 1)];
    for path in 0..paths {
        for step in 0..length {
            let parent = if step == 0 { 1 } else { nodes.len() };
            nodes.push(at(parent, 2 + path * length + step));
        }
    }
    nodes
}

/// The time of a call, in microseconds.
fn time(model: &mut Llama, nodes: &[Extension]) -> f64 {
    let start = Instant::now();
    model.extend(nodes).unwrap();
    let time = start.elapsed().as_secs_f64() * 1e6;
    model.keep(0, Some(0)).unwrap();
    time
}

fn main() {
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with("--"));
    let pair = embedded(&Device::Cpu, None).unwrap();
    let chain: Vec<_> = (0..KEPT)
        .map(|parent| Extension { sequence: 0, parent, token: (parent * 11 % 4096) as u32, scored: false })
        .collect();
    println!("microseconds a call after {KEPT} tokens, and times a call over one node; {CALLS} calls of each in turn");
    for (name, mut model) in [("draft", pair.draft), ("target", pair.target)] {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        model.extend(&chain).unwrap();
        model.keep(0, Some(KEPT)).unwrap();
        let trees: Vec<_> = SHAPES.iter().map(|&(paths, length)| tree(paths, length)).collect();
        let mut times = vec![Vec::new(); trees.len()];
        for _ in 0..CALLS {
            trees.iter().zip(&mut times).for_each(|(tree, times)| times.push(time(&mut model, tree)));
        }
        times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
        for (tree, times_of) in trees.iter().zip(&times) {
            let (tenth, median) = (times_of[CALLS / 10], times_of[CALLS / 2]);
            let (nodes, ratio) = (tree.len(), median / times[0][CALLS / 2]);
            println!("{name:7} {nodes:3} nodes: median {median:6.0}, fastest tenth {tenth:6.0}, {ratio:5.2} ×");
        }
    }
}
