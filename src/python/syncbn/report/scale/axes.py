# SPDX-License-Identifier: Apache-2.0
"""Axes of times, and of groups on several hosts."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from ..numbers import short_seconds
from ..style import MUTED, head
from .exchanges import CLOCK_TICK


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
