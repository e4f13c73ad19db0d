# SPDX-License-Identifier: Apache-2.0
"""The whole training step: strong scaling, weak scaling, and what the exchanges take of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ..axes import rank_axis
from ..distribution import Interval
from ..numbers import digits, percent
from ..page import render
from ..section import Section
from ..style import INK, MUTED, SERIES, Canvas, EndLabel, head, label_ends, paint
from .measurements import Scale, StepCell
from .section import in_order, largest_of, name_of, warning_of

EXCHANGES = ("batch_norm_exchange", "gradient_exchange")


def steps(scale: Scale, scaling: str, norm: str) -> list[StepCell]:
    """Returns steps, the smallest group first. Of one size packed groups alone.

    One rank's step is the base of both scalings, and may have been measured for one of them only.
    """
    every = [
        cell
        for cell in scale.of(StepCell)
        if cell.norm == norm and cell.group.placement == "packed"
    ]  # fmt: skip
    cells = [cell for cell in every if cell.scaling == scaling]
    if not any(cell.group.ranks == 1 for cell in cells):
        samples = {cell.samples for cell in cells}
        cells += [
            cell
            for cell in every
            if cell.group.ranks == 1 and (scaling == "strong" or samples == {cell.samples})
        ][:1]
    order = {group.number: i for i, group in enumerate(in_order([cell.group for cell in cells]))}
    return sorted(cells, key=lambda cell: order[cell.group.number])


def exchange_share(cell: StepCell) -> float:
    """Returns which part of a step's medians its exchanges are."""
    total = sum(cell.parts.values())
    return sum(cell.parts.get(name, 0.0) for name in EXCHANGES) / total if total else 0.0


def compared(base: StepCell, cell: StepCell) -> Interval:
    """Returns the time of a base case over that of a cell; the ends from those ends of their intervals
    that are furthest apart."""
    return Interval(
        base.step.median / cell.step.median,
        base.step.low / cell.step.high,
        base.step.high / cell.step.low,
    )


def amdahl(ranks: list[int], times: list[float]) -> float:
    """Returns the serial part s of T(P) = T(1) (s + (1 - s) / P), by least squares of the relative
    errors (Amdahl, AFIPS 1967)."""
    p, t = np.array(ranks, dtype=np.float64), np.array(times) / times[0]
    column, rest = (1 - 1 / p) / t, 1 - 1 / (p * t)
    squares = float(column @ column)
    return float(np.clip(column @ rest / squares, 0, 1)) if squares else 0.0


@dataclass(frozen=True)
class Line:
    """A curve with intervals in one of the panels."""

    name: str
    cells: list[StepCell]
    values: list[Interval]


def _lines(scale: Scale, scaling: str) -> list[Line]:
    found = []
    for norm, name in (("sync", "sync"), ("local", "local")):
        cells = steps(scale, scaling, norm)
        base = next((cell for cell in cells if cell.group.ranks == 1), None)
        if base and len(cells) > 1:
            found.append(Line(name, cells, [compared(base, cell) for cell in cells]))
    return found


def _draw_lines(axes: Axes, lines: list[Line]) -> list[EndLabel]:
    labels = []
    for mark, line in zip(SERIES, lines, strict=False):
        values = np.array([value.value for value in line.values])
        ends = np.maximum(
            0,
            [
                values - [value.low for value in line.values],
                [value.high for value in line.values] - values,
            ],
        )
        axes.errorbar(
            [cell.group.ranks for cell in line.cells], values, ends, color=mark.colour,
            marker=mark.marker, linestyle=mark.dash, capsize=3, elinewidth=1.2,
        )  # fmt: skip
        labels.append(EndLabel(float(values[-1]), line.name, mark.colour))
    return labels


def _speedup(axes: Axes, lines: list[Line], serial: float | None) -> None:
    labels = _draw_lines(axes, lines)
    ranks = sorted({cell.group.ranks for line in lines for cell in line.cells})
    fine = np.geomspace(ranks[0], ranks[-1], 30)
    axes.plot(fine, fine, color=INK, linewidth=1)
    labels.append(EndLabel(ranks[-1], "ideal", INK))
    if serial is not None:
        axes.plot(fine, 1 / (serial + (1 - serial) / fine), color=MUTED, linestyle=":")
        labels.append(EndLabel(1 / (serial + (1 - serial) / ranks[-1]), "Amdahl", MUTED))
    rank_axis(axes, ranks)
    axes.set_yscale("log", base=2)
    ticks = [2.0**i for i in range(-4, 12)]
    low = min(0.9, *(value.low for line in lines for value in line.values))
    high = max(ranks[-1], *(value.high for line in lines for value in line.values))
    axes.set_ylim(low / 1.1, high * 1.15)
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    head(axes, "Strong scaling", "speed-up, T(1) / T(P)", "ranks", 50)
    label_ends(axes, labels)


def _efficiency(axes: Axes, lines: list[Line]) -> None:
    labels = _draw_lines(axes, lines)
    axes.axhline(1, color=INK, linewidth=1)
    labels.append(EndLabel(1, "ideal", INK))
    rank_axis(axes, [cell.group.ranks for line in lines for cell in line.cells])
    axes.set_ylim(0, max(1.12, *(value.high for line in lines for value in line.values)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    head(axes, "Weak scaling", "efficiency, T(1) / T(P)", "ranks", 50)
    label_ends(axes, labels)


def _share(axes: Axes, scale: Scale) -> None:
    labels = []
    ranks = []
    for mark, scaling in zip((SERIES[2], SERIES[3]), ("strong", "weak"), strict=True):
        cells = steps(scale, scaling, "sync")
        if not cells:
            continue
        shares = [exchange_share(cell) for cell in cells]
        ranks += [cell.group.ranks for cell in cells]
        axes.plot(
            [cell.group.ranks for cell in cells], shares, color=mark.colour, marker=mark.marker,
            linestyle=mark.dash,
        )  # fmt: skip
        labels.append(EndLabel(shares[-1], scaling, mark.colour))
    rank_axis(axes, ranks)
    axes.set_ylim(0, max(0.1, axes.get_ylim()[1]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    head(axes, "Exchanges", "share of the step, rank 0", "ranks", 50)
    label_ends(axes, labels)


def _has_shares(scale: Scale) -> bool:
    return any(steps(scale, scaling, "sync") for scaling in ("strong", "weak"))


def _paint(
    canvas: Canvas, scale: Scale, strong: list[Line], weak: list[Line], serial: float | None
) -> None:
    shares = _has_shares(scale)
    count = bool(strong) + bool(weak) + shares
    panels = iter(
        canvas.panels(count, 1, left=50, right=76)
        if canvas.narrow
        else canvas.panels(1, count, left=50, right=64, across=114)
    )
    if strong:
        _speedup(next(panels), strong, serial)
    if weak:
        _efficiency(next(panels), weak)
    if shares:
        _share(next(panels), scale)


def section(scale: Scale) -> Section:
    anchor, title = "step", "A whole training step"
    cells = scale.of(StepCell)
    if not cells:
        return Section(
            anchor, title, missing="No training steps were measured: `--train` adds them."
        )
    strong, weak = _lines(scale, "strong"), _lines(scale, "weak")
    fitted = next((line for line in strong if line.name == "sync"), None)
    serial = (
        amdahl(
            [cell.group.ranks for cell in fitted.cells],
            [cell.step.median for cell in fitted.cells],
        )
        if fitted
        else None
    )
    count = bool(strong) + bool(weak) + _has_shares(scale)
    ends = [
        f"{words} {digits(line.values[-1].value)} with {line.cells[-1].group.ranks} ranks"
        for words, lines in (("speed-up", strong), ("efficiency", weak))
        for line in lines[:1]
    ]
    figure = count and paint(
        "steps",
        "Scaling of the training step: " + "; ".join(ends),
        lambda canvas: _paint(canvas, scale, strong, weak, serial),
        (720, 290), (350, 270 * count), warning_of(scale),
    )  # fmt: skip
    largest = largest_of([cell.group for cell in cells])
    body = render(
        "scale/steps.html.j2", figure=figure, serial=serial, strong=strong, weak=weak,
        cells=sorted(
            cells, key=lambda cell: (cell.scaling, cell.group.ranks, cell.group.hosts, cell.norm)
        ),
        name_of=name_of, largest=largest, exchange_share=exchange_share, percent=percent,
    )  # fmt: skip
    return Section(anchor, title, body)
