# SPDX-License-Identifier: Apache-2.0
"""A model of the time of an exchange: a sum of stated terms with coefficients that are not negative.

The coefficients minimize the sum of (prediction - T)^2 / (prediction T), in which twice and half the time
count the same (errors relative to T alone would pull predictions down where times scatter). They are
found by least squares with weights from the prediction before, by the algorithm NNLS of Lawson & Hanson,
Solving Least Squares Problems (1974), chapter 23. How far the model is to be trusted is found by leaving
measurements out: it says what it would have predicted without them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .distribution import Array, Distribution
from .terms import CALL, Setting, Term

RESAMPLINGS = 200
REWEIGHTINGS = 5  # of a fit, after which coefficients stay the same to a per cent
WORST_FACTOR = 1000.0  # by which a prediction is taken to be too low, if it is nothing at all


@dataclass(frozen=True)
class Point:
    """A measured time."""

    setting: Setting
    time: Distribution


def nonnegative_least_squares(matrix: Array, wanted: Array) -> Array:
    """Returns x >= 0 that minimizes |matrix x - wanted| (Lawson & Hanson, algorithm NNLS)."""
    scale = np.linalg.norm(matrix, axis=0)
    scale[scale == 0] = 1
    scaled = matrix / scale
    found = np.zeros(matrix.shape[1])
    passive = np.zeros(matrix.shape[1], dtype=bool)
    tolerance = 1e-12 * max(1.0, float(np.linalg.norm(wanted)))
    for _ in range(10 * matrix.shape[1]):
        gradient = scaled.T @ (wanted - scaled @ found)
        gradient[passive] = -np.inf
        if passive.all() or gradient.max() <= tolerance:
            break
        passive[int(gradient.argmax())] = True
        while True:
            trial = np.zeros_like(found)
            trial[passive] = np.linalg.lstsq(scaled[:, passive], wanted, rcond=None)[0]
            if trial[passive].min() > 0:
                break
            falling = passive & (trial <= 0)
            step = np.min(found[falling] / (found[falling] - trial[falling]))
            found = found + step * (trial - found)
            passive &= found > 1e-15
            found[~passive] = 0
            if not passive.any():
                trial = found
                break
        found = trial
    return np.asarray(found / scale)


@dataclass(frozen=True)
class Errors:
    """Relative errors of predictions of times that the fit had not seen."""

    median: float
    worst: float
    factor: float  # the worst as a factor, prediction / time or its inverse, whichever is above 1


@dataclass(frozen=True)
class LeftOut:
    """A measured time, and what was predicted of it without it."""

    point: Point
    predicted: float

    @property
    def error(self) -> float:
        return self.predicted / self.point.time.median - 1


def errors_of(left_out: Sequence[LeftOut]) -> Errors:
    errors = [abs(one.error) for one in left_out]
    ratios = [max(one.predicted / one.point.time.median, 1 / WORST_FACTOR) for one in left_out]
    logs = np.abs(np.log(ratios))
    return Errors(float(np.median(errors)), max(errors), float(np.exp(logs.max())))


@dataclass(frozen=True)
class Fit:
    """A fitted model, and its coefficients in bootstrap samples of what it was fitted to."""

    terms: tuple[Term, ...]
    coefficients: Array
    samples: Array  # [RESAMPLINGS, terms]
    dropped: tuple[tuple[Term, str], ...]  # with the reason

    def predict(self, setting: Setting) -> float:
        return float(self._row(setting) @ self.coefficients)

    def range_of(self, setting: Setting) -> tuple[float, float]:
        """Returns the 95 % range of the prediction over the bootstrap samples."""
        low, high = np.quantile(self.samples @ self._row(setting), (0.025, 0.975))
        return float(low), float(high)

    def coefficient_range(self, term: int) -> tuple[float, float]:
        low, high = np.quantile(self.samples[:, term], (0.025, 0.975))
        return float(low), float(high)

    def _row(self, setting: Setting) -> Array:
        return np.array([term.of(setting) for term in self.terms], dtype=np.float64)


def _usable(
    terms: Sequence[Term], points: Sequence[Point]
) -> tuple[tuple[Term, ...], tuple[tuple[Term, str], ...]]:
    """Returns the terms that vary in these points, and the others with the reason."""
    used: list[Term] = []
    dropped: list[tuple[Term, str]] = []
    for term in terms:
        values = np.array([term.of(point.setting) for point in points])
        if term is not CALL and np.all(values == values[0]):
            dropped.append((term, "it is the same in all that was measured"))
        else:
            used.append(term)
    return tuple(used), tuple(dropped)


def _solve(matrix: Array, times: Array) -> Array:
    predicted = times
    for _ in range(REWEIGHTINGS):
        weights = 1 / np.sqrt(times * predicted)
        found = nonnegative_least_squares(matrix * weights[:, None], times * weights)
        predicted = np.maximum(matrix @ found, times / WORST_FACTOR)
    return found


def fit(terms: Sequence[Term], points: Sequence[Point], seed: int = 1) -> Fit:
    """Fits a model to times. Its bootstrap replaces each time by the median of a sample like the one
    that was measured (Distribution.resampled_medians), all of them at once."""
    used, dropped = _usable(terms, points)
    matrix = np.array([[term.of(one.setting) for term in used] for one in points], dtype=np.float64)
    times = np.array([point.time.median for point in points])
    random = np.random.default_rng(seed)
    drawn = np.array([point.time.resampled_medians(RESAMPLINGS, random) for point in points])
    drawn = np.maximum(drawn, 1e-12)
    samples = np.array([_solve(matrix, drawn[:, i]) for i in range(RESAMPLINGS)])
    return Fit(used, _solve(matrix, times), samples, dropped)


def _predict_without(
    terms: Sequence[Term], points: Sequence[Point], out: Callable[[Setting], bool]
) -> list[LeftOut]:
    """Returns what a fit without some of the points says of these."""
    kept = [point for point in points if not out(point.setting)]
    if not kept:
        return []
    used, _ = _usable(terms, kept)
    matrix = np.array([[term.of(one.setting) for term in used] for one in kept], dtype=np.float64)
    found = _solve(matrix, np.array([point.time.median for point in kept]))
    return [
        LeftOut(
            point,
            sum(
                float(value) * term.of(point.setting)
                for value, term in zip(found, used, strict=True)
            ),
        )
        for point in points
        if out(point.setting)
    ]


def leave_out(
    terms: Sequence[Term], points: Sequence[Point], key: Callable[[Setting], int]
) -> list[LeftOut]:
    """Leaves out the points of each value of a key in turn, and returns what the others say of them."""
    values = sorted({key(point.setting) for point in points})
    if len(values) < 3:
        return []
    return [
        left_out
        for value in values
        for left_out in _predict_without(terms, points, lambda at, value=value: key(at) == value)  # type: ignore[misc]
    ]


@dataclass(frozen=True)
class Model:
    """A fit on all sizes but the largest, and what is known of its errors."""

    fit: Fit
    points: list[Point]
    sizes: list[int]  # numbers of ranks that were measured
    held_out: list[LeftOut]  # of the largest size; empty where too few sizes were measured
    sizes_left_out: list[LeftOut]  # one number of ranks at a time
    lengths_left_out: list[LeftOut]  # one length at a time

    @property
    def without_a_size(self) -> Errors | None:
        return errors_of(self.sizes_left_out) if self.sizes_left_out else None

    @property
    def without_a_length(self) -> Errors | None:
        return errors_of(self.lengths_left_out) if self.lengths_left_out else None

    def errors_like(self, setting: Setting) -> tuple[Errors | None, Errors | None]:
        """Returns the errors without a size, and without a length, in settings of the same kind: on one
        host, or on several."""
        size, length = (
            [one for one in every if (one.point.setting.hosts > 1) == (setting.hosts > 1)]
            for every in (self.sizes_left_out, self.lengths_left_out)
        )
        return errors_of(size) if size else None, errors_of(length) if length else None

    def band(self, setting: Setting) -> tuple[float, float]:
        """Returns the range of a prediction: that of the bootstrap, wider by the worst factor by which
        a prediction of the same kind was wrong that had not seen the size. The smallest size is left
        aside: nothing is predicted below it."""
        low, high = self.fit.range_of(setting)
        alike = [
            one
            for one in self.sizes_left_out
            if (one.point.setting.hosts > 1) == (setting.hosts > 1)
        ]
        smallest = min((one.point.setting.ranks for one in alike), default=0)
        larger = [one for one in alike if one.point.setting.ranks > smallest]
        factor = errors_of(larger).factor if larger else WORST_FACTOR  # nothing is known
        return low / factor, high * factor


FEWEST_SIZES = 3


def build(terms: Sequence[Term], points: Sequence[Point], seed: int = 1) -> Model:
    """Builds the model of measured times. With fewer than FEWEST_SIZES numbers of ranks it is fitted to
    all of them."""
    sizes = sorted({point.setting.ranks for point in points})
    enough = len(sizes) >= FEWEST_SIZES
    fitted = [one for one in points if not enough or one.setting.ranks < sizes[-1]]
    made = fit(terms, fitted, seed)
    held_out = [
        LeftOut(one, made.predict(one.setting))
        for one in points
        if enough and one.setting.ranks == sizes[-1]
    ]
    by_size = leave_out(terms, points, lambda at: at.ranks)
    by_length = leave_out(terms, points, lambda at: at.doubles)
    return Model(
        made,
        list(points),
        sizes,
        held_out,
        by_size,
        by_length,
    )
