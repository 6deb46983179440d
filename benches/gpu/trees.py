"""Drafted trees on one GPU beside a copy of the bytes that their verification reads.

    python3 benches/gpu/trees.py path/to/libgpu_library.so [--quick]

Rows and timing are those of `compare.py`; a tree has K paths of L tokens drawn from its rows, sharing nodes where their
tokens agree. `copy` is a device-to-device copy of both rows of every node that has drafts and of one row of the target
for each tree. `tokens` is the mean number of drafted tokens that are kept.
"""

import argparse
import ctypes
import json

import torch

from compare import CACHE, FORMATS, Inputs, load, time_of

RULES = ["path", "spread"]


class TreeCall(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int64)
        for name in ("draft target draft_rows target_rows nodes tokens lengths paths_of seeds starts stream stride drafts "
                     "targets trees pairs paths length").split()
    ]


class Forest:
    """Trees with the rows of their nodes."""

    def __init__(self, trees, paths, length, vocab, dtype, generator):
        self.trees, self.paths, self.length, self.vocab = trees, paths, length, vocab
        most = trees * (1 + paths * (length - 1))
        rows = Inputs(most, paths, vocab, dtype, "zipf", generator)
        self.draft, self.target = rows.draft, rows.target
        drawn = rows.tokens.cpu().tolist()
        nodes, tokens = [], []
        inner = 0
        draft_rows, paths_of = [], []
        for _ in range(trees):
            number = {(): len(draft_rows)}
            draft_rows.append(inner)
            paths_of.append(paths)
            inner += 1
            at = [() for _ in range(paths)]
            way = [[number[()]] for _ in range(paths)]
            for depth in range(length):
                taken = {}
                for path in range(paths):
                    here = at[path]
                    # The next of the tokens that were drawn from the node's row.
                    turn = taken.get(here, 0)
                    taken[here] = turn + 1
                    at[path] = here + (drawn[draft_rows[number[here]]][turn],)
                for path in range(paths):
                    if at[path] not in number:
                        number[at[path]] = len(draft_rows)
                        has_drafts = depth + 1 < length
                        draft_rows.append(inner if has_drafts else -1)
                        paths_of.append(paths if has_drafts else 0)
                        inner += has_drafts
                    way[path].append(number[at[path]])
            nodes += way
            tokens += [list(path) for path in at]
        self.inner, self.pairs = inner, len(draft_rows)
        # A leaf's row of the target is one of the others: which does not matter.
        target_rows = [row if row >= 0 else pair % most for pair, row in enumerate(draft_rows)]
        on_device = lambda values: torch.tensor(values, device="cuda", dtype=torch.int32)
        self.nodes, self.tokens = on_device(nodes), on_device(tokens)
        self.lengths = on_device([length] * (trees * paths))
        self.draft_rows, self.target_rows, self.paths_of = on_device(draft_rows), on_device(target_rows), on_device(paths_of)
        self.seeds = torch.randint(0, 1 << 60, (trees,), device="cuda", generator=generator)
        self.starts = torch.randint(0, 1 << 20, (trees,), device="cuda", generator=generator)

    def bytes(self):
        return (2 * self.inner + self.trees) * self.vocab * self.draft.element_size()


class Verifier:
    """A rule of the library with room for such trees."""

    def __init__(self, library, rule, dtype, vocab, trees, pairs, paths, length):
        self.library = library
        sizes = (ctypes.c_int64 * 4)(trees, pairs, paths, length)
        self.handle = library.draftpick_open_trees(RULES.index(rule), FORMATS[dtype], vocab, sizes)
        if not self.handle:
            raise RuntimeError("see above")

    def verify(self, forest):
        addresses = {name: getattr(forest, name).data_ptr() for name in (
            "draft target draft_rows target_rows nodes tokens lengths paths_of seeds starts").split()}
        rows = forest.draft.shape[0]
        call = TreeCall(
            **addresses, stream=torch.cuda.current_stream().cuda_stream, stride=forest.draft.stride(0), drafts=rows,
            targets=rows, trees=forest.trees, pairs=forest.pairs, paths=forest.paths, length=forest.length,
        )
        if self.library.draftpick_verify(self.handle, ctypes.byref(call)):
            raise RuntimeError("see above")

    def outcomes(self, trees):
        """The tokens kept of each tree, and the flags."""
        addresses = (ctypes.c_uint64 * 2)()
        self.library.draftpick_outcomes(self.handle, addresses)
        torch.cuda.synchronize()
        found = torch.empty((2, trees), dtype=torch.int32, device="cuda")
        for i, address in enumerate(addresses):
            found[i] = borrowed(address, trees)
        return found.cpu()

    def close(self):
        self.library.draftpick_close_trees(self.handle)


def borrowed(address, count):
    """Numbers in device memory that another library owns."""
    class Holder:
        __cuda_array_interface__ = {"shape": (count,), "typestr": "<i4", "data": (address, False), "version": 3, "strides": None}

    return torch.as_tensor(Holder(), device="cuda")


def load_trees(path):
    library = load(path)
    library.draftpick_open_trees.restype = ctypes.c_void_p
    library.draftpick_open_trees.argtypes = [ctypes.c_int32, ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p]
    library.draftpick_verify.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.draftpick_outcomes.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.draftpick_close_trees.argtypes = [ctypes.c_void_p]
    return library


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("library")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    library = load_trees(arguments.library)
    print(torch.cuda.get_device_name(), "torch", torch.__version__, flush=True)
    generator = torch.Generator("cuda").manual_seed(1)
    bf16, f32 = torch.bfloat16, torch.float32
    shapes = [(64, paths, 5, 128_256, bf16) for paths in (1, 2, 4)] + [(1, 8, 1, 128_256, bf16), (1, 4, 5, 128_256, bf16)]
    if not arguments.quick:
        shapes += [(1, 1, 5, 128_256, bf16), (1, 8, 8, 128_256, bf16)]
        shapes += [(trees, 4, 5, 128_256, bf16) for trees in (8, 256)] + [(512, 1, 5, 128_256, bf16), (16, 8, 8, 128_256, bf16)]
        shapes += [(trees, 4, 5, vocab, dtype) for vocab, dtype in ((32_000, bf16), (151_936, bf16), (128_256, f32)) for trees in (1, 64)]
    for trees, paths, length, vocab, dtype in shapes:
        first = Forest(trees, paths, length, vocab, dtype, generator)
        sets = max(2, min(24, -(-2 * CACHE // first.bytes())))
        forests = [first] + [Forest(trees, paths, length, vocab, dtype, generator) for _ in range(sets - 1)]
        rounds = [forests[i % sets] for i in range(max(sets, 8))]
        pairs = max(forest.pairs for forest in forests)
        size = sum(forest.bytes() for forest in forests) // sets // 2
        flat = [torch.empty((2, size), dtype=torch.uint8, device="cuda") for _ in range(2 * sets)]
        copies = [(lambda pair=flat[i % len(flat)]: (pair[1].copy_(pair[0]), None)) for i in range(2 * len(rounds))]
        copy = 2.0 * time_of(copies)
        del flat
        row = {"card": torch.cuda.get_device_name(), "trees": trees, "paths": paths, "length": length, "vocab": vocab,
               "dtype": str(dtype)[6:], "nodes": sum(forest.inner for forest in forests) / sets, "copy": copy}
        for rule in RULES:
            mine = Verifier(library, rule, dtype, vocab, trees, pairs, paths, length)
            kept = 0.0
            for forest in forests:
                mine.verify(forest)
                accepted, flags = mine.outcomes(trees)
                if flags.any():
                    raise RuntimeError(f"{rule} refuses trees: {flags.tolist()}")
                kept += accepted.double().mean().item() / sets
            row[f"{rule} tokens"] = kept
            row[rule] = time_of([lambda x=x: mine.verify(x) for x in rounds])
            mine.close()
        times = [f"{name} {row[name]:.1f} ({row[name] / copy:.2f})" for name in ["copy"] + RULES]
        kept = [f"{rule} {row[rule + ' tokens']:.2f}" for rule in RULES]
        print(f"{trees:4} x ({paths}, {length}) x {vocab:6} {row['dtype']:8}", "  ".join(times), " tokens:", "  ".join(kept), flush=True)
        print("#", json.dumps(row), flush=True)
        del forests, rounds, first
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
