"""Is an engine lossless? What its log says, or its rounds one by one, whatever the engine."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import _arrays, _draftpick


@dataclass(frozen=True)
class Mean:
    """A mean and its standard error."""

    value: float
    standard_error: float


@dataclass(frozen=True)
class Tested:
    """How a hypothesis came out. Logarithms are to the base 10."""

    #: `"output"` (each token has the target's law), `"drafts"` (each draft has the stated draft law) or `"rule"`.
    test: str
    #: The outcomes that were bet on, and those of them that cannot be.
    outcomes: int
    impossible: int
    #: The wealth of the bets against it, the highest that it was, and the wealth at which it is rejected.
    log10_e: float
    highest: float
    threshold: float
    #: Valid at any stopping time, for this hypothesis alone.
    p_value: float
    #: The tokens output when it was rejected; `None` if it stands.
    rejected_after: int | None
    #: What the bet that won most was on; `None` for one that learned a density.
    richest_bet: str | None


@dataclass(frozen=True)
class Acceptance:
    """The first tokens of all rounds with `k` drafts."""

    k: int
    rounds: int
    #: How often the engine's output was drafted.
    engine: Mean
    #: The number of rounds that the other figures are means of.
    compared: int
    #: The optimum of independent drafts, with the tails that a log leaves out apart, and together.
    optimum: tuple[Mean, Mean] | None
    #: Each rule that takes `k` drafts, in the same way.
    rules: dict[str, tuple[Mean, Mean]]


@dataclass(frozen=True)
class Kept:
    """All rounds of `K` paths of up to `L` > 1 tokens: the drafted tokens that were kept."""

    K: int
    L: int
    rounds: int
    engine: Mean
    #: The number of rounds that the other figures are means of.
    compared: int
    #: What each verifier would keep of the same drafts.
    verifiers: dict[str, Mean]


@dataclass(frozen=True)
class Power:
    """The tokens it takes to find an output that is off by `total_variation` in a direction, on scores like these."""

    total_variation: float
    towards: str
    tokens: float


@dataclass(frozen=True)
class Audited:
    """What an audit came to."""

    rounds: int
    tokens: int
    vocab: int
    #: Whether all hypotheses stand.
    lossless: bool
    level: float
    accuracy: float
    rule: str | None
    #: The rounds to which the rule could not be applied.
    rounds_without_rule: int
    tests: list[Tested]
    #: What cannot be, the first hundred of it: the round, counted from 0, and what it is.
    findings: list[tuple[int, str]]
    acceptance: list[Acceptance]
    kept: list[Kept]
    power: list[Power]
    #: The same figures as `draftpick audit --format json` prints them.
    figures: dict[str, Any] = field(repr=False)

    def __str__(self) -> str:
        """The verdict in a few lines."""
        lines = [f"{self.tokens} tokens in {self.rounds} rounds: {'no evidence against it' if self.lossless else 'not lossless'}"]
        for test in self.tests:
            verdict = "holds" if test.rejected_after is None else f"fails after {test.rejected_after} tokens"
            because = f" (won most: {test.richest_bet})" if test.rejected_after is not None and test.richest_bet else ""
            lines.append(f"{test.test}: log10 e {test.log10_e:.2f} of {test.threshold:.2f}, {verdict}{because}")
        return "\n".join(lines)


def audit(
    log: str | os.PathLike[str] | Iterable[Any],
    *,
    rule: str | None = None,
    level: float = 1e-3,
    accuracy: float | None = None,
    compare: int = 500,
    progress: Callable[[int, int], object] | None = None,
    **header: Any,
) -> Audited:
    """Says whether an engine is lossless, from what it logged, and what acceptance it leaves on the table.

    Each token that was output must have the target's law given the tokens before it, each draft the stated draft law; where
    the rule is known the output must have the law that it gives for these drafts. Each of these is tested by bets whose
    wealth is evidence at any stopping time (`docs/audit.md`). Reads once, in memory that does not grow with the log.

    Args:
        log: the path of a log (JSON Lines, `docs/audit.md`), read by several threads with the GIL released; or rounds: an
            iterable of mappings with the arrays that :meth:`Auditor.add` takes, or of tuples of them. It may be a generator.
        rule: the rule that the engine follows, one of :data:`draftpick.RULES`, `"block"`, `"traversal"` or `"path"`. For a
            log in place of what its header says; `"none"` if that is not to be believed. What the optimal rules and `"path"`
            choose hangs on the last digits of the laws: leave them out unless the engine verifies from the very numbers given.
        level: the probability with which an honest log is refused, however long it is.
        accuracy: how far the laws may be from those that the engine used, in total variation; by default what the log's
            header says, for rounds 1e-6.
        compare: on how many rounds, at least, the engine is compared with the rules.
        progress: called now and then with the bytes read and the size of the file; only for a log.
        header: for rounds, what :class:`Auditor` takes more: `values`, `drawn`, `temperature`, …

    Returns:
        The same figures as the command line's.

    Raises:
        ValueError: with the line or the round, whatever is refused; no rounds at all.
        OSError: the file cannot be read.

    >>> import numpy
    >>> rng = numpy.random.default_rng(1)
    >>> target = numpy.log([0.2, 0.3, 0.5])
    >>> rounds = ({"drafts": [], "target": target, "output": rng.choice(3, p=[0.2, 0.3, 0.5])} for _ in range(1000))
    >>> print(audit(rounds).lossless)
    True
    >>> wrong = ({"drafts": [], "target": target, "output": rng.choice(3, p=[0.3, 0.3, 0.4])} for _ in range(1000))
    >>> print(audit(wrong).lossless)
    False
    """
    if isinstance(log, (str, os.PathLike)):
        if header:
            raise ValueError(f"a log says itself what {', '.join(header)} is, in its header")
        return _read(_draftpick.audit_file(os.fspath(log), rule, (level, accuracy, compare), progress))
    if progress is not None:
        raise ValueError("progress is for a log; count the rounds where they are made")
    auditor = None
    for one in log:
        drafts, draft, target, output = (
            (one["drafts"], one.get("draft"), one["target"], one["output"]) if isinstance(one, Mapping) else one
        )
        if auditor is None:
            one_row = hasattr(target, "shape") or np.ndim(target[0]) == 0
            vocab = np.shape(target if one_row else target[0])[-1]
            auditor = Auditor(vocab, rule=rule, level=level, accuracy=accuracy, compare=compare, **header)
        auditor.add(drafts, draft, target, output)
    if auditor is None:
        raise ValueError("there are no rounds")
    return auditor.result()


class Auditor:
    """An audit of rounds that are added one by one: at any time :meth:`result` says what they have come to."""

    def __init__(
        self,
        vocab: int,
        *,
        values: str = "logits",
        rule: str | None = None,
        drawn: str | None = None,
        level: float = 1e-3,
        accuracy: float | None = None,
        compare: int = 500,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        draft_temperature: float | None = None,
    ) -> None:
        """An audit of which nothing is known yet.

        Args:
            vocab: the size of the vocabulary.
            values: what the scores are, `"logits"` or `"probabilities"`.
            rule, level, accuracy, compare: as for :func:`audit`.
            drawn: how the drafts at one place are drawn, `"independent"` or `"without-replacement"`; by default as the rule
                has it.
            temperature, top_k, top_p, min_p: what makes the laws of both models out of the scores, in this order. Leave
                them out where the scores already have them.
            draft_temperature: the draft model's, if it is another.

        Raises:
            ValueError: a value out of range, no such rule.
        """
        filters = {"top_k": top_k, "top_p": top_p, "min_p": min_p}
        filters = {name: value for name, value in filters.items() if value is not None}
        own = temperature if draft_temperature is None else draft_temperature
        header = {
            "format": "draftpick-log",
            "version": 1,
            "vocab": int(vocab),
            "values": values,
            "sampling": {"temperature": float(temperature), **filters},
            "draft_sampling": {"temperature": float(own), **filters},
        }
        given = {"rule": None if rule == "none" else rule, "drawn": drawn}
        header.update({name: value for name, value in given.items() if value is not None})
        self._inner = _draftpick.Auditor(json.dumps(header), (level, accuracy, compare))

    def add(self, drafts: Any, draft: Any, target: Any, output: Any) -> None:
        """Adds the next round: one call of the target model, for one text. A text's rounds come in their order.

        Args:
            drafts: `[K, L]` integers: the drafted paths, or a list of `K` paths of any length; `[k]`: drafts of the next
                token; empty where nothing was drafted.
            draft: `[K, L, V]` scores of the draft model before each token, or a list of arrays `[L, V]`, one a path; `[V]` for
                drafts of the next token. `None` for drafts that have no law (n-grams).
            target: `[K, L + 1, V]` scores of the target model before each token and after the last, or a list of arrays
                `[L + 1, V]`; `[V]` for drafts of the next token, or none. Where paths begin alike, the first one's are read.
            output: the tokens that the round output, all of them: an array or list, or one integer.

        Scores are float32 or float64, NumPy or anything on the CPU that speaks DLPack.

        Raises:
            ValueError: with the round, whatever is refused: a token outside the vocabulary, scores that are no law, an
                output that goes on after a token that was not drafted. The round is not added then.
        """
        paths = _paths(drafts)
        flat = all(isinstance(path, int) for path in paths)
        tokens = [[path] for path in paths] if flat else paths
        own = None if draft is None or (flat and not paths) else _rows(draft, "draft", tokens, flat, 0)
        ended = np.atleast_1d(_arrays._view(output, "output")).tolist()
        self._inner.add(tokens, own, _rows(target, "target", tokens, flat, 1), ended, flat)

    @property
    def rounds(self) -> int:
        """The number of rounds so far."""
        return self._inner.rounds

    def result(self) -> Audited:
        """What the rounds so far have come to. The evidence is valid wherever one stops.

        Raises:
            ValueError: there are no rounds.
        """
        return _read(self._inner.summary())


def _paths(drafts: Any) -> list[Any]:
    """The tokens as lists of integers: of paths, or of drafts of the next token."""
    if isinstance(drafts, Sequence) and not isinstance(drafts, (str, bytes)):
        drafts = [np.asarray(_arrays._view(path, "drafts")).tolist() for path in drafts]
    else:
        drafts = _arrays._view(drafts, "drafts").tolist()
    kinds = {type(path) for path in drafts}
    if not kinds <= {int} and not kinds <= {list} or any(type(t) is not int for p in drafts if type(p) is list for t in p):
        raise ValueError("drafts must be tokens, or paths of tokens")
    return drafts


def _rows(scores: Any, name: str, tokens: list[list[int]], flat: bool, more: int) -> list[np.ndarray]:
    """The rows of scores along each path."""
    if flat:
        row = _scores(scores, name, 1)[None]
        # One law for all drafts of the next token; nothing is known after them.
        return [row] * max(len(tokens), more)
    paths = scores if isinstance(scores, Sequence) else _scores(scores, name, 3)
    rows = [_scores(path, f"{name}[{i}]", 2) for i, path in enumerate(paths)]
    return rows


def _scores(value: Any, name: str, ndim: int) -> np.ndarray:
    array = _arrays._view(value, name)
    if array.dtype not in (np.float32, np.float64):
        raise ValueError(f"{name} is {array.dtype}; it must be float32 or float64")
    if array.ndim != ndim:
        raise ValueError(f"{name} has {array.ndim} axes (shape {list(array.shape)}); it must have {ndim}")
    return array


def _read(text: str) -> Audited:
    """The figures, in JSON, as they are handed out."""
    figures = json.loads(text)

    def number(value: float | None) -> float:
        return math.inf if value is None else value

    def mean(value: dict[str, float]) -> Mean:
        return Mean(value["mean"], value["standard_error"])

    def pair(values: list[dict[str, float]]) -> tuple[Mean, Mean]:
        return mean(values[0]), mean(values[1])

    tests = [
        Tested(**{**test, **{name: number(test[name]) for name in ("log10_e", "highest", "threshold")}})
        for test in figures["tests"]
    ]
    acceptance = [
        Acceptance(
            at["k"],
            at["rounds"],
            mean(at["engine"]),
            at["compared"],
            None if at["optimum"] is None else pair(at["optimum"]),
            {rule["rule"]: pair(rule["acceptance"]) for rule in at["rules"]},
        )
        for at in figures["acceptance"]
    ]
    kept = [
        Kept(
            at["K"],
            at["L"],
            at["rounds"],
            mean(at["engine"]),
            at["compared"],
            {verifier["verifier"]: mean(verifier["kept"]) for verifier in at["verifiers"]},
        )
        for at in figures["kept"]
    ]
    names = ("rounds", "tokens", "vocab", "lossless", "level", "accuracy", "rule", "rounds_without_rule")
    return Audited(
        **{name: figures[name] for name in names},
        tests=tests,
        findings=[(finding["line"] - 2, finding["finding"]) for finding in figures["findings"]],
        acceptance=acceptance,
        kept=kept,
        power=[Power(at["total_variation"], at["towards"], number(at["tokens"])) for at in figures["power"]],
        figures=figures,
    )
