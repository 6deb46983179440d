"""From what a caller has to the NumPy arrays that the extension takes, without copies of logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

#: The device type of DLPack that is the CPU's memory (kDLCPU).
_CPU = 1


def _view(value: Any, name: str) -> np.ndarray:
    """The array that `value` is, or a view of its memory: DLPack, then the array interface, then a copy of a list."""
    if isinstance(value, np.ndarray):
        return value
    device = getattr(value, "__dlpack_device__", None)
    if device is not None:
        try:
            kind, number = device()
        except (BufferError, RuntimeError, ValueError) as error:
            raise ValueError(f"{name} has no memory that can be read: {error}") from error
        if kind != _CPU:
            raise ValueError(
                f"{name} is on a device (DLPack type {int(kind)}, number {number}); this build reads the CPU's memory: "
                "move it there first, with .cpu()"
            )
        if getattr(value, "requires_grad", False):
            value = value.detach()  # the same memory
        try:
            return np.from_dlpack(value)
        except (BufferError, RuntimeError, TypeError) as error:
            # DLPack knows bfloat16, NumPy does not.
            raise ValueError(
                f"{name} cannot be read as a NumPy array ({error}); logits are float32, as .float() makes them"
            ) from error
    return np.asarray(value)


def logits(value: Any, name: str, ndim: int) -> npt.NDArray[np.float32]:
    """A float32 array of `ndim` axes that shares its memory with `value`."""
    array = value if type(value) is np.ndarray else _view(value, name)
    if array.dtype != np.float32:
        raise ValueError(
            f"{name} is {array.dtype}; it must be float32 (convert it with .astype(numpy.float32) or .float())"
        )
    if array.ndim != ndim:
        raise ValueError(f"{name} has {array.ndim} axes (shape {list(array.shape)}); it must have {ndim}")
    if not array.flags.aligned:
        raise ValueError(f"{name} is not aligned to its elements; make a copy of it first")
    return array


def probabilities(value: Any, name: str) -> npt.NDArray[np.float64]:
    """A float64 array of one axis."""
    array = np.ascontiguousarray(_view(value, name), dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} has {array.ndim} axes (shape {list(array.shape)}); it must have 1")
    return array


def tokens(value: Any, name: str, ndim: int) -> npt.NDArray[np.int64]:
    """An int64 array of `ndim` axes; a copy if `value` has other integers."""
    array = value if type(value) is np.ndarray else _view(value, name)
    if array.dtype != np.int64:
        if array.dtype.kind not in "iu" and array.size:
            raise ValueError(f"{name} is {array.dtype}; tokens are integers")
        array = array.astype(np.int64)
    if array.ndim != ndim:
        raise ValueError(f"{name} has {array.ndim} axes (shape {list(array.shape)}); it must have {ndim}")
    return array if array.flags.aligned else array.copy()


def parameter(value: Any, name: str) -> float | npt.NDArray[np.float64] | None:
    """A sampling parameter: a number for all requests, or one each; `None` for none."""
    if value is None or type(value) is float or type(value) is int:
        return value
    array = np.ascontiguousarray(_view(value, name), dtype=np.float64)
    if array.ndim == 0:
        return float(array)
    if array.ndim != 1:
        raise ValueError(f"{name} has {array.ndim} axes; it must be a number, or one for each request")
    return array


def parameters(temperature: Any, draft_temperature: Any, top_k: Any, top_p: Any, min_p: Any) -> tuple[Any, ...]:
    """The sampling parameters as the extension takes them."""
    return (
        parameter(1.0 if temperature is None else temperature, "temperature"),
        parameter(draft_temperature, "draft_temperature"),
        parameter(top_k, "top_k"),
        parameter(top_p, "top_p"),
        parameter(min_p, "min_p"),
    )


def unsigned(value: Any, name: str, rows: int) -> npt.NDArray[np.uint64]:
    """One number from 0 to 2⁶⁴ − 1 for each request; a single number is for all."""
    array = np.asarray(_view(value, name))
    if array.dtype.kind not in "iu" and array.dtype != object:
        raise ValueError(f"{name} is {array.dtype}; it must be integers")
    low, high = (0, 0) if array.size == 0 else (int(array.min()), int(array.max()))
    if low < 0 or high >= 1 << 64:
        raise ValueError(f"{name} has {low if low < 0 else high}; it must be from 0 to 2**64 - 1")
    array = array.astype(np.uint64)
    if array.ndim == 0:
        return np.full(rows, array)
    if array.shape != (rows,):
        raise ValueError(f"{name} has shape {list(array.shape)}; one value for each request makes that {[rows]}")
    return np.ascontiguousarray(array)


def coins(value: Any, seeds: Any, positions: Any, rows: int, ndim: int) -> Any:
    """The coins of a batch as the extension takes them: given, or by seeds and positions."""
    if (value is None) == (seeds is None):
        raise ValueError("give either coins or seeds: randomness is an argument")
    if value is None:
        if positions is None:
            raise ValueError("with seeds, give positions: the number of tokens before each request's round")
        return unsigned(seeds, "seeds", rows), unsigned(positions, "positions", rows)
    if positions is not None:
        raise ValueError("positions belong to seeds; coins need none")
    array = np.ascontiguousarray(_view(value, "coins"), dtype=np.float64)
    if array.ndim != ndim:
        raise ValueError(f"coins has {array.ndim} axes (shape {list(array.shape)}); it must have {ndim}")
    return array
