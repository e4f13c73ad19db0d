# SPDX-License-Identifier: Apache-2.0
"""Who came late: the arrivals of each rank over many exchanges, and whether one stands out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..distribution import Distribution, binomial_tail, pooled
from .measurements import ExchangeCell, Group, LayerCell, Scale, StepCell

LEVEL = 0.01  # of the test, over all ranks together
LAG_THAT_MATTERS = 0.1  # of the transfer's median

Arrivals = ExchangeCell | LayerCell | StepCell


@dataclass(frozen=True)
class RankLag:
    """One rank's arrivals in all cells of a group."""

    rank: int
    median: float  # of its lag behind the first rank
    p99: float
    last: float  # share of the exchanges in which it came last
    chance: float  # probability of being last so often if all are last equally often
    straggles: bool


@dataclass(frozen=True)
class Arrived:
    """The arrivals of one group's ranks."""

    group: Group
    kind: str  # in which the ranks exchanged: "layers", "training steps" or "exchanges"
    repetitions: int
    transfer: float  # the median, seconds
    ranks: list[RankLag]

    @property
    def stragglers(self) -> list[RankLag]:
        return [one for one in self.ranks if one.straggles]


def transfer_of(cell: Arrivals) -> Distribution | None:
    return cell.time if isinstance(cell, ExchangeCell) else cell.transfer


def arrived(group: Group, kind: str, cells: Sequence[Arrivals]) -> Arrived | None:
    """Returns the arrivals of these cells together, None if they have none.

    A rank straggles if it is last more often than chance explains (one-sided binomial test at LEVEL,
    divided by the number of ranks: Bonferroni), at least one and a half times as often as an equal
    share, and its median lag is more than LAG_THAT_MATTERS of the transfer's median.
    """
    cells = [cell for cell in cells if cell.ranks and transfer_of(cell)]
    if not cells:
        return None
    transfer = pooled([one for cell in cells if (one := transfer_of(cell))], 0.5)
    count = len(cells[0].ranks)
    found = []
    for place in range(count):
        own = [cell.ranks[place] for cell in cells]
        trials = sum(one.lag.count for one in own)
        # Where several come last at the same moment, each is counted. They share it here.
        last = sum(
            cell.ranks[place].last / (sum(one.last for one in cell.ranks) or 1)
            * cell.ranks[place].lag.count
            for cell in cells
        )  # fmt: skip
        chance = binomial_tail(round(last), trials, 1 / count)
        median = pooled([one.lag for one in own], 0.5)
        found.append(
            RankLag(
                own[0].rank, median, pooled([one.lag for one in own], 0.99), last / trials, chance,
                chance < LEVEL / count
                and last / trials > 1.5 / count
                and median > LAG_THAT_MATTERS * transfer,
            )
        )  # fmt: skip
    repetitions = sum(cell.ranks[0].lag.count for cell in cells)
    return Arrived(group, kind, repetitions, transfer, found)


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
