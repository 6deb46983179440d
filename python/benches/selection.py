"""What a selection costs from Python.

    python python/benches/selection.py [--rounds 30] [--threads 1]

1. `draftpick.select(rule="kseq")`, preparation and selection, against k-SEQ in NumPy and in torch (if it is installed).
2. A call of `draftpick.select` against the same work called from Rust (`cargo bench -p draftpick-python --bench selection`, which
   this script runs), both on one thread.

All are timed in turn in one run, and a figure is the median of the ratios of neighbouring timings: a machine that changes its
speed changes both. On one thread the peers' time is the processor's for this thread: what else runs on the machine takes turns with
the long calls more than with the short ones. Against Rust both are the clock's.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

import draftpick
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import kseq_peers  # noqa: E402

VOCAB, K = 128_256, 4
ROOT = pathlib.Path(__file__).parents[2]


def inputs(batch, seed=1):
    """Two noisy views of one Zipf law, drafts from the first, and coins."""
    rng = np.random.default_rng(seed)
    ranks = np.log(np.arange(1, VOCAB + 1))
    rows = [np.stack([-1.1 * ranks[rng.permutation(VOCAB)] for _ in range(batch)])]
    draft, target = (np.float32(rows[0] + rng.normal(0, 0.7, (batch, VOCAB))) for _ in range(2))
    drafts = np.stack([draftpick.draw(draft, rng.random(batch)) for _ in range(K)], axis=1)
    return draft, target, drafts, rng.random((batch, K + 2))


def seconds(work, clock=time.perf_counter):
    start = clock()
    work()
    return clock() - start


def median(values):
    return float(np.median(values))


def against_peers(batch, rounds, threads):
    draftpick.set_num_threads(threads)
    draft, target, drafts, coins = inputs(batch)
    ours = lambda: draftpick.select(draft, target, drafts, rule="kseq", coins=coins)  # noqa: E731
    peers = {"numpy": lambda peer=kseq_peers.NumPyKSeq(batch, VOCAB): peer(draft, target, drafts, coins)}
    try:
        import torch
    except ImportError:
        print("  torch is not installed: left out")
    else:
        torch.set_num_threads(threads)
        tensors = [torch.from_numpy(array) for array in (draft, target, drafts, coins)]
        peers["torch"] = lambda peer=kseq_peers.TorchKSeq(batch, VOCAB): peer(*tensors)
    chosen = ours()
    for name, peer in peers.items():
        tokens, accepted = (np.asarray(part) for part in peer())
        assert (accepted == chosen.accepted).all(), f"{name} accepts other drafts"
        taken = accepted >= 0
        assert (tokens[taken] == chosen.tokens[taken]).all(), f"{name} gives other tokens"
    times = {name: [] for name in ("draftpick", *peers)}
    clock = time.thread_time if threads == 1 else time.perf_counter
    for _ in range(rounds):
        for name, work in (("draftpick", ours), *peers.items()):
            times[name].append(seconds(work, clock))
    for name, spent in times.items():
        ratio = median(np.array(spent) / times["draftpick"])
        print(f"  batch {batch:3}  {name:10} {1e3 * median(spent):9.2f} ms   {ratio:6.2f} x draftpick's time")


def against_rust(batch, rounds):
    draft, target, drafts, coins = inputs(batch)
    draftpick.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name, array in (("draft", draft), ("target", target), ("drafts", drafts.astype(np.uint32)), ("coins", coins)):
            array.tofile(pathlib.Path(folder) / name)
        command = ["cargo", "bench", "--quiet", "-p", "draftpick-python", "--bench", "selection", "--"]
        command += [folder, str(batch), str(VOCAB), str(K)]
        rust = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        with rust:
            ready = rust.stdout.readline().split()
            work = lambda: draftpick.select(draft, target, drafts, coins=coins)  # noqa: E731
            tokens = work().tokens
            assert ready == [str(token) for token in tokens], "Rust selects other tokens"
            ours, theirs = [], []
            for _ in range(rounds):
                ours.append(seconds(work))
                print("again", file=rust.stdin, flush=True)
                theirs.append(float(rust.stdout.readline()))
            rust.stdin.close()
    ratio, extra = median(np.array(ours) / theirs), median(np.array(ours) - theirs)
    print(
        f"  batch {batch:3}  Python {1e3 * median(ours):8.3f} ms   Rust {1e3 * median(theirs):8.3f} ms   "
        f"ratio {ratio:.3f}   median difference {1e6 * extra:8.1f} µs"
    )


def bare_call(rounds):
    """What is left without anything to select from: the crossing itself; then with next to nothing, the library's fixed costs."""
    repeats = 200
    for name, batch in (("no position", 0), ("4 tokens, optimal-linear", 1)):
        logits, drafts, coins = np.zeros((batch, 4), np.float32), np.zeros((batch, 1), np.int64), np.full((batch, 3), 0.5)
        call = lambda: [draftpick.select(logits, logits, drafts, coins=coins) for _ in range(repeats)]  # noqa: E731, B023
        spent = median([seconds(call, time.thread_time) for _ in range(rounds)]) / repeats
        print(f"  {name:25} {1e6 * spent:7.1f} µs a call")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=draftpick.get_num_threads())
    args = parser.parse_args()
    rounds = args.rounds
    print(f"k-SEQ, prepare and select, V = {VOCAB}, k = {K}, {args.threads} threads each (NumPy has one)")
    for batch in (1, 8):
        against_peers(batch, rounds, args.threads)
    print(f"optimal-linear, V = {VOCAB}, k = {K}, 1 thread: Python over Rust")
    for batch in (1, 8, 64):
        against_rust(batch, rounds)
    print("the call alone, processor time")
    bare_call(rounds)
