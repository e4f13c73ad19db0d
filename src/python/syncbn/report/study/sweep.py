# SPDX-License-Identifier: Apache-2.0
"""The figure of a sweep: final accuracies at several values of a factor, decades apart."""

from __future__ import annotations

from ..axes import decade_axis
from ..style import Canvas, EndLabel
from .curves import (
    NAMES,
    Curve,
    by_factor,
    draw,
    finish,
    guessing,
    percent_axis,
    side_by_side,
)
from .records import Experiment, final


def sweep_of(experiment: Experiment, factor: str) -> list[Curve]:
    return [
        curve
        for norm in NAMES
        for curve in by_factor(experiment, norm, factor, final("test_accuracy"))
    ][::-1]


def paint_sweep(canvas: Canvas, curves: list[Curve], title: str, x: str, classes: int) -> None:
    (axes,) = side_by_side(canvas, 1)
    labels: list[EndLabel] = draw(axes, curves)
    values = sorted({point.at for curve in curves for point in curve.points})
    decade_axis(axes, values, 3 if canvas.narrow else 9)
    percent_axis(axes)
    labels += guessing(axes, classes)
    finish(axes, labels, title, "test accuracy at the end", x)
