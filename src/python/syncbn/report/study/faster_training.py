# SPDX-License-Identifier: Apache-2.0
"""How fast a network learns: Ioffe & Szegedy (2015), Fig. 1a."""

from __future__ import annotations

from ..style import Canvas, paint
from .curves import (
    MARKS,
    NAMES,
    Curve,
    about_ends,
    by_step,
    draw,
    finish,
    guessing,
    heights,
    in_words,
    number_axis,
    percent_axis,
    side_by_side,
    step_axis,
)
from .part import CONTROL, Figure, Part, bands
from .records import Experiment, Study

QUESTION = (
    "Does a network learn in fewer steps with batch norm? The network is that of the paper: three "
    "hidden layers of 100 sigmoid units, 60 images a step, plain gradient descent. The paper does "
    "not give its learning rate; this one is the best, to a factor of 3, for the network without "
    "batch norm."
)


def _curves(experiment: Experiment, quantity: str) -> list[Curve]:
    return [
        curve
        for norm in ("none", "affine", "sync")
        for curve in by_step(experiment.of(norm), quantity, NAMES[norm], MARKS[norm])
    ]


def _paint(canvas: Canvas, accuracy: list[Curve], loss: list[Curve], classes: int) -> None:
    first, second = side_by_side(canvas, 2)
    labels = draw(first, accuracy, markers=False)
    step_axis(first, canvas.narrow)
    percent_axis(first)
    labels += guessing(first, classes)
    finish(first, labels, "Test accuracy", "of the test images", "steps")
    labels = draw(second, loss, markers=False)
    step_axis(second, canvas.narrow)
    second.set_ylim(bottom=0)
    number_axis(second)
    finish(second, labels, "Training loss", "cross-entropy [nats]", "steps")


def _draw(study: Study, experiment: Experiment) -> list[Figure]:
    accuracy, loss = (_curves(experiment, name) for name in ("test_accuracy", "loss"))
    if not accuracy or not loss:
        return []
    svg = paint(
        "faster-training",
        "Test accuracy and training loss by steps. Accuracy at the end: "
        + in_words(accuracy, "{:.1f} %", 100),
        lambda canvas: _paint(canvas, accuracy, loss, study.data.classes),
        *heights(2),
    )
    caption = (
        "The accuracy is that of all test images, with running statistics; the loss is the mean "
        f"of the steps since the last evaluation. {bands(study)} {about_ends(accuracy)} {CONTROL}"
    )
    return [Figure(svg, caption)]


PART = Part("faster-training", QUESTION, _draw)
