# SPDX-License-Identifier: Apache-2.0
"""Skew: how far apart the ranks arrive at an exchange, apart from what the exchange then takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ..axes import group_axis
from ..distribution import pooled
from ..numbers import listed, percent, seconds, short_seconds
from ..page import render
from ..section import Section
from ..style import BLUE, INK, RED, SERIES, Canvas, EndLabel, head, label_ends, paint
from .axes import group_heads, linear_seconds
from .measurements import Group, LayerCell, Scale, StepCell
from .section import (
    has_several_hosts,
    in_order,
    largest_of,
    name_of,
    short_name,
    warning_of,
)  # fmt: skip
from .stragglers import LEVEL, WAITS_THAT_MATTER, Arrived, arrivals_of


def _lags(canvas: Canvas, scale: Scale, found: Arrived) -> None:
    count = len(found.ranks)
    height = _height(found)
    top = 50
    if canvas.narrow:
        first = canvas.panel(64, top, canvas.width - 64 - 20, height)
        second = canvas.panel(64, 2 * top + height + 50, canvas.width - 64 - 20, height)
    else:
        first = canvas.panel(64, top, 310, height)
        second = canvas.panel(470, top, 230, height)
    places = np.arange(count)
    for place, one in zip(places, found.ranks, strict=True):
        colour = RED if one.straggles else BLUE
        first.plot([one.median, one.p99], [place, place], color=colour, linewidth=1.4)
        first.plot(one.median, place, "o", color=colour)
        first.plot(one.p99, place, "|", color=colour, markersize=10, markeredgewidth=1.8)
        second.plot([0, one.last], [place, place], color=colour, linewidth=1.4)
        second.plot(one.last, place, "s" if one.straggles else "o", color=colour)
    first.axvline(found.transfer, color=INK, linewidth=1, linestyle=":")
    second.axvline(1 / count, color=INK, linewidth=1, linestyle=":")
    for axes in (first, second):
        axes.grid(visible=False)
        axes.grid(axis="x")
        axes.set_ylim(count - 0.4, -0.6)
        shown = places[:: -(-count // 16)]
        axes.set_yticks(shown, [f"rank {found.ranks[i].rank}" for i in shown])
        axes.xaxis.set_major_locator(MaxNLocator(4))
    first.set_xlim(left=0)
    first.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: short_seconds(value) if value else "0")
    )
    second.set_xlim(0, max(2 / count, *(one.last for one in found.ranks)) * 1.08)
    second.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    if not canvas.narrow:
        second.set_yticklabels([])
    head(
        first, "Lag" if canvas.narrow else "Lag behind the first rank",
        "● median  | 99 %  ┊ transfer", "lag" if canvas.narrow else "", 64,
    )  # fmt: skip
    head(second, "Last in long waits", "┊ equal shares", "", 64 if canvas.narrow else 0)


def _height(found: Arrived) -> int:
    return max(60, min(420, 26 * len(found.ranks)))


@dataclass(frozen=True)
class Waiting:
    """The two parts of what a group's exchanges take inside layers or training steps."""

    group: Group
    transfer: Sequence[float]  # quartiles, seconds: from the last arrival on
    spread: Sequence[float]  # from the first arrival to the last


def waiting_of(scale: Scale) -> list[Waiting]:
    """Returns both parts for each group, of its layers, or else of its training steps."""
    steps = [cell for cell in scale.of(StepCell) if cell.norm == "sync"]
    cells: list[LayerCell | StepCell] = [*(scale.of(LayerCell) or steps)]
    found = []
    for group in in_order([cell.group for cell in cells]):
        own = [cell for cell in cells if cell.group == group]
        transfers = [cell.transfer for cell in own if cell.transfer]
        spreads = [cell.spread for cell in own if cell.spread]
        if transfers and spreads:
            quartiles = (0.25, 0.5, 0.75)
            found.append(
                Waiting(
                    group,
                    [pooled(transfers, share) for share in quartiles],
                    [pooled(spreads, share) for share in quartiles],
                )
            )
    return found


def _parts(canvas: Canvas, scale: Scale, waiting: list[Waiting]) -> None:
    (axes,) = canvas.panels(1, 1, right=84)
    places = np.arange(len(waiting))
    labels = []
    for mark, name, shift in ((SERIES[0], "transfer", -0.1), (SERIES[1], "spread", 0.1)):
        quartiles = np.array([getattr(one, name) for one in waiting])
        axes.vlines(places + shift, quartiles[:, 0], quartiles[:, 2], color=mark.colour)
        axes.plot(places + shift, quartiles[:, 1], mark.marker, color=mark.colour, markersize=7)
        labels.append(EndLabel(float(quartiles[-1, 1]), name, mark.colour))
    several_hosts = has_several_hosts(scale)
    group_axis(axes, [short_name(one.group, several_hosts) for one in waiting])
    linear_seconds(axes)
    group_heads(
        axes, "Transfer beside spread", "of an exchange; bars: quartiles",
        several_hosts,
    )  # fmt: skip
    label_ends(axes, labels)


def verdict_of(found: Arrived) -> str:
    """Returns in a sentence whether a rank straggles."""
    if not found.stragglers:
        return "No rank stands out as a straggler."
    words = [
        f"rank {one.rank} comes last in {percent(one.last)} and lags {seconds(one.median)} (median)"
        for one in found.stragglers
    ]
    return f"Of the long waits in {found.kind}, {listed(words)}."


def section(scale: Scale) -> Section:
    anchor, title = "skew", "Skew: who is waited for"
    groups = [group for group in scale.groups if group.ranks > 1]
    found = arrivals_of(scale, largest_of(groups)) if groups else None
    if found is None:
        return Section(
            anchor,
            title,
            missing="A single rank waits for nobody: start the run with `mpirun -n 2`.",
        )
    waiting = waiting_of(scale)
    height = _height(found)
    lags = paint(
        "skew",
        f"Lag of each of {name_of(found.group)} behind the first, and its share of coming last in "
        "long waits. "
        + verdict_of(found),
        lambda canvas: _lags(canvas, scale, found),
        (720, height + 84), (350, 2 * height + 186), warning_of(scale),
    )  # fmt: skip
    parts = waiting and paint(
        "skew-parts",
        "Transfer and spread of an exchange by number of ranks: "
        + "; ".join(
            f"{name_of(one.group)} {seconds(one.transfer[1])} and {seconds(one.spread[1])}"
            for one in waiting
        ),
        lambda canvas: _parts(canvas, scale, waiting),
        (720, 280), (350, 280), warning_of(scale),
    )  # fmt: skip
    body = render(
        "scale/skew.html.j2", lags=lags, parts=parts, found=found, verdict=verdict_of(found),
        waiting=waiting, name_of=name_of, level=LEVEL, matters=WAITS_THAT_MATTER,
        clock=scale.method.clock_uncertainty,
    )  # fmt: skip
    return Section(anchor, title, body)
