"""Batches of selections: their law, their coins, and what is refused."""

import draftpick
import numpy as np
import pytest
from conftest import LEVEL, chi_square, softmax
from hypothesis import given, settings
from hypothesis import strategies as st

DRAFT = np.array([1.0, 0.5, -2.0, 0.0, -np.inf, 1.2], np.float32)
TARGET = np.array([0.5, 1.0, 0.7, -np.inf, 0.1, 1.5], np.float32)
BATCH = 40_000
INDEPENDENT = [rule for rule in draftpick.RULES if rule != "rrs-wor"]


def batch(k, rng, **sampling):
    """The same position many times: rows that lie in one place, and drafts for each."""
    draft, target = (np.broadcast_to(row, (BATCH, row.size)) for row in (DRAFT, TARGET))
    drafts = np.stack([draftpick.draw(draft, rng.random(BATCH), **sampling) for _ in range(k)], axis=1)
    return draft, target, drafts


@pytest.mark.parametrize("rule", INDEPENDENT)
def test_the_output_has_the_target_law(rule, rng):
    k = 1 if rule == "maximal" else 3
    draft, target, drafts = batch(k, rng)
    chosen = draftpick.select(draft, target, drafts, rule=rule, coins=rng.random((BATCH, k + 2)))
    assert chi_square(np.bincount(chosen.tokens, minlength=6), softmax(TARGET)) > LEVEL
    taken = chosen.accepted >= 0
    assert (chosen.tokens[taken] == drafts[taken, chosen.accepted[taken]]).all()
    acceptance = draftpick.Prepared(draft[:1], target[:1], k, rule=rule).acceptance[0]
    assert abs(taken.mean() - acceptance) < 5 * np.sqrt(acceptance / BATCH)


def test_the_filtered_output_has_the_filtered_law(rng):
    sampling = dict(temperature=0.7, top_k=4, top_p=0.9, min_p=0.1)
    draft, target, drafts = batch(2, rng, **{**sampling, "temperature": 1.3})
    chosen = draftpick.select(
        draft, target, drafts, coins=rng.random((BATCH, 4)), draft_temperature=1.3, **sampling
    )
    kept = np.sort(TARGET)[-4:]
    law = softmax(np.where(TARGET >= kept[0], TARGET, -np.inf) / 0.7)
    law = np.where(law >= 0.1 * law.max(), law, 0)  # top-p drops nothing that min-p would keep here
    assert chi_square(np.bincount(chosen.tokens, minlength=6), law / law.sum()) > LEVEL


@pytest.mark.parametrize("fault", ["temperature", "coins"])
def test_a_fault_is_seen(fault, rng):
    """The same test rejects drafts of another temperature than stated, and coins that drew the drafts too."""
    draft, target, _ = batch(0 + 1, rng)
    first = rng.random((BATCH, 4))
    temperature = 0.5 if fault == "temperature" else 1.0
    drafts = np.stack([draftpick.draw(draft, first[:, i], temperature=temperature) for i in range(2)], axis=1)
    coins = first if fault == "coins" else rng.random((BATCH, 4))
    rule = "kseq" if fault == "coins" else "optimal-linear"
    chosen = draftpick.select(draft, target, drafts, rule=rule, coins=coins)
    assert chi_square(np.bincount(chosen.tokens, minlength=6), softmax(TARGET)) < LEVEL


def test_draw_has_the_law_and_never_draws_the_impossible(rng):
    rows = np.broadcast_to(DRAFT, (BATCH, 6))
    assert chi_square(np.bincount(draftpick.draw(rows, rng.random(BATCH)), minlength=6), softmax(DRAFT)) > LEVEL
    assert draftpick.draw(rows[:2], [0.0, 1 - 2**-53]).tolist() == [0, 5]
    masked = np.array([[-np.inf, 0.0, -np.inf]] * 2, np.float32)
    assert draftpick.draw(masked, [0.0, 1 - 2**-53]).tolist() == [1, 1]
    assert draftpick.draw(rows[:2], [0.0, 0.9], temperature=0).tolist() == [5, 5]


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**64 - 1), st.integers(0, 2**40))
@settings(deadline=None)
def test_seeds_stand_for_coins(rows, k, seed, position):
    rng = np.random.default_rng(1)
    draft, target = rng.normal(size=(2, rows, 9)).astype(np.float32)
    drafts = rng.integers(0, 9, (rows, k))
    positions = position + np.arange(rows)
    by_seed = draftpick.select(draft, target, drafts, seeds=seed, positions=positions)
    labels = draftpick.coins(seed, positions[:, None], "label", 0, np.arange(k))
    rest = [draftpick.coins(seed, positions, purpose)[:, None] for purpose in ("accept", "residual")]
    by_coins = draftpick.select(draft, target, drafts, coins=np.hstack([labels, *rest]))
    for one, other in zip(by_seed, by_coins):
        np.testing.assert_array_equal(one, other)


def test_a_row_depends_on_nothing_else_in_the_batch(rng):
    draft, target = rng.normal(size=(2, 50, 3000)).astype(np.float32)
    drafts = np.stack([draftpick.draw(draft, rng.random(50)) for _ in range(3)], axis=1)
    seeds, positions = rng.integers(0, 2**63, 50), rng.integers(0, 1000, 50)
    threads = draftpick.get_num_threads()
    try:
        draftpick.set_num_threads(1)
        whole = draftpick.select(draft, target, drafts, seeds=seeds, positions=positions, temperature=np.full(50, 0.9))
        draftpick.set_num_threads(5)
        again = draftpick.select(draft, target, drafts, seeds=seeds, positions=positions, temperature=0.9)
    finally:
        draftpick.set_num_threads(threads)
    np.testing.assert_array_equal(whole.tokens, again.tokens)
    for row in (0, 17, 49):
        one = slice(row, row + 1)
        alone = draftpick.select(
            draft[one], target[one], drafts[one], seeds=seeds[one], positions=positions[one], temperature=0.9
        )
        assert alone.tokens[0] == whole.tokens[row] and alone.accepted[0] == whole.accepted[row]
    prepared = draftpick.Prepared(draft, target, 3, temperature=0.9)
    assert prepared.shape == (50, 3, 3000) and prepared.rule == "optimal-linear"
    np.testing.assert_array_equal(prepared.select(drafts, seeds=seeds, positions=positions).tokens, whole.tokens)


def test_prepared_keeps_its_own_logits(rng):
    draft, target = rng.normal(size=(2, 4, 300)).astype(np.float32)
    drafts = np.zeros((4, 2), int)
    prepared = draftpick.Prepared(draft, target, 2)
    before = prepared.select(drafts, seeds=1, positions=0)
    draft[:] = np.nan
    target[:] = 0
    np.testing.assert_array_equal(prepared.select(drafts, seeds=1, positions=0).tokens, before.tokens)


def test_parameters_for_each_request():
    draft = np.zeros((2, 3), np.float32)
    target = np.array([[0, 1, 2]] * 2, np.float32)
    chosen = draftpick.select(
        draft, target, [[0], [2]], seeds=5, positions=0, temperature=[0.0, 1.0], draft_temperature=1.0
    )
    assert chosen.tokens[0] == 2 and chosen.accepted[0] == -1


ROW = np.zeros((2, 3), np.float32)
SEED = dict(seeds=1, positions=0)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: draftpick.select(ROW, ROW, [[0], [3]], **SEED), "row 1: draft 0 is token 3, outside the vocabulary"),
        (lambda: draftpick.select(ROW, ROW, [[0], [-1]], **SEED), "token -1 at drafts[1, 0]"),
        (lambda: draftpick.select(ROW, ROW, [[0.5], [0]], **SEED), "tokens are integers"),
        (lambda: draftpick.select(ROW, ROW, [[0]], **SEED), "drafts has shape [1, 1]"),
        (lambda: draftpick.select(ROW, ROW, np.zeros((2, 0), int), **SEED), "k is 0"),
        (lambda: draftpick.select(ROW, ROW, np.zeros((2, 65), int), **SEED), "k is 65"),
        (lambda: draftpick.select(ROW, ROW[:, :2], [[0], [0]], **SEED), "target_logits has shape [2, 2]"),
        (lambda: draftpick.select(ROW[0], ROW, [[0], [0]], **SEED), "draft_logits has 1 axes (shape [3])"),
        (lambda: draftpick.select(ROW.astype(float), ROW, [[0], [0]], **SEED), "draft_logits is float64"),
        (lambda: draftpick.select(ROW.astype(">f4"), ROW, [[0], [0]], **SEED), "draft_logits is >f4"),
        (lambda: draftpick.select(np.zeros((2, 0), np.float32), ROW[:, :0], [[0], [0]], **SEED), "rows of 0 logits"),
        (lambda: draftpick.select(ROW, ROW, [[0], [0]], rule="rejection", **SEED), "no rule is called 'rejection'"),
        (lambda: draftpick.select(ROW, ROW, [[0, 0]] * 2, rule="maximal", **SEED), "maximal takes one draft, not 2"),
        (lambda: draftpick.select(ROW, ROW, [[0], [0]]), "give either coins or seeds"),
        (lambda: draftpick.select(ROW, ROW, [[0], [0]], seeds=1), "give positions"),
        (lambda: draftpick.select(ROW, ROW, [[0], [0]], coins=np.zeros((2, 3)), positions=1), "positions belong to seeds"),
        (lambda: draftpick.select(ROW, ROW, [[0], [0]], coins=np.zeros((2, 2))), "coins has shape [2, 2]"),
        (lambda: draftpick.select(ROW, ROW, [[0], [0]], coins=np.ones((2, 3))), "a coin must be in [0, 1), not 1"),
        (lambda: draftpick.select(ROW, ROW, [[0], [0]], coins=np.full((2, 3), np.nan)), "not NaN"),
        (lambda: draftpick.select(ROW, ROW, [[0], [0]], seeds=[1, 2, 3], positions=0), "seeds has shape [3]"),
        (lambda: draftpick.select(ROW, ROW, [[0], [0]], seeds=-1, positions=0), "seeds has -1"),
        (lambda: draftpick.select(ROW, ROW, [[0], [0]], seeds=0.5, positions=0), "seeds is float64"),
        (lambda: draftpick.select(ROW, ROW, [[0], [0]], top_p=1.5, **SEED), "top_p is 1.5; it must be in [0, 1]"),
        (lambda: draftpick.select(ROW, ROW, [[0], [0]], top_k=0, **SEED), "top_k is 0; it must be at least 1"),
        (lambda: draftpick.select(ROW, ROW, [[0], [0]], top_k=2.5, **SEED), "top_k is 2.5"),
        (lambda: draftpick.select(ROW, ROW, [[0], [0]], temperature=[1, np.nan], **SEED), "row 1: draft row: temperature"),
        (lambda: draftpick.select(ROW, ROW, [[0], [0]], min_p=[0.5] * 3, **SEED), "min_p has shape [3]"),
        (lambda: draftpick.draw(ROW, [0.5]), "coins has shape [1]"),
        (lambda: draftpick.draw(np.full((1, 3), -np.inf, np.float32), [0.5]), "all draft logits are -inf"),
        (lambda: draftpick.coins(1, 2, "luck"), "purpose is 'luck'"),
        (lambda: draftpick.coins(1, -2, "draft"), "positions has -2"),
        (lambda: draftpick.set_num_threads(0), "the number of threads is 0"),
        (lambda: draftpick.Prepared(ROW, ROW, 2, rule="maximal"), "takes one draft"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)


@given(
    st.sampled_from(["draft", "target"]), st.integers(0, 6), st.integers(0, 299), st.sampled_from([np.nan, np.inf])
)
@settings(deadline=None, max_examples=40)
def test_a_bad_logit_is_named(which, row, token, value):
    draft, target = np.zeros((2, 7, 300), np.float32)
    (draft if which == "draft" else target)[row, token] = value
    with pytest.raises(ValueError) as error:
        draftpick.select(draft, target, np.zeros((7, 1), int), **SEED)
    name = "NaN" if np.isnan(value) else "inf"
    assert f"row {row}: the {which} logit of token {token} is {name}" in str(error.value)
