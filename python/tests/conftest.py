"""What several test files need: laws to test on, and Pearson's test."""

import numpy as np
import pytest
from scipy import stats

#: The level of every statistical test: a right rule fails one in a million, and the seeds are fixed.
LEVEL = 1e-6


def chi_square(counts, law):
    """The probability that counts fit the law no better than these; 0 if something impossible was counted."""
    counts, law = np.asarray(counts, float), np.asarray(law, float)
    if (counts[law == 0] > 0).any():
        return 0.0
    counts, expected = counts[law > 0], counts.sum() * law[law > 0]
    # Cells that expect less than 5 are taken together, smallest first.
    order = np.argsort(expected)
    cells, pool = [], np.zeros(2)
    for at in order:
        pool = pool + (expected[at], counts[at])
        if pool[0] >= 5:
            cells.append(pool)
            pool = np.zeros(2)
    if cells:
        cells[-1] = cells[-1] + pool
    cells = np.array(cells)
    if len(cells) < 2:
        return 1.0
    statistic = ((cells[:, 1] - cells[:, 0]) ** 2 / cells[:, 0]).sum()
    return float(stats.chi2.sf(statistic, len(cells) - 1))


def softmax(logits):
    """In f64, over the last axis."""
    weights = np.exp(np.asarray(logits, float) - np.max(logits, axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


@pytest.fixture
def rng():
    return np.random.default_rng(20261124)
