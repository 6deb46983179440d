"""Lossless draft selection for speculative decoding, by optimal transport.

A small model drafts tokens, a large one checks them. These functions decide which drafts to output, or what instead, so that
the output has exactly the large model's law and as many drafts as possible are kept.

- One problem: :func:`alpha_star`, :func:`solve`, :class:`Selector`; many: :func:`compare`.
- An engine's batch: :func:`select` among `k` drafts of a position, :func:`verify` for `K` paths.
- An engine's own conventions: :mod:`draftpick.engines`, with vLLM's rejection sampler and trees of parents.
- Any engine's log, or its rounds: :func:`audit` says whether it is lossless.
- Pairs of transformers models: :mod:`draftpick.transformers`, which needs torch.
- Randomness is an argument: coins, or seeds that stand for them (:func:`coins`).

Everything refused is a `ValueError` that names the place and the value.
"""

from ._draftpick import get_num_threads, set_num_threads
from .audits import Audited, Auditor, audit
from .paths import Ragged, Stop, Verified, outcome_law, verify
from .problems import RULES, Comparison, Selector, Solution, alpha_star, compare, solve
from .selection import PURPOSES, Prepared, Selected, coins, draw, select

__all__ = [
    "PURPOSES",
    "RULES",
    "Audited",
    "Auditor",
    "Comparison",
    "Prepared",
    "Ragged",
    "Selected",
    "Selector",
    "Solution",
    "Stop",
    "Verified",
    "alpha_star",
    "audit",
    "coins",
    "compare",
    "draw",
    "get_num_threads",
    "outcome_law",
    "select",
    "set_num_threads",
    "solve",
    "verify",
]
