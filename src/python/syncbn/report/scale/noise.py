# SPDX-License-Identifier: Apache-2.0
"""Noise: what the machine takes from ranks that all do the same fixed piece of work."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ..axes import log_counts
from ..distribution import pooled
from ..numbers import listed, percent, seconds, short_seconds
from ..page import render
from ..section import Section
from ..style import BLUE, GREEN, INK, RED, SERIES, Canvas, EndLabel, head, label_ends, paint
from .axes import log_seconds
from .measurements import NoiseCell, NoiseOfRank, Scale
from .section import largest_of, name_of, warning_of

TIMES_THE_MEDIAN = 2.0  # of time lost for each second of work
MORE_THAN_MEDIAN = 0.01
_SHOWN = 6  # ranks whose traces are drawn


def _lost_for_work(lost: float) -> float:
    """Returns the time that is lost for each second of work, which has no limit as the share has."""
    return lost / max(1 - lost, 1e-6)


def noisy_ranks(cell: NoiseCell) -> list[NoiseOfRank]:
    """Returns the ranks that stand out: they lose more than TIMES_THE_MEDIAN times what the median of the
    other ranks loses for each second of work, and MORE_THAN_MEDIAN of the time above it."""
    found = []
    for one in cell.ranks:
        others = [other.lost for other in cell.ranks if other is not one]
        if not others:
            continue
        usual = float(np.median(others))
        often = _lost_for_work(one.lost) > TIMES_THE_MEDIAN * _lost_for_work(usual)
        if often and one.lost > usual + MORE_THAN_MEDIAN:
            found.append(one)
    return found


def _traces(canvas: Canvas, scale: Scale, cell: NoiseCell, shown: list[NoiseOfRank]) -> None:
    noisy = {one.rank for one in noisy_ranks(cell)}
    columns = 1 if canvas.narrow else min(2, len(shown))
    rows = -(-len(shown) // columns)
    panels = canvas.panels(rows, columns, across=84, down=62, top=46, right=16)
    low = min(min(one.trace) for one in shown)
    high = max(max(one.trace) for one in shown)
    for axes, one in zip(panels, shown, strict=False):
        colour = RED if one.rank in noisy else BLUE
        axes.plot(range(1, len(one.trace) + 1), one.trace, color=colour, linewidth=0.9)
        log_seconds(axes, low, high, 3)
        axes.set_xlim(1, len(one.trace))
        axes.xaxis.set_major_locator(FixedLocator([1, len(one.trace) // 2, len(one.trace)]))
        mark = ", stands out" if one.rank in noisy else ""
        head(axes, f"rank {one.rank}: loses {percent(one.lost)}{mark}", "", "", 62)
    for axes in panels[len(shown) :]:
        axes.set_visible(False)


def _tails(canvas: Canvas, scale: Scale, cell: NoiseCell) -> None:
    if canvas.narrow:
        first, second = canvas.panels(2, 1, right=72)
    else:
        first, second = canvas.panels(1, 2, right=72, across=146)
    noisy = {one.rank for one in noisy_ranks(cell)}
    kept = [p for p in cell.ranks[0].time.probabilities if p < 1]
    ends = []
    for i, one in enumerate(cell.ranks):
        mark = SERIES[i % len(SERIES)]
        colour = RED if one.rank in noisy else BLUE if len(cell.ranks) > 4 else mark.colour
        dash = "-" if len(cell.ranks) > 4 else mark.dash
        first.plot([1 - p for p in kept], one.time.quantile(np.array(kept)), dash, color=colour)
        if len(cell.ranks) <= 4 or one.rank in noisy:
            ends.append(EndLabel(one.time.at(kept[-1]), f"rank {one.rank}", colour))
    first.set_xscale("log")
    first.set_xlim(1, (1 - kept[-1]) * 0.9)
    first.xaxis.set_major_locator(FixedLocator([1, 0.1, 0.01, 0.001]))
    first.xaxis.set_minor_locator(NullLocator())
    first.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    every = [one.time for one in cell.ranks]
    log_seconds(first, min(one.at(0) for one in every), max(one.at(kept[-1]) for one in every))
    head(
        first, "Longest pieces" if canvas.narrow else "How long a piece takes",
        "time of a piece of work", "share that takes longer", 62,
    )  # fmt: skip
    label_ends(first, ends)
    expected = cell.expected_longest
    second.plot(list(expected), list(expected.values()), color=GREEN, marker="D", markersize=4)
    log_counts(second, [1, 4, 16, 64, 256, 1024], 6)
    least = pooled(every, 0)
    log_seconds(second, least, max(expected.values()))
    second.axhline(least, color=INK, linewidth=1)
    head(second, "Expected longest of P ranks", "", "ranks", 62)
    label_ends(
        second,
        [EndLabel(least, "least", INK), EndLabel(list(expected.values())[-1], "expected", GREEN)],
    )


def noise_cell(scale: Scale) -> NoiseCell | None:
    """Returns the noise of the largest group that has it."""
    cells = [cell for cell in scale.of(NoiseCell) if cell.ranks]
    if not cells:
        return None
    group = largest_of([cell.group for cell in cells])
    return next(cell for cell in cells if cell.group == group)


def verdict_of(cell: NoiseCell) -> str:
    noisy = noisy_ranks(cell)
    if not noisy:
        ends = dict.fromkeys(percent(end([one.lost for one in cell.ranks])) for end in (min, max))
        return f"No rank loses clearly more time than others: each {' to '.join(ends)} of it."
    words = [f"{percent(one.lost)} of the time from rank {one.rank}" for one in noisy]
    usual = float(np.median([one.lost for one in cell.ranks if one not in noisy] or [0]))
    return f"The machine takes {listed(words)}, and {percent(usual)} from the others."


def section(scale: Scale) -> Section:
    anchor, title = "noise", "Noise: what the machine takes"
    cell = noise_cell(scale)
    if cell is None:
        return Section(
            anchor,
            title,
            missing="No noise was measured: `--measure noise` adds it.",
        )
    most, longest = max(cell.expected_longest.items())
    shown = sorted(
        sorted(cell.ranks, key=lambda one: -one.lost)[:_SHOWN], key=lambda one: one.rank
    )  # fmt: skip
    traces = paint(
        "noise",
        f"Longest time of a piece of work of {seconds(cell.quantum)} through the run, by rank. "
        + verdict_of(cell),
        lambda canvas: _traces(canvas, scale, cell, shown),
        (720, 34 + 150 * -(-len(shown) // min(2, len(shown)))), (350, 34 + 140 * len(shown)),
        warning_of(scale),
    )  # fmt: skip
    tails = paint(
        "noise-tails",
        "Share of pieces of work that take longer than a time, by rank, and the expected longest of P "
        f"ranks: {seconds(longest)} for {most}",
        lambda canvas: _tails(canvas, scale, cell),
        (720, 320), (350, 580), warning_of(scale),
    )  # fmt: skip
    body = render(
        "scale/noise.html.j2", traces=traces, tails=tails, cell=cell, shown=shown,
        verdict=verdict_of(cell), name_of=name_of, times_the_median=TIMES_THE_MEDIAN,
        more=MORE_THAN_MEDIAN, short_seconds=short_seconds,
    )  # fmt: skip
    return Section(anchor, title, body)
