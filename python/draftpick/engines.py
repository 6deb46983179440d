"""The conventions of serving engines: vLLM's rejection sampler, and draft trees as arrays of parents.

An engine holds its batch in its own way. These functions take it as it is and give back what the engine's own would, with the
rules of this package in between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import _arrays, _draftpick

#: What stands in the place of a token where there is none.
PLACEHOLDER_TOKEN_ID = -1


def rejection_sample(
    draft_token_ids: Any,
    num_draft_tokens: Sequence[int],
    max_spec_len: int,
    cu_num_draft_tokens: Any,
    draft_probs: Any,
    target_logits: Any,
    bonus_token_ids: Any,
    sampling_metadata: Any = None,
    *,
    verifier: str = "block",
    coins: Any = None,
    seeds: Any = None,
    positions: Any = None,
    temperature: Any = None,
    top_k: Any = None,
    top_p: Any = None,
    min_p: Any = None,
) -> Any:
    """Verifies one drafted chain for each request of a ragged batch: a stand-in for vLLM's function of this name.

    A request keeps the first of its drafts, then gets one token more: the bonus token if all are kept, else one from the
    residual law. The text has the target's law. With `verifier="block"` (Sun et al. 2024, arXiv 2403.10444) as many drafts
    are kept as the chain allows, never fewer than with `"token:maximal"`, the rule of vLLM's own.

    Args:
        draft_token_ids: `[N]` integers: the drafts of all requests, end to end.
        num_draft_tokens: `[B]`: how many belong to each request, 0 included.
        max_spec_len: the most drafts of a request: the result has one column more.
        cu_num_draft_tokens: `[B]`: the sums of `num_draft_tokens`; `None` to add them up.
        draft_probs: `[N, V]` float32: the probabilities that each draft was drawn by, after temperature and filters; `None`
            for drafts that were not drawn at random (n-grams).
        target_logits: `[N, V]` float32: the target's logits at each draft, read in place. (Versions of vLLM that hand over
            probabilities here: pass their logarithms.)
        bonus_token_ids: `[B]` or `[B, 1]` integers: what follows if all are kept, drawn from the target.
        sampling_metadata: vLLM's, or anything with its fields `temperature` (0 for a greedy request), `all_greedy` and
            `generators`. As in vLLM, temperature and filters have been applied to `target_logits` then.
        verifier: `"block"`, `"path"` or `"traversal"` (the same for a chain), or `"token:RULE"`.
        coins: `[B, 5, D, 1]` with `D > max(num_draft_tokens)`: as in :func:`draftpick.verify`.
        seeds, positions: in place of coins, `[B]` integers, or one for all.
        temperature, top_k, top_p, min_p: without `sampling_metadata`: applied to the target's logits; a number, or `[B]` of
            them. A request of temperature 0 is greedy: its drafts are kept while they are the most probable tokens.

    Without coins and seeds, each request with drafts takes one number from its own generator in
    `sampling_metadata.generators` (torch's or NumPy's), and those without one from torch's default generator.

    Returns:
        `[B, max_spec_len + 1]` int32: the output tokens, padded with −1; a torch tensor if `target_logits` is one.

    Raises:
        ValueError: with the request, whatever is refused; no source of randomness.

    >>> import numpy
    >>> target = numpy.full((3, 6), -100, numpy.float32)
    >>> target[[0, 1, 2], [1, 2, 3]] = 100
    >>> rejection_sample([1, 2, 3], [2, 1], 2, None, None, target, [[5], [4]], seeds=0, positions=0, temperature=0)
    array([[ 1,  2,  5],
           [ 3,  4, -1]], dtype=int32)
    """
    drafts = _arrays.tokens(draft_token_ids, "draft_token_ids", 1)
    counts = np.asarray([int(count) for count in num_draft_tokens], np.int64)
    cumulative = np.cumsum(counts)
    if cu_num_draft_tokens is not None:
        given = _arrays.tokens(cu_num_draft_tokens, "cu_num_draft_tokens", 1)
        if not np.array_equal(given, cumulative):
            raise ValueError(
                f"cu_num_draft_tokens is {given.tolist()}, the sums of num_draft_tokens are {cumulative.tolist()}"
            )
    bonus = _arrays._view(bonus_token_ids, "bonus_token_ids")
    if bonus.ndim == 2 and bonus.shape[1] == 1:
        bonus = bonus[:, 0]
    generators: Mapping[int, Any] = {}
    if sampling_metadata is not None:
        if not (temperature is top_k is top_p is min_p is None):
            raise ValueError("with sampling_metadata, temperature and filters are applied to target_logits already")
        temperature = _greedy(sampling_metadata, len(counts))
        generators = getattr(sampling_metadata, "generators", None) or {}
    if coins is None and seeds is None:
        seeds, positions = _keys(counts, generators, target_logits), 0
    output = _draftpick.verify_chains(
        drafts,
        cumulative,
        None if draft_probs is None else _arrays.logits(draft_probs, "draft_probs", 2),
        _arrays.logits(target_logits, "target_logits", 2),
        _arrays.tokens(bonus, "bonus_token_ids", 1),
        max_spec_len + 1,
        verifier,
        _arrays.coins(coins, seeds, positions, len(counts), 4),
        _arrays.parameters(temperature, None, top_k, top_p, min_p),
    ).astype(np.int32)
    return _like(output, target_logits)


def _greedy(metadata: Any, rows: int) -> float | npt.NDArray[np.float64]:
    """Temperature 0 for the greedy requests, 1 for the others, whose logits have theirs already."""
    if getattr(metadata, "all_greedy", False):
        return 0.0
    given = getattr(metadata, "temperature", None)
    if given is None or getattr(metadata, "all_random", False):
        return 1.0
    given = np.asarray(_arrays._view(given, "sampling_metadata.temperature"), np.float64)
    if given.shape != (rows,):
        raise ValueError(f"sampling_metadata.temperature has shape {list(given.shape)}; there are {rows} requests")
    return np.where(given <= 0, 0.0, 1.0)  # older versions mark a greedy request by -1


def _keys(counts: npt.NDArray[np.int64], generators: Mapping[int, Any], logits: Any) -> npt.NDArray[np.uint64]:
    """One number for each request, from its generator or the default one. Requests without drafts take none."""
    keys = np.zeros(len(counts), np.uint64)
    without = []
    for row in np.flatnonzero(counts).tolist():
        generator = generators.get(row)
        if generator is None:
            without.append(row)
        elif isinstance(generator, np.random.Generator):
            keys[row] = generator.integers(1 << 64, dtype=np.uint64)
        else:
            keys[row] = _torch_keys(1, generator)[0]
    if without:
        if type(logits).__module__.split(".")[0] != "torch":
            raise ValueError(f"request {without[0]} has no generator; give coins, or seeds and positions")
        keys[without] = _torch_keys(len(without), None)
    return keys


def _torch_keys(count: int, generator: Any) -> npt.NDArray[np.uint64]:
    import torch

    device = "cpu" if generator is None else generator.device
    drawn = torch.randint(-(1 << 63), (1 << 63) - 1, (count,), generator=generator, device=device)
    return drawn.cpu().numpy().view(np.uint64)


def _like(output: np.ndarray, source: Any) -> Any:
    """The array, as a torch tensor of the same memory if `source` is one."""
    if type(source).__module__.split(".")[0] != "torch":
        return output
    import torch

    return torch.from_numpy(output)


def parse_output(output_token_ids: Any) -> list[list[int]]:
    """The output tokens of each request as lists, without the placeholders."""
    rows = _arrays.tokens(output_token_ids, "output_token_ids", 2)
    return [[token for token in row if token != PLACEHOLDER_TOKEN_ID] for row in rows.tolist()]


class VerifiedTree(NamedTuple):
    """The outcome of `B` trees: the tokens of the nodes that were kept, then one more."""

    #: `[B, D + 1]` with `D` the depth of the deepest tree: the output tokens, padded with −1.
    tokens: npt.NDArray[np.int64]
    #: `[B]`: the number of output tokens of each row, at least 1.
    lengths: npt.NDArray[np.int64]
    #: `[B, D]`: the nodes that were kept, from the root down (which is not among them), padded with −1: whose keys and
    #: values to keep.
    nodes: npt.NDArray[np.int64]


def verify_tree(
    tokens: Any,
    parents: Any,
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
) -> VerifiedTree:
    """Verifies drafts that are held as trees: a token and a parent for each node.

    Node 0 is the root, where the text ends so far; its token is not looked at. There are two kinds of trees:

    - *Drawn paths* (`draft_logits` given): each leaf is the end of one of the independent paths, all of one length. Paths
      that agree may share nodes up to where they part, and siblings may have the same token. Two whole paths that are
      equal need a leaf each.
    - *Chosen tokens* (`draft_logits` is `None`): n-grams, the `k` most probable tokens at each node, as EAGLE's trees have
      them. The target's next token is drawn at each node and followed while the tree has it. No rule keeps more of them.

    Args:
        tokens: `[B, N]` integers.
        parents: `[B, N]` integers, or `[N]` for all: −1 for node 0, an earlier node for every other.
        draft_logits: `[B, N, V]` float32: `[b, n]` is what the children of node `n` were drawn from; rows of leaves are not
            looked at. Or `None`.
        target_logits: `[B, N, V]` float32: the target's after node `n`. Read in place.
        verifier: for drawn paths, as in :func:`draftpick.verify`.
        coins: `[B, 5, D + 1, K]` for depth `D` and `K` leaves (1 for chosen tokens), or more, as in
            :func:`draftpick.verify`.
        seeds, positions: in place of coins: `[B]` integers, or one for all.
        temperature, top_k, top_p, min_p, draft_temperature: as in :func:`draftpick.verify`.

    Returns:
        The tokens, their number, and the nodes that were kept.

    Raises:
        ValueError: with the row, whatever is refused: a parent that is no earlier node, paths of different length, and all
            that :func:`draftpick.verify` refuses.

    >>> import numpy
    >>> target = numpy.full((1, 4, 6), -100, numpy.float32)
    >>> target[0, [0, 1, 2, 3], [2, 0, 5, 3]] = 100            # after the root comes 2, after node 2 comes 5
    >>> verify_tree([[0, 1, 2, 5]], [-1, 0, 0, 2], None, target, seeds=0, positions=0)
    VerifiedTree(tokens=array([[2, 5, 3]]), lengths=array([3]), nodes=array([[2, 3]]))
    """
    tokens = _arrays.tokens(tokens, "tokens", 2)
    parents = _arrays._view(parents, "parents")
    if parents.ndim == 1:
        parents = np.broadcast_to(parents, (tokens.shape[0], len(parents)))
    parents = _arrays.tokens(parents, "parents", 2)
    target = _arrays.logits(target_logits, "target_logits", 3)
    given = _arrays.coins(coins, seeds, positions, tokens.shape[0], 4)
    parameters = _arrays.parameters(temperature, draft_temperature, top_k, top_p, min_p)
    if draft_logits is None:
        return VerifiedTree._make(_draftpick.follow_tree(tokens, parents, target, given, parameters))
    draft = _arrays.logits(draft_logits, "draft_logits", 3)
    return VerifiedTree._make(_draftpick.verify_tree(tokens, parents, draft, target, verifier, given, parameters))


def parents_from_links(next_token: Any, next_sibling: Any) -> npt.NDArray[np.int64]:
    """The parents of trees that are held as links to the first child and the next sibling, as SGLang does.

    Args:
        next_token: `[B, N]` integers: each node's first child, −1 for none.
        next_sibling: `[B, N]` integers: each node's next sibling, −1 for none.

    Returns:
        `[B, N]` parents, −1 for node 0.

    Raises:
        ValueError: a link leads nowhere, or to a node that was reached before; a node that is never reached.

    >>> parents_from_links([[1, 3, -1, -1]], [[-1, 2, -1, -1]])
    array([[-1,  0,  0,  1]])
    """
    child, sibling = _arrays.tokens(next_token, "next_token", 2), _arrays.tokens(next_sibling, "next_sibling", 2)
    if child.shape != sibling.shape:
        raise ValueError(f"next_token has shape {list(child.shape)}, next_sibling {list(sibling.shape)}")
    parents = np.full(child.shape, -2, np.int64)
    parents[:, :1] = -1
    for row, (first, following) in enumerate(zip(child.tolist(), sibling.tolist())):
        open_nodes = [0] if first else []
        while open_nodes:
            parent = open_nodes.pop()
            node = first[parent]
            while node != -1:
                if not 0 < node < len(first) or parents[row, node] != -2:
                    raise ValueError(f"row {row}: a link to node {node}, which is no new node of {len(first)}")
                parents[row, node] = parent
                open_nodes.append(node)
                node = following[node]
        if (parents[row] == -2).any():
            raise ValueError(f"row {row}: no link leads to node {int(np.argmax(parents[row] == -2))}")
    return parents
