"""The kernels beside a copy of the bytes they read and beside other programs, on one GPU, in one run, on one memory.

    python3 benches/gpu/compare.py path/to/libgpu_library.so [--peers DIR] [--quick]

Every figure is the median time of a call in microseconds, from a CUDA graph of many calls that go round several sets of
inputs larger together than the cache, so that each call finds its rows in device memory. `copy` is a device-to-device
copy of the bytes that a call reads; figures in brackets are times over it.
"""

import argparse
import ctypes
import json
import statistics

import torch

FORMATS = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
RULES = ["maximal", "kseq", "optimal-linear"]
CACHE = 64 << 20  # more than the L2 of an H100 or H200


class Call(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int64)
        for name in "draft target draft_rows target_rows tokens coins seeds starts stream stride rows pairs k".split()
    ]


class Draftpick:
    """A prepared rule of the library."""

    def __init__(self, library, rule, dtype, vocab, pairs):
        self.library = library
        self.handle = library.draftpick_open(RULES.index(rule), FORMATS[dtype], vocab, pairs)
        if not self.handle:
            raise RuntimeError("see above")

    def select(self, inputs):
        call = Call(
            draft=inputs.draft.data_ptr(), target=inputs.target.data_ptr(), tokens=inputs.tokens.data_ptr(),
            seeds=inputs.seeds.data_ptr(), starts=inputs.starts.data_ptr(), stream=torch.cuda.current_stream().cuda_stream,
            stride=inputs.draft.stride(0), rows=inputs.draft.shape[0], pairs=inputs.tokens.shape[0], k=inputs.tokens.shape[1],
        )
        if self.library.draftpick_select(self.handle, ctypes.byref(call)):
            raise RuntimeError("see above")

    def close(self):
        self.library.draftpick_close(self.handle)


def load(path):
    library = ctypes.CDLL(path)
    library.draftpick_open.restype = ctypes.c_void_p
    library.draftpick_open.argtypes = [ctypes.c_int32, ctypes.c_int32, ctypes.c_int64, ctypes.c_int64]
    library.draftpick_select.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.draftpick_close.argtypes = [ctypes.c_void_p]
    return library


class Inputs:
    """Pairs of rows: one Zipf law in no order, seen by two models that differ; drafts drawn from the draft rows."""

    def __init__(self, pairs, k, vocab, dtype, kind, generator):
        stride = (vocab + 7) // 8 * 8
        rank = torch.arange(vocab, device="cuda", dtype=torch.int64) * 7919 % vocab
        zipf = 9.0 - 1.1 * torch.log(rank.double() + 3.0)

        def noise(size):
            uniform = torch.rand((4, pairs, vocab), device="cuda", generator=generator)
            return size * (uniform.sum(0) - 2.0)

        draft = zipf.float() + noise(1.0)
        target = {"zipf": lambda: draft + noise(2.0), "equal": lambda: draft, "distinct": lambda: noise(6.0)}[kind]()
        self.draft = torch.zeros((pairs, stride), device="cuda", dtype=dtype)[:, :vocab]
        self.target = torch.zeros((pairs, stride), device="cuda", dtype=dtype)[:, :vocab]
        self.draft.copy_(draft)
        self.target.copy_(target)
        law = torch.softmax(self.draft.float(), -1)
        self.tokens = torch.multinomial(law, k, replacement=True, generator=generator).int()
        self.seeds = torch.randint(0, 1 << 60, (pairs,), device="cuda", generator=generator)
        self.starts = torch.randint(0, 1 << 20, (pairs,), device="cuda", generator=generator)
        self.uniform = torch.rand((pairs, k + 2), device="cuda", generator=generator)
        self.vocab = vocab

    def bytes(self):
        return 2 * self.draft.shape[0] * self.vocab * self.draft.element_size()


def time_of(calls, repeats=15):
    """The median time of a call, in microseconds: all calls in one graph, replayed."""
    stream = torch.cuda.Stream()
    # The inputs are made on another stream, and memory that is free to that one may still be in use by it.
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        for call in calls[:3]:
            call()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            for call in calls:
                call()
        graph.replay()
        times = []
        for _ in range(repeats):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record(stream)
            graph.replay()
            end.record(stream)
            end.synchronize()
            times.append(start.elapsed_time(end) * 1000.0 / len(calls))
    return statistics.median(times)


def torch_softmax_gather(inputs, uniform):
    """What a program without kernels of its own does for one draft: two softmaxes, a gather, a residual draw."""
    p, q = torch.softmax(inputs.draft.float(), -1), torch.softmax(inputs.target.float(), -1)
    token = inputs.tokens[:, :1].long()
    accept = uniform[:, :1] < q.gather(1, token) / p.gather(1, token)
    residual = torch.clamp(q - p, min=0.0)
    # torch.multinomial cannot be captured in a graph; its exponential race is what it does for one sample.
    drawn = (residual / torch.empty_like(residual).exponential_()).argmax(-1, keepdim=True)
    return torch.where(accept, token, drawn)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("library")
    parser.add_argument("--peers")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rules", default=",".join(RULES))
    arguments = parser.parse_args()
    library = load(arguments.library)
    print(torch.cuda.get_device_name(), "torch", torch.__version__, flush=True)
    peers = []
    if arguments.peers:
        import peers as others

        peers = others.load(arguments.peers)
    batches = [64] if arguments.quick else [1, 8, 64, 256, 512]
    vocabs = [128_256] if arguments.quick else [32_000, 128_256, 151_936]
    dtypes = [torch.bfloat16] if arguments.quick else [torch.bfloat16, torch.float32]
    shapes = [(batch, 6, vocab, dtype, "zipf") for dtype in dtypes for vocab in vocabs for batch in batches]
    # The figures asked for come first: a run that is cut short has them.
    shapes.sort(key=lambda shape: (shape[3] != torch.bfloat16, shape[2] != 128_256, shape[0] != 64))
    shapes = [(1, 1, 128_256, torch.bfloat16, "zipf"), (64, 6, 128_256, torch.bfloat16, "equal"),
              (64, 6, 128_256, torch.bfloat16, "distinct")] + shapes
    generator = torch.Generator("cuda").manual_seed(1)
    for batch, positions, vocab, dtype, kind in shapes:
        pairs = batch * positions
        k = 8
        one = 2 * pairs * vocab * torch.empty((), dtype=dtype).element_size()
        sets = max(2, min(48, -(-2 * CACHE // one)))
        inputs = [Inputs(pairs, k, vocab, dtype, kind, generator) for _ in range(sets)]
        rounds = [inputs[i % sets] for i in range(max(sets, 8))]
        flat = [(torch.empty(one // 2, dtype=torch.uint8, device="cuda"), torch.empty(one // 2, dtype=torch.uint8, device="cuda")) for _ in range(2 * sets)]
        copies = [(lambda pair=flat[i % len(flat)]: (pair[1].copy_(pair[0]), None)) for i in range(2 * len(rounds))]
        copy = 2.0 * time_of(copies)
        del flat
        row = {"card": torch.cuda.get_device_name(), "batch": batch, "positions": positions, "vocab": vocab,
               "dtype": str(dtype)[6:], "rows": kind, "copy": copy}
        for rule in arguments.rules.split(","):
            mine = Draftpick(library, rule, dtype, vocab, pairs)
            row[rule] = time_of([lambda x=x: mine.select(x) for x in rounds])
            mine.close()
        if one < 1 << 30:
            row["torch"] = time_of([lambda x=x: torch_softmax_gather(x, x.uniform) for x in rounds], repeats=7)
        for name, peer in peers:
            call = peer(inputs, pairs, positions, vocab, dtype) if one < 1 << 30 else None
            if call:
                row[name] = time_of([lambda x=x: call(x) for x in rounds], repeats=7)
        figures = [f"{name} {value:.1f} ({value / copy:.2f})" for name, value in row.items() if isinstance(value, float)]
        print(f"{batch:4} x {positions} x {vocab:6} {row['dtype']:8} {kind:8}", "  ".join(figures), flush=True)
        print("#", json.dumps(row), flush=True)
        del inputs, rounds
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
