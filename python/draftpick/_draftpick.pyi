"""The extension module: NumPy arrays of exact types in and out. The modules beside it are what users call."""

from collections.abc import Callable
from typing import TypeAlias, final

import numpy as np
import numpy.typing as npt

_F32: TypeAlias = npt.NDArray[np.float32]
_F64: TypeAlias = npt.NDArray[np.float64]
_I64: TypeAlias = npt.NDArray[np.int64]
_U64: TypeAlias = npt.NDArray[np.uint64]
_Coins: TypeAlias = _F64 | tuple[_U64, _U64]
_Parameter: TypeAlias = float | _F64
_Parameters: TypeAlias = tuple[
    _Parameter, _Parameter | None, _Parameter | None, _Parameter | None, _Parameter | None
]

def alpha_star(draft: _F64, target: _F64, k: int) -> float: ...
def solve(
    draft: _F64, target: _F64, k: int, exact: bool
) -> tuple[float, _I64, float, list[tuple[str, float, float]], float | None]: ...
def measure(
    draft: _F32 | _F64, target: _F32 | _F64, ks: list[int], probabilities: bool, parameters: _Parameters
) -> tuple[_F64, _F64, _F64]: ...
def rule_names() -> list[str]: ...
def philox(seeds: _U64, positions: _U64, purpose: int, depths: _U64, drafts: _U64) -> _F64: ...
def draw(logits: _F32, coins: _F64, parameters: _Parameters) -> _I64: ...
def select(
    draft_logits: _F32, target_logits: _F32, drafts: _I64, rule_name: str, coins: _Coins, parameters: _Parameters
) -> tuple[_I64, _I64]: ...
def verify_paths(
    tokens: _I64,
    draft_logits: _F32,
    target_logits: _F32,
    verifier_name: str,
    coins: _Coins,
    parameters: _Parameters,
) -> tuple[_I64, _I64, _I64]: ...
def outcome_law(
    tokens: _I64, draft_logits: _F32, target_logits: _F32, verifier_name: str, parameters: _Parameters
) -> list[tuple[list[int], float, _F64]]: ...
def verify_chains(
    draft_token_ids: _I64,
    cu_num_draft_tokens: _I64,
    draft_probs: _F32 | None,
    target_logits: _F32,
    bonus_token_ids: _I64,
    width: int,
    verifier_name: str,
    coins: _Coins,
    parameters: _Parameters,
) -> _I64: ...
def verify_tree(
    tokens: _I64,
    parents: _I64,
    draft_logits: _F32,
    target_logits: _F32,
    verifier_name: str,
    coins: _Coins,
    parameters: _Parameters,
) -> tuple[_I64, _I64, _I64]: ...
def follow_tree(
    tokens: _I64, parents: _I64, target_logits: _F32, coins: _Coins, parameters: _Parameters
) -> tuple[_I64, _I64, _I64]: ...
def audit_file(
    path: str,
    rule_name: str | None,
    options: tuple[float, float | None, int],
    progress: Callable[[int, int], object] | None,
) -> str: ...
def get_num_threads() -> int: ...
def set_num_threads(threads: int) -> None: ...
@final
class Auditor:
    def __new__(cls, header: str, options: tuple[float, float | None, int]) -> Auditor: ...
    def add(
        self,
        drafts: list[list[int]],
        draft: list[_F32 | _F64] | None,
        target: list[_F32 | _F64],
        output: list[int],
        next_only: bool,
    ) -> None: ...
    @property
    def rounds(self) -> int: ...
    def summary(self) -> str: ...
_Tensor: TypeAlias = tuple[int, str, int, int, int]

@final
class CudaRows:  # in builds with the feature cuda
    def __new__(cls, capsule: object, ordinal: int) -> CudaRows: ...
    @property
    def shape(self) -> list[int]: ...
    @property
    def rows(self) -> _Tensor: ...

@final
class CudaDevice:  # in builds with the feature cuda
    def __new__(cls, ordinal: int) -> CudaDevice: ...
    def select(
        self,
        stream: int,
        rule_name: str,
        draft: _Tensor,
        target: _Tensor,
        drafts: _I64,
        coins: _Coins,
        parameters: _Parameters,
    ) -> tuple[_I64, _I64]: ...
    def verify(
        self,
        stream: int,
        given: _I64,
        draft: _Tensor,
        target: _Tensor,
        coins: _Coins,
        parameters: _Parameters,
    ) -> tuple[_I64, _I64, _I64]: ...
@final
class PreparedSelector:
    def __new__(cls, draft: _F64, target: _F64, k: int, rule_name: str) -> PreparedSelector: ...
    @property
    def acceptance(self) -> tuple[float, float]: ...
    @property
    def without_replacement(self) -> bool: ...
    def law(self, drafts: _I64) -> _F64: ...
    def select(self, drafts: _I64, coins: _F64) -> tuple[int, int]: ...
@final
class PreparedBatch:
    def __new__(
        cls, draft_logits: _F32, target_logits: _F32, k: int, rule_name: str, parameters: _Parameters
    ) -> PreparedBatch: ...
    @property
    def shape(self) -> tuple[int, int, int]: ...
    def acceptance(self) -> _F64: ...
    def select(self, drafts: _I64, coins: _Coins) -> tuple[_I64, _I64]: ...
