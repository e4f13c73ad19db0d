# SPDX-License-Identifier: Apache-2.0
"""How the inputs of a hidden layer move during training: Ioffe & Szegedy (2015), Fig. 1b and 1c."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes

from ..distribution import Array
from ..numbers import count
from ..style import Canvas, EndLabel, head, label_ends, paint
from .curves import (
    MARKS,
    NAMES,
    Course,
    Curve,
    about_ends,
    along,
    draw,
    finish,
    heights,
    in_words,
    log_axis,
    number_axis,
    side_by_side,
    step_axis,
)
from .part import CONTROL, Figure, Part, bands
from .records import Experiment, Run, Study

QUESTION = (
    "Does batch norm keep the distribution of a hidden layer's inputs steadier while the layers "
    "below it learn? These are the trainings of the experiment about faster training."
)

IMAGES = 1000  # of the test images, whose inputs src/app/study/training.cpp looks at
_NORMS = ("none", "affine", "sync")
_LEVELS = (("hidden_p85", "85 %"), ("hidden_p50", "50 %"), ("hidden_p15", "15 %"))


def _has(run: Run, *quantities: str) -> bool:
    """Tells whether a run has quantities as finite numbers at two evaluations or more, as many as steps."""
    series = [run.series.get(name, []) for name in quantities]
    steps = len(run.series.get("step", []))
    return all(len(one) == steps > 1 and all(map(math.isfinite, one)) for one in series)


def _in_widths(run: Run) -> dict[str, Array]:
    """Returns one unit's percentiles in widths of their distribution at the end, from its median there."""
    lines = {name: np.array(run.series[name]) for name, _ in _LEVELS}
    width = (lines["hidden_p85"][-1] - lines["hidden_p15"][-1]) or 1.0
    middle = lines["hidden_p50"][-1]
    return {name: (line - middle) / width for name, line in lines.items()}


def _of_unit(axes: Axes, run: Run) -> tuple[float, float]:
    """Draws one unit's percentiles, and returns their range."""
    steps, scaled, colour = run.series["step"], _in_widths(run), MARKS[run.norm].colour
    axes.fill_between(
        steps, scaled["hidden_p15"], scaled["hidden_p85"], color=colour, alpha=0.16, linewidth=0
    )
    for name, line in scaled.items():
        axes.plot(steps, line, color=colour, linewidth=1.8 if name == "hidden_p50" else 1)
    step_axis(axes, narrow=True)
    every = np.concatenate(list(scaled.values()))
    return float(every.min()), float(every.max())


def _percentiles(canvas: Canvas, runs: list[Run]) -> None:
    if canvas.narrow:
        panels = canvas.panels(len(runs), 1, left=44, right=46)
    else:
        panels = canvas.panels(1, len(runs), left=44, right=46, across=24)
    ranges = [_of_unit(axes, run) for axes, run in zip(panels, runs, strict=True)]
    low, high = min(one for one, _ in ranges), max(one for _, one in ranges)
    for axes, run in zip(panels, runs, strict=True):
        axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        number_axis(axes)
        first = axes is panels[0] or canvas.narrow
        if not first:
            axes.tick_params(axis="y", labelleft=False)
        head(axes, NAMES[run.norm].capitalize(), "widths" if first else " ", "steps", 44 * first)
        if axes is panels[-1] or canvas.narrow:
            scaled = _in_widths(run)
            colour = MARKS[run.norm].colour
            ends = [EndLabel(float(scaled[name][-1]), words, colour) for name, words in _LEVELS]
            label_ends(axes, ends)


def _widths(run: Run) -> Course:
    """Returns the mean distance between the outer percentiles by step."""
    return dict(zip(run.series["step"], run.series["hidden_width"], strict=True))


def _path(run: Run) -> Course:
    """Returns how far the percentiles have moved since the first evaluation, in widths of the distribution
    as it is at the time, as src/app/study/faster_training.cpp does."""
    moved, widths = run.series["hidden_moved"], run.series["hidden_width"]
    shares = [one / width if width else 0.0 for one, width in zip(moved, widths, strict=True)]
    sums = np.cumsum([0.0, *shares[1:]])
    return dict(zip(run.series["step"], (float(one) for one in sums), strict=True))


def _curves(experiment: Experiment, course_of: Callable[[Run], Course]) -> list[Curve]:
    curves = []
    for norm in _NORMS:
        runs = [run for run in experiment.of(norm) if _has(run, "hidden_moved", "hidden_width")]
        diverged = sum(run.diverged_at is not None for run in runs)
        curves += along([course_of(run) for run in runs], NAMES[norm], MARKS[norm], diverged)
    return curves


def _paint_all_units(canvas: Canvas, widths: list[Curve], paths: list[Curve]) -> None:
    first, second = side_by_side(canvas, 2)
    labels = draw(first, widths, markers=False)
    step_axis(first, canvas.narrow)
    first.set_yscale("log")
    log_axis(first)
    finish(first, labels, "Width of the distribution", "from 15 to 85 %, of the inputs", "steps")
    labels = draw(second, paths, markers=False)
    step_axis(second, canvas.narrow)
    second.set_ylim(bottom=0)
    number_axis(second)
    finish(second, labels, "How far it has moved", "in widths at the time", "steps")


def _draw(study: Study, experiment: Experiment) -> list[Figure]:
    figures = []
    shown = [
        run
        for norm in _NORMS
        for run in [
            one for one in experiment.of(norm) if _has(one, *(name for name, _ in _LEVELS))
        ][:1]
    ]
    if shown:
        svg = paint(
            "activations",
            "Percentiles of one hidden unit's input by steps, of " + ", ".join(
                NAMES[run.norm] for run in shown
            ),
            lambda canvas: _percentiles(canvas, shown),
            (720, 280), (350, 250 * len(shown)),
        )  # fmt: skip
        seeds = " and ".join(str(one) for one in sorted({run.seed for run in shown}))
        caption = (
            f"The first unit of the last hidden layer over {count(IMAGES)} test images, with seed "
            f"{seeds}: its median and where 15 and 85 % of the inputs lie below. 0 is the median "
            f"at the end, and 1 the distance between the outer two then. {CONTROL}"
        )
        figures.append(Figure(svg, caption))
    widths, paths = _curves(experiment, _widths), _curves(experiment, _path)
    if widths and paths:
        svg = paint(
            "activations-all",
            "Width of the distribution of hidden inputs, and how far its percentiles have moved, "
            f"by steps. At the end they have come: {in_words(paths, '{:.2f} widths')}",
            lambda canvas: _paint_all_units(canvas, widths, paths),
            *heights(2),
        )
        caption = (
            "All units of that layer, mean. First: the distance between the outer two percentiles. "
            "Then: what the three percentiles have come since the first evaluation, back and forth "
            f"added up. {bands(study)} {about_ends(paths)} {CONTROL}"
        )
        figures.append(Figure(svg, caption))
    return figures


PART = Part("activations", QUESTION, _draw)
