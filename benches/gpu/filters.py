"""Thresholds of top-k, top-p and min-p on one GPU, beside a copy of the rows and beside other programs.

    python3 benches/gpu/filters.py path/to/libgpu_library.so [--quick]

Rows and timing are those of `compare.py`; `copy` is a device-to-device copy of the rows. `torch` is what engines do without
kernels of their own: a sort, a cumulative sum, a scatter. `flashinfer` is its top_k_mask_logits and its top_p_renorm_probs,
after a softmax, where it is installed.
"""

import argparse
import ctypes
import json

import torch

from compare import CACHE, FORMATS, Inputs, load, time_of

FILTERS = {
    "none": (2**31 - 1, 1.0, 0.0), "top-k": (50, 1.0, 0.0), "top-p": (2**31 - 1, 0.9, 0.0), "min-p": (2**31 - 1, 1.0, 0.05),
    "all": (50, 0.9, 0.05),
}


class FilterCall(ctypes.Structure):
    _fields_ = [
        ("logits", ctypes.c_uint64), ("stream", ctypes.c_uint64), ("stride", ctypes.c_int64), ("rows", ctypes.c_int64),
        ("top_k", ctypes.c_int32), ("top_p", ctypes.c_float), ("min_p", ctypes.c_float),
    ]


class Filter:
    """A prepared filter of the library."""

    def __init__(self, library, dtype, vocab, rows):
        library.draftpick_filter_open.restype = ctypes.c_void_p
        library.draftpick_filter_open.argtypes = [ctypes.c_int32, ctypes.c_int64, ctypes.c_int64]
        library.draftpick_filter.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        library.draftpick_filter_close.argtypes = [ctypes.c_void_p]
        self.library, self.handle = library, library.draftpick_filter_open(FORMATS[dtype], vocab, rows)
        if not self.handle:
            raise RuntimeError("see above")

    def find(self, logits, parameters):
        stream = torch.cuda.current_stream().cuda_stream
        call = FilterCall(logits.data_ptr(), stream, logits.stride(0), logits.shape[0], *parameters)
        if self.library.draftpick_filter(self.handle, ctypes.byref(call)):
            raise RuntimeError("see above")

    def close(self):
        self.library.draftpick_filter_close(self.handle)


def sorted_by_torch(logits, k, p):
    """Top-k, then top-p, of all rows; the logits with what goes at −inf."""
    ordered, places = logits.float().sort(dim=-1)
    if k < logits.shape[1]:
        ordered.masked_fill_(ordered < ordered[:, -k].unsqueeze(1), -torch.inf)
    if p < 1.0:
        gone = ordered.softmax(-1).cumsum(-1) <= 1.0 - p
        gone[:, -1] = False
        ordered.masked_fill_(gone, -torch.inf)
    return torch.empty_like(ordered).scatter_(-1, places, ordered)


def peers(quick):
    found = {"torch": {"top-k": lambda x: sorted_by_torch(x, 50, 1.0), "top-p": lambda x: sorted_by_torch(x, 2**31, 0.9),
                       "all": lambda x: sorted_by_torch(x, 50, 0.9)}}
    try:
        import flashinfer.sampling as sampling
    except ImportError:
        return found
    found["flashinfer"] = {
        "top-k": lambda x: sampling.top_k_mask_logits(x.float(), 50),
        "top-p": lambda x: sampling.top_p_renorm_probs(torch.softmax(x.float(), -1), 0.9),
    }
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    library = load(arguments.library)
    shapes = [(384, 128_256, torch.bfloat16)]
    if not arguments.quick:
        shapes += [(rows, vocab, dtype) for rows, vocab, dtype in [
            (1, 128_256, torch.bfloat16), (6, 128_256, torch.bfloat16), (48, 128_256, torch.bfloat16),
            (384, 32_000, torch.bfloat16), (384, 151_936, torch.bfloat16), (384, 128_256, torch.float32),
            (6, 128_256, torch.float32), (384, 128_256, torch.float16),
        ]]
    for rows, vocab, dtype in shapes:
        generator = torch.Generator(device="cuda").manual_seed(1)
        one = rows * vocab * dtype.itemsize
        sets = [Inputs(rows, 1, vocab, dtype, "zipf", generator).target for _ in range(max(2, CACHE // one + 1) if one < CACHE else 2)]
        calls = range(max(len(sets), 8))
        room = torch.empty_like(sets[0])
        line = {"rows": rows, "vocab": vocab, "dtype": str(dtype).removeprefix("torch."), "device": torch.cuda.get_device_name(0)}
        line["copy"] = time_of([lambda i=i: room.copy_(sets[i % len(sets)]) for i in calls])
        filter = Filter(library, dtype, vocab, rows)
        for name, parameters in FILTERS.items():
            line[name] = time_of([lambda i=i: filter.find(sets[i % len(sets)], parameters) for i in calls])
        filter.close()
        for peer, filters in peers(arguments.quick).items():
            for name, call in filters.items():
                try:
                    line[f"{peer} {name}"] = time_of([lambda i=i: call(sets[i % len(sets)]) for i in calls])
                except RuntimeError as error:  # not every peer can be captured
                    line[f"{peer} {name}"] = str(error).splitlines()[0]
        print(json.dumps({key: round(x, 2) if isinstance(x, float) else x for key, x in line.items()}), flush=True)


if __name__ == "__main__":
    main()
