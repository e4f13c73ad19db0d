# SPDX-License-Identifier: Apache-2.0
"""Statistics of repetitions of which only quantiles were kept."""

from __future__ import annotations

import math

import numpy as np
import pytest

import planted
from syncbn.report.distribution import Distribution, binomial_tail, pooled


def distribution(samples: np.ndarray) -> Distribution:
    probabilities = np.array(planted.PROBABILITIES)
    return Distribution(
        len(samples), float(np.median(samples)), 0.0, 0.0, probabilities,
        np.quantile(samples, probabilities),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("successes", "trials", "share"), [(7, 10, 0.5), (30, 720, 0.02), (0, 5, 0.3)]
)
def test_binomial_tail_is_the_sum_of_its_terms(successes: int, trials: int, share: float) -> None:
    terms = (
        math.comb(trials, k) * share**k * (1 - share) ** (trials - k)
        for k in range(successes, trials + 1)
    )
    assert binomial_tail(successes, trials, share) == pytest.approx(sum(terms))


def test_resampled_medians_spread_as_medians_of_samples_do() -> None:
    random = np.random.default_rng(3)
    samples = np.sort(random.lognormal(size=101))
    direct = np.median(random.choice(samples, (4000, 101)), axis=1)
    found = distribution(samples).resampled_medians(4000, random)
    assert found.std() == pytest.approx(direct.std(), rel=0.15)
    assert np.median(found) == pytest.approx(np.median(direct), rel=0.02)


def test_pooled_quantile_counts_each_distribution_by_its_repetitions() -> None:
    low, high = distribution(np.full(300, 1.0)), distribution(np.full(100, 2.0))
    assert pooled([low, high], 0.5) == 1.0
    assert pooled([low, high], 0.74) == 1.0
    assert pooled([low, high], 0.76) == 2.0
