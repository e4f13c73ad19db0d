# SPDX-License-Identifier: Apache-2.0
"""Batch norm and dropout: Ioffe & Szegedy (2015), section 3.4."""

from __future__ import annotations

from matplotlib.ticker import FixedLocator, FuncFormatter

from ..style import Canvas, paint
from .curves import (
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
)
from .part import CONTROL, Figure, Part, bands
from .records import Experiment, Quantity, Study, final, gap_of

QUESTION = (
    "Does batch norm regularize, so that dropout can be removed or reduced? Networks of relu units "
    "see few images, again and again, and learn them by heart."
)


def _curves(experiment: Experiment, quantity: Quantity) -> list[Curve]:
    return [
        curve
        for norm in ("none", "affine", "sync")
        for curve in by_factor(experiment, norm, "dropout", quantity)
    ]


def _paint(canvas: Canvas, accuracy: list[Curve], gaps: list[Curve]) -> None:
    panels = side_by_side(canvas, 2)
    heads = (
        ("Test accuracy", "at the end"),
        ("Gap", "training \N{MINUS SIGN} test accuracy [points]"),
    )
    for axes, curves, (title, unit) in zip(panels, (accuracy, gaps), heads, strict=True):
        labels = draw(axes, curves)
        shares = sorted({point.at for curve in curves for point in curve.points})
        axes.xaxis.set_major_locator(FixedLocator(shares))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        if curves is accuracy:
            percent_axis(axes)
        else:
            axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
            number_axis(axes)
        finish(axes, labels, title, unit, "dropout")


def _draw(study: Study, experiment: Experiment) -> list[Figure]:
    accuracy = _curves(experiment, final("test_accuracy"))
    gaps = _curves(experiment, lambda run: gap_of(run, "train_accuracy", "test_accuracy"))
    if not accuracy or not gaps:
        return []
    starts = [Curve(one.name, one.mark, one.points[:1]) for one in gaps]
    svg = paint(
        "regularization",
        "Test accuracy, and the gap between training and test images, by dropout. "
        f"Gap without dropout: {in_words(starts, '{:.1f} points')}",
        lambda canvas: _paint(canvas, accuracy, gaps),
        *heights(2),
    )
    caption = (
        "Dropout is the share of units that each step leaves out. The gap is the accuracy of "
        f"training images less that of test images, both with running statistics. {bands(study)} "
        f"{about_divergence(accuracy)} {CONTROL}"
    )
    return [Figure(svg, caption)]


PART = Part("regularization", QUESTION, _draw)
