# SPDX-License-Identifier: Apache-2.0
"""Whether the scale of the weights matters: Ioffe & Szegedy (2015), section 3.3."""

from __future__ import annotations

from ..axes import decade_axis
from ..numbers import brief
from ..style import MUTED, SERIES, Canvas, EndLabel, head, key, label_ends, paint
from .curves import MARKS, NAMES, RIGHT, about_divergence, heights, power_axis
from .part import CONTROL, Figure, Part, bands
from .records import Experiment, ScaleErrors, Study
from .sweep import paint_sweep, sweep_of

QUESTION = (
    "Does the scale of the weights matter less with batch norm? The initial weights of the hidden "
    "layers are multiplied by factors far below and far above 1. The reason is an identity, "
    "BN((aW)u) = BN(Wu): the gradient of u stays the same, and that of aW is that of W over a. It "
    "is checked here, to rounding. Training still depends on the scale, as larger weights learn "
    "more slowly."
)
SMALLEST = 1e-17  # where errors of 0 are drawn
_MARKS = SERIES[:3]
_CHECKED = {
    "output": "output",
    "input_gradient": "gradient of u",
    "weight_gradient": "gradient of W",
}


def _tolerances(errors: list[ScaleErrors]) -> list[EndLabel]:
    """Returns labels of the lines up to which rounding explains errors, one for lines that coincide."""
    labels: list[EndLabel] = []
    for mark, name in zip(_MARKS, _CHECKED, strict=True):
        y = errors[-1].tolerances[name]
        if not any(0.1 < y / label.y < 10 for label in labels):
            labels.append(EndLabel(y, "rounding", mark.colour))
    return labels


def _paint_identity(canvas: Canvas, errors: list[ScaleErrors]) -> None:
    (axes,) = canvas.panels(1, 1, left=54, right=RIGHT, top=54)
    scales = [one.scale for one in errors]
    for mark, name in zip(_MARKS, _CHECKED, strict=True):
        found = [max(one.errors[name], SMALLEST) for one in errors]
        axes.plot(scales, found, mark.marker, color=mark.colour, linestyle="none")
        explained = [one.tolerances[name] for one in errors]
        axes.plot(scales, explained, color=mark.colour, linewidth=1, linestyle=mark.dash)
    labels = _tolerances(errors)
    with_eps = [max(one.output_with_eps, SMALLEST) for one in errors]
    axes.plot(scales, with_eps, color=MUTED, marker="x", linestyle=":")
    labels.append(EndLabel(with_eps[-1], "eps 1e-5", MUTED))
    mark = MARKS["affine"]
    without = [max(abs(scale - 1), SMALLEST) for scale in scales]
    axes.plot(scales, without, color=mark.colour, linestyle=mark.dash)
    labels.append(EndLabel(without[-1], NAMES["affine"], mark.colour))
    decade_axis(axes, scales, 4 if canvas.narrow else 9)
    axes.set_yscale("log")
    axes.set_ylim(SMALLEST / 2, max(axes.get_ylim()[1], 10))
    power_axis(axes, 7)
    head(axes, "Errors of the identity, relative", " ", "scale of the weights, a", 54)
    signs = [
        (mark.sign, words, mark.colour)
        for mark, words in zip(_MARKS, _CHECKED.values(), strict=True)
    ]
    key(axes, signs, 54)
    label_ends(axes, labels)


def _identity(experiment: Experiment) -> list[Figure]:
    errors = sorted(experiment.identity, key=lambda one: one.scale)
    if not errors:
        return []
    worst = max(one.errors[name] / one.tolerances[name] for one in errors for name in _CHECKED)
    svg = paint(
        "parameter-scale-identity",
        f"Errors of the identity by scale. The largest is {brief(worst)} of what rounding explains",
        lambda canvas: _paint_identity(canvas, errors),
        *heights(1, 320),
    )
    caption = (
        "In double, with eps = 0, of the first seed, relative to the largest element: marks are "
        "errors, and lines of the same colour what rounding explains at most. The crosses are the "
        "output with eps = 1e-5, which breaks the identity where variances are small. Errors of 0 "
        "stand at the bottom. “Scale, shift” is the control: a learned scale and shift alone in the "
        "place of batch norm changes the output by |a \N{MINUS SIGN} 1|."
    )
    return [Figure(svg, caption)]


def _draw(study: Study, experiment: Experiment) -> list[Figure]:
    curves = sweep_of(experiment, "init_scale")
    if not curves:
        return _identity(experiment)
    words = "; ".join(
        f"{curve.name} {100 * min(point.median for point in curve.points):.1f} to "
        f"{100 * max(point.median for point in curve.points):.1f} %"
        for curve in curves
    )
    svg = paint(
        "parameter-scale",
        f"Test accuracy at the end by scale of the initial weights: {words}",
        lambda canvas: paint_sweep(
            canvas, curves, "Scale of the initial weights", "factor", study.data.classes
        ),
        *heights(1, 320),
    )
    caption = f"{bands(study)} {about_divergence(curves)} {CONTROL}"
    return [Figure(svg, caption), *_identity(experiment)]


PART = Part("parameter-scale", QUESTION, _draw)
