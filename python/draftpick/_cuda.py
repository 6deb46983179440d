"""Tensors in the memory of an NVIDIA GPU, where this package was built with the feature `cuda`."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _arrays, _draftpick

#: The device type of DLPack that is an NVIDIA GPU's memory (kDLCUDA).
_CUDA = 2

_DTYPES = {"<f4": "float32", "<f2": "float16"}

_devices: dict[int, Any] = {}


def holds(value: Any) -> bool:
    """Whether a value is in such memory and this build takes it from there."""
    if type(value) is np.ndarray or not hasattr(_draftpick, "CudaDevice"):
        return False
    device = getattr(value, "__dlpack_device__", None)
    try:
        return device is not None and int(device()[0]) == _CUDA
    except (BufferError, RuntimeError, ValueError):  # no memory at all; the CPU's way says so
        return False


def _device(number: int) -> Any:
    if number not in _devices:
        _devices[number] = _draftpick.CudaDevice(number)
    return _devices[number]


#: Address, type, how many rows, from one to the next, their length.
_Rows = tuple[int, str, int, int, int]


def _capsule(value: Any, name: str, stream: int) -> Any:
    """What a tensor hands over by DLPack, its own work ordered before that of `stream`."""
    # 0 is no stream in this protocol; 1 is the default one.
    stream = stream or 1
    try:
        try:
            return value.__dlpack__(stream=stream, max_version=(1, 0))
        except TypeError:  # from before DLPack 1
            return value.__dlpack__(stream=stream)
    except (BufferError, RuntimeError, ValueError) as error:
        raise ValueError(f"{name} has no memory that can be read: {error}") from error


def _check_axes(shape: tuple[int, ...], name: str, ndim: int) -> None:
    if len(shape) != ndim:
        raise ValueError(f"{name} has {len(shape)} axes (shape {list(shape)}); it must have {ndim}")


def _tensor(value: Any, name: str, ndim: int, stream: int) -> tuple[_Rows, Any]:
    """The rows of a tensor, for work in `stream`; and what must be kept until that is done."""
    if not holds(value):
        raise ValueError(f"{name} is not on the GPU that the other logits are on")
    if hasattr(value, "data_ptr"):
        address, dtype = value.data_ptr(), str(value.dtype).removeprefix("torch.")
        shape, strides = tuple(value.shape), tuple(value.stride())
    elif hasattr(value, "__dlpack__"):
        number = int(value.__dlpack_device__()[1])
        try:
            rows = _draftpick.CudaRows(_capsule(value, name, stream), number)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        _check_axes(tuple(rows.shape), name, ndim)
        return rows.rows, rows
    else:
        interface = value.__cuda_array_interface__
        address, dtype = interface["data"][0], _DTYPES.get(interface["typestr"], interface["typestr"])
        shape, size = tuple(interface["shape"]), int(interface["typestr"][2:])
        strides = interface.get("strides")
        steps = [1]
        for length in shape[:0:-1]:
            steps.append(steps[-1] * length)
        strides = tuple(reversed(steps)) if strides is None else tuple(step // size for step in strides)
    _check_axes(shape, name, ndim)
    if shape[-1] > 1 and strides[-1] != 1:
        raise ValueError(f"the last axis of {name} is strided ({strides[-1]} elements apart); its rows must be contiguous")
    outer = range(ndim - 2)
    if any(shape[axis] > 1 and strides[axis] != strides[axis + 1] * shape[axis + 1] for axis in outer):
        raise ValueError(f"the rows of {name} are not evenly spaced (strides {list(strides)}); make it contiguous first")
    count = int(np.prod(shape[:-1], dtype=np.int64))
    return (address, dtype, count, strides[-2], shape[-1]), value


def _stream(*values: Any) -> int:
    """torch's current stream, if one of the tensors is torch's; else the default one."""
    for value in values:
        if type(value).__module__.split(".")[0] == "torch":
            import torch

            return torch.cuda.current_stream(value.device).cuda_stream
    return 0


def _pair(draft: Any, target: Any, ndim: int) -> tuple[Any, int, _Rows, _Rows, Any]:
    """The device, the stream to work in, the rows of both models; and what must be kept until the work is done."""
    number, other = int(draft.__dlpack_device__()[1]), int(target.__dlpack_device__()[1]) if holds(target) else -1
    if other != number:
        raise ValueError(f"target_logits is not on GPU {number}, where draft_logits is")
    stream = _stream(draft, target)
    device = _device(number)
    own, kept = _tensor(draft, "draft_logits", ndim, stream)
    rows, kept_too = _tensor(target, "target_logits", ndim, stream)
    return device, stream, own, rows, (kept, kept_too)


def _host(value: Any) -> Any:
    """Small integers, wherever they are."""
    return value.cpu() if holds(value) else value


def select(draft: Any, target: Any, drafts: Any, rule: str, coins: tuple[Any, ...], parameters: tuple[Any, ...]) -> tuple[Any, Any]:
    """:func:`draftpick.select` on the GPU that holds the logits; waits for its answer."""
    device, stream, own, other, kept = _pair(draft, target, 2)
    tokens = _arrays.tokens(_host(drafts), "drafts", 2)
    given = _arrays.coins(*coins, own[2], 2)
    answer = device.select(stream, rule, own, other, tokens, given, parameters)
    del kept  # given back now: the work is done
    return answer


def verify(
    tokens: Any, draft: Any, target: Any, verifier: str, coins: tuple[Any, ...], parameters: tuple[Any, ...]
) -> tuple[Any, Any, Any]:
    """:func:`draftpick.verify` on the GPU that holds the logits; waits for its answer."""
    if verifier != "path":
        raise ValueError(f"{verifier} has no kernel; on a GPU there is path")
    device, stream, own, other, kept = _pair(draft, target, 4)
    tokens = _arrays.tokens(_host(tokens), "tokens", 3)
    rows = tokens.shape[0]
    given = _arrays.coins(*coins, rows, 4)
    answer = device.verify(stream, tokens, own, other, given, parameters)
    del kept
    return answer
