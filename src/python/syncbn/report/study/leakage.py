# SPDX-License-Identifier: Apache-2.0
"""Whether statistics tell of labels: Wu & Johnson (2021), section 5."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ..style import INK, SURFACE, Canvas, head, key, paint
from .curves import MARKS, OF_RANKS, Spread, plain, spread
from .part import CONTROL, Figure, Part
from .records import Experiment, Quantity, Study, final, gap_of

QUESTION = (
    "Can training cheat where the samples of a rank have labels in common? Each step's samples "
    "are dealt out to the ranks mixed, or sorted by label. If the statistics of a rank's samples "
    "tell their labels, training is more accurate than evaluation of the same images, which has "
    "no such statistics."
)
_NORMS = ("local", "sync", "none", "affine")
_SHARDS = ("mixed", "by-label")

Rows = dict[tuple[str, str], Spread]


def _rows(experiment: Experiment, quantity: Quantity) -> Rows:
    found = {
        (norm, shards): spread(0, experiment.of(norm, shards=shards), quantity)
        for norm in _NORMS
        for shards in _SHARDS
    }
    return {place: one for place, one in found.items() if one}


def _paint_rows(axes: Axes, rows: Rows, norms: list[str]) -> None:
    for (norm, shards), found in rows.items():
        mark = MARKS[norm]
        y = norms.index(norm) + (0.14 if shards == "by-label" else -0.14)
        axes.plot([min(found.values), max(found.values)], [y, y], color=mark.colour, linewidth=1.4)
        axes.plot(
            found.median, y, mark.marker, color=mark.colour, markersize=7,
            markerfacecolor=mark.colour if shards == "by-label" else SURFACE,
        )  # fmt: skip
    axes.grid(visible=False)
    axes.grid(axis="x")
    axes.set_ylim(len(norms) - 0.5, -0.5)
    axes.set_yticks(range(len(norms)), [OF_RANKS[norm] for norm in norms])
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=(1, 2, 5, 10)))


def _paint(canvas: Canvas, gaps: Rows, accuracies: Rows) -> None:
    left = 100
    if canvas.narrow:
        panels = canvas.panels(2, 1, left=left, right=20, top=66, down=104)
    else:
        panels = canvas.panels(1, 2, left=left, right=20, across=left + 30, top=66)
    norms = [norm for norm in _NORMS if any(norm == one for one, _ in accuracies)]
    _paint_rows(panels[0], gaps, norms)
    low, high = panels[0].get_xlim()
    panels[0].set_xlim(min(low, -1.0), max(high, 1.0))
    panels[0].axvline(0, color=INK, linewidth=1)
    panels[0].xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    _paint_rows(panels[1], accuracies, norms)
    panels[1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    for axes, title, x in zip(
        panels, ("How much training cheats", "Test accuracy"),
        ("accuracy in training \N{MINUS SIGN} evaluation [points]", "at the end"), strict=True,
    ):  # fmt: skip
        head(axes, title, " ", x, left)
        key(axes, [("●", "sorted by label", INK), ("○", "mixed", INK)], left)


def _draw(study: Study, experiment: Experiment) -> list[Figure]:
    gaps = _rows(experiment, lambda run: gap_of(run, "batch_accuracy", "population_train_accuracy"))
    accuracies = _rows(experiment, final("population_accuracy"))
    if not gaps or not accuracies:
        return []
    words = ", ".join(
        f"{OF_RANKS[norm]} {found.median:.1f} points"
        for (norm, shards), found in gaps.items()
        if shards == "by-label"
    )
    svg = paint(
        "leakage",
        f"How much higher accuracy is in training than in evaluation, with ranks sorted by label: {words}",
        lambda canvas: _paint(canvas, gaps, accuracies),
        (720, 270), (350, 500),
    )  # fmt: skip
    seeds = len(study.seeds)
    caption = (
        f"Marks: medians of {seeds} seeds; lines: from the lowest seed to the highest. Filled: "
        "sorted by label; hollow: mixed. First: the accuracy of the last steps' batches in "
        "training less that of training images in evaluation. Evaluation takes the statistics of "
        f"the population, not a rank's running averages. {CONTROL}"
    )
    return [Figure(svg, caption)]


PART = Part("leakage", QUESTION, _draw)
