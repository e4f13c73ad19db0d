# SPDX-License-Identifier: Apache-2.0
"""The exchange alone: its time by length of the message, and how it is distributed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from ..axes import log_counts
from ..distribution import Interval
from ..numbers import listed, seconds
from ..page import render
from ..section import Section
from ..style import GREEN, SERIES, Canvas, EndLabel, Mark, head, label_ends, paint
from .axes import log_seconds, log_seconds_across
from .exchanges import BUILTIN, CLOCK_TICK, MPI, Pings, exchange_groups, exchanges, pings_of, ratio
from .measurements import ExchangeCell, Group, Scale
from .section import largest_of, name_of, warning_of

_MARKS = {BUILTIN: SERIES[0], MPI: SERIES[1]}
_NAMES = {BUILTIN: "syncbn", MPI: "MPI"}


def _panels(canvas: Canvas, count: int, right: float, across: float, left: float) -> list[Axes]:
    """Returns so many panels, in as many columns as the page has room for."""
    columns = min(count, 1 if canvas.narrow else 2 if count in (2, 4) else 3)
    panels = canvas.panels(-(-count // columns), columns, left=left, right=right, across=across)
    for axes in panels[count:]:
        axes.set_visible(False)
    return panels[:count]


def _heights(count: int, of_row: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns the sizes of a figure of so many panels, wide and narrow."""
    rows = -(-count // min(count, 2 if count in (2, 4) else 3))
    return (720, 6 + rows * of_row), (350, 6 + count * of_row)


def _by_length(canvas: Canvas, scale: Scale, groups: list[Group], pings: Pings | None) -> None:
    cells = scale.of(ExchangeCell)
    low = min(cell.time.low for cell in cells)
    high = max(cell.time.high for cell in cells)
    lengths = sorted({cell.doubles for cell in cells})
    panels = _panels(canvas, len(groups), 62, 120, 62)
    for axes, group in zip(panels, groups, strict=True):
        log_counts(axes, lengths, 3)
        log_seconds(axes, low, high)
        labels = []
        for by, mark in _MARKS.items():
            own = exchanges(scale, by, group)
            if not own:
                continue
            middles = np.array([cell.time.median for cell in own])
            ends = [
                middles - [cell.time.low for cell in own],
                [cell.time.high for cell in own] - middles,
            ]
            axes.errorbar(
                [cell.doubles for cell in own], middles, ends, color=mark.colour,
                marker=mark.marker, linestyle=mark.dash, capsize=2.5, elinewidth=1.2,
            )  # fmt: skip
            labels.append(EndLabel(float(middles[-1]), _NAMES[by], mark.colour))
        if pings and group.hosts > 1:
            bounds = [pings.bound(group.hosts, doubles) for doubles in lengths]
            axes.plot(lengths, bounds, color=GREEN, linestyle=(0, (1, 1.6)))
            labels.append(EndLabel(bounds[-1], "bound", GREEN))
        head(axes, name_of(group), "time of an exchange", "doubles", 62)
        label_ends(axes, labels)


def _shares(canvas: Canvas, scale: Scale, groups: list[Group], doubles: int) -> None:
    """Draws which share of the exchanges of one length took no longer than a time."""
    panels = _panels(canvas, len(groups), 20, 74, 54)
    for axes, group in zip(panels, groups, strict=True):
        own = [
            cell for by in _MARKS for cell in exchanges(scale, by, group) if cell.doubles == doubles
        ]
        low = max(min(cell.time.at(0) for cell in own), CLOCK_TICK)
        high = max(max(cell.time.at(1) for cell in own), CLOCK_TICK)
        room = (high / low) ** 0.5  # for the names beside the curves
        log_seconds_across(axes, low / max(1.3, room), high * max(1.3, room))
        fastest = min(own, key=lambda cell: cell.time.median)
        for cell in own:
            _share(axes, cell, _MARKS[cell.by], to_the_left=cell is fastest)
        axes.set_ylim(0, 1.03)
        axes.set_yticks([0, 0.5, 0.99], ["0", "50 %", "99 %"])
        head(axes, name_of(group), "exchanges no longer than", "time of an exchange", 54)


def _share(axes: Axes, cell: ExchangeCell, mark: Mark, to_the_left: bool) -> None:
    axes.plot(cell.time.quantiles, cell.time.probabilities, color=mark.colour, linestyle=mark.dash)
    axes.plot(cell.time.median, 0.5, mark.marker, color=mark.colour)
    height = 0.66 if to_the_left else 0.34
    axes.annotate(
        _NAMES[cell.by], (cell.time.at(height), height), (-8 if to_the_left else 8, 0),
        textcoords="offset points", ha="right" if to_the_left else "left", va="center",
        color=mark.colour,
    )  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A line of the table: the exchanges of one group and length."""

    group: Group
    doubles: int
    ours: ExchangeCell | None
    theirs: ExchangeCell | None

    @property
    def ratio(self) -> Interval | None:
        return ratio(self.ours, self.theirs) if self.ours and self.theirs else None


def rows_of(scale: Scale) -> list[Row]:
    rows = []
    for group in exchange_groups(scale):
        ours = {cell.doubles: cell for cell in exchanges(scale, BUILTIN, group)}
        theirs = {cell.doubles: cell for cell in exchanges(scale, MPI, group)}
        rows += [
            Row(group, doubles, ours.get(doubles), theirs.get(doubles))
            for doubles in sorted({*ours, *theirs})
        ]
    return rows


def section(scale: Scale) -> Section:
    anchor, title = "exchange", "The exchange alone"
    groups = exchange_groups(scale)
    if not groups:
        return Section(
            anchor,
            title,
            missing="No exchanges were measured: `--measure exchange` and `mpirun -n 2` add them.",
        )
    pings = pings_of(scale)
    lengths = sorted({cell.doubles for cell in scale.of(ExchangeCell)})
    one = lengths[len(lengths) // 2]
    largest = largest_of(groups)
    rows = rows_of(scale)
    medians = [
        f"{_NAMES[by]} {seconds(cell.time.median)}"
        for by in _MARKS
        for cell in exchanges(scale, by, largest)
        if cell.doubles == one
    ]
    by_length = paint(
        "exchange",
        f"Time of an exchange by length, for {listed([name_of(group) for group in groups])}. "
        f"{name_of(largest)}, {one} doubles: {', '.join(medians)}",
        lambda canvas: _by_length(canvas, scale, groups, pings),
        *_heights(len(groups), 268),
        warning_of(scale),
    )
    with_one = [row.group for row in rows if row.doubles == one]
    shares = paint(
        "exchange-shares",
        f"Share of the exchanges of {one} doubles that took no longer than a time",
        lambda canvas: _shares(canvas, scale, with_one, one),
        *_heights(len(with_one), 250),
        warning_of(scale),
    )
    body = render(
        "scale/exchange.html.j2", by_length=by_length, shares=shares, doubles=one,
        rows=[row for row in rows if row.doubles == one], all_rows=rows, name_of=name_of,
        pings=pings, lengths=lengths, has_mpi=any(row.theirs for row in rows), largest=largest,
    )  # fmt: skip
    return Section(anchor, title, body)
