# SPDX-License-Identifier: Apache-2.0
"""What synchronizing does: one global batch on more and more ranks."""

from __future__ import annotations

from dataclasses import replace

from ..axes import decade_axis, rank_axis
from ..style import SERIES, Canvas, EndLabel, paint
from .curves import (
    MARKS,
    OF_RANKS,
    Curve,
    about_divergence,
    by_factor,
    by_step,
    draw,
    finish,
    heights,
    in_words,
    level,
    percent_axis,
    power_axis,
    side_by_side,
)
from .part import CONTROL, Figure, Part, bands
from .records import Experiment, Study, final

QUESTION = (
    "Why synchronize? One global batch is dealt out to more and more ranks, down to one sample a "
    "rank. Local batch norm takes the statistics of each rank's own samples, and synchronized "
    "batch norm those of all. Beside them one process trains with the whole batch."
)
SMALLEST = 1e-8  # where the bits of both are the same: less than a float rounds by
_NORMS = ("none", "affine", "local", "sync")
_OTHER_ORDER = SERIES[4]


def _without_other_order(experiment: Experiment) -> Experiment:
    """Returns the experiment without the runs whose samples are in another order."""
    return replace(experiment, runs=[run for run in experiment.runs if "shards" not in run.variant])


def _accuracies(experiment: Experiment) -> list[Curve]:
    usual = _without_other_order(experiment)
    return [
        curve
        for norm in _NORMS
        for curve in by_factor(usual, norm, "ranks", final("test_accuracy"), OF_RANKS[norm])
    ]


def _distances(experiment: Experiment, ranks: float) -> list[Curve]:
    """Returns how far the parameters are from those of one process, by steps."""
    usual = _without_other_order(experiment)
    reordered = [run for run in experiment.runs if "shards" in run.variant]
    curves = by_step(reordered, "distance", "other order", _OTHER_ORDER)
    for norm in _NORMS:
        curves += by_step(usual.of(norm, ranks=ranks), "distance", OF_RANKS[norm], MARKS[norm])
    return [
        replace(
            curve,
            points=[
                replace(point, values=[max(value, SMALLEST) for value in point.values])
                for point in curve.points
            ],
        )
        for curve in curves
    ]


def _one_process(accuracies: list[Curve]) -> float | None:
    """Returns the accuracy of one rank."""
    first = [curve.points[0] for curve in accuracies if curve.mark is MARKS["sync"]]
    return first[0].median if first and first[0].at == 1 else None


def _paint(
    canvas: Canvas, accuracies: list[Curve], distances: list[Curve], one: float | None, ranks: float
) -> None:
    count = bool(accuracies) + bool(distances)
    panels = iter(side_by_side(canvas, count, left=58))
    if accuracies:
        axes = next(panels)
        labels: list[EndLabel] = draw(axes, accuracies)
        if one is not None:
            labels.append(level(axes, one, "one process"))
        rank_axis(axes, [int(point.at) for curve in accuracies for point in curve.points])
        percent_axis(axes)
        finish(axes, labels, "Test accuracy", "at the end", "ranks", 58)
    if distances:
        axes = next(panels)
        labels = draw(axes, distances, markers=False)
        decade_axis(axes, [point.at for curve in distances for point in curve.points])
        axes.set_yscale("log")
        power_axis(axes, 6)
        finish(
            axes, labels, "Distance from one process", f"relative, on {ranks:g} ranks", "steps", 58
        )


def _about_other_order(distances: list[Curve]) -> str:
    if all(curve.mark is not _OTHER_ORDER for curve in distances):
        return ""
    return (
        "“Other order” is one process that takes each step's samples in another order, so that it "
        "differs by rounding alone. "
    )


def _draw(study: Study, experiment: Experiment) -> list[Figure]:
    accuracies = _accuracies(experiment)
    ranks = max(experiment.values("ranks"), default=0.0)
    distances = _distances(experiment, ranks)
    count = bool(accuracies) + bool(distances)
    if not count:
        return []
    one = _one_process(accuracies)
    svg = paint(
        "synchronize",
        "Test accuracy by number of ranks, and distance from one process by steps. Accuracy on "
        f"{ranks:g} ranks: {in_words(accuracies, '{:.1f} %', 100)}",
        lambda canvas: _paint(canvas, accuracies, distances, one, ranks),
        *heights(count),
    )
    caption = (
        "“Without” and “scale, shift” were trained on the most ranks only, as ranks do not matter "
        "for them. Distance: of all parameters from those of one process after the same steps, "
        "over the distance that these have come from the start; 0 is drawn as 1e-8. Training with "
        "batch norm over few samples is chaotic: what rounding puts apart grows until nothing is "
        f"left in common. {_about_other_order(distances)}{bands(study)} "
        f"{about_divergence(accuracies)} {CONTROL}"
    )
    return [Figure(svg, caption)]


PART = Part("synchronize", QUESTION, _draw)
