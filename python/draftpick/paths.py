"""Verifying `K` drafted paths of `L` tokens against the target's scores along them, for a batch of `B` requests."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import _arrays, _cuda, _draftpick


class Ragged(NamedTuple):
    """Rows of different length, end to end."""

    #: `[sum of lengths]`: all tokens, row after row.
    tokens: npt.NDArray[np.int64]
    #: `[B + 1]`: row `b` is `tokens[offsets[b]:offsets[b + 1]]`.
    offsets: npt.NDArray[np.int64]


class Verified(NamedTuple):
    """The outcome of `B` rounds: drafted tokens that were kept, then one more."""

    #: `[B, L + 1]`: the output tokens, padded with −1.
    tokens: npt.NDArray[np.int64]
    #: `[B]`: the number of output tokens of each row, at least 1: one more than drafted tokens were kept.
    lengths: npt.NDArray[np.int64]
    #: `[B]`: a path that begins with the kept tokens: the one whose caches to keep.
    paths: npt.NDArray[np.int64]

    def ragged(self) -> Ragged:
        """The output tokens without the padding."""
        kept = np.arange(self.tokens.shape[1]) < self.lengths[:, None]
        return Ragged(self.tokens[kept], np.concatenate(([0], np.cumsum(self.lengths))))


def verify(
    tokens: Any,
    draft_logits: Any,
    target_logits: Any,
    *,
    verifier: str = "path",
    coins: Any = None,
    seeds: Any = None,
    positions: Any = None,
    temperature: Any = 1.0,
    top_k: Any = None,
    top_p: Any = None,
    min_p: Any = None,
    draft_temperature: Any = None,
) -> Verified:
    """Decides how far the drafts of each request are followed, and with what token the text goes on.

    The text has the target's law, whatever the draft model. Where paths share a prefix the rows of the first of them are
    read. With the GIL released, by several threads where there is enough to do.

    Args:
        tokens: `[B, K, L]` integers: `K` paths, drawn independently from the draft model, of `L` tokens each.
        draft_logits: `[B, K, L, V]` float32: `[b, k, l]` is what token `l` of path `k` was drawn from. Read in place. In a build
            with the feature `cuda` also tensors on an NVIDIA GPU, as in :func:`draftpick.select` (`path`; seeds).
        target_logits: `[B, K, L + 1, V]` float32: the target's after the first `l` tokens of the path. Read in place.
        verifier: `"path"` (the path coupling), `"traversal"`, `"block"` (one path), or `"token:RULE"` with a rule of
            :data:`draftpick.RULES` but `rrs-wor`.
        coins: `[B, 5, L + 1, K]` uniform numbers in `[0, 1)`, by purpose (:data:`draftpick.PURPOSES`), depth and draft.
        seeds, positions: in place of coins: `[B]` integers, or one for all. `positions` is the number of tokens before the
            round; never use the same pair twice.
        temperature, top_k, top_p, min_p: of both models, applied in this order; a number, or `[B]` of them. Leave them out
            where the logits already have them.
        draft_temperature: the draft model's, if it is another.

    Returns:
        The tokens, padded with −1, their number, and a path that begins with the kept ones; `.ragged()` has the tokens
        without padding.

    Raises:
        ValueError: with the row, whatever is refused: a logit NaN or +inf, a draft of probability 0, `block` with several
            paths.
    """
    parameters = _arrays.parameters(temperature, draft_temperature, top_k, top_p, min_p)
    if _cuda.holds(draft_logits):
        luck = (coins, seeds, positions)
        return Verified._make(_cuda.verify(tokens, draft_logits, target_logits, verifier, luck, parameters))
    tokens = _arrays.tokens(tokens, "tokens", 3)
    draft, target = _arrays.logits(draft_logits, "draft_logits", 4), _arrays.logits(target_logits, "target_logits", 4)
    given = _arrays.coins(coins, seeds, positions, tokens.shape[0], 4)
    return Verified._make(_draftpick.verify_paths(tokens, draft, target, verifier, given, parameters))


class Stop(NamedTuple):
    """One way in which a round may end."""

    #: The drafted tokens that are kept.
    tokens: tuple[int, ...]
    #: The probability of ending in this way, in `(0, 1]`.
    probability: float
    #: `[V]`: the law of the next token.
    next: npt.NDArray[np.float64]


def outcome_law(
    tokens: Any,
    draft_logits: Any,
    target_logits: Any,
    *,
    verifier: str = "path",
    temperature: Any = 1.0,
    top_k: Any = None,
    top_p: Any = None,
    min_p: Any = None,
    draft_temperature: Any = None,
) -> list[Stop]:
    """The exact law of the outcome of one request, given its drafts: what a proof of losslessness adds up.

    Args:
        tokens: `[K, L]` integers.
        draft_logits: `[K, L, V]` float32.
        target_logits: `[K, L + 1, V]` float32.
        verifier, temperature, top_k, top_p, min_p, draft_temperature: as in :func:`verify`.

    Returns:
        All ways of ending; several may keep the same tokens. The probabilities add up to 1.

    Raises:
        ValueError: as :func:`verify`; for `path` also more than 12 tokens a path.
    """
    stops = _draftpick.outcome_law(
        _arrays.tokens(tokens, "tokens", 2)[None],
        _arrays.logits(draft_logits, "draft_logits", 3)[None],
        _arrays.logits(target_logits, "target_logits", 3)[None],
        verifier,
        _arrays.parameters(temperature, draft_temperature, top_k, top_p, min_p),
    )
    return [Stop(tuple(tokens), probability, following) for tokens, probability, following in stops]
