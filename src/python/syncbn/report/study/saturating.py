# SPDX-License-Identifier: Apache-2.0
"""Deep networks of saturating units: Ioffe & Szegedy (2015), sections 1 and 4.2.1."""

from __future__ import annotations

from matplotlib.ticker import FixedLocator, FuncFormatter

from ..style import Canvas, EndLabel, paint
from .curves import (
    MARKS,
    NAMES,
    Curve,
    Spread,
    about_divergence,
    draw,
    finish,
    guessing,
    heights,
    in_words,
    percent_axis,
    side_by_side,
)
from .part import CONTROL, Figure, Part, bands
from .records import Experiment, Run, Study

QUESTION = (
    "Does batch norm make deep networks of saturating units trainable? Networks of sigmoid and of "
    "tanh units get deeper and deeper."
)
_RATES = (
    " Each network is trained with several learning rates and judged by the best one, seed by seed."
)


def _best_of_each_seed(runs: list[Run]) -> list[Run]:
    """Returns the most accurate run of each seed."""
    best: dict[int, Run] = {}
    for run in runs:
        other = best.get(run.seed)
        if other is None or run.last("test_accuracy") > other.last("test_accuracy"):
            best[run.seed] = run
    return list(best.values())


def _curves(experiment: Experiment, activation: str) -> list[Curve]:
    curves = []
    for norm in ("none", "affine", "sync"):
        runs = experiment.of(norm, activation=activation)
        points = []
        for depth in experiment.values("hidden_layers", runs):
            best = _best_of_each_seed(
                [run for run in runs if run.variant.get("hidden_layers") == depth]
            )
            diverged = sum(run.diverged_at is not None for run in best)
            points.append(Spread(depth, [run.last("test_accuracy") for run in best], diverged))
        if points:
            curves.append(Curve(NAMES[norm], MARKS[norm], points))
    return curves


def _paint(canvas: Canvas, by_unit: dict[str, list[Curve]], classes: int) -> None:
    panels = side_by_side(canvas, len(by_unit))
    labels: list[list[EndLabel]] = [
        draw(axes, curves) for axes, curves in zip(panels, by_unit.values(), strict=True)
    ]
    low = min(axes.get_ylim()[0] for axes in panels)
    high = max(axes.get_ylim()[1] for axes in panels)
    for axes, ends, (unit, curves) in zip(panels, labels, by_unit.items(), strict=True):
        axes.set_ylim(low, high)
        depths = sorted({point.at for curve in curves for point in curve.points})
        axes.xaxis.set_major_locator(FixedLocator(depths))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        percent_axis(axes)
        ends += guessing(axes, classes)
        title = f"{unit.capitalize() if unit == 'sigmoid' else unit} units"
        finish(axes, ends, title, "test accuracy at the end", "hidden layers")


def _draw(study: Study, experiment: Experiment) -> list[Figure]:
    units = dict.fromkeys(str(run.variant.get("activation")) for run in experiment.runs)
    by_unit = {unit: _curves(experiment, unit) for unit in units}
    by_unit = {unit: curves for unit, curves in by_unit.items() if curves}
    if not by_unit:
        return []
    words = "; ".join(f"{unit}: {in_words(one, '{:.1f} %', 100)}" for unit, one in by_unit.items())
    svg = paint(
        "saturating",
        f"Test accuracy by number of hidden layers. The deepest: {words}",
        lambda canvas: _paint(canvas, by_unit, study.data.classes),
        *heights(len(by_unit)),
    )
    rates = _RATES if len(experiment.values("learning_rate")) > 1 else ""
    every = [curve for curves in by_unit.values() for curve in curves]
    caption = f"{bands(study)}{rates} {about_divergence(every)} {CONTROL}"
    return [Figure(svg, caption)]


PART = Part("saturating", QUESTION, _draw)
