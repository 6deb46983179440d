"""How arrays get in and out: without copies, from any library on the CPU, with the GIL released."""

import ast
import pathlib
import subprocess
import sys
import threading

import draftpick
import numpy as np
import pytest
from draftpick import _arrays, _draftpick

# A copy of the logits would need 17 GB twice; the process is allowed 2 GiB more than it has.
IN_PLACE = """
import resource
import numpy as np
import draftpick

V, K, L = 1 << 20, 64, 63
row = np.zeros(V, np.float32)
draft = np.broadcast_to(row, (1, K, L, V))
target = np.broadcast_to(row, (1, K, L + 1, V))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (2 << 30),) * 2)
out = draftpick.verify(np.zeros((1, K, L), int), draft, target, verifier="token:optimal-linear", seeds=1, positions=0)
print("verified", out.lengths[0])
try:
    np.ascontiguousarray(draft)
except MemoryError:
    print("a copy fails")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits its address space")
def test_logits_are_read_in_place():
    done = subprocess.run([sys.executable, "-c", IN_PLACE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "verified" in done.stdout and "a copy fails" in done.stdout


def test_batch_axes_may_have_any_stride(rng):
    logits = rng.normal(size=(6, 3, 50)).astype(np.float32)
    last = logits[::-2, -1]  # the last position of every second request, backwards
    assert not last.flags.c_contiguous and np.shares_memory(_arrays.logits(last, "logits", 2), logits)
    drafts = np.zeros((3, 2), int)
    views = draftpick.select(last, last, drafts, seeds=1, positions=0)
    copies = draftpick.select(last.copy(), last.copy(), drafts, seeds=1, positions=0)
    np.testing.assert_array_equal(views.tokens, copies.tokens)
    with pytest.raises(ValueError, match="the last axis of draft_logits is strided .2 elements apart"):
        draftpick.select(last[:, ::2], last[:, ::2], drafts, seeds=1, positions=0)
    transposed = np.zeros((2, 3), np.float32).T
    with pytest.raises(ValueError, match="the last axis"):
        draftpick.select(transposed, transposed, drafts, seeds=1, positions=0)


def test_read_only_arrays_are_read(rng):
    logits = rng.normal(size=(2, 5)).astype(np.float32)
    logits.flags.writeable = False
    assert draftpick.select(logits, logits, [[0], [1]], seeds=1, positions=0).tokens.shape == (2,)


def test_outputs_are_the_callers():
    logits = np.zeros((2, 5), np.float32)
    out = draftpick.select(logits, logits, [[0], [1]], seeds=1, positions=0)
    assert out.tokens.dtype == np.int64 and out.tokens.flags.writeable


class Foreign:
    """An array of another library: NumPy's own protocol for it."""

    def __init__(self, array):
        self.array = array

    @property
    def __array_interface__(self):
        return self.array.__array_interface__


class Exporting(Foreign):
    """The same with DLPack, on some device."""

    def __init__(self, array, device):
        super().__init__(array)
        self.device = device

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, **keywords):
        return self.array.__dlpack__(**keywords)


def test_other_libraries_share_their_memory(rng):
    array = rng.normal(size=(2, 5)).astype(np.float32)
    for foreign in (Foreign(array), Exporting(array, (1, 0))):
        assert np.shares_memory(_arrays.logits(foreign, "logits", 2), array)


def test_a_device_is_refused(rng):
    array = rng.normal(size=(2, 5)).astype(np.float32)
    with pytest.raises(ValueError, match=r"draft_logits is on a device \(DLPack type 10, number 1\).*\.cpu\(\)"):
        draftpick.select(Exporting(array, (10, 1)), array, [[0], [1]], seeds=1, positions=0)


def test_torch_tensors_share_their_memory():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    tensor = torch.zeros(3, 4, 7)[:, -1]
    view = _arrays.logits(tensor, "logits", 2)
    tensor[1, 2] = 5.0
    assert view[1, 2] == 5.0 and view.shape == (3, 7)
    drafts = torch.zeros(3, 1, dtype=torch.int32)
    for source in (tensor, tensor.clone().requires_grad_()):
        assert draftpick.select(source, source, drafts, seeds=1, positions=0).tokens.shape == (3,)
    for half in (torch.bfloat16, torch.float16):
        with pytest.raises(ValueError, match=r"\.float\(\)"):
            draftpick.select(tensor.to(half), tensor, drafts, seeds=1, positions=0)
    with pytest.raises(ValueError, match="draft_logits has no memory that can be read"):
        draftpick.select(tensor.to("meta"), tensor, drafts, seeds=1, positions=0)


def seen_while(work):
    """How often another thread ran while `work` was under way, if no thread is interrupted by force."""
    interval, state, seen = sys.getswitchinterval(), [], 0
    sys.setswitchinterval(1e3)
    try:

        def run():
            state.append("started")
            work()
            state.append("done")  # not if it failed

        thread = threading.Thread(target=run)
        thread.start()
        while "done" not in state:
            seen += state == ["started"]
            if not thread.is_alive():
                break
            threading.Event().wait(1e-4)  # lets go of the GIL
        thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert state == ["started", "done"]
    return seen


def test_the_gil_is_released(rng):
    draft, target = rng.normal(size=(2, 16, 50_000)).astype(np.float32)
    drafts = np.zeros((16, 2), int)
    threads = draftpick.get_num_threads()
    try:
        draftpick.set_num_threads(1)
        assert seen_while(lambda: draftpick.select(draft, target, drafts, seeds=1, positions=0, temperature=0.9)) > 0
    finally:
        draftpick.set_num_threads(threads)
    assert seen_while(lambda: sum(range(2_000_000))) == 0  # this one holds it


def test_the_stub_names_what_the_module_has():
    stub = pathlib.Path(draftpick.__file__).with_name("_draftpick.pyi")
    names = {node.name for node in ast.parse(stub.read_text()).body if hasattr(node, "name")}
    cuda = {"CudaDevice", "CudaRows"}  # in builds with the feature cuda only
    assert names - cuda == {name for name in dir(_draftpick) if not name.startswith("__")} - cuda
    assert stub.with_name("py.typed").exists()
