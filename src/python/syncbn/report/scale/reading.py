# SPDX-License-Identifier: Apache-2.0
"""Reads scale.json."""

from __future__ import annotations

from collections.abc import Iterator

from ..distribution import Distribution, Interval, read_distribution
from ..documents import DocumentError, Member
from ..machine import read_machine
from .exchanges import BUILTIN
from .measurements import (
    PHASES,
    Cell,
    ExchangeCell,
    Group,
    LayerCell,
    Method,
    NoiseCell,
    NoiseOfRank,
    PingCell,
    RankShare,
    Scale,
    StepCell,
)

SCALE_FORMAT = "syncbn scale 1"


class _CellReader:
    """Reads cells of a run whose groups and probabilities are known."""

    def __init__(self, groups: list[Group], probabilities: list[float]) -> None:
        self.groups = groups
        self.probabilities = probabilities

    def read(self, member: Member) -> Cell | None:
        """Returns a cell, None if its kind is not known."""
        kinds = {
            "exchange": self._exchange,
            "ping": self._ping,
            "layer": self._layer,
            "step": self._step,
            "noise": self._noise,
        }
        kind = kinds.get(member["kind"].text())
        return kind(member) if kind else None

    def _common(self, member: Member) -> tuple[int, float, bool]:
        return member["order"].integer(), member["seconds"].number(), member["enough"].truth()

    def _group(self, member: Member) -> Group:
        number = member["group"].integer()
        if not 0 <= number < len(self.groups):
            raise DocumentError(
                f"{member.file}: {member.place}.group is {number} (groups has {len(self.groups)})."
            )
        return self.groups[number]

    def _distribution(self, member: Member) -> Distribution:
        return read_distribution(member, self.probabilities)

    def _shares(self, member: Member) -> list[RankShare]:
        if not member.has("ranks"):
            return []
        return [
            RankShare(
                rank["rank"].integer(),
                self._distribution(rank["lag"]),
                member["long_waits"].integer(),
                rank["last_in_long_waits"].number(),
            )
            for rank in member["ranks"]
        ]

    def _exchange(self, member: Member) -> ExchangeCell:
        return ExchangeCell(
            *self._common(member),
            self._group(member),
            BUILTIN if member["by"].text() == "mpi" else member["by"].text(),
            member["doubles"].integer(),
            self._distribution(member["time"]),
            self._distribution(member["spread"]),
            member["late"].integer(),
            self._shares(member),
        )

    def _ping(self, member: Member) -> PingCell:
        first, second = member["between"].integers()
        return PingCell(
            *self._common(member),
            (first, second),
            member["bytes"].integer(),
            self._distribution(member["one_way"]),
        )

    def _layer(self, member: Member) -> LayerCell:
        price = member["price"]
        return LayerCell(
            *self._common(member),
            self._group(member),
            member["shape"].text(),
            member["layers"].integer(),
            member["channels"].integer(),
            member["bytes"].number(),
            self._distribution(member["sync_forward"]),
            self._distribution(member["sync_backward"]),
            self._distribution(member["local_forward"]),
            self._distribution(member["local_backward"]),
            {name: self._distribution(member[name]) for name in PHASES if member.has(name)},
            Interval(price["value"].number(), price["low"].number(), price["high"].number()),
            member.optional("transfer", self._distribution),
            member.optional("spread", self._distribution),
            self._shares(member),
        )

    def _step(self, member: Member) -> StepCell:
        parts = member["parts"]
        return StepCell(
            *self._common(member),
            self._group(member),
            member["scaling"].text(),
            member["norm"].text(),
            member["batch"].integer(),
            member["samples"].integer(),
            self._distribution(member["step"]),
            {name: parts[name].number() for name in parts.names()},
            member.optional("transfer", self._distribution),
            member.optional("spread", self._distribution),
            self._shares(member),
        )

    def _noise(self, member: Member) -> NoiseCell:
        group = (
            self._group(member)
            if member.has("group")
            else max(self.groups, key=lambda one: one.ranks)
        )
        return NoiseCell(
            *self._common(member),
            group,
            member["quantum"].number(),
            {one["ranks"].integer(): one["time"].number() for one in member["expected_longest"]},
            [
                NoiseOfRank(
                    rank["rank"].integer(),
                    self._distribution(rank["time"]),
                    rank["lost"].number(),
                    rank["trace"].numbers(),
                )
                for rank in member["ranks"]
            ],
        )


def _groups(member: Member) -> Iterator[Group]:
    for number, group in enumerate(member):
        yield Group(
            number,
            group["ranks"].integer(),
            group["hosts"].integer(),
            group["most_on_a_host"].integer(),
            group["placement"].text(),
            group["members"].integers(),
        )


def scale_of(document: Member) -> Scale:
    """Returns what a document of format SCALE_FORMAT says."""
    groups = list(_groups(document["groups"]))
    if not groups:
        raise DocumentError(f"{document.file}: groups is empty (a run has one of one rank).")
    method = document["method"]
    probabilities = method["probabilities"].numbers()
    if sorted(probabilities) != probabilities or probabilities[:1] + probabilities[-1:] != [0, 1]:
        raise DocumentError(f"{document.file}: method.probabilities do not ascend from 0 to 1.")
    reader = _CellReader(groups, probabilities)
    cells, unknown = [], dict[str, int]()
    for member in document["cells"]:
        cell = reader.read(member)
        if cell is not None:
            cells.append(cell)
        else:
            kind = member["kind"].text()
            unknown[kind] = unknown.get(kind, 0) + 1
    return Scale(
        document["version"].text(),
        document["command"].text(),
        document["started"].text(),
        document["seconds"].number(),
        document["sittings"].integer(),
        document["seed"].integer(),
        document["budget"].text(),
        read_machine(document["machine"]),
        Method(
            probabilities,
            method["wanted"].number(),
            method["cell_seconds"].number(),
            method["clock_uncertainty"].number(),
        ),
        groups,
        cells,
        unknown,
    )
