//! How long a call of the embedded models takes: one node, a row of drafts, a whole tree.

use std::time::Instant;

use draftpick::decode::candle::{Device, Llama, embedded};
use draftpick::decode::{Extension, Model};

/// Tokens kept before the nodes that are timed.
const KEPT: usize = 64;
const CALLS: usize = 200;

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

/// The median time of a call, in microseconds.
fn time(model: &mut Llama, nodes: &[Extension]) -> f64 {
    let mut times: Vec<f64> = (0..CALLS)
        .map(|_| {
            let start = Instant::now();
            model.extend(nodes).unwrap();
            let time = start.elapsed().as_secs_f64() * 1e6;
            model.keep(0, Some(0)).unwrap();
            time
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[CALLS / 2]
}

fn main() {
    let pair = embedded(&Device::Cpu, None).unwrap();
    let chain: Vec<_> = (0..KEPT)
        .map(|parent| Extension { sequence: 0, parent, token: (parent * 11 % 4096) as u32, scored: false })
        .collect();
    println!("microseconds a call, median of {CALLS}, after {KEPT} tokens");
    for (name, mut model) in [("draft", pair.draft), ("target", pair.target)] {
        model.extend(&chain).unwrap();
        model.keep(0, Some(KEPT)).unwrap();
        for (paths, length) in [(0, 0), (1, 5), (4, 5), (8, 5)] {
            let nodes = tree(paths, length);
            println!("{name:7} {:3} nodes {:8.0}", nodes.len(), time(&mut model, &nodes));
        }
    }
}
