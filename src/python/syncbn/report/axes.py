# SPDX-License-Identifier: Apache-2.0
"""Axes that figures of several pages have."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from .numbers import NARROW_SPACE, count


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


def decade_axis(axes: Axes, values: Sequence[float], most: int = 9) -> None:
    """Makes a logarithmic x axis around these values, with about so many powers of ten at most."""
    axes.set_xscale("log")
    low, high = min(values), max(values)
    room = (high / low) ** 0.025
    axes.set_xlim(low / room, high * room)
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    exponents = range(first, last + 1, -(-(last - first + 1) // most))
    axes.xaxis.set_major_locator(FixedLocator([10.0**one for one in exponents]))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:,g}".replace(",", NARROW_SPACE))
    )
    axes.xaxis.set_minor_locator(NullLocator())
