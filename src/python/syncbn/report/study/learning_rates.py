# SPDX-License-Identifier: Apache-2.0
"""Which learning rates train: Ioffe & Szegedy (2015), section 3.3."""

from __future__ import annotations

from ..style import paint
from .curves import about_divergence, heights
from .part import CONTROL, Figure, Part, bands
from .records import Experiment, Study
from .sweep import paint_sweep, sweep_of

QUESTION = (
    "Does batch norm let learning rates be higher? The same network is trained with rates from "
    "low to high. It learns at a rate if it reaches half of the accuracy that it reaches at its "
    "best one."
)


def _draw(study: Study, experiment: Experiment) -> list[Figure]:
    curves = sweep_of(experiment, "learning_rate")
    if not curves:
        return []
    best = [max(curve.points, key=lambda point: point.median) for curve in curves]
    words = "; ".join(
        f"{curve.name} {100 * point.median:.1f} % at {point.at:g}"
        for curve, point in zip(curves, best, strict=True)
    )
    svg = paint(
        "learning-rates",
        f"Test accuracy at the end by learning rate. Best: {words}",
        lambda canvas: paint_sweep(
            canvas, curves, "Learning rates", "learning rate", study.data.classes
        ),
        *heights(1, 320),
    )
    caption = f"{bands(study)} {about_divergence(curves)} {CONTROL}"
    return [Figure(svg, caption)]


PART = Part("learning-rates", QUESTION, _draw)
