# SPDX-License-Identifier: Apache-2.0
"""What `syncbn scale` measured, as objects. Times are in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from ..distribution import Distribution, Interval
from ..machine import Machine

PHASES = (
    "sums", "exchange", "normalize", "backward_sums", "input_gradient", "copy", "streaming_copy",
)  # fmt: skip


@dataclass(frozen=True)
class Method:
    probabilities: list[float]
    wanted: float
    cell_seconds: float
    clock_uncertainty: float


@dataclass(frozen=True)
class Group:
    """Ranks that measured together."""

    number: int
    ranks: int
    hosts: int
    most_on_a_host: int
    placement: str
    members: list[int]


@dataclass(frozen=True)
class RankShare:
    """What one rank did in a cell."""

    rank: int
    lag: Distribution
    long_waits: int  # exchanges of the cell in which the spread was longer than usual transfers are
    last: float  # share of these in which this rank came last


@dataclass(frozen=True)
class Cell:
    order: int
    seconds: float
    enough: bool


@dataclass(frozen=True)
class ExchangeCell(Cell):
    group: Group
    by: str
    doubles: int
    time: Distribution
    spread: Distribution
    late: int
    ranks: list[RankShare]


@dataclass(frozen=True)
class PingCell(Cell):
    between: tuple[int, int]
    bytes: int
    one_way: Distribution


@dataclass(frozen=True)
class LayerCell(Cell):
    group: Group
    shape: str
    layers: int
    channels: int
    bytes: float
    sync_forward: Distribution
    sync_backward: Distribution
    local_forward: Distribution
    local_backward: Distribution
    phases: dict[str, Distribution]  # by name, of PHASES; one rank has no exchange
    price: Interval
    transfer: Distribution | None
    spread: Distribution | None
    ranks: list[RankShare]

    @property
    def sync(self) -> float:
        return self.sync_forward.median + self.sync_backward.median

    @property
    def copy(self) -> float | None:
        """The faster of a copy by the C library and one past the cache; seconds."""
        copies = [
            self.phases[name].median for name in ("copy", "streaming_copy") if name in self.phases
        ]
        return min(copies, default=None)

    @property
    def local(self) -> float:
        return self.local_forward.median + self.local_backward.median


@dataclass(frozen=True)
class StepCell(Cell):
    group: Group
    scaling: str
    norm: str
    batch: int
    samples: int
    step: Distribution
    parts: dict[str, float]
    transfer: Distribution | None
    spread: Distribution | None
    ranks: list[RankShare]


@dataclass(frozen=True)
class NoiseOfRank:
    rank: int
    time: Distribution
    lost: float
    trace: list[float]


@dataclass(frozen=True)
class NoiseCell(Cell):
    group: Group
    quantum: float
    expected_longest: dict[int, float]  # of P ranks that each do one piece, by P; seconds
    ranks: list[NoiseOfRank]


AnyCell = TypeVar("AnyCell", bound=Cell)


@dataclass(frozen=True)
class Scale:
    version: str
    command: str
    started: str
    seconds: float
    sittings: int
    seed: int
    budget: str
    machine: Machine
    method: Method
    groups: list[Group]
    cells: list[Cell]
    unknown_kinds: dict[str, int]  # how many cells of kinds that this version does not know

    def of(self, kind: type[AnyCell]) -> list[AnyCell]:
        return [cell for cell in self.cells if isinstance(cell, kind)]

    @property
    def largest(self) -> int:
        """The ranks of the largest group."""
        return max(group.ranks for group in self.groups)
