# SPDX-License-Identifier: Apache-2.0
"""The model finds what was planted, and says how wrong it is where it does not hold."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

import planted
from planted import LENGTHS, Truth
from syncbn.report.distribution import Distribution
from syncbn.report.model import Model, Point, build, errors_of, fit, nonnegative_least_squares
from syncbn.report.terms import BUILTIN, MPI_ALLREDUCE, Setting, rounds


def time_of(truth: Truth, seconds: float) -> Distribution:
    kept = planted.distribution(truth, seconds)
    return Distribution(
        kept["count"], kept["median"], kept["low"], kept["high"],
        np.array(planted.PROBABILITIES), np.array(kept["quantiles"]),
    )  # fmt: skip


def points(truth: Truth, law: Callable[[Setting], float] | None = None) -> list[Point]:
    found = []
    for group in planted.groups(truth):
        if group["ranks"] > 1:
            for doubles in LENGTHS:
                at = Setting(group["ranks"], group["hosts"], group["most_on_a_host"], doubles)
                seconds = (
                    law(at) if law else truth.exchange(at.hosts, at.most_on_a_host, at.doubles)
                )
                found.append(Point(at, time_of(truth, seconds)))
    return found


def coefficient(model: Model, symbol: str) -> tuple[float, float, float]:
    (place,) = (i for i, term in enumerate(model.fit.terms) if term.symbol == symbol)
    return float(model.fit.coefficients[place]), *model.fit.coefficient_range(place)


@pytest.mark.parametrize(
    ("latency", "inverse_speed"), [(20e-6, 2e-9), (500e-6, 8e-9), (50e-6, 80e-9)]
)
def test_finds_planted_latency_and_speed(latency: float, inverse_speed: float) -> None:
    model = build(BUILTIN, points(Truth(latency=latency, inverse_speed=inverse_speed)))
    assert coefficient(model, "α")[0] == pytest.approx(latency, rel=0.05)
    assert coefficient(model, "β")[0] == pytest.approx(inverse_speed, rel=0.1)


def test_ranges_hold_the_truth_about_as_often_as_they_say() -> None:
    held = 0
    for seed in range(20):
        _, low, high = coefficient(build(BUILTIN, points(Truth(seed=seed))), "α")
        held += low <= Truth.latency <= high
    assert held >= 16  # 19 expected; 15 or fewer have probability 0.003


def test_predicts_the_largest_size_which_it_has_not_seen() -> None:
    model = build(BUILTIN, points(Truth()))
    assert {one.point.setting.ranks for one in model.held_out} == {8}
    assert len(model.held_out) == len(LENGTHS)
    assert errors_of(model.held_out).worst < 0.1


def test_largest_size_does_not_touch_the_fit() -> None:
    honest = points(Truth())
    changed = [
        Point(one.setting, time_of(Truth(), 1.0)) if one.setting.ranks == 8 else one
        for one in honest
    ]
    first, second = build(BUILTIN, honest), build(BUILTIN, changed)
    assert first.fit.coefficients.tolist() == second.fit.coefficients.tolist()
    assert errors_of(second.held_out).worst > 0.9


def test_tells_that_a_law_with_other_terms_is_not_met() -> None:
    law = points(Truth(), lambda at: 1e-6 * at.ranks**3)
    model = build(BUILTIN, law)
    assert errors_of(model.held_out).median > 0.2
    assert model.without_a_size and model.without_a_size.worst > 0.5
    low, high = model.band(Setting(64, 64, 1, 130))
    assert high / low > 2


def test_band_is_wider_than_the_bootstrap_by_the_worst_error() -> None:
    model = build(BUILTIN, points(Truth()))
    at = Setting(64, 64, 1, 130)
    low, high = model.fit.range_of(at)
    assert {one.point.setting.ranks for one in model.sizes_left_out} == {2, 3, 4, 6, 8}
    smallest = min(one.setting.ranks for one in model.points if one.setting.hosts > 1)
    of_several = [
        one
        for one in model.sizes_left_out
        if one.point.setting.hosts > 1 and one.point.setting.ranks > smallest
    ]
    factor = errors_of(of_several).factor
    assert model.band(at) == pytest.approx((low / factor, high * factor))
    assert low <= model.fit.predict(at) <= high


def test_two_sizes_are_too_few_to_leave_one_out() -> None:
    model = build(BUILTIN, points(Truth(hosts=1, per_host=4)))
    assert model.sizes == [2, 4]
    assert model.held_out == [] and model.without_a_size is None
    assert model.without_a_length is not None


def on_one_host(time: Callable[[Setting], float]) -> list[Point]:
    """Returns times of 2, 4 and 8 ranks on two processors."""
    settings = [
        Setting(p, 1, p, doubles, max(0.0, p / 2 - 1)) for p in (2, 4, 8) for doubles in LENGTHS
    ]
    return [Point(at, time_of(Truth(), time(at))) for at in settings]


def test_terms_that_do_not_vary_are_left_out_with_the_reason() -> None:
    made = fit(BUILTIN, on_one_host(lambda at: 1e-5 * at.ranks))
    reasons = {term.symbol: why for term, why in made.dropped}
    assert set(reasons) == {"α", "β"}
    assert "the same" in reasons["α"]


def test_waits_for_processors_are_told_from_two_sizes_and_carried_to_a_third() -> None:
    model = build(BUILTIN, on_one_host(lambda at: 1e-6 + 6e-6 * at.waits))
    assert {one.point.setting.ranks for one in model.held_out} == {8}
    assert errors_of(model.held_out).worst < 0.05


def test_mpi_has_terms_of_its_own() -> None:
    law = points(Truth(), lambda at: 5e-6 + 40e-6 * (at.hosts - 1).bit_length())
    assert coefficient(build(MPI_ALLREDUCE, law), "α")[0] == pytest.approx(40e-6, rel=0.05)


def test_least_squares_without_negative_numbers_is_the_best_of_all_active_sets() -> None:
    random = np.random.default_rng(5)
    for _ in range(50):
        matrix, wanted = random.standard_normal((9, 4)), random.standard_normal(9)
        best = float(np.linalg.norm(wanted))
        for size in range(1, 5):
            for columns in itertools.combinations(range(4), size):
                part = matrix[:, columns]
                found = np.linalg.lstsq(part, wanted, rcond=None)[0]
                if found.min() >= 0:
                    best = min(best, float(np.linalg.norm(part @ found - wanted)))
        solution = nonnegative_least_squares(matrix, wanted)
        assert solution.min() >= 0
        assert float(np.linalg.norm(matrix @ solution - wanted)) == pytest.approx(best)


def schedule(size: int) -> tuple[int, int]:
    """Returns the steps of leader 0 and the values that travel to it, one step after another, as
    src/comm/mpi/schedule.cpp has them."""
    core = max(2**a * 3**b for a in range(11) for b in range(7) if 2**a * 3**b <= size)
    steps, messages = (2, 2) if core < size else (0, 0)
    stride = 1
    while stride < core:
        radix = 2 if core // stride % 2 == 0 else 3
        steps, messages, stride = steps + 1, messages + radix - 1, stride * radix
    return steps, messages


@pytest.mark.parametrize("size", [*range(1, 40), 64, 81, 100, 256, 1000, 1024])
def test_rounds_are_those_of_the_schedule(size: int) -> None:
    assert rounds(size) == schedule(size)


@pytest.mark.parametrize("hosts", planted.ROUNDS)
def test_rounds_are_those_counted_by_hand(hosts: int) -> None:
    assert rounds(hosts) == planted.ROUNDS[hosts]
