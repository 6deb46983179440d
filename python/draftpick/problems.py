"""Single problems and tables of them: what any rule can reach, and what each reaches.

`p` is the draft model's law, `q` the target's, both over the same `V` tokens; `k` drafts are drawn from `p`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _arrays, _draftpick

#: The names of the selection rules, in the order of tables.
RULES: tuple[str, ...] = tuple(_draftpick.rule_names())


def alpha_star(draft: Any, target: Any, k: int) -> float:
    """The largest acceptance that any rule for `k` independent drafts reaches: `1 + min over H of q(H) − p(H)^k`.

    Hu et al. 2025 (arXiv 2502.18779). `O(V log V)`.

    Args:
        draft: `[V]` probabilities of the draft model, float64; they add up to 1 within 1e-9.
        target: `[V]` probabilities of the target model.
        k: the number of drafts, 1 to 64.

    Returns:
        A probability.

    Raises:
        ValueError: no distributions, vocabularies of different size, or `k` out of range.

    >>> round(alpha_star([0.5, 0.3, 0.2], [0.2, 0.3, 0.5], 2), 12)
    0.86
    """
    return _draftpick.alpha_star(_arrays.probabilities(draft, "draft"), _arrays.probabilities(target, "target"), k)


@dataclass(frozen=True)
class Solution:
    """What :func:`solve` found."""

    #: The number of drafts.
    k: int
    #: The largest acceptance of any rule for independent drafts, in `[0, 1]`.
    optimum: float
    #: The set `H` of tokens that proves it, most over-drafted first; empty where the optimum is 1.
    min_cut: npt.NDArray[np.int64]
    #: The share of the optimum that k-SEQ always reaches: `1 − (1 − 1/k)^k`.
    guarantee: float
    #: The acceptance of each rule that takes `k` drafts.
    acceptance: dict[str, float]
    #: Its standard error: 0 where it is exact, as it is for all but `rrs-wor` at `k` ≥ 3 and a large vocabulary.
    standard_error: dict[str, float]
    #: The optimum of the transport program, if `exact` was asked for; its certificate was checked.
    linear_program: float | None


def solve(draft: Any, target: Any, k: int, *, exact: bool = False) -> Solution:
    """One problem: the optimum, the set that proves it, and what each rule attains.

    Args:
        draft: `[V]` probabilities of the draft model, float64.
        target: `[V]` probabilities of the target model.
        k: the number of drafts, 1 to 64.
        exact: also solve the transport as a maximum flow over draft sets, and check the answer's certificate within
            1e-9. For small problems: a program too large is refused.

    Raises:
        ValueError: no distributions, vocabularies of different size, `k` out of range, or a program too large.

    >>> solution = solve([0.5, 0.3, 0.2], [0.2, 0.3, 0.5], 2, exact=True)
    >>> {rule: round(acceptance, 4) for rule, acceptance in solution.acceptance.items()}
    {'rrs': 0.76, 'rrs-wor': 0.82, 'kseq': 0.7914, 'optimal': 0.86, 'optimal-linear': 0.86}
    >>> round(solution.linear_program, 12)
    0.86
    """
    law, other = _arrays.probabilities(draft, "draft"), _arrays.probabilities(target, "target")
    optimum, cut, guarantee, attained, program = _draftpick.solve(law, other, k, exact)
    acceptance = {rule: value for rule, value, _ in attained}
    errors = {rule: error for rule, _, error in attained}
    return Solution(k, optimum, cut, guarantee, acceptance, errors, program)


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` found, for `N` positions, `len(ks)` numbers of drafts and all rules."""

    #: The numbers of drafts.
    ks: tuple[int, ...]
    #: The rules' names: the third axis of `acceptance`.
    rules: tuple[str, ...]
    #: `[N, len(ks)]`: the optimum for independent drafts. No bound for `rrs-wor`.
    optimum: npt.NDArray[np.float64]
    #: `[N, len(ks), len(rules)]`: acceptances; NaN where a rule does not take that number of drafts.
    acceptance: npt.NDArray[np.float64]
    #: `[N, len(ks), len(rules)]`: their standard errors, 0 where exact.
    standard_error: npt.NDArray[np.float64]

    def mean(self, rule: str, k: int) -> float:
        """The mean acceptance of a rule over the positions."""
        return float(self.acceptance[:, self.ks.index(k), self.rules.index(rule)].mean())


def compare(
    draft: Any,
    target: Any,
    ks: Sequence[int] = (1, 2, 4, 8),
    *,
    values: str = "logits",
    temperature: Any = 1.0,
    top_k: Any = None,
    top_p: Any = None,
    min_p: Any = None,
    draft_temperature: Any = None,
) -> Comparison:
    """Every rule against the optimum on recorded scores.

    Args:
        draft: `[N, V]` scores of the draft model, float32 or float64.
        target: `[N, V]` scores of the target model.
        ks: the numbers of drafts.
        values: `"logits"`, or `"probabilities"` (float64).
        temperature, top_k, top_p, min_p: of both models, in this order; a number, or `[N]` of them.
        draft_temperature: the draft model's, if it is another.

    Raises:
        ValueError: scores of different shapes, scores that are no laws, parameters out of range.
    """
    if values not in ("logits", "probabilities"):
        raise ValueError(f"values is {values!r}; it must be 'logits' or 'probabilities'")

    def scores(value: Any, name: str) -> np.ndarray:
        array = _arrays._view(value, name)
        if array.dtype != np.float32 or values == "probabilities":
            array = np.asarray(array, dtype=np.float64)
        if array.ndim != 2:
            raise ValueError(f"{name} has {array.ndim} axes (shape {list(array.shape)}); it must have 2")
        return array

    parameters = _arrays.parameters(temperature, draft_temperature, top_k, top_p, min_p)
    found = _draftpick.measure(
        scores(draft, "draft"), scores(target, "target"), list(ks), values == "probabilities", parameters
    )
    return Comparison(tuple(ks), RULES, *found)


class Selector:
    """One rule prepared for one problem in float64: exact, and with its law, for checking and teaching.

    An engine calls :func:`draftpick.select`, which takes logits in batches.

    >>> import itertools, numpy
    >>> p, q = numpy.array([0.5, 0.3, 0.2]), numpy.array([0.2, 0.3, 0.5])
    >>> rule = Selector(p, q, 2, "kseq")
    >>> tuples = itertools.product(range(3), repeat=2)
    >>> output = sum(p[x] * p[y] * rule.law([x, y]) for x, y in tuples)  # lossless: the sum is q
    >>> print(numpy.abs(output - q).max() < 1e-12)
    True
    """

    def __init__(self, draft: Any, target: Any, k: int, rule: str = "optimal") -> None:
        """Prepares `rule`, one of :data:`RULES`. `O(V)` to `O(V log V)`.

        Args:
            draft: `[V]` probabilities of the draft model, float64.
            target: `[V]` probabilities of the target model.
            k: the number of drafts, 1 to 64.
            rule: the name of the rule.

        Raises:
            ValueError: no distributions, vocabularies of different size, `k` out of range, no such rule.
        """
        draft, target = _arrays.probabilities(draft, "draft"), _arrays.probabilities(target, "target")
        self._inner = _draftpick.PreparedSelector(draft, target, k, rule)
        self.k = k
        self.rule = rule

    @property
    def acceptance(self) -> float:
        """The probability that a draft is accepted."""
        return self._inner.acceptance[0]

    @property
    def standard_error(self) -> float:
        """The standard error of :attr:`acceptance`: 0 where it is exact."""
        return self._inner.acceptance[1]

    @property
    def without_replacement(self) -> bool:
        """Whether the drafts must be drawn without replacement; otherwise they are independent."""
        return self._inner.without_replacement

    def law(self, drafts: Any) -> npt.NDArray[np.float64]:
        """The exact law `[V]` of the output, given the `[k]` drafts.

        Raises:
            ValueError: the wrong number of drafts, or one that could not have been drawn.
        """
        return self._inner.law(_arrays.tokens(drafts, "drafts", 1))

    def select(self, drafts: Any, coins: Any) -> tuple[int, int]:
        """Selects: the output token, and which draft it is, −1 if it was drawn from the residual.

        Args:
            drafts: `[k]` tokens.
            coins: `[k + 2]` uniform numbers in `[0, 1)`: one a draft, the accept coin, the residual coin.

        Raises:
            ValueError: drafts that could not have been drawn, a coin outside `[0, 1)`, the wrong number of either.
        """
        given = _arrays.coins(coins, None, None, 1, 1)
        return self._inner.select(_arrays.tokens(drafts, "drafts", 1), given)
