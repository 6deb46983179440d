"""The conventions of engines: golden cases by hand, laws by frequency, and what is refused."""

from types import SimpleNamespace

import draftpick
import numpy as np
import pytest
from conftest import LEVEL, chi_square, softmax
from draftpick.engines import parents_from_links, parse_output, rejection_sample, verify_tree

SEED = dict(seeds=3, positions=0)


def greedy_logits(tokens, vocab=20):
    """One row for each token, which is the most probable one by far."""
    logits = np.full((len(tokens), vocab), -50, np.float32)
    logits[np.arange(len(tokens)), tokens] = 50
    return logits


def ragged(drafts, targets):
    """The arguments of a batch of chains: what was drafted, and what a greedy target says, the bonus token last."""
    flat = [token for request in drafts for token in request]
    counts = [len(request) for request in drafts]
    rows = [token for request in targets for token in request[:-1]]
    bonus = np.array([[request[-1]] for request in targets])
    return flat, counts, max(counts), np.cumsum(counts), None, greedy_logits(rows), bonus


GOLDEN = [
    ([[1, 2], [3]], [[1, 2, 5], [3, 4]], [[1, 2, 5], [3, 4, -1]]),
    ([[1, 2, 3]], [[1, 2, 3, 4]], [[1, 2, 3, 4]]),
    ([[1, 2, 3]], [[1, 5, 3, 4]], [[1, 5, -1, -1]]),
    ([[1]], [[1, 2]], [[1, 2]]),
    ([[1]], [[2, 3]], [[2, -1]]),
    ([[]], [[5]], [[5]]),
    ([[1, 2, 3], [4, 5, 6]], [[1, 2, 7, 6], [4, 8, 6, 9]], [[1, 2, 7, -1], [4, 8, -1, -1]]),
    ([[1, 2], [3, 4]], [[1, 5, 6], [3, 4, 7]], [[1, 5, -1], [3, 4, 7]]),
    ([[], [7, 7], [], [7]], [[1], [7, 7, 2], [3], [8, 9]], [[1, -1, -1], [7, 7, 2], [3, -1, -1], [8, -1, -1]]),
]


@pytest.mark.parametrize("drafts, targets, expected", GOLDEN)
@pytest.mark.parametrize("drawn", [False, True], ids=["n-gram", "drawn"])
@pytest.mark.parametrize("verifier", ["block", "token:maximal"])
def test_golden_cases(drafts, targets, expected, drawn, verifier):
    args = list(ragged(drafts, targets))
    if drawn:
        args[4] = np.full(args[5].shape, 1 / 20, np.float32)
    # A greedy target is one of temperature 0, and one whose law is a point.
    for temperature in (0.0, 1.0):
        out = rejection_sample(*args, verifier=verifier, temperature=temperature, **SEED)
        assert out.dtype == np.int32 and out.tolist() == expected
    metadata = SimpleNamespace(all_greedy=True, all_random=False, temperature=None, generators={})
    assert rejection_sample(*args, metadata, verifier=verifier, **SEED).tolist() == expected
    assert parse_output(out) == [[token for token in row if token >= 0] for row in expected]


DRAFT = np.array([[0.5, 0.3, 0.2, 0.0], [0.1, 0.2, 0.3, 0.4]], np.float32)
TARGET = np.log(np.array([[0.2, 0.3, 0.0, 0.5], [0.4, 0.3, 0.2, 0.1]], np.float32) + np.float32(1e-45))
TARGET[0, 2] = -np.inf
LAWS = softmax(TARGET)


def chains(rows, rng, draft=DRAFT):
    """The same two-token chain many times; every law depends on the place only."""
    logits = np.log(np.broadcast_to(draft, (rows, 2, 4)).reshape(-1, 4) + np.float32(1e-45))
    logits[np.tile(draft, (rows, 1)) == 0] = -np.inf
    drafts = draftpick.draw(logits, rng.random(2 * rows))
    bonus = rng.integers(0, 4, (rows, 1))
    return [drafts, [2] * rows, 2, None, np.tile(draft, (rows, 1)), np.tile(TARGET, (rows, 1)), bonus]


def places(out):
    """How often each token came at each of the two drafted places."""
    return [np.bincount(out[:, place][out[:, place] >= 0], minlength=4) for place in range(2)]


@pytest.mark.parametrize("verifier", ["block", "token:maximal", "token:kseq", "path"])
def test_the_output_has_the_target_law(verifier, rng):
    args, rows = chains(30_000, rng), 30_000
    out = rejection_sample(*args, verifier=verifier, coins=rng.random((rows, 5, 3, 1)))
    first, second = places(out)
    assert chi_square(first, LAWS[0]) > LEVEL
    # Where a round ended after one token, the text goes on with the target's own law.
    ended = int((out[:, 1] == -1).sum())
    plain = np.bincount(draftpick.draw(np.tile(TARGET[1], (ended, 1)), rng.random(ended)), minlength=4)
    assert chi_square(second + plain, LAWS[1]) > LEVEL
    full = out[:, 2] >= 0
    assert (out[full, 2] == args[6][full, 0]).all() and full.any()
    assert (out[full, :2] == args[0].reshape(-1, 2)[full]).all()


def test_block_keeps_no_fewer_than_token_by_token(rng):
    args, rows = chains(30_000, rng), 30_000
    coins = rng.random((rows, 5, 3, 1))
    kept = [(rejection_sample(*args, verifier=v, coins=coins) >= 0).sum() for v in ("block", "token:maximal")]
    assert kept[0] > kept[1]


def test_n_grams_keep_the_target_law(rng):
    rows = 30_000
    args = chains(rows, rng)
    args[0], args[4] = np.tile([3, 0], rows), None
    out = rejection_sample(*args, coins=rng.random((rows, 5, 3, 1)))
    first, second = places(out)
    assert chi_square(first, LAWS[0]) > LEVEL and chi_square(second, LAWS[1]) > LEVEL
    assert ((out[:, 1] >= 0) == (out[:, 0] == 3)).all()


def test_wrong_draft_probabilities_are_seen(rng):
    args, rows = chains(30_000, rng), 30_000
    args[4] = np.tile(np.array([[0.3, 0.3, 0.3, 0.1], DRAFT[1]], np.float32), (rows, 1))
    out = rejection_sample(*args, verifier="token:maximal", coins=rng.random((rows, 5, 3, 1)))
    assert chi_square(places(out)[0], LAWS[0]) < LEVEL


@pytest.mark.parametrize("coin", [0.0, 1 - 2**-53])
@pytest.mark.parametrize("verifier", ["block", "token:maximal"])
def test_a_token_that_the_target_forbids_never_comes_out(coin, verifier):
    """A sampler that accepts where q/p ≥ u lets a coin of 0 pass token 2, whose q is 0."""
    args = [[2, 3], [2], 2, None, DRAFT, TARGET, [1]]
    out = rejection_sample(*args, verifier=verifier, coins=np.full((1, 5, 3, 1), coin))
    assert out[0, 0] != 2 and out[0, 1] == -1


def test_a_request_depends_on_its_own_seed_alone(rng):
    args = chains(20, rng)
    seeds, positions = rng.integers(0, 2**63, 20), rng.integers(0, 99, 20)
    whole = rejection_sample(*args, seeds=seeds, positions=positions)
    part = [args[0][8:10], [2], 2, None, args[4][8:10], args[5][8:10], args[6][4:5]]
    alone = rejection_sample(*part, seeds=seeds[4:5], positions=positions[4:5])
    assert alone.tolist() == whole[4:5].tolist()


def test_generators_are_the_requests_own(rng):
    args = chains(2, rng)
    args[0], args[1], args[6] = [0, 0, 1, 1], [2, 2, 0], [[0], [1], [2]]

    def run(seed):
        generators = {row: np.random.default_rng([seed, row]) for row in range(3)}
        metadata = SimpleNamespace(all_greedy=False, temperature=np.array([1.0, 0.0, 1.0]), generators=generators)
        out = [rejection_sample(*args, metadata, verifier="token:maximal").tolist() for _ in range(30)]
        return out, [generator.random() for generator in generators.values()]

    one, other = run(1), run(1)
    assert one == other != run(2)
    assert len({tuple(rows[0]) for rows in one[0]}) > 1  # a generator moves on from call to call
    assert len({tuple(rows[1]) for rows in one[0]}) == 1  # a greedy request has no luck
    assert one[1][2] == np.random.default_rng([1, 2]).random()  # without drafts nothing is drawn


def test_torch_in_torch_out(rng):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    flat, counts, most, cumulative, _, logits, bonus = ragged([[1, 2], [3]], [[1, 2, 5], [3, 4]])
    tensors = [torch.tensor(flat), counts, most, torch.tensor(cumulative), None, torch.tensor(logits), torch.tensor(bonus)]
    metadata = SimpleNamespace(all_greedy=True, all_random=False, temperature=None, generators={})
    out = rejection_sample(*tensors, metadata)
    assert out.dtype == torch.int32 and out.tolist() == [[1, 2, 5], [3, 4, -1]]
    args = [torch.as_tensor(a) if isinstance(a, np.ndarray) else a for a in chains(50, rng)]

    def run():
        generators = {row: torch.Generator().manual_seed(row) for row in range(50)}
        metadata = SimpleNamespace(all_greedy=False, temperature=torch.ones(50), generators=generators)
        return rejection_sample(*args, metadata)

    assert torch.equal(run(), run())
    torch.manual_seed(0)
    one = rejection_sample(*args, SimpleNamespace(all_greedy=False, temperature=None, generators={}))
    torch.manual_seed(0)
    assert torch.equal(one, rejection_sample(*args, SimpleNamespace(all_greedy=False, temperature=None, generators={})))


# A tree of three paths of two tokens: 0 → 1 → {2, 3}, 0 → 4 → 5.
PARENTS = [-1, 0, 1, 1, 0, 4]


def test_a_tree_is_its_paths(rng):
    rows = 200
    draft, target = rng.normal(size=(2, rows, 6, 5)).astype(np.float32)
    tokens = np.tile([99, 1, 2, 0, 3, 4], (rows, 1))
    tree = verify_tree(tokens, PARENTS, draft, target, seeds=np.arange(rows), positions=5)
    ways = [[0, 1, 2], [0, 1, 3], [0, 4, 5]]
    paths = draftpick.verify(
        tokens[:, [way[1:] for way in ways]],
        draft[:, [way[:-1] for way in ways]],
        target[:, ways],
        seeds=np.arange(rows),
        positions=5,
    )
    assert tree.tokens.tolist() == paths.tokens.tolist() and tree.lengths.tolist() == paths.lengths.tolist()
    for row in range(rows):
        kept = tree.nodes[row][: tree.lengths[row] - 1]
        assert (tree.nodes[row][tree.lengths[row] - 1 :] == -1).all()
        assert tokens[row, kept].tolist() == tree.tokens[row, : len(kept)].tolist()
        assert [PARENTS[node] for node in kept] == [0, *kept][: len(kept)]
    assert set(tree.lengths.tolist()) == {1, 2, 3}


def test_a_tree_of_chosen_tokens_keeps_the_target_law(rng):
    rows = 30_000
    target = np.broadcast_to(rng.normal(size=(6, 5)).astype(np.float32), (rows, 6, 5))
    tokens = np.tile([0, 1, 2, 0, 3, 4], (rows, 1))
    out = verify_tree(tokens, PARENTS, None, target, coins=rng.random((rows, 5, 3, 1)))
    assert chi_square(np.bincount(out.tokens[:, 0], minlength=5), softmax(target[0, 0])) > LEVEL
    for first, node in ((1, 1), (3, 4)):
        second = out.tokens[out.tokens[:, 0] == first, 1]
        assert chi_square(np.bincount(second, minlength=5), softmax(target[0, node])) > LEVEL
    assert (out.lengths[np.isin(out.tokens[:, 0], [1, 3])] > 1).all()
    assert (out.lengths[~np.isin(out.tokens[:, 0], [1, 3])] == 1).all()


def test_greedy_trees():
    target = greedy_logits([1, 3, 9, 8, 9, 9], 20)[None]
    out = verify_tree([[0, 1, 2, 3, 5, 6]], PARENTS, None, target, temperature=0, **SEED)
    assert out.tokens.tolist() == [[1, 3, 8]] and out.nodes.tolist() == [[1, 3]] and out.lengths.tolist() == [3]
    sampling = dict(verifier="traversal", temperature=0, draft_temperature=1.0)
    drawn = verify_tree([[0, 1, 2, 3, 5, 6]], PARENTS, np.zeros_like(target), target, **sampling, **SEED)
    assert drawn.tokens.tolist() == out.tokens.tolist() and drawn.nodes.tolist() == out.nodes.tolist()
    lone = verify_tree([[7]], [-1], None, target[:, :1], **SEED)
    assert lone.tokens.tolist() == [[1]] and lone.nodes.shape == (1, 0)


def test_links_are_parents():
    # 0 → 1, 4;  1 → 2, 3;  4 → 5
    assert parents_from_links([[1, 2, -1, -1, 5, -1]], [[-1, 4, 3, -1, -1, -1]]).tolist() == [PARENTS]
    assert parents_from_links([[-1]], [[-1]]).tolist() == [[-1]]


ONE = np.zeros((1, 3), np.float32)
TREE = np.zeros((1, 2, 3), np.float32)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: rejection_sample([1], [1], 1, [2], None, ONE, [0], **SEED), "cu_num_draft_tokens is [2]"),
        (lambda: rejection_sample([1], [2], 2, None, None, ONE, [0], **SEED), "from 0 to 1, the number of drafts"),
        (lambda: rejection_sample([1], [0], 1, None, None, ONE, [0], **SEED), "ends at 0, but there are 1 drafts"),
        (lambda: rejection_sample([1], [1], 0, None, None, ONE, [0], **SEED), "max_spec_len is 0"),
        (lambda: rejection_sample([1], [1], 1, None, None, ONE[:0], [0], **SEED), "target_logits has shape [0, 3]"),
        (lambda: rejection_sample([1], [1], 1, None, TREE[0], ONE, [0], **SEED), "draft_probs has shape [2, 3]"),
        (lambda: rejection_sample([1], [1], 1, None, ONE, ONE, [0], **SEED), "draft probabilities add up to 0"),
        (lambda: rejection_sample([1], [1], 1, None, -ONE - 1, ONE, [0], **SEED), "probability of token 0 is -1"),
        (lambda: rejection_sample([1], [1], 1, None, np.eye(3, dtype="f4")[:1], ONE, [0], **SEED), "probability 0"),
        (lambda: rejection_sample([1], [1], 1, None, None, ONE, [0, 1], **SEED), "bonus_token_ids has shape [2]"),
        (lambda: rejection_sample([1], [1], 1, None, None, ONE, [0]), "request 0 has no generator"),
        (lambda: rejection_sample([1], [1], 1, None, None, ONE * np.nan, [0], **SEED), "target logit of token 0 is NaN"),
        (
            lambda: rejection_sample([1], [1], 1, None, None, ONE, [0], SimpleNamespace(), temperature=1.0, **SEED),
            "applied to target_logits already",
        ),
        (lambda: verify_tree([[0, 1]], [-1, 1], None, TREE, **SEED), "parent of node 1 is 1; it must be an earlier"),
        (lambda: verify_tree([[0, 1]], [0, 0], None, TREE, **SEED), "its parent must be -1, not 0"),
        (lambda: verify_tree([[0, 1]], [-1], None, TREE, **SEED), "parents has shape [1, 1]"),
        (lambda: verify_tree([[0, 1]], [-1, 0], None, TREE[:, :1], **SEED), "target_logits has shape [1, 1, 3]"),
        (lambda: verify_tree([[0, 4]], [-1, 0], TREE, TREE, **SEED), "outside the vocabulary of 3"),
        (
            lambda: verify_tree([[0, 1, 1, 2]], [-1, 0, 0, 1], np.zeros((1, 4, 3), "f4"), np.zeros((1, 4, 3), "f4"), **SEED),
            "ends after 1 tokens where another one goes on",
        ),
        (lambda: verify_tree(np.zeros((1, 0), int), [], None, TREE[:, :0], **SEED), "at least its root"),
        (lambda: parents_from_links([[1, 5]], [[-1, -1]]), "a link to node 5"),
        (lambda: parents_from_links([[1, 1]], [[-1, -1]]), "a link to node 1, which is no new node"),
        (lambda: parents_from_links([[1, -1, -1]], [[-1, -1, -1]]), "no link leads to node 2"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)
