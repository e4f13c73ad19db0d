# SPDX-License-Identifier: Apache-2.0
"""Axes that several figures have."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from ..numbers import count, short_seconds
from ..style import MUTED, head
from .exchanges import CLOCK_TICK


def _apart(axes: Axes, places: Sequence[float], texts: Sequence[str]) -> list[float]:
    """Returns places of an x axis whose texts do not touch: the last, and all that there is room for."""
    kept: list[float] = []
    left = math.inf
    for place, text in sorted(zip(places, texts, strict=True), reverse=True):
        at = float(axes.transData.transform((place, 1))[0])
        half = 4.2 * max(len(line) for line in text.split("\n"))
        if at + half + 4 < left:
            kept.append(place)
            left = at - half
    return kept[::-1]


def group_axis(axes: Axes, texts: Sequence[str]) -> None:
    """Makes an x axis of groups, side by side, with their names where there is room."""
    axes.set_xlim(-0.5, len(texts) - 0.5)
    shown = _apart(axes, range(len(texts)), texts)
    axes.set_xticks(shown, [texts[int(place)] for place in shown])


def rank_axis(axes: Axes, ranks: list[int]) -> None:
    """Makes an x axis of numbers of ranks, in powers of two."""
    axes.set_xscale("log", base=2)
    axes.set_xlim(min(ranks) / 1.2, max(ranks) * 1.2)
    shown = sorted(set(ranks))
    axes.xaxis.set_major_locator(FixedLocator(_apart(axes, shown, [str(one) for one in shown])))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Returns round times between these, at most so many, evenly spread as far as they can be."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        ticks = [digit * 10.0**decade for decade in decades for digit in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= most:
            break
    if len(ticks) < 2:
        ticks = [
            tick for tick in MaxNLocator(most - 1).tick_values(low, high) if low <= tick <= high
        ]
    return ticks[:: -(-len(ticks) // most)]


def _set_ticks(axis: Axis, low: float, high: float, most: int) -> None:
    axis.set_major_locator(FixedLocator(_ticks(low, high, most)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short_seconds(value)))
    axis.set_minor_locator(NullLocator())


def log_seconds(axes: Axes, low: float, high: float, most: int = 5) -> None:
    """Makes a logarithmic y axis of times, with some room around these and at most so many ticks."""
    low, high = max(low, CLOCK_TICK), max(high, 2 * CLOCK_TICK)
    axes.set_yscale("log")
    room = max(1.05, (high / low) ** 0.08)
    axes.set_ylim(low / room, high * room)
    _set_ticks(axes.yaxis, low / room, high * room, most)


def log_counts(axes: Axes, values: Sequence[int], most: int) -> None:
    """Makes a logarithmic x axis with ticks at so many of these numbers at most, evenly spread."""
    axes.set_xscale("log")
    among = np.array(sorted(set(values)), dtype=np.float64)
    axes.set_xlim(among[0] / 1.25, among[-1] * 1.25)
    wanted = np.geomspace(among[0], among[-1], min(most, len(among)))
    shown = {float(among[np.abs(np.log(among / one)).argmin()]) for one in wanted}
    axes.xaxis.set_major_locator(FixedLocator(sorted(shown)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    axes.xaxis.set_minor_locator(NullLocator())


def linear_seconds(axes: Axes) -> None:
    """Makes a y axis of times that begins at 0."""
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: short_seconds(value) if value else "0")
    )


def log_seconds_across(axes: Axes, low: float, high: float, most: int = 3) -> None:
    """Makes a logarithmic x axis of times."""
    low, high = max(low, CLOCK_TICK), max(high, 2 * CLOCK_TICK)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    _set_ticks(axes.xaxis, low, high, most)


def group_heads(axes: Axes, title: str, unit: str, several_hosts: bool) -> None:
    """Writes the heads of a panel whose x axis has groups by `short_name`."""
    if several_hosts:
        head(axes, title, unit, "", 62)
        for line, words in enumerate(("ranks", "hosts")):
            axes.annotate(
                words, (0, 0), (-62, -7 - 14.5 * line), xycoords="axes fraction",
                textcoords="offset points", color=MUTED, va="top", annotation_clip=False,
            )  # fmt: skip
    else:
        head(axes, title, unit, "ranks", 62)
