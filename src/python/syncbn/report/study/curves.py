# SPDX-License-Identifier: Apache-2.0
"""Curves of medians over seeds, with bands from the lowest seed to the highest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from ..numbers import MINUS, amount, power_of_ten
from ..style import INK, MUTED, SERIES, SURFACE, Canvas, EndLabel, Mark, head, label_ends
from .records import Experiment, Quantity, Run

# How each kind of normalization looks in all figures.
MARKS = {"sync": SERIES[0], "local": SERIES[1], "none": SERIES[2], "affine": SERIES[3]}
# Their names where ranks are not what the experiment is about, and where they are.
NAMES = {"sync": "batch norm", "none": "without", "affine": "scale, shift"}
OF_RANKS = {"sync": "synchronized", "local": "local", "none": "without", "affine": "scale, shift"}
RIGHT = 96  # the room for the longest of these names


@dataclass(frozen=True)
class Spread:
    """What the seeds gave at one place of a curve. There is one value or more."""

    at: float
    values: list[float]
    diverged: int = 0  # how many of them are of runs that diverged

    @property
    def median(self) -> float:
        return float(np.median(self.values))


@dataclass(frozen=True)
class Curve:
    name: str
    mark: Mark
    points: list[Spread]

    @property
    def last(self) -> float:
        return self.points[-1].median


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def spread(at: float, runs: Sequence[Run], quantity: Quantity) -> Spread | None:
    """Returns what runs gave, None if none has the quantity."""
    values = _finite([quantity(run) for run in runs])
    diverged = sum(run.diverged_at is not None for run in runs)
    return Spread(at, values, diverged) if values else None


def by_factor(
    experiment: Experiment, norm: str, factor: str, quantity: Quantity, name: str = ""
) -> list[Curve]:
    """Returns the curve of a quantity by a factor; none if no run of this norm has the factor."""
    points = [
        spread(value, experiment.of(norm, **{factor: value}), quantity)
        for value in experiment.values(factor, experiment.of(norm))
    ]
    found = [point for point in points if point]
    return [Curve(name or NAMES[norm], MARKS[norm], found)] if found else []


Course = dict[float, float]  # what one training gave, by step


def courses_of(runs: Sequence[Run], quantity: str) -> list[Course]:
    return [
        dict(zip(run.series.get("step", []), run.series.get(quantity, []), strict=False))
        for run in runs
    ]


def along(courses: Sequence[Course], name: str, mark: Mark, diverged: int = 0) -> list[Curve]:
    """Returns the curve of what several trainings gave, as far as all have it; none if that is nowhere.
    At its end stands how many diverged."""
    steps = [step for step in courses[0] if all(step in one for one in courses)] if courses else []
    values = {step: _finite([one[step] for one in courses]) for step in steps}
    known = [step for step in steps if values[step]]
    points = [Spread(step, values[step], diverged * (step == known[-1])) for step in known]
    return [Curve(name, mark, points)] if points else []


def by_step(runs: Sequence[Run], quantity: str, name: str, mark: Mark) -> list[Curve]:
    """Returns the curve of a quantity during training; none if no run has it."""
    diverged = sum(run.diverged_at is not None for run in runs)
    return along(courses_of(runs, quantity), name, mark, diverged)


def _cross_out(axes: Axes, curves: Sequence[Curve]) -> None:
    """Draws a cross at each place of a curve where runs diverged, several at one place above each other."""
    stacked = dict[float, int]()
    for curve in curves:
        for point in curve.points:
            if point.diverged:
                up = 9 / 72 * stacked.get(point.at, 0)
                stacked[point.at] = stacked.get(point.at, 0) + 1
                axes.plot(
                    point.at, min(point.values), "X", color=curve.mark.colour, markersize=9,
                    markeredgecolor=SURFACE, markeredgewidth=1, zorder=5,
                    transform=axes.transData
                    + ScaledTranslation(0, up, axes.figure.dpi_scale_trans),
                )  # fmt: skip


def draw(axes: Axes, curves: Sequence[Curve], markers: bool = True) -> list[EndLabel]:
    """Draws curves, and returns the labels of their ends. Crosses mark where runs diverged."""
    labels = []
    for curve in curves:
        at = [point.at for point in curve.points]
        axes.fill_between(
            at, [min(point.values) for point in curve.points],
            [max(point.values) for point in curve.points],
            color=curve.mark.colour, alpha=0.16, linewidth=0,
        )  # fmt: skip
        axes.plot(
            at, [point.median for point in curve.points], color=curve.mark.colour,
            linestyle=curve.mark.dash, marker=curve.mark.marker if markers or len(at) == 1 else "",
        )  # fmt: skip
        labels.append(EndLabel(curve.last, curve.name, curve.mark.colour))
    _cross_out(axes, curves)
    return labels


def level(axes: Axes, y: float, name: str) -> EndLabel:
    """Draws a line that others are compared with, and returns its label."""
    axes.axhline(y, color=INK, linewidth=1)
    return EndLabel(y, name, INK)


def percent_axis(axes: Axes) -> None:
    """Makes a y axis of shares, as per cent."""
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))


def plain(value: float) -> str:
    """Returns a number for a tick."""
    return f"{value:g}".replace("-", MINUS)


def number_axis(axes: Axes) -> None:
    """Makes a linear y axis of numbers."""
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))


def power_axis(axes: Axes, most: int) -> None:
    """Makes ticks of a logarithmic y axis at powers of ten, about so many at most."""
    axes.yaxis.set_major_locator(LogLocator(10, numticks=most))
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: power_of_ten(round(math.log10(value))))
    )
    axes.yaxis.set_minor_locator(NullLocator())


def log_axis(axes: Axes) -> None:
    """Makes ticks of a logarithmic y axis at 1, 2 and 5 times powers of ten, or at fewer of them."""
    low, high = axes.get_ylim()
    steps = (1.0, 2.0, 5.0) if high / low < 200 else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(10, steps, numticks=8))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    axes.yaxis.set_minor_locator(NullLocator())


def step_axis(axes: Axes, narrow: bool) -> None:
    """Makes an x axis of training steps."""
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(3 if narrow else 5, steps=(1, 2, 5, 10)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def side_by_side(canvas: Canvas, count: int, left: float = 54, right: float = RIGHT) -> list[Axes]:
    """Returns so many panels, on narrow pages one below another, with room for labels of ends."""
    if canvas.narrow:
        return canvas.panels(count, 1, left=left, right=right)
    return canvas.panels(1, count, left=left, right=right, across=left + right + 4)


def heights(count: int, height: int = 290) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns the sizes of a figure of so many panels, wide and narrow."""
    return (720, height), (350, 280 * count)


def finish(
    axes: Axes, labels: list[EndLabel], title: str, unit: str, x: str, back: float = 54
) -> None:
    """Writes a panel's heads and labels, when its limits are set."""
    head(axes, title, unit, x, back)
    label_ends(axes, labels)


def guessing(axes: Axes, classes: int) -> list[EndLabel]:
    """Draws what guessing would give, where the panel shows it, and returns its label."""
    share = 1 / classes
    low, high = axes.get_ylim()
    if not low <= share <= high:
        return []
    axes.axhline(share, color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
    return [EndLabel(share, "guessing", MUTED)]


def in_words(curves: Sequence[Curve], show: str = "{:.1f}", times: float = 1) -> str:
    """Returns the ends of curves, for those who do not see the figure."""
    return ", ".join(f"{curve.name} {show.format(times * curve.last)}" for curve in curves)


def _diverged(curves: Sequence[Curve]) -> int:
    return sum(point.diverged for curve in curves for point in curve.points)


def about_divergence(curves: Sequence[Curve]) -> str:
    """Returns the sentence that says what crosses are in a figure of final values."""
    count = _diverged(curves)
    if count == 0:
        return "No training diverged."
    return f"Crosses: {amount(count, 'training')} diverged there, and counted as guessing."


def about_ends(curves: Sequence[Curve]) -> str:
    """Returns the sentence that says what crosses are in a figure of trainings."""
    count = _diverged(curves)
    if count == 0:
        return "No training diverged."
    return f"Crosses: {amount(count, 'training')} diverged after that, and so the curve ends."
