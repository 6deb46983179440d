"""Audits of rounds and of log files: honest engines pass, wrong ones are found, and both ways give the same figures."""

import base64
import json

import numpy as np
import pytest
from conftest import softmax

import draftpick

V, K, L = 12, 2, 2


def rows(rng, *shape):
    return rng.normal(size=(*shape, V)).astype(np.float32)


class Pair:
    """Two models whose scores depend on the last token."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.draft, self.target = rows(rng, V), rows(rng, V)

    def rounds(self, count, verifier="traversal", wrong=lambda target: target, seed=1):
        """Rounds of one text; `wrong` is what the engine takes the target's scores for."""
        rng, last = np.random.default_rng(seed), 0
        for start in range(count):
            tokens = np.zeros((K, L), np.int64)
            before = np.full((K, L + 1), last)
            for depth in range(L):
                tokens[:, depth] = draftpick.draw(self.draft[before[:, depth]], rng.random(K))
                before[:, depth + 1] = tokens[:, depth]
            draft, target = self.draft[before[:, :L]], self.target[before]
            out = draftpick.verify(
                tokens[None], draft[None], wrong(target)[None], verifier=verifier, seeds=seed, positions=start
            )
            output = out.tokens[0, : out.lengths[0]]
            last = int(output[-1])
            yield {"drafts": tokens, "draft": draft, "target": target, "output": output}


def packed(row):
    return base64.b64encode(np.ascontiguousarray(row, "<f4").tobytes()).decode()


def write(path, rounds, **header):
    """The same rounds as a log."""
    lines = [{"format": "draftpick-log", "version": 1, "vocab": V, "precision": "f32", **header}]
    for one in rounds:
        scores = {name: [[packed(row) for row in path] for path in one[name]] for name in ("draft", "target")}
        lines.append({"drafts": one["drafts"].tolist(), **scores, "output": one["output"].tolist()})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_an_honest_engine_passes_and_a_file_says_the_same(tmp_path):
    rounds = list(Pair(1).rounds(300))
    audited = draftpick.audit(iter(rounds), rule="traversal")
    assert audited.lossless and audited.rounds == 300 and audited.rule == "traversal"
    assert [test.test for test in audited.tests] == ["output", "drafts", "rule"]
    assert "no evidence" in str(audited) and not audited.findings
    told = []
    log = write(tmp_path / "log.jsonl", rounds, rule="traversal")
    read = draftpick.audit(log, progress=lambda done, size: told.append((done, size)))
    # All but the bytes of the header are told of.
    size = log.stat().st_size
    assert read.figures == audited.figures and told[-1] == (size - log.read_text().index("\n") - 1, size)
    [kept] = audited.kept
    assert (kept.K, kept.L) == (K, L) and abs(kept.engine.value - kept.verifiers["traversal"].value) < 0.2
    [first] = [at for at in audited.acceptance if at.k == K]
    assert first.optimum is not None and first.rules["kseq"][0].value <= first.optimum[0].value + 1e-9
    assert {power.total_variation for power in audited.power} == {0.01}


@pytest.mark.parametrize(
    "wrong, test",
    [
        (lambda target: target * 1.5, "output"),  # the target's temperature applied twice
        (lambda target: np.roll(target, 1, axis=1), "output"),  # rows off by one
    ],
)
def test_wrong_engines_are_found(wrong, test):
    audited = draftpick.audit(Pair(2).rounds(1500, wrong=wrong))
    assert not audited.lossless
    [found] = [tested for tested in audited.tests if tested.test == test]
    assert found.rejected_after is not None and found.log10_e > found.threshold and found.p_value < 1e-3
    assert "fails after" in str(audited)


def test_drafts_of_another_law_are_found():
    def hotter():
        for one in Pair(3).rounds(1500):
            yield {**one, "draft": one["draft"] * np.float32(0.5)}

    audited = draftpick.audit(hotter())
    [drafts] = [tested for tested in audited.tests if tested.test == "drafts"]
    assert drafts.rejected_after is not None


def test_evidence_may_be_looked_at_on_the_way():
    auditor = draftpick.Auditor(V, rule="traversal")
    for one in Pair(4).rounds(40):
        auditor.add(**one)
    assert auditor.rounds == auditor.result().rounds == 40
    before = auditor.result().figures
    with pytest.raises(ValueError, match=r"round 40: output\[0\]: token 99 is outside"):
        auditor.add(**{**one, "output": [99]})
    assert auditor.result().figures == before


def test_drafts_of_the_next_token_and_none_at_all():
    """Flat forms, and probabilities: what `select` puts out is honest, also by the rule's own law."""
    rng = np.random.default_rng(5)
    pair = Pair(5)

    def rounds(values):
        for position in range(400):
            row = position % V
            drafts = draftpick.draw(np.repeat(pair.draft[row : row + 1], 3, axis=0), rng.random(3))
            out = draftpick.select(
                pair.draft[row : row + 1], pair.target[row : row + 1], drafts[None], rule="kseq", seeds=9, positions=position
            )
            of = softmax if values == "probabilities" else np.asarray
            yield drafts, of(pair.draft[row].astype(float)), of(pair.target[row].astype(float)), out.tokens
            yield [], None, of(pair.target[row].astype(float)), draftpick.draw(pair.target[row : row + 1], rng.random(1))

    for values in ("logits", "probabilities"):
        audited = draftpick.audit(rounds(values), rule="kseq", values=values)
        assert audited.lossless and audited.tokens == 800, str(audited)
        assert audited.tests[2].outcomes == 400
        assert [at.k for at in audited.acceptance] == [3]


def test_sampling_makes_the_laws():
    pair, cold = Pair(6), dict(temperature=0.7, top_k=6)
    rng = np.random.default_rng(6)

    def rounds():
        for position in range(1200):
            row = pair.target[position % V]
            yield [], None, row, draftpick.draw(row[None], rng.random(1), **cold)

    assert draftpick.audit(rounds(), **cold).lossless
    assert not draftpick.audit(rounds()).lossless


ROW = np.zeros(3, np.float32)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: draftpick.audit([]), "there are no rounds"),
        (lambda: draftpick.audit([([], None, ROW, 5)]), "round 0: output[0]: token 5 is outside the vocabulary of 3"),
        (lambda: draftpick.audit([([], None, ROW, -1)]), "round 0: token -1 at output[0]"),
        (lambda: draftpick.audit([([4], ROW, ROW, 0)]), "round 0: drafts[0][0]: token 4 is outside"),
        (lambda: draftpick.audit([([0.5], ROW, ROW, 0)]), "drafts must be tokens"),
        (lambda: draftpick.audit([([0, [1]], ROW, ROW, 0)]), "drafts must be tokens"),
        (lambda: draftpick.audit([([], None, ROW * np.nan, 0)]), "target[0][0]: the logit of token 0 is NaN"),
        (lambda: draftpick.audit([([], None, ROW.astype(int), 0)]), "target is int64"),
        (lambda: draftpick.audit([([[0]], ROW[None, None], ROW[None, None], 0)]), "target[0]: 1 entries where the drafts need 2"),
        (lambda: draftpick.audit([([[0]], ROW[None], ROW[None, None], 0)]), "draft has 2 axes"),
        (lambda: draftpick.audit([([], None, ROW, 0)], values="odds"), "values: 'odds'; it must be logits or probabilities"),
        (lambda: draftpick.audit([([], None, ROW, 0)], values="probabilities"), "the probabilities add up to 0"),
        (lambda: draftpick.audit([([], None, ROW, 0)], rule="best"), "best"),
        (lambda: draftpick.audit([([], None, ROW, 0)], level=1), "level is 1"),
        (lambda: draftpick.audit([([], None, ROW, 0)], accuracy=-1), "accuracy is -1"),
        (lambda: draftpick.audit([([], None, ROW, 0)], temperature=-1), "sampling: temperature is -1"),
        (lambda: draftpick.audit([([0, 1], ROW, ROW, 0)], rule="maximal"), "round 0: rule: "),
        (lambda: draftpick.audit([([], None, ROW, 0)], progress=print), "progress is for a log"),
        (lambda: draftpick.audit("no such log", top_k=2), "a log says itself"),
        (lambda: draftpick.Auditor(0), "vocab: '0'"),
        (lambda: draftpick.Auditor(3).result(), "there are no rounds"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)


def test_files_are_refused_with_the_line(tmp_path):
    with pytest.raises(FileNotFoundError):
        draftpick.audit(tmp_path / "none.jsonl")
    log = write(tmp_path / "log.jsonl", Pair(7).rounds(5))
    text = log.read_text().splitlines(keepends=True)
    log.write_text("".join(text[:3]) + text[3][:40] + "\n" + "".join(text[4:]))
    with pytest.raises(ValueError, match="log.jsonl': line 4: "):
        draftpick.audit(log)
    log.write_text(text[0])
    with pytest.raises(ValueError, match="there are no rounds after the header"):
        draftpick.audit(log)


def test_what_progress_raises_ends_the_pass(tmp_path):
    class Enough(Exception):
        pass

    def stop(done, size):
        raise Enough

    with pytest.raises(Enough):
        draftpick.audit(write(tmp_path / "log.jsonl", Pair(8).rounds(5)), progress=stop)
