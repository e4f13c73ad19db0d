# SPDX-License-Identifier: Apache-2.0
"""Over how many samples statistics are taken: Wu & Johnson (2021), sections 3 and 4."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes

from ..axes import rank_axis
from ..style import MUTED, SERIES, Canvas, EndLabel, paint
from .curves import (
    MARKS,
    OF_RANKS,
    Curve,
    about_divergence,
    by_factor,
    draw,
    finish,
    heights,
    in_words,
    number_axis,
    percent_axis,
    side_by_side,
    spread,
)
from .part import Figure, Part, bands
from .records import Experiment, Run, Study, final

QUESTION = (
    "Over how many samples should statistics be taken, and which statistics should evaluation use? "
    "One global batch is normalized in groups of more and more samples. Each network is evaluated "
    "with its running averages, and with statistics of many training images taken anew with the "
    "weights as they are (PreciseBN)."
)


def _gain(run: Run) -> float:
    """Returns how much better PreciseBN is than running averages, on average over the training. [points]"""
    precise, running = (
        run.series.get(name, []) for name in ("population_accuracy", "test_accuracy")
    )
    if not precise or len(precise) != len(running):
        return math.nan
    return 100 * float(np.mean(precise) - np.mean(running))


def _levels(experiment: Experiment) -> dict[str, float]:
    """Returns the accuracies of what has no groups, by norm."""
    found = {
        norm: spread(0, experiment.of(norm), final("test_accuracy")) for norm in ("none", "affine")
    }
    return {norm: one.median for norm, one in found.items() if one}


def _group_axis(axes: Axes, curves: list[Curve]) -> None:
    rank_axis(axes, [int(point.at) for curve in curves for point in curve.points])


def _paint(
    canvas: Canvas, accuracies: list[Curve], gains: list[Curve], levels: dict[str, float]
) -> None:
    count = 1 + bool(gains)
    panels = side_by_side(canvas, count, right=104)
    axes = panels[0]
    labels = draw(axes, accuracies)
    for norm, share in levels.items():
        mark = MARKS[norm]
        axes.axhline(share, color=mark.colour, linestyle=mark.dash, linewidth=1.4)
        labels.append(EndLabel(share, OF_RANKS[norm], mark.colour))
    _group_axis(axes, accuracies)
    percent_axis(axes)
    finish(axes, labels, "Test accuracy", "at the end", "samples in a group")
    if gains:
        axes = panels[1]
        draw(axes, gains)
        axes.axhline(0, color=MUTED, linewidth=1)
        _group_axis(axes, gains)
        number_axis(axes)
        finish(
            axes, [], "What PreciseBN gains", "points, mean of the training", "samples in a group"
        )


def _draw(study: Study, experiment: Experiment) -> list[Figure]:
    running = by_factor(experiment, "sync", "samples", final("test_accuracy"), "running avg.")
    precise = [
        Curve("PreciseBN", SERIES[1], curve.points)
        for curve in by_factor(experiment, "sync", "samples", final("population_accuracy"))
    ]
    gains = by_factor(experiment, "sync", "samples", _gain, "gain")
    accuracies = [*running, *precise]
    if not accuracies:
        return []
    levels = _levels(experiment)
    svg = paint(
        "group-size",
        "Test accuracy by the number of samples that share statistics. In the largest group: "
        + in_words(accuracies, "{:.1f} %", 100),
        lambda canvas: _paint(canvas, accuracies, gains, levels),
        *heights(1 + bool(gains)),
    )
    caption = (
        f"{bands(study)} Level lines: networks that have no groups, “without” batch norm and with "
        "the control, “scale, shift”, a learned scale and shift alone. " + about_divergence(running)
    )
    return [Figure(svg, caption)]


PART = Part("group-size", QUESTION, _draw)
