"""Single problems: the published numbers, losslessness as an equation, and what is refused."""

import itertools

import draftpick
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

P, Q = [0.5, 0.3, 0.2], [0.2, 0.3, 0.5]


def laws(vocab):
    """Laws with zeros and with very small entries."""
    weight = st.one_of(st.just(0.0), st.floats(1e-6, 1.0))
    weights = st.lists(weight, min_size=vocab, max_size=vocab).filter(lambda w: sum(w) > 0)
    return weights.map(lambda w: np.array(w) / np.sum(w))


problems = st.integers(1, 4).flatmap(lambda vocab: st.tuples(laws(vocab), laws(vocab), st.integers(1, 3)))


@pytest.mark.parametrize("k, optimum, kseq", [(1, 0.7, 0.7), (2, 0.86, 0.7913552873), (3, 0.988, 0.8585186057)])
def test_published_numbers(k, optimum, kseq):
    solution = draftpick.solve(P, Q, k, exact=True)
    assert solution.optimum == pytest.approx(optimum, abs=1e-12) == draftpick.alpha_star(P, Q, k)
    assert solution.linear_program == pytest.approx(optimum, abs=1e-12)
    assert solution.acceptance["kseq"] == pytest.approx(kseq, abs=1e-9)
    assert solution.acceptance["optimal"] == pytest.approx(optimum, abs=1e-12)
    assert ("maximal" in solution.acceptance) == (k == 1)


@given(problems)
@settings(deadline=None)
def test_the_closed_form_is_the_least_cut_and_the_program_agrees(problem):
    p, q, k = problem
    subsets = itertools.chain.from_iterable(itertools.combinations(range(len(p)), n) for n in range(len(p) + 1))
    cut = min(1 + q[list(h)].sum() - p[list(h)].sum() ** k for h in subsets)
    assert draftpick.alpha_star(p, q, k) == pytest.approx(cut, abs=1e-12)
    assert draftpick.solve(p, q, k, exact=True).linear_program == pytest.approx(cut, abs=1e-12)


@pytest.mark.parametrize("rule", draftpick.RULES)
@given(problem=problems)
# Three drafts of token 1 are less likely than rounding, and all that the laws disagree in.
@example(problem=(np.array([0.999999, 1e-6]), np.array([1.0, 0.0]), 3))
@example(problem=(np.array([1.0, 1e-20]), np.array([1.0, 0.0]), 2))
@settings(deadline=None, max_examples=60)
def test_every_rule_is_lossless(rule, problem):
    """The sum over all draft tuples of P(tuple)·law(tuple) is the target law, and no rule beats the optimum."""
    p, q, k = problem
    if (rule == "maximal" and k > 1) or (rule == "rrs-wor" and k > (p > 0).sum()):
        return
    selector = draftpick.Selector(p, q, k, rule)
    output, accepted = np.zeros(len(q)), 0.0
    for drafts in itertools.product(np.flatnonzero(p), repeat=k):
        probability, left = 1.0, 1.0
        for place, token in enumerate(drafts):
            if selector.without_replacement:
                if token in drafts[:place]:
                    probability = 0.0
                    break
                left = sum(p[t] for t in np.flatnonzero(p) if t not in drafts[:place])
            probability *= p[token] / left
        if probability > 0:
            law = selector.law(drafts)
            output += probability * law
            accepted += probability * law[list(set(drafts))].sum()
    assert np.abs(output - q).max() < 1e-12
    assert selector.acceptance <= accepted + 1e-12
    if not selector.without_replacement:
        assert accepted <= draftpick.alpha_star(p, q, k) + 1e-12


def test_a_wrong_draft_law_is_no_longer_lossless():
    """The enumeration above can fail: with drafts from another law the sum is off."""
    selector = draftpick.Selector(P, Q, 2, "optimal")
    other = np.array([0.4, 0.4, 0.2])
    pairs = itertools.product(range(3), repeat=2)
    output = sum(other[x] * other[y] * selector.law([x, y]) for x, y in pairs)
    assert np.abs(output - Q).max() > 1e-2


def test_select_takes_its_randomness_as_coins():
    selector = draftpick.Selector(P, Q, 2, "optimal")
    assert selector.select([0, 1], [0.1, 0.2, 0.0, 0.0]) == selector.select([0, 1], [0.1, 0.2, 0.0, 0.0])
    token, accepted = selector.select([0, 0], [0.1, 0.2, 1 - 2**-53, 0.0])
    assert accepted == -1 and Q[token] > P[token] ** 2


def test_compare_is_solve_row_by_row():
    draft, target = np.log([P, Q]), np.log([Q, P])
    table = draftpick.compare(draft, target, (1, 2))
    assert table.optimum.shape == (2, 2) and table.acceptance.shape == (2, 2, len(draftpick.RULES))
    for row, (p, q) in enumerate([(P, Q), (Q, P)]):
        for at, k in enumerate((1, 2)):
            solution = draftpick.solve(p, q, k)
            assert table.optimum[row, at] == pytest.approx(solution.optimum, abs=1e-12)
            for rule, value in solution.acceptance.items():
                assert table.acceptance[row, at, table.rules.index(rule)] == pytest.approx(value, abs=1e-12)
    assert np.isnan(table.mean("maximal", 2)) and table.mean("maximal", 1) == pytest.approx(0.7)
    same = draftpick.compare(np.array([P, Q]), np.array([Q, P]), (1, 2), values="probabilities")
    np.testing.assert_allclose(same.acceptance, table.acceptance, atol=1e-12)
    half = draftpick.compare(draft.astype(np.float32), target.astype(np.float32), (1, 2))
    np.testing.assert_allclose(half.optimum, table.optimum, atol=1e-6)
    cold = draftpick.compare(draft, target, (2,), temperature=[1.0, 0.5])
    assert cold.optimum[0, 0] == table.optimum[0, 1] and cold.optimum[1, 0] != table.optimum[1, 1]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: draftpick.alpha_star([0.5, 0.4], [0.5, 0.5], 1), "draft: the probabilities add up to 0.9"),
        (lambda: draftpick.alpha_star([0.5, 0.5], [1.5, -0.5], 1), "target: the probability of token 1 is -0.5"),
        (lambda: draftpick.alpha_star([0.5, np.nan], [0.5, 0.5], 1), "token 1 is NaN"),
        (lambda: draftpick.alpha_star([1.0], [0.5, 0.5], 1), "draft law has 1 tokens, the target law 2"),
        (lambda: draftpick.alpha_star(P, Q, 0), "k is 0"),
        (lambda: draftpick.alpha_star(P, Q, 65), "k is 65"),
        (lambda: draftpick.alpha_star([], [], 1), "at least one token"),
        (lambda: draftpick.alpha_star([P], [Q], 1), "must have 1"),
        (lambda: draftpick.solve(np.full(5000, 1 / 5000), np.full(5000, 1 / 5000), 8, exact=True), "takes at most"),
        (lambda: draftpick.Selector(P, Q, 2, "best"), "no rule is called 'best'; there are maximal"),
        (lambda: draftpick.Selector(P, Q, 2, "maximal"), "takes one draft"),
        (lambda: draftpick.Selector([1.0, 0, 0], Q, 2).law([0, 1]), "draft 1 is token 1, which has probability 0"),
        (lambda: draftpick.Selector(P, Q, 2).law([0]), "1 drafts were given to a selector prepared for 2"),
        (lambda: draftpick.Selector(P, Q, 2).law([0, -1]), "token -1"),
        (lambda: draftpick.Selector(P, Q, 2).select([0, 1], [0, 0, 0, 1.0]), "a coin must be in [0, 1), not 1"),
        (lambda: draftpick.Selector(P, Q, 2).select([0, 1], [0.0]), "1 coins were given"),
        (lambda: draftpick.compare([P], [Q], values="odds"), "values is 'odds'"),
        (lambda: draftpick.compare([P], [[0.5, 0.5]]), "shape of draft"),
        (lambda: draftpick.compare([P], [Q], (0,)), "k is 0"),
        (lambda: draftpick.compare([P, [np.inf, 0, 0]], [Q, Q]), "draft row 1: the logit of token 0 is inf"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)
