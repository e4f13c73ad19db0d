# SPDX-License-Identifier: Apache-2.0
"""Guidelines that a collective operation should keep (Träff, Gropp & Thakur, IEEE TPDS 21, 2010).

As in ReproMPI's pgchecker, one is broken only where the intervals of the medians do not overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..page import render
from ..section import Section
from .exchanges import BUILTIN, CLOCK_TICK, MPI, exchange_groups, exchanges
from .measurements import ExchangeCell, Scale
from .section import name_of

Case = tuple[ExchangeCell, ExchangeCell, float]  # the first <= a factor times the second


@dataclass(frozen=True)
class Verdict:
    """Whether one guideline holds."""

    by: str
    cases: int
    broken: int
    worst: Case | None  # in which the first is longest against what it may be

    @property
    def holds(self) -> bool:
        return self.broken == 0

    @property
    def excess(self) -> float:
        """How many times as long the worst case is as it may be."""
        return _excess(self.worst) if self.worst else 0.0


@dataclass(frozen=True)
class Guideline:
    name: str
    why: str
    verdicts: list[Verdict]


def _excess(case: Case) -> float:
    first, second, factor = case
    return first.time.median / max(factor * second.time.median, CLOCK_TICK)


def _verdict(by: str, cases: list[Case]) -> Verdict:
    broken = [case for case in cases if case[0].time.low > case[2] * case[1].time.high]
    return Verdict(by, len(cases), len(broken), max(broken or cases, key=_excess, default=None))


def _against_mpi(scale: Scale, by: str) -> Iterator[Case]:
    for group in exchange_groups(scale):
        theirs = {cell.doubles: cell for cell in exchanges(scale, MPI, group)}
        for cell in exchanges(scale, by, group):
            if cell.doubles in theirs:
                yield cell, theirs[cell.doubles], 1.0


def _one_of_two(scale: Scale, by: str) -> Iterator[Case]:
    for group in exchange_groups(scale):
        cells = exchanges(scale, by, group)
        for cell in cells:
            longer = [one for one in cells if cell.doubles < one.doubles <= 2 * cell.doubles]
            if longer:
                yield longer[-1], cell, 2.0


def _rises_with_length(scale: Scale, by: str) -> Iterator[Case]:
    for group in exchange_groups(scale):
        cells = exchanges(scale, by, group)
        for i, shorter in enumerate(cells):
            yield from ((shorter, longer, 1.0) for longer in cells[i + 1 :])


def _rises_with_ranks(scale: Scale, by: str) -> Iterator[Case]:
    """Compares groups of which one's members are all in the other."""
    groups = exchange_groups(scale)
    for small in groups:
        for large in groups:
            if small.ranks < large.ranks and set(small.members) <= set(large.members):
                longer = {cell.doubles: cell for cell in exchanges(scale, by, large)}
                for cell in exchanges(scale, by, small):
                    if cell.doubles in longer:
                        yield cell, longer[cell.doubles], 1.0


_Cases = Callable[[Scale, str], Iterator[Case]]
_GUIDELINES: tuple[tuple[str, str, _Cases, bool], ...] = (
    (
        "An exchange takes no longer than MPI_Allreduce", "MPI could be used instead",
        _against_mpi, True,
    ),
    (
        "One message of up to 2n takes no longer than two of n", "it could be sent in halves",
        _one_of_two, False,
    ),
    (
        "The time does not fall with the length", "a message could be filled up",
        _rises_with_length, False,
    ),
    (
        "The time does not fall with the ranks", "some ranks could send zeros",
        _rises_with_ranks, False,
    ),
)  # fmt: skip


def check(scale: Scale) -> list[Guideline]:
    found = []
    for name, why, cases_of, ours_only in _GUIDELINES:
        verdicts = [
            _verdict(by, list(cases_of(scale, by)))
            for by in ((BUILTIN,) if ours_only else (BUILTIN, MPI))
        ]
        found.append(Guideline(name, why, [one for one in verdicts if one.cases]))
    return [one for one in found if one.verdicts]


def section(scale: Scale) -> Section:
    anchor, title = "guidelines", "Guidelines of a sound exchange"
    guidelines = check(scale)
    if not guidelines:
        return Section(
            anchor,
            title,
            missing="No exchanges were measured: `--measure exchange` and `mpirun -n 2` add them.",
        )
    body = render(
        "scale/guidelines.html.j2", guidelines=guidelines, name_of=name_of, builtin=BUILTIN
    )
    return Section(anchor, title, body)
