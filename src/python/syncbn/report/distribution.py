# SPDX-License-Identifier: Apache-2.0
"""What is kept of repeated measurements: their median, its interval, and quantiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .documents import DocumentError, Member

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A value with the 95 % interval that it lies in."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Distribution:
    """Repetitions of one measurement, in seconds."""

    count: int
    median: float
    low: float  # 95 % interval of the median, by order statistics
    high: float
    probabilities: Array  # ascending, from 0 to 1
    quantiles: Array  # at these probabilities

    def quantile(self, probability: float | Array) -> Array:
        """Returns quantiles, on straight lines between those that were kept."""
        return np.asarray(np.interp(probability, self.probabilities, self.quantiles))

    def at(self, probability: float) -> float:
        return float(self.quantile(probability))

    @property
    def interval(self) -> Interval:
        return Interval(self.median, self.low, self.high)

    def resampled_medians(self, times: int, random: np.random.Generator) -> Array:
        """Returns medians of samples like this one: its bootstrap.

        The median of n draws lies at a probability that is distributed as Beta((n+1)/2, (n+1)/2), so no
        sample has to be drawn.
        """
        half = (self.count + 1) / 2
        return self.quantile(random.beta(half, half, times))


def read_distribution(member: Member, probabilities: Sequence[float]) -> Distribution:
    quantiles = member["quantiles"].numbers()
    if len(quantiles) != len(probabilities):
        raise DocumentError(
            f"{member.file}: {member.place}.quantiles has {len(quantiles)} values "
            f"(method.probabilities has {len(probabilities)}). Was the file edited?"
        )
    low, median, high = (member[name].number() for name in ("low", "median", "high"))
    if not 0 <= low <= median <= high:
        raise DocumentError(
            f"{member.file}: {member.place} has the median {median} and the interval {low} to {high}. "
            "Was the file edited?"
        )
    return Distribution(
        member["count"].integer(),
        median,
        low,
        high,
        np.array(probabilities, dtype=np.float64),
        np.array(quantiles, dtype=np.float64),
    )


def pooled(distributions: Sequence[Distribution], probability: float) -> float:
    """Returns a quantile of several distributions' repetitions together, each as often as it was
    repeated."""
    grid = (np.arange(400) + 0.5) / 400
    values = np.concatenate([one.quantile(grid) for one in distributions])
    weights = np.concatenate([np.full(len(grid), one.count / len(grid)) for one in distributions])
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    place = int(np.searchsorted(below, probability * below[-1]))
    return float(values[order][min(place, len(values) - 1)])


def binomial_tail(successes: int, trials: int, probability: float) -> float:
    """Returns the probability of at least so many successes."""
    if successes <= 0:
        return 1.0
    if probability >= 1:
        return 1.0
    counts = np.arange(successes, trials + 1, dtype=np.float64)
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, trials + 1)))])
    logs = (
        factorials[trials]
        - factorials[successes : trials + 1]
        - factorials[: trials - successes + 1][::-1]
        + counts * np.log(probability)
        + (trials - counts) * np.log1p(-probability)
    )
    return float(min(1.0, np.exp(logs).sum()))
