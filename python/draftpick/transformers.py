"""Speculative decoding of Hugging Face transformers models: many drafts, and the target model's law exactly.

Needs torch and transformers 5 (`pip install "./python[transformers]"`). Any pair of causal language models over one tokenizer
will do whose caches keep every token (full attention). The models may be on any device; drafts are drawn and verified on the
CPU.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.generation import GenerateDecoderOnlyOutput

from .paths import verify
from .selection import coins, draw


@dataclass
class Generated:
    """What :func:`generate` wrote, and what it took."""

    #: `[B, T + N]`: the prompts with the new tokens after them, padded on the right.
    sequences: torch.Tensor
    #: The new tokens of each request, the end-of-text token included.
    new_tokens: list[list[int]] = field(default_factory=list)
    #: Calls of the target model, each over all nodes of a round. As a tree the first reads the prompt too; as rows a prompt of
    #: several tokens takes a call of its own.
    target_calls: int = 0
    #: Calls of the draft model.
    draft_calls: int = 0

    @property
    def block_efficiency(self) -> float:
        """New tokens for each call of the target model."""
        return sum(map(len, self.new_tokens)) / max(self.target_calls, 1)


@torch.inference_mode()
def generate(
    target: Any,
    draft: Any,
    inputs: Any,
    K: int = 4,
    L: int = 5,
    verifier: str = "path",
    *,
    max_new_tokens: int = 128,
    seeds: Any = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    draft_temperature: float | None = None,
    eos_token_id: int | Sequence[int] | None = None,
    pad_token_id: int = 0,
    tokenizers: Any = "local",
    tree: bool = True,
) -> Generated:
    """Continues prompts with exactly the law of sampling from the target model, in fewer calls of it.

    In each round the draft model writes `K` independent paths of `L` tokens, the target model scores them in one call, and the
    verifier decides how far they are followed. Both models keep their caches.

    Args:
        target: a causal language model of transformers.
        draft: a smaller one over the same tokenizer.
        inputs: `[B, T]` or `[T]` token ids, or a mapping with `input_ids` and, where prompts are padded, `attention_mask`.
        K: the number of paths, 1 to 64.
        L: the tokens of a path, up to 63; 0 is plain decoding.
        verifier: as in :func:`draftpick.verify`.
        max_new_tokens: the most tokens to generate for each request.
        seeds: `[B]` integers, or one for all: a request's text depends on its seed and the models alone. `None` draws them
            from torch's default generator.
        temperature, top_k, top_p, min_p: how the target's logits become the law of the text, applied in this order; 0 is
            greedy. The draft model is sampled likewise.
        draft_temperature: the draft model's temperature, if it is another. For a greedy target 1 is a choice: drafts that
            are all the same gain nothing.
        eos_token_id: the tokens that end a text; `None` for those of the target's generation configuration.
        pad_token_id: what `sequences` is padded with.
        tokenizers: the pair of tokenizers, target's first, which must agree on every token; `"local"` loads them from where
            the models were loaded, without a network; `None` if you vouch for them.
        tree: score the paths as a tree in one row, each shared prefix once, by an attention mask of four axes (attention
            implementations `eager` and `sdpa`); otherwise as `K` rows.

    Returns:
        The sequences, the new tokens, and the number of calls.

    Raises:
        ValueError: tokenizers that differ, a cache that does not keep every token, a prompt without tokens, a text longer
            than the models' context, and all that :func:`draftpick.verify` refuses.
    """
    prompts = _prompts(inputs)
    if tokenizers is not None:
        _check_tokenizers(*(_local_tokenizers(target, draft) if tokenizers == "local" else tokenizers))
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens is {max_new_tokens}; it must be at least 1")
    for name, value, least, most in (("K", K, 1, 64), ("L", L, 0, 63)):
        if not least <= value <= most:
            raise ValueError(f"{name} is {value}; it must be {least} to {most}")
    for name, model in (("target", target), ("draft", draft)):
        context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        longest = max(map(len, prompts)) + max_new_tokens
        if context is not None and longest > context:
            raise ValueError(f"prompt and new tokens make {longest}, more than the {context} of the {name} model's context")
    if seeds is None:
        seeds = torch.randint(0, 1 << 62, (len(prompts),)).tolist()
    seeds = [int(seed) for seed in np.broadcast_to(np.asarray(seeds, dtype=object), (len(prompts),))]
    if eos_token_id is None:
        eos_token_id = target.generation_config.eos_token_id
    ends = {eos_token_id} if isinstance(eos_token_id, int) else set(eos_token_id or ())
    sampling = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    own = temperature if draft_temperature is None else draft_temperature

    out = Generated(torch.empty(0))
    for prompt, seed in zip(prompts, seeds):
        text = _Text(target, draft, prompt, seed, tree)
        new: list[int] = []
        while len(new) < max_new_tokens and not (new and new[-1] in ends):
            length = min(L, max_new_tokens - len(new) - 1)
            for token in text.round(K, length, verifier, sampling, own):
                new.append(token)
                if token in ends:
                    break
        out.new_tokens.append(new)
        out.target_calls += text.target.calls
        out.draft_calls += text.draft.calls
    rows = [prompt + new for prompt, new in zip(prompts, out.new_tokens)]
    width = max(map(len, rows))
    out.sequences = torch.tensor([row + [pad_token_id] * (width - len(row)) for row in rows])
    return out


#: What generate makes of its configuration and this module applies itself: any other processor would be left out.
_APPLIED = ("TemperatureLogitsWarper", "TopKLogitsWarper", "TopPLogitsWarper", "MinPLogitsWarper")
_CHECKED = ("MaxLengthCriteria", "EosTokenCriteria")


def custom_generate(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: Any = (),
    stopping_criteria: Any = (),
    generation_config: Any = None,
    draft_model: Any = None,
    K: int = 4,
    L: int = 5,
    verifier: str = "path",
    seeds: Any = None,
    draft_temperature: float | None = None,
    tokenizers: Any = "local",
    tree: bool = True,
    **model_kwargs: Any,
) -> Any:
    """The loop behind `model.generate(…, custom_generate=draftpick.transformers.custom_generate, draft_model=draft)`.

    The text has the law that `model.generate` without it samples from (or is the same, without `do_sample`): temperature,
    top-k, top-p, min-p, the ends of text and the length are those of the generation configuration.

    Args:
        model, input_ids, logits_processor, stopping_criteria, generation_config, model_kwargs: what `generate` hands over.
        draft_model: a smaller model over the same tokenizer.
        K, L, verifier, seeds, draft_temperature, tokenizers, tree: as in :func:`generate`, to be given to `model.generate`.

    Returns:
        `[B, T + N]` token ids as `generate` gives them, or its output class where that is asked for, with sequences only.

    Raises:
        ValueError: no draft model; beams; a logits processor or a stopping criterion beyond those above, as penalties are; a
            cache that has something in it; and all that :func:`generate` refuses.

    A streamer sees the prompt only: `generate` does not hand it over.
    """
    if draft_model is None:
        raise ValueError("give draft_model: a smaller model over the same tokenizer")
    if generation_config.num_beams > 1:
        raise ValueError(f"num_beams is {generation_config.num_beams}; sampling and greedy search have one")
    for what, given, known in (
        ("logits processor", logits_processor, _APPLIED),
        ("stopping criterion", stopping_criteria, _CHECKED),
    ):
        for one in given:
            if type(one).__name__ not in known:
                raise ValueError(f"the {what} {type(one).__name__} is not applied to drafts; there are {', '.join(known)}")
    for name in ("past_key_values", "cache"):
        cache = model_kwargs.get(name)
        if cache is not None and cache.get_seq_length() > 0:
            raise ValueError(f"{name} holds {cache.get_seq_length()} tokens; give the whole text, it is read anew")
    sampled = bool(generation_config.do_sample)
    ends = generation_config.eos_token_id
    mask = model_kwargs.get("attention_mask")
    out = generate(
        model,
        draft_model,
        {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids) if mask is None else mask},
        K,
        L,
        verifier,
        max_new_tokens=generation_config.max_length - input_ids.shape[1],
        seeds=seeds,
        temperature=(generation_config.temperature or 1.0) if sampled else 0.0,
        top_k=(generation_config.top_k or None) if sampled else None,
        top_p=generation_config.top_p if sampled else None,
        min_p=generation_config.min_p if sampled else None,
        draft_temperature=draft_temperature,
        eos_token_id=() if ends is None else ends,
        tokenizers=tokenizers,
        tree=tree,
    )
    pad = generation_config.pad_token_id
    if pad is None:
        pad = ends[0] if isinstance(ends, Sequence) else ends or 0
    width = max(map(len, out.new_tokens))
    new = torch.tensor([row + [pad] * (width - len(row)) for row in out.new_tokens], device=input_ids.device)
    sequences = torch.cat([input_ids, new], dim=1)
    if generation_config.return_dict_in_generate:
        return GenerateDecoderOnlyOutput(sequences=sequences)
    return sequences


class _Text:
    """One text on its way."""

    def __init__(self, target: Any, draft: Any, prompt: list[int], seed: int, tree: bool) -> None:
        self.tokens, self.seed, self.tree = list(prompt), seed, tree
        self.target, self.draft = _Cached(target, "target"), _Cached(draft, "draft")
        self.vocab = target.config.get_text_config().vocab_size

    def round(self, K: int, L: int, verifier: str, sampling: dict[str, Any], draft_temperature: float) -> list[int]:
        """Drafts, scores and verifies; the tokens that the text goes on with."""
        start = len(self.tokens)
        paths, draft_logits = self._draft(K, L, {**sampling, "temperature": draft_temperature})
        target_logits, places = self._score(paths)
        out = verify(
            paths[None],
            draft_logits[None],
            target_logits[None],
            verifier=verifier,
            seeds=self.seed,
            positions=start,
            draft_temperature=draft_temperature,
            **sampling,
        )
        kept, path = int(out.lengths[0]) - 1, int(out.paths[0])
        new = out.tokens[0, : kept + 1].tolist()
        # What the caches hold of the text: all but its last token, and for the draft model never a path's last.
        self.target.keep(0 if self.tree else path, places[path][: 1 + kept])
        if L > 0:
            self.draft.keep(path, self.draft.base + np.arange(min(1 + kept, L)))
        self.tokens += new
        return new

    def _draft(self, K: int, L: int, sampling: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """`[K, L]` tokens, and the `[K, L, V]` logits that they were drawn from."""
        paths = np.zeros((K, L), np.int64)
        logits = np.zeros((K, L, self.vocab), np.float32)
        start = len(self.tokens)
        for depth in range(L):
            if depth == 0:  # all paths are at one node: one row, then K copies of it
                row = self.draft.read(torch.tensor([self.tokens[self.draft.length :]]), last=True)
                self.draft.base = self.draft.length - 1
                self.draft.spread(K)
                rows = np.broadcast_to(self._shared(row[:, -1]), (K, self.vocab))
            else:
                rows = self._shared(self.draft.read(torch.from_numpy(paths[:, depth - 1 : depth]), last=True)[:, -1])
            logits[:, depth] = rows
            luck = coins(self.seed, start, "draft", depth, np.arange(K))
            paths[:, depth] = draw(logits[:, depth], luck, **sampling)
        return paths, logits

    def _shared(self, rows: torch.Tensor) -> np.ndarray:
        """The draft model's rows over the target's vocabulary: what it lacks it never drafts."""
        missing = self.vocab - rows.shape[-1]
        rows = rows[..., : self.vocab] if missing < 0 else torch.nn.functional.pad(rows, (0, missing), value=-torch.inf)
        return rows.float().cpu().numpy()

    def _score(self, paths: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """`[K, L + 1, V]` logits, and for each path the places of its root and tokens in the cache."""
        pending = self.tokens[self.target.length :]
        base, (K, L) = self.target.length, paths.shape
        if self.tree:
            return self._score_tree(pending, paths)
        if len(pending) > 1:  # the prompt once, not K times
            self.target.read(torch.tensor([pending[:-1]]), last=True)
        self.target.spread(K)
        rows = torch.cat([torch.full((K, 1), pending[-1]), torch.from_numpy(paths)], dim=1)
        logits = self.target.read(rows)
        places = [base + len(pending) - 1 + np.arange(L + 1)] * K
        return logits.float().cpu().numpy(), places

    def _score_tree(self, pending: list[int], paths: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        base, (K, L) = self.target.length, paths.shape
        root = len(pending) - 1
        tokens, parents, nodes = list(pending), list(range(-1, root)), np.zeros((K, L + 1), np.int64)
        children: dict[tuple[int, int], int] = {}
        nodes[:, 0] = root
        for path, depth in np.ndindex(K, L):
            at = (int(nodes[path, depth]), int(paths[path, depth]))
            if at not in children:
                children[at] = len(tokens)
                tokens.append(at[1])
                parents.append(at[0])
            nodes[path, depth + 1] = children[at]
        seen = np.eye(len(tokens), dtype=bool)  # each node sees itself and what its parent sees
        for node, parent in enumerate(parents):
            if parent >= 0:
                seen[node] |= seen[parent]
        logits = self.target.read(torch.tensor([tokens]), seen=torch.from_numpy(seen))
        return logits[0].float().cpu().numpy()[nodes], [base + nodes[path] for path in range(K)]


class _Cached:
    """A model with the keys and values of what it has read, in one row or several."""

    def __init__(self, model: Any, name: str) -> None:
        self.model, self.name, self.calls, self.length, self.base = model, name, 0, 0, 0
        self.cache = DynamicCache(config=model.config)
        parameters = inspect.signature(model.forward).parameters
        self.keyword = "cache" if "cache" in parameters else "past_key_values"
        self.only_last = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}
        for layer in self.cache.layers:
            if type(layer) is not DynamicLayer:
                raise ValueError(
                    f"the {name} model has a cache of {type(layer).__name__}: only full attention keeps every token, "
                    "which taking drafts back needs"
                )

    def read(self, tokens: torch.Tensor, *, last: bool = False, seen: torch.Tensor | None = None) -> torch.Tensor:
        """Reads `[R, n]` tokens in every row; their logits `[R, n, V]`, or with `last` maybe only the last's.

        `seen[i, j]` says that token `i` sees token `j` of this call; all see what was read before.
        """
        device, count = self.model.device, tokens.shape[1]
        keywords: dict[str, Any] = dict(self.only_last) if last else {}
        if seen is not None:
            mask = torch.cat([torch.ones(count, self.length, dtype=torch.bool), seen], dim=1)
            # 0 where a token is seen, the least number where not: what every implementation adds to its scores.
            least = torch.finfo(self.model.dtype).min
            keywords["attention_mask"] = torch.where(mask, 0.0, least).to(device, self.model.dtype)[None, None]
            keywords["position_ids"] = (self.length + seen.sum(dim=1) - 1).to(device)[None]
        keywords[self.keyword] = self.cache
        out = self.model(input_ids=tokens.to(device), use_cache=True, **keywords)
        self.length += count
        self.calls += 1
        if self.cache.get_seq_length() != self.length:
            raise ValueError(f"the {self.name} model did not keep its cache: {self.cache.get_seq_length()} tokens of {self.length}")
        return out.logits

    def _each(self, change: Any) -> None:
        for layer in self.cache.layers:
            if layer.is_initialized:
                layer.keys, layer.values = change(layer.keys), change(layer.values)

    def spread(self, rows: int) -> None:
        """Makes one row `rows` equal ones."""
        self._each(lambda states: states.expand(rows, *states.shape[1:]) if states.shape[0] == 1 else states)

    def keep(self, row: int, places: np.ndarray) -> None:
        """Keeps one row: what it held before the first of these places, and these."""
        kept = np.concatenate([np.arange(places[0]), places]) if len(places) else np.arange(self.length)
        index = torch.from_numpy(kept).to(self.model.device)
        whole = len(kept) == self.length
        self._each(lambda states: states[row : row + 1] if whole else states[row : row + 1, :, index])
        self.length = len(kept)


def _prompts(inputs: Any) -> list[list[int]]:
    """The token ids of each request, without padding."""
    ids, mask = (inputs["input_ids"], inputs.get("attention_mask")) if isinstance(inputs, Mapping) else (inputs, None)
    ids = torch.as_tensor(ids)
    ids = ids[None] if ids.ndim == 1 else ids
    if ids.ndim != 2 or ids.is_floating_point():
        raise ValueError(f"the token ids have shape {list(ids.shape)} and type {ids.dtype}; it must be [B, T] integers")
    mask = torch.ones_like(ids) if mask is None else torch.as_tensor(mask).reshape(ids.shape)
    prompts = [row[keep.bool()].tolist() for row, keep in zip(ids, mask)]
    for row, prompt in enumerate(prompts):
        if not prompt:
            raise ValueError(f"prompt {row} has no token")
    if not prompts:
        raise ValueError("there is no prompt")
    return prompts


def _local_tokenizers(target: Any, draft: Any) -> tuple[Any, Any]:
    from transformers import AutoTokenizer

    def load(name: str, model: Any) -> Any:
        try:
            return AutoTokenizer.from_pretrained(model.config.name_or_path, local_files_only=True)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise ValueError(
                f"no tokenizer of the {name} model is at '{model.config.name_or_path}': pass tokenizers=(target's, draft's), "
                "or tokenizers=None if you vouch that they agree"
            ) from error

    return load("target", target), load("draft", draft)


def _check_tokenizers(target: Any, draft: Any) -> None:
    """Every token number that both know must be the same token."""
    if target is draft:
        return
    ours, theirs = ({number: token for token, number in tok.get_vocab().items()} for tok in (target, draft))
    for number in sorted(ours.keys() & theirs.keys()):
        if ours[number] != theirs[number]:
            raise ValueError(
                f"the tokenizers differ: token {number} is {ours[number]!r} to the target and {theirs[number]!r} to the draft"
            )
    if not ours.keys() & theirs.keys():
        raise ValueError("the tokenizers have no token in common")
