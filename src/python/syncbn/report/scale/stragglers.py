# SPDX-License-Identifier: Apache-2.0
"""Who came late: the arrivals of each rank over many exchanges, and whether one stands out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..distribution import Distribution, binomial_tail, pooled
from .measurements import ExchangeCell, Group, LayerCell, Scale, StepCell

LEVEL = 0.01  # of the test, over all ranks together
WAITS_THAT_MATTER = 0.05  # of all exchanges

Arrivals = ExchangeCell | LayerCell | StepCell


@dataclass(frozen=True)
class RankLag:
    """One rank's arrivals in all cells of a group."""

    rank: int
    median: float  # of its lag behind the first rank
    p99: float
    last: float  # share of the long waits in which it came last
    chance: float  # probability of being last so often if all are last equally often
    straggles: bool


@dataclass(frozen=True)
class Arrived:
    """The arrivals of one group's ranks."""

    group: Group
    kind: str  # in which the ranks exchanged: "layers", "training steps" or "exchanges"
    repetitions: int
    long_waits: int  # repetitions in which the spread was longer than transfers usually are
    transfer: float  # the median, seconds
    ranks: list[RankLag]

    @property
    def stragglers(self) -> list[RankLag]:
        return [one for one in self.ranks if one.straggles]


def transfer_of(cell: Arrivals) -> Distribution | None:
    return cell.time if isinstance(cell, ExchangeCell) else cell.transfer


def arrived(group: Group, kind: str, cells: Sequence[Arrivals]) -> Arrived | None:
    """Returns the arrivals of these cells together, None if they have none.

    A rank straggles if in long waits, in which the spread is longer than the transfer's median, it is
    last more often than chance explains (one-sided binomial test at LEVEL, divided by the number of
    ranks: Bonferroni) and at least one and a half times as often as an equal share, and if more than
    WAITS_THAT_MATTER of the exchanges are such waits.
    """
    cells = [cell for cell in cells if cell.ranks and transfer_of(cell)]
    if not cells:
        return None
    transfer = pooled([one for cell in cells if (one := transfer_of(cell))], 0.5)
    count = len(cells[0].ranks)
    waits = sum(cell.ranks[0].long_waits for cell in cells)
    repetitions = sum(cell.ranks[0].lag.count for cell in cells)
    found = []
    for place in range(count):
        own = [cell.ranks[place] for cell in cells]
        # Where several come last at the same moment, each is counted. They share it here.
        times_last = sum(
            one.last / (sum(other.last for other in cell.ranks) or 1) * one.long_waits
            for one, cell in zip(own, cells, strict=True)
        )
        last = times_last / waits if waits else 0
        chance = binomial_tail(round(times_last), waits, 1 / count)
        found.append(
            RankLag(
                own[0].rank,
                pooled([one.lag for one in own], 0.5),
                pooled([one.lag for one in own], 0.99),
                last,
                chance,
                chance < LEVEL / count
                and last > 1.5 / count
                and waits > WAITS_THAT_MATTER * repetitions,
            )
        )
    return Arrived(group, kind, repetitions, waits, transfer, found)


def arrivals_of(scale: Scale, group: Group) -> Arrived | None:
    """Returns the arrivals of a group in its layers, else in its training steps, else in exchanges,
    which all ranks begin at a common moment."""
    kinds: tuple[tuple[str, Sequence[Arrivals]], ...] = (
        ("layers", scale.of(LayerCell)),
        ("training steps", [cell for cell in scale.of(StepCell) if cell.norm == "sync"]),
        ("exchanges", scale.of(ExchangeCell)),
    )
    for kind, cells in kinds:
        found = arrived(group, kind, [cell for cell in cells if cell.group == group])
        if found:
            return found
    return None
