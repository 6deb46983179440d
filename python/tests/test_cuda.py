"""Tensors on a GPU: what comes out is what the CPU makes of the same numbers. Skipped where there is no GPU, with the reason."""

import ctypes
import gc

import numpy as np
import pytest

import draftpick
from draftpick import _cuda, _draftpick


class Elsewhere:
    """A tensor that says it is on a GPU; nothing reads what it points to."""

    def __init__(self, *shape, dtype="<f4", strides=None, number=0, kind=2):
        self.__cuda_array_interface__ = {"data": (64, True), "shape": shape, "typestr": dtype, "strides": strides, "version": 3}
        self.number, self.kind = number, kind

    def __dlpack_device__(self):
        return self.kind, self.number


def test_rows_are_read_off_a_tensor(monkeypatch):
    monkeypatch.setattr(_draftpick, "CudaDevice", object, raising=False)
    assert _cuda._tensor(Elsewhere(3, 5), "x", 2, 0)[0] == (64, "float32", 3, 5, 5)
    assert _cuda._tensor(Elsewhere(3, 5, dtype="<f2", strides=(16, 2)), "x", 2, 0)[0] == (64, "float16", 3, 8, 5)
    assert _cuda._tensor(Elsewhere(2, 3, 4, 5), "x", 4, 0)[0] == (64, "float32", 24, 5, 5)
    for tensor, ndim, message in [
        (Elsewhere(3, 5, strides=(4, 12)), 2, "the last axis of x is strided"),
        (Elsewhere(2, 3, 4, 5, strides=(960, 320, 40, 4)), 4, "not evenly spaced"),
        (Elsewhere(3, 5), 4, "x has 2 axes"),
        (np.zeros((3, 5), np.float32), 2, "x is not on the GPU"),
    ]:
        with pytest.raises(ValueError, match=message):
            _cuda._tensor(tensor, "x", ndim, 0)
    with pytest.raises(ValueError, match="target_logits is not on GPU 0"):
        _cuda._pair(Elsewhere(3, 5), Elsewhere(3, 5, number=1), 2)


class Device(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int32), ("number", ctypes.c_int32)]


class Type(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", Device),
        ("ndim", ctypes.c_int32),
        ("dtype", Type),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Managed(ctypes.Structure):
    _fields_ = [("tensor", DLTensor), ("context", ctypes.c_void_p), ("deleter", Deleter)]


class Versioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", Deleter),
        ("flags", ctypes.c_uint64),
        ("tensor", DLTensor),
    ]


class Lent:
    """A tensor that speaks DLPack alone, of version 1 or from before; notes what it is asked and when it is given back."""

    def __init__(self, shape, strides=None, versioned=True, kind=2, number=0, dtype=(2, 32, 1), data=4096, major=1):
        self.device, self.versioned, self.streams, self.returned = (kind, number), versioned, [], 0
        self.shape = (ctypes.c_int64 * len(shape))(*shape)
        self.strides = strides and (ctypes.c_int64 * len(shape))(*strides)
        tensor = DLTensor(data, Device(kind, number), len(shape), Type(*dtype), self.shape, self.strides or None, 0)
        self.deleter = Deleter(self.give_back)
        self.managed = Versioned(major, 3, None, self.deleter, 0, tensor) if versioned else Managed(tensor, None, self.deleter)

    def give_back(self, address):
        assert address == ctypes.addressof(self.managed)
        self.returned += 1

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, *, stream=None, **asked):
        if asked and not self.versioned:
            raise TypeError("an unexpected keyword")
        assert not self.versioned or asked == {"max_version": (1, 0)}
        self.streams.append(stream)
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        self.name = b"dltensor_versioned" if self.versioned else b"dltensor"  # kept: the capsule does not copy it
        self.capsule = new(ctypes.addressof(self.managed), self.name, None)
        return self.capsule


@pytest.mark.parametrize("versioned", [True, False])
def test_tensors_are_taken_over_by_dlpack_and_given_back_once(versioned):
    if not hasattr(_draftpick, "CudaRows"):
        pytest.skip("this build has no feature cuda")
    for shape, strides, rows in [
        ((3, 5), None, (4096, "float32", 3, 5, 5)),
        ((3, 5), (8, 1), (4096, "float32", 3, 8, 5)),
        ((2, 3, 4, 5), None, (4096, "float32", 24, 5, 5)),
    ]:
        lent = Lent(shape, strides, versioned)
        found, kept = _cuda._tensor(lent, "x", len(shape), 0)
        # The default stream is 1 in this protocol.
        assert (found, lent.streams, lent.returned) == (rows, [1], 0)
        # A capsule is good for one.
        with pytest.raises(ValueError, match="was taken before"):
            _draftpick.CudaRows(lent.capsule, 0)
        assert lent.returned == 0
        del kept
        assert lent.returned == 1
    lent = Lent((3, 5), None, versioned, dtype=(4, 16, 1))
    found, kept = _cuda._tensor(lent, "x", 2, 77)
    assert (found[1], lent.streams) == ("bfloat16", [77])
    del kept, found
    for lent, message in [
        (Lent((3, 5), (5, 2), versioned), "x: .*contiguous first"),
        (Lent((3, 5), None, versioned, dtype=(2, 64, 1)), "x: .*64 bits"),
        (Lent((3, 5), None, versioned, data=4098), "x: address 0x1002"),
        (Lent((3, 5, 1), None, versioned), "x has 3 axes"),
    ]:
        with pytest.raises(ValueError, match=message):
            _cuda._tensor(lent, "x", 2, 0)
        gc.collect()  # the traceback held it
        assert lent.returned == 1
    if versioned:
        lent = Lent((3, 5), major=2)
        with pytest.raises(ValueError, match="DLPack 2"):
            _cuda._tensor(lent, "x", 2, 0)
        assert lent.returned == 1
    with pytest.raises(ValueError, match="no capsule"):
        _draftpick.CudaRows(object(), 0)


def test_other_builds_and_devices_are_refused_with_a_message():
    kind = 2 if not hasattr(_draftpick, "CudaDevice") else 10  # another device's memory in a build that takes CUDA's
    with pytest.raises(ValueError, match="is on a device"):
        draftpick.select(Elsewhere(1, 5, kind=kind), np.zeros((1, 5), np.float32), [[0]], seeds=0, positions=0)


@pytest.fixture(scope="module")
def torch():
    if not hasattr(_draftpick, "CudaDevice"):
        pytest.skip("this build has no feature cuda")
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    return torch


def rows(seed, *shape):
    return np.random.default_rng(seed).normal(scale=2, size=shape).astype(np.float32)


@pytest.mark.parametrize("rule, k", [("maximal", 1), ("kseq", 1), ("kseq", 4), ("optimal-linear", 2), ("optimal-linear", 8)])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("vocab", [100, 32_000])
def test_selections_are_the_cpus(torch, rule, k, temperature, vocab):
    """Both sides take the same coins; a token may differ where a coin falls within rounding of a boundary.

    The temperature is a power of two, and the CPU is given logits that have it: what `optimal-linear` chooses hangs on their
    last digits.
    """
    count = 64
    draft, target = rows(1, count, vocab), rows(2, count, vocab)
    rng = np.random.default_rng(3)
    drafts = np.stack([draftpick.draw(draft, rng.random(count), temperature=temperature) for _ in range(k)], axis=1)
    factor = np.float32(1 / temperature)

    def differ(found, draft, target, **coins):
        return int((found.tokens != draftpick.select(draft * factor, target * factor, drafts, rule=rule, **coins).tokens).sum())

    keywords = dict(rule=rule, temperature=temperature)
    seeds, coins = dict(seeds=np.arange(count), positions=7), dict(coins=rng.random((count, k + 2)))
    with torch.cuda.stream(torch.cuda.Stream()):
        there = [torch.from_numpy(logits).cuda() for logits in (draft, target)]
        found = draftpick.select(*there, torch.from_numpy(drafts).cuda(), **seeds, **keywords)
    assert differ(found, draft, target, **seeds) <= 1
    kept = found.accepted >= 0
    assert (found.tokens[kept] == drafts[kept, found.accepted[kept]]).all()
    # Given coins; rows apart from each other; half precision.
    wide = torch.zeros(count, vocab + 24).cuda()
    wide[:, :vocab] = there[0]
    assert differ(draftpick.select(wide[:, :vocab], there[1], drafts, **coins, **keywords), draft, target, **coins) <= 1
    half = [logits.bfloat16() for logits in there]
    exact = [logits.float().cpu().numpy() for logits in half]
    assert differ(draftpick.select(*half, drafts, **coins, **keywords), *exact, **coins) <= 1


def masked(row, top_k=None, top_p=None, min_p=None):
    """A row with −inf for what the filters drop: of equal logits at top-p's cut those of the lower tokens."""
    scores = row.astype(np.float64) - row.max()
    if top_k is not None:
        scores[scores < np.sort(scores)[-top_k]] = -np.inf
    if top_p is not None:
        order = np.argsort(scores, kind="stable")
        mass = np.exp(scores[order])
        gone = np.cumsum(mass) / mass.sum() <= 1 - top_p
        gone[-1] = False
        scores[order[gone]] = -np.inf
    if min_p is not None:
        scores[np.exp(scores) < min_p] = -np.inf
    return np.where(scores > -np.inf, row, np.float32(-np.inf))


FILTERS = [dict(top_k=20), dict(top_p=0.9), dict(min_p=0.05), dict(top_k=50, top_p=0.8, min_p=0.01)]


@pytest.mark.parametrize("filters", FILTERS)
def test_masked_rows_are_those_of_the_library(filters):
    logits, coins = np.round(rows(20, 16, 500) * 4) / 4, np.linspace(0, 1, 16, endpoint=False)
    left = np.stack([masked(row, **filters) for row in logits])
    assert (draftpick.draw(left, coins) == draftpick.draw(logits, coins, **filters)).all()
    assert (left == -np.inf).any()


@pytest.mark.parametrize("vocab", [100, 32_000])
@pytest.mark.parametrize("filters", FILTERS)
def test_filters_leave_what_they_leave_on_the_cpu(torch, filters, vocab):
    """Rows filtered on the device against rows that were masked before: the same kernels select, on the same numbers."""
    count, k = 64, 4
    # Rows in bfloat16 have ties, which top-p splits.
    draft, target = (torch.from_numpy(rows(seed, count, vocab)).bfloat16() for seed in (12, 13))
    exact = [logits.float().numpy() for logits in (draft, target)]
    rng = np.random.default_rng(14)
    left = [np.stack([masked(row, **filters) for row in logits]) for logits in exact]
    drafts = np.stack([draftpick.draw(left[0], rng.random(count)) for _ in range(k)], axis=1)
    coins = dict(seeds=np.arange(count), positions=5)
    for rule in ("kseq", "optimal-linear"):
        expected = draftpick.select(*(torch.from_numpy(logits).cuda() for logits in left), drafts, rule=rule, **coins)
        for there in ((draft.cuda(), target.cuda()), (draft.float().cuda(), target.float().cuda())):
            found = draftpick.select(*there, drafts, rule=rule, **coins, **filters)
            assert (found.tokens == expected.tokens).all() and (found.accepted == expected.accepted).all()
    # One set of parameters a row: the second half is not filtered.
    none = dict(top_k=vocab, top_p=1.0, min_p=0.0)
    first = np.arange(count) < count // 2
    halves = {name: np.where(first, value, none[name]) for name, value in filters.items()}
    half = [np.where(first[:, None], masked_rows, whole) for masked_rows, whole in zip(left, exact)]
    expected = draftpick.select(*(torch.from_numpy(logits).cuda() for logits in half), drafts, rule="kseq", **coins)
    found = draftpick.select(draft.cuda(), target.cuda(), drafts, rule="kseq", **coins, **halves)
    assert (found.tokens == expected.tokens).all()
    # Whole paths, each with laws of its own after the root.
    B, K, L, V = 8, 2, 3, 500
    paths = [rows(15, B, K, L, V), rows(16, B, K, L + 1, V)]
    paths[0][:, :, 0], paths[1][:, :, 0] = paths[0][:, :1, 0], paths[1][:, :1, 0]
    left = [np.stack([masked(row, **filters) for row in logits.reshape(-1, V)]).reshape(logits.shape) for logits in paths]
    tokens = np.stack([draftpick.draw(left[0][:, k, l], rng.random(B)) for k in range(K) for l in range(L)], axis=1)
    tokens = tokens.reshape(B, K, L)
    tokens[:, 1] = np.where(tokens[:, :1, 0] == tokens[:, 1:, 0], tokens[:, 0], tokens[:, 1])  # those that agree are one
    coins = dict(seeds=np.arange(B), positions=3)
    expected = draftpick.verify(tokens, *(torch.from_numpy(logits).cuda() for logits in left), **coins)
    found = draftpick.verify(tokens, *(torch.from_numpy(logits).cuda() for logits in paths), **coins, **filters)
    assert (found.tokens == expected.tokens).all() and (found.lengths == expected.lengths).all()
    for wrong, message in [(dict(top_k=0), "top_k is 0"), (dict(top_p=1.5), "top_p is 1.5"), (dict(min_p=-1.0), "min_p is -1")]:
        with pytest.raises(ValueError, match=message):
            draftpick.select(draft.cuda(), target.cuda(), drafts, rule="kseq", seeds=1, positions=0, **wrong)


def test_tensors_that_speak_dlpack_alone_are_read(torch):
    class Alone:
        """A torch tensor with nothing but the protocol, made on another stream; notes the streams that it was asked for."""

        def __init__(self, tensor):
            self.tensor, self.streams = tensor, []

        def __dlpack_device__(self):
            return self.tensor.__dlpack_device__()

        def __dlpack__(self, **asked):
            self.streams.append(asked["stream"])
            return self.tensor.__dlpack__(**asked)

    count, vocab, k = 64, 32_000, 4
    draft, target = rows(7, count, vocab), rows(8, count, vocab)
    rng = np.random.default_rng(9)
    drafts = np.stack([draftpick.draw(draft, rng.random(count)) for _ in range(k)], axis=1)
    keywords = dict(rule="kseq", seeds=np.arange(count), positions=1)
    there = [torch.from_numpy(logits).cuda() for logits in (draft, target)]
    expected = draftpick.select(*there, drafts, **keywords)
    alone = [Alone(logits) for logits in there]
    assert (draftpick.select(*alone, drafts, **keywords).tokens == expected.tokens).all()
    assert alone[0].streams == alone[1].streams == [1]
    half = [Alone(logits.bfloat16()) for logits in there]
    exact = draftpick.select(*(logits.tensor for logits in half), drafts, **keywords)
    assert (draftpick.select(*half, drafts, **keywords).tokens == exact.tokens).all()
    # One of torch's beside it: on torch's stream, which the other is told to wait for.
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        mixed = Alone(there[1])
        assert (draftpick.select(there[0], mixed, drafts, **keywords).tokens == expected.tokens).all()
        assert mixed.streams == [stream.cuda_stream]
    # Four axes.
    K, L = 2, 3
    path = [rows(10, 4, K, L, 500), rows(11, 4, K, L + 1, 500)]
    path[0][:, :, 0], path[1][:, :, 0] = path[0][:, :1, 0], path[1][:, :1, 0]
    tokens = np.stack([draftpick.draw(path[0][:, k, l], rng.random(4)) for k in range(K) for l in range(L)], axis=1)
    tokens = tokens.reshape(4, K, L)
    tokens[:, 1, 0] = (tokens[:, 0, 0] + 1) % 500  # paths part at once
    on = [torch.from_numpy(logits).cuda() for logits in path]
    plain = draftpick.verify(tokens, *on, seeds=np.arange(4), positions=3)
    assert (draftpick.verify(tokens, *map(Alone, on), seeds=np.arange(4), positions=3).tokens == plain.tokens).all()


@pytest.mark.parametrize("K, L", [(1, 4), (2, 3), (4, 5)])
def test_paths_are_the_cpus(torch, K, L):
    B, V = 16, 4_000
    rng = np.random.default_rng(4)
    draft, target = rows(5, B, K, L, V), rows(6, B, K, L + 1, V)
    draft[:, :, 0], target[:, :, 0] = draft[:, :1, 0], target[:, :1, 0]  # all paths start at one node
    tokens = np.stack(
        [draftpick.draw(draft[:, k, l], rng.random(B)) for k in range(K) for l in range(L)], axis=1
    ).reshape(B, K, L)
    if K > 1:  # paths that agree share their laws
        tokens[::2, 1, 0] = tokens[::2, 0, 0]
        draft[::2, 1, 1:2], target[::2, 1, 1:2] = draft[::2, 0, 1:2], target[::2, 0, 1:2]
    keywords = dict(seeds=np.arange(B), positions=3)
    # One path is verified as a block there, which is what the path coupling comes to in law, with fewer coins.
    on_cpu = draftpick.verify(tokens, draft, target, verifier="block" if K == 1 else "path", **keywords)
    there = [torch.from_numpy(logits).cuda() for logits in (draft, target)]
    on_gpu = draftpick.verify(tokens, *there, **keywords)
    same = (on_gpu.tokens == on_cpu.tokens).all(axis=1) & (on_gpu.lengths == on_cpu.lengths)
    assert int((~same).sum()) <= 1, f"{int((~same).sum())} of {B} differ"
    for row, (length, path) in enumerate(zip(on_gpu.lengths, on_gpu.paths)):
        assert (on_gpu.tokens[row, : length - 1] == tokens[row, path, : length - 1]).all()
    # A temperature is a factor; a power of two rounds nothing.
    warm = draftpick.verify(tokens, *there, temperature=2.0, **keywords)
    scaled = draftpick.verify(tokens, *(logits * 0.5 for logits in there), **keywords)
    assert (warm.tokens == scaled.tokens).all() and not (warm.tokens == on_gpu.tokens).all()


def test_what_is_wrong_on_a_gpu_is_refused(torch):
    logits = torch.zeros(2, 8).cuda()
    bad = logits.clone()
    bad[1, 3] = float("nan")
    for call, message in [
        (lambda: draftpick.select(bad, logits, [[0], [1]], seeds=1, positions=0), "row 1: a draft logit is NaN"),
        (lambda: draftpick.select(logits, logits, [[0], [9]], seeds=1, positions=0), "row 1: a draft is outside"),
        (lambda: draftpick.select(logits, logits, [[0], [1]], rule="rrs", seeds=1, positions=0), "rrs has no kernel"),
        (lambda: draftpick.select(logits, logits, [[0], [1]], seeds=1, positions=0, temperature=0), "temperature is 0"),
        (lambda: draftpick.select(logits, logits.cpu(), [[0], [1]], seeds=1, positions=0), "not on GPU 0"),
        (lambda: draftpick.select(logits, logits[:, :7], [[0], [1]], seeds=1, positions=0), "target_logits has shape"),
        (lambda: draftpick.select(logits.double(), logits.double(), [[0], [1]], seeds=1, positions=0), "logits are float64"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
