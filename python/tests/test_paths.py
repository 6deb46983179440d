"""Path verifiers: losslessness by enumeration from Python, the two conventions of output, and what is refused."""

import itertools

import draftpick
import numpy as np
import pytest
from conftest import LEVEL, chi_square, softmax

VERIFIERS = ["path", "traversal", "block", "token:optimal", "token:optimal-linear", "token:kseq", "token:rrs"]


class Chain:
    """Two models that are tables: logits after every prefix of up to `length` tokens."""

    def __init__(self, vocab, length, seed):
        rng = np.random.default_rng(seed)
        prefixes = [p for n in range(length + 1) for p in itertools.product(range(vocab), repeat=n)]
        self.vocab, self.length = vocab, length
        self.draft = {p: rng.normal(size=vocab).astype(np.float32) for p in prefixes}
        self.target = {p: rng.normal(size=vocab).astype(np.float32) * 1.5 for p in prefixes}

    def rows(self, paths):
        """Tokens, draft logits and target logits of a round."""
        draft = [[self.draft[path[:t]] for t in range(self.length)] for path in paths]
        target = [[self.target[path[:t]] for t in range(self.length + 1)] for path in paths]
        return np.array(paths), np.array(draft), np.array(target)

    def probability(self, table, sequence):
        return np.prod([softmax(table[sequence[:t]])[token] for t, token in enumerate(sequence)])


def output_law(chain, count, verifier, swap=False):
    """The law of the first `length + 1` tokens: outcomes of all drafts, continued with the target's own law."""
    total = {}
    sequences = list(itertools.product(range(chain.vocab), repeat=chain.length))
    for paths in itertools.product(sequences, repeat=count):
        weight = np.prod([chain.probability(chain.draft, path) for path in paths])
        tokens, draft, target = chain.rows(paths)
        stops = draftpick.outcome_law(tokens, draft, target[:, ::-1] if swap else target, verifier=verifier)
        assert sum(stop.probability for stop in stops) == pytest.approx(1, abs=1e-12)
        for stop in stops:
            for token, share in enumerate(stop.next):
                begin = (*stop.tokens, token)
                total[begin] = total.get(begin, 0) + weight * stop.probability * share
    full = dict.fromkeys(itertools.product(range(chain.vocab), repeat=chain.length + 1), 0.0)
    for begin, share in total.items():
        for rest in itertools.product(range(chain.vocab), repeat=chain.length + 1 - len(begin)):
            sequence = begin + rest
            following = [softmax(chain.target[sequence[:t]])[sequence[t]] for t in range(len(begin), len(sequence))]
            full[sequence] += share * np.prod(following)
    return full


def error(chain, law):
    return max(abs(law[s] - chain.probability(chain.target, s)) for s in law)


@pytest.mark.parametrize("verifier", VERIFIERS)
@pytest.mark.parametrize("vocab, length, count", [(2, 2, 2), (3, 2, 1), (3, 1, 3)])
def test_every_verifier_is_lossless(verifier, vocab, length, count):
    if verifier == "block" and count > 1:
        pytest.skip("block verification takes one path")
    chain = Chain(vocab, length, seed=3)
    assert error(chain, output_law(chain, count, verifier)) < 1e-12


@pytest.mark.parametrize("verifier", VERIFIERS)
def test_rows_in_the_wrong_place_are_seen(verifier):
    chain = Chain(2, 2, seed=3)
    assert error(chain, output_law(chain, 1, verifier, swap=True)) > 1e-2


def drawn(chain, rows, count, rng):
    """Paths drawn from the draft model, token by token."""
    paths = np.zeros((rows, count, chain.length), int)
    for level in range(chain.length):
        prefixes = paths[:, :, :level].reshape(rows * count, level)
        logits = np.array([chain.draft[tuple(prefix)] for prefix in prefixes])
        paths[:, :, level] = draftpick.draw(logits, rng.random(rows * count)).reshape(rows, count)
    return paths


def stacked(chain, paths):
    all_rows = [chain.rows([tuple(path) for path in row]) for row in paths]
    return [np.stack([rows[i] for rows in all_rows]) for i in range(3)]


@pytest.mark.parametrize("verifier", ["path", "traversal", "token:kseq"])
def test_outcomes_have_the_law_and_the_conventions_agree(verifier, rng):
    chain, rows, count = Chain(3, 2, seed=5), 8000, 2
    tokens, draft, target = stacked(chain, drawn(chain, rows, count, rng))
    out = draftpick.verify(tokens, draft, target, verifier=verifier, coins=rng.random((rows, 5, 3, count)))
    first = np.bincount(out.tokens[:, 0], minlength=3)
    assert chi_square(first, softmax(chain.target[()])) > LEVEL
    for token in range(3):  # the second token, where the round got there
        second = out.tokens[(out.tokens[:, 0] == token) & (out.lengths > 1), 1]
        assert (second >= 0).all()
    assert ((out.tokens >= 0).sum(axis=1) == out.lengths).all() and (out.lengths >= 1).all()
    assert (out.tokens[np.arange(3) >= out.lengths[:, None]] == -1).all()
    ragged = out.ragged()
    assert ragged.offsets[0] == 0 and ragged.offsets[-1] == len(ragged.tokens) == out.lengths.sum()
    for row in (0, 1, rows - 1):
        part = ragged.tokens[ragged.offsets[row] : ragged.offsets[row + 1]]
        assert part.tolist() == out.tokens[row, : out.lengths[row]].tolist()
        kept = out.lengths[row] - 1
        assert tokens[row, out.paths[row], :kept].tolist() == part[:kept].tolist()


def test_a_biased_first_token_is_seen(rng):
    """The test of the first token rejects drafts that were drawn at another temperature than stated."""
    chain, rows = Chain(3, 1, seed=5), 8000
    logits = np.broadcast_to(chain.draft[()], (rows * 2, 3))
    paths = draftpick.draw(logits, rng.random(rows * 2), temperature=0.4).reshape(rows, 2, 1)
    tokens, draft, target = stacked(chain, paths)
    out = draftpick.verify(tokens, draft, target, coins=rng.random((rows, 5, 2, 2)))
    assert chi_square(np.bincount(out.tokens[:, 0], minlength=3), softmax(chain.target[()])) < LEVEL


@pytest.mark.parametrize("verifier", ["path", "traversal", "token:optimal-linear"])
def test_seeds_stand_for_coins(verifier, rng):
    chain, rows, count = Chain(3, 3, seed=8), 40, 3
    tokens, draft, target = stacked(chain, drawn(chain, rows, count, rng))
    seeds, positions = rng.integers(0, 2**63, rows), rng.integers(0, 500, rows)
    by_seed = draftpick.verify(tokens, draft, target, verifier=verifier, seeds=seeds, positions=positions)
    depths, drafts = np.arange(4)[:, None], np.arange(count)
    at = [draftpick.coins(seeds[:, None, None], positions[:, None, None], p, depths, drafts) for p in draftpick.PURPOSES]
    by_coins = draftpick.verify(tokens, draft, target, verifier=verifier, coins=np.stack(at, axis=1))
    for one, other in zip(by_seed, by_coins):
        np.testing.assert_array_equal(one, other)


def test_greedy_follows_the_largest_logit():
    chain = Chain(4, 3, seed=11)
    best = ()
    for _ in range(4):
        best += (int(chain.target[best].argmax()),) if best in chain.target else ()
    wrong = (best[0], (best[1] + 1) % 4, 0)
    tokens, draft, target = (array[None] for array in chain.rows([best[:3], wrong]))
    sampling = dict(temperature=0, draft_temperature=1.0)
    out = draftpick.verify(tokens, draft, target, seeds=1, positions=0, **sampling)
    assert out.tokens.tolist() == [list(best)] and out.paths.tolist() == [0]
    only = draftpick.verify(tokens[:, 1:], draft[:, 1:], target[:, 1:], seeds=1, positions=0, **sampling)
    assert only.tokens.tolist() == [[best[0], best[1], -1, -1]] and only.lengths.tolist() == [2]


def long_paths():
    return np.zeros((2, 13), int), np.zeros((2, 13, 2), np.float32), np.zeros((2, 14, 2), np.float32)


T, D, G = np.zeros((1, 2, 1), int), np.zeros((1, 2, 1, 3), np.float32), np.zeros((1, 2, 2, 3), np.float32)
SEED = dict(seeds=1, positions=0)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: draftpick.verify(T, D, G, verifier="paths", **SEED), "no path verifier is called 'paths'"),
        (lambda: draftpick.verify(T, D, G, verifier="block", **SEED), "block takes one path, not 2"),
        (lambda: draftpick.verify(T, D, G, verifier="token:rrs-wor", **SEED), "no path verifier is called"),
        (lambda: draftpick.verify(T, G, G, **SEED), "draft_logits has shape [1, 2, 2, 3]"),
        (lambda: draftpick.verify(T, D, D, **SEED), "target_logits has shape [1, 2, 1, 3]"),
        (lambda: draftpick.verify(T[0], D, G, **SEED), "tokens has 2 axes"),
        (lambda: draftpick.verify(T + 3, D, G, **SEED), "token 0 of path 0 is 3, outside the vocabulary of 3"),
        (lambda: draftpick.verify(T, np.where([True, False, False], -np.inf, D).astype("f4"), G, **SEED), "probability 0"),
        (lambda: draftpick.verify(T, D + np.float32(np.nan), G, **SEED), "draft logit of token 0 is NaN"),
        (lambda: draftpick.verify(T, D, np.full_like(G, -np.inf), **SEED), "all target logits are -inf"),
        (lambda: draftpick.verify(T, D, G, coins=np.zeros((1, 5, 1, 2))), "it must be [1, 5, 2, 2]"),
        (lambda: draftpick.verify(T[:, :0], D[:, :0], G[:, :0], **SEED), "0 paths"),
        (lambda: draftpick.verify(T, D, G, temperature=-1.0, **SEED), "temperature is -1"),
        (lambda: draftpick.outcome_law(*long_paths()), "13 tokens are more than the 12 allowed"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)


def test_an_empty_batch_is_empty():
    out = draftpick.verify(T[:0], D[:0], G[:0], **SEED)
    assert out.tokens.shape == (0, 2) and out.ragged().offsets.tolist() == [0]
    empty = np.zeros((0, 3), np.float32)
    assert draftpick.select(empty, empty, np.zeros((0, 1), int), **SEED).tokens.shape == (0,)
