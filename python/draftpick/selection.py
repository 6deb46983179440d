"""Selecting among `k` drafts of one position, for a batch of `B` positions; drawing the drafts; the coins of both."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import _arrays, _cuda, _draftpick

#: What a coin can be for: the second axis of an array of coins for :func:`draftpick.verify`.
PURPOSES: tuple[str, ...] = ("draft", "edge", "label", "accept", "residual")


class Selected(NamedTuple):
    """The outcome of `B` selections."""

    #: `[B]`: the output tokens.
    tokens: npt.NDArray[np.int64]
    #: `[B]`: which draft was accepted; −1 where the token was drawn from the residual.
    accepted: npt.NDArray[np.int64]


def select(
    draft_logits: Any,
    target_logits: Any,
    drafts: Any,
    *,
    rule: str = "optimal-linear",
    coins: Any = None,
    seeds: Any = None,
    positions: Any = None,
    temperature: Any = 1.0,
    top_k: Any = None,
    top_p: Any = None,
    min_p: Any = None,
    draft_temperature: Any = None,
) -> Selected:
    """Selects one of the `k` drafts at each of `B` positions, or resamples: the output has the target's law.

    The logits are read in place, by several threads where there is enough to do, with the GIL released; without
    temperature or filters nothing is copied. `O(V)` a position for `optimal-linear`, `kseq` and `maximal`.

    Args:
        draft_logits: `[B, V]` float32: what the drafts were drawn from. NumPy, or anything on the CPU that speaks DLPack
            or the array interface. −inf masks a token. Rows are contiguous; the batch axis may have any stride. In a build
            with the feature `cuda` also tensors on an NVIDIA GPU, in float32, float16 or bfloat16, both on the same one: the
            kernels read them there on torch's current stream (`maximal`, `kseq`, `optimal-linear`).
        target_logits: `[B, V]` float32: what the output is to have the law of.
        drafts: `[B, k]` integers: tokens drawn independently from the draft law (for `rrs-wor`: without replacement).
        rule: one of :data:`draftpick.RULES`.
        coins: `[B, k + 2]` uniform numbers in `[0, 1)`: one a draft, the accept coin, the residual coin. Fresh ones: not
            those that drew the drafts.
        seeds, positions: in place of coins: `[B]` integers, or one for all. The coins are then a function of both
            (Philox): never use the same pair twice.
        temperature, top_k, top_p, min_p: of both models, applied in this order; a number, or `[B]` of them. Leave them out
            where the logits already have them.
        draft_temperature: the draft model's, if it is another.

    Returns:
        The tokens `[B]`, and which draft each is `[B]`.

    Raises:
        ValueError: with the row, whatever is refused: a logit NaN or +inf, a draft of probability 0, a coin of 1.

    >>> import numpy
    >>> logits = numpy.zeros((1, 4), numpy.float32)
    >>> select(logits, logits, [[2, 3]], seeds=1, positions=0).tokens.shape
    (1,)
    """
    parameters = _arrays.parameters(temperature, draft_temperature, top_k, top_p, min_p)
    if _cuda.holds(draft_logits):
        luck = (coins, seeds, positions)
        return Selected._make(_cuda.select(draft_logits, target_logits, drafts, rule, luck, parameters))
    draft, target = _arrays.logits(draft_logits, "draft_logits", 2), _arrays.logits(target_logits, "target_logits", 2)
    given = _arrays.coins(coins, seeds, positions, draft.shape[0], 2)
    return Selected._make(
        _draftpick.select(draft, target, _arrays.tokens(drafts, "drafts", 2), rule, given, parameters)
    )


class Prepared:
    """A rule prepared for a batch of positions, to select from any number of times.

    Holds a copy of the logits, so that the caller's may change in the meantime; :func:`select` makes none.
    """

    def __init__(
        self,
        draft_logits: Any,
        target_logits: Any,
        k: int,
        *,
        rule: str = "optimal-linear",
        temperature: Any = 1.0,
        top_k: Any = None,
        top_p: Any = None,
        min_p: Any = None,
        draft_temperature: Any = None,
    ) -> None:
        """Prepares the rule for `k` drafts at each position. All arguments are as in :func:`select`.

        Raises:
            ValueError: as :func:`select`.
        """
        self._inner = _draftpick.PreparedBatch(
            _arrays.logits(draft_logits, "draft_logits", 2),
            _arrays.logits(target_logits, "target_logits", 2),
            k,
            rule,
            _arrays.parameters(temperature, draft_temperature, top_k, top_p, min_p),
        )
        self.rule = rule

    @property
    def shape(self) -> tuple[int, int, int]:
        """The numbers of positions `B`, of drafts `k` and of tokens `V`."""
        return self._inner.shape

    @property
    def acceptance(self) -> npt.NDArray[np.float64]:
        """`[B]`: the probability that a draft is accepted."""
        return self._inner.acceptance()

    def select(self, drafts: Any, *, coins: Any = None, seeds: Any = None, positions: Any = None) -> Selected:
        """Selects among the `[B, k]` drafts; `coins`, `seeds` and `positions` as in :func:`select`.

        Raises:
            ValueError: as :func:`select`.
        """
        given = _arrays.coins(coins, seeds, positions, self.shape[0], 2)
        return Selected._make(self._inner.select(_arrays.tokens(drafts, "drafts", 2), given))


def draw(
    logits: Any,
    coins: Any,
    *,
    temperature: Any = 1.0,
    top_k: Any = None,
    top_p: Any = None,
    min_p: Any = None,
) -> npt.NDArray[np.int64]:
    """Draws a token from each row by inversion: one of probability 0 never comes out, whatever the coin.

    Args:
        logits: `[B, V]` float32, read in place.
        coins: `[B]` uniform numbers in `[0, 1)`.
        temperature, top_k, top_p, min_p: applied in this order; a number, or `[B]` of them.

    Returns:
        `[B]` tokens.

    Raises:
        ValueError: a logit NaN or +inf, a row all −inf, a coin outside `[0, 1)`, a parameter out of range.
    """
    given = _arrays.coins(coins, None, None, 1, 1)
    parameters = _arrays.parameters(temperature, None, top_k, top_p, min_p)
    return _draftpick.draw(_arrays.logits(logits, "logits", 2), given, parameters)


def coins(seeds: Any, positions: Any, purpose: str, depths: Any = 0, drafts: Any = 0) -> npt.NDArray[np.float64]:
    """The coins at addresses, by Philox4x32-10 (Salmon et al. 2011): the ones that `seeds` and `positions` stand for.

    Args:
        seeds: of the requests, from 0 to 2**64 − 1.
        positions: the number of tokens before each round's first.
        purpose: one of :data:`PURPOSES`.
        depths: the number of tokens below the round's root.
        drafts: which draft, 0 where there is none to tell apart.

    All but `purpose` are integers or arrays of them, which broadcast.

    Returns:
        Uniform numbers in `[0, 1)`, in the shape that the arguments broadcast to.

    Raises:
        ValueError: no such purpose, or a negative number.
    """
    if purpose not in PURPOSES:
        raise ValueError(f"purpose is {purpose!r}; it must be one of {', '.join(PURPOSES)}")
    arrays = np.broadcast_arrays(*(np.asarray(value) for value in (seeds, positions, depths, drafts)))
    names = ("seeds", "positions", "depths", "drafts")
    flat = [_arrays.unsigned(array.ravel(), name, array.size) for array, name in zip(arrays, names)]
    drawn = _draftpick.philox(flat[0], flat[1], PURPOSES.index(purpose), flat[2], flat[3])
    return drawn.reshape(arrays[0].shape)
