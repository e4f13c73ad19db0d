# SPDX-License-Identifier: Apache-2.0
"""The exchanges and pings of a run, as several sections look at them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..distribution import Array, Interval
from ..terms import rounds
from .measurements import ExchangeCell, Group, PingCell, Scale
from .section import in_order

BUILTIN, MPI = "builtin", "MPI_Allreduce"
CLOCK_TICK = 1e-9  # seconds, for times that a clock tells to be 0


def exchanges(scale: Scale, by: str, group: Group) -> list[ExchangeCell]:
    """Returns a group's exchanges, the shortest message first."""
    cells = [cell for cell in scale.of(ExchangeCell) if cell.by == by and cell.group == group]
    return sorted(cells, key=lambda cell: cell.doubles)


def exchange_groups(scale: Scale) -> list[Group]:
    return in_order([cell.group for cell in scale.of(ExchangeCell)])


@dataclass(frozen=True)
class Pings:
    """One-way times between the first ranks of two hosts, by length, of all pairs of hosts: the
    fastest pair, which gives a bound, and the slowest."""

    bytes: Array
    fastest: Array
    slowest: Array
    pair: tuple[int, int]  # the slowest

    def bound(self, hosts: int, doubles: int) -> float:
        """Returns the least time of a sum over hosts: as many rounds as it has, each one way."""
        one_way = float(np.interp(8 * doubles, self.bytes, self.fastest))
        return rounds(hosts)[0] * one_way


def pings_of(scale: Scale) -> Pings | None:
    cells = scale.of(PingCell)
    if not cells:
        return None
    sizes = sorted({cell.bytes for cell in cells})
    by_size = [[cell for cell in cells if cell.bytes == size] for size in sizes]
    slowest = max(by_size[0], key=lambda cell: cell.one_way.median)
    return Pings(
        np.array(sizes, dtype=np.float64),
        np.array([min(cell.one_way.median for cell in same) for same in by_size]),
        np.array([max(cell.one_way.median for cell in same) for same in by_size]),
        slowest.between,
    )


def ratio(ours: ExchangeCell, theirs: ExchangeCell) -> Interval:
    """Returns ours over theirs; the ends from those ends of their intervals that are furthest apart."""
    return Interval(
        ours.time.median / max(theirs.time.median, CLOCK_TICK),
        ours.time.low / max(theirs.time.high, CLOCK_TICK),
        ours.time.high / max(theirs.time.low, CLOCK_TICK),
    )
