# SPDX-License-Identifier: Apache-2.0
"""Models of the exchanges of a run, and how far they can honestly be carried on."""

from __future__ import annotations

from dataclasses import dataclass

from ..model import Errors, LeftOut, Model, Point, build, errors_of
from ..terms import BUILTIN as BUILTIN_TERMS
from ..terms import MPI_ALLREDUCE, Setting
from .exchanges import BUILTIN, MPI
from .measurements import ExchangeCell, Scale

_TERMS = {BUILTIN: BUILTIN_TERMS, MPI: MPI_ALLREDUCE}
FAR_HOSTS = (64, 256, 1024)


def setting_of(scale: Scale, cell: ExchangeCell) -> Setting:
    group = cell.group
    return Setting(
        group.ranks, group.hosts, group.most_on_a_host, cell.doubles,
        scale.machine.waits(group.members),
    )  # fmt: skip


def model_of(scale: Scale, by: str) -> Model | None:
    """Returns the model of the exchanges of `by`, None if there are none."""
    points = [
        Point(setting_of(scale, cell), cell.time)
        for cell in scale.of(ExchangeCell)
        if cell.by == by and cell.time.median > 0
    ]
    points.sort(key=lambda point: (point.setting.ranks, point.setting.hosts, point.setting.doubles))
    # With `--exchange mpi` the library sums by MPI's all-reduce, too.
    by_mpi = by == MPI or scale.machine.transport.startswith("mpi ")
    return build(_TERMS[MPI if by_mpi else BUILTIN], points, scale.seed) if points else None


@dataclass(frozen=True)
class Curve:
    """Settings along which the model is drawn: so many ranks on each of h hosts, or on one host."""

    per_host: int  # 0: x is the number of ranks on one host
    upto: int

    def setting(self, scale: Scale, x: int, doubles: int) -> Setting:
        """Returns a setting of the curve. Each host has its processors to itself."""
        per_host = self.per_host or x
        hosts = x if self.per_host else 1
        processors = min(host.processors for host in scale.machine.hosts)
        waits = max(0.0, per_host * scale.machine.threads / processors - 1)
        return Setting(hosts * per_host, hosts, per_host, doubles, waits)

    def x(self, at: Setting) -> int:
        return at.hosts if self.per_host else at.ranks

    def has(self, at: Setting) -> bool:
        if self.per_host == 0:
            return at.hosts == 1
        return at.ranks == at.hosts * self.per_host and at.most_on_a_host == self.per_host


def curves_of(scale: Scale, model: Model) -> list[Curve]:
    """Returns the curves that the model can honestly be drawn along.

    With times of several numbers of hosts in the fit, more hosts follow from the schedule of the
    exchange. With one host, more ranks follow as far as there are processors.
    """
    several = [one.setting for one in model.points if one.setting.hosts > 1]
    if several:
        if not any(term.symbol == "α" for term in model.fit.terms):
            return []
        largest = max(several, key=lambda at: (at.ranks, at.most_on_a_host))
        kinds = {min(at.most_on_a_host for at in several), largest.most_on_a_host}
        return [Curve(per_host, max(FAR_HOSTS)) for per_host in sorted(kinds)]
    fewest = min(host.processors for host in scale.machine.hosts) // max(1, scale.machine.threads)
    upto = max(fewest, max(model.sizes))
    return [Curve(0, upto)] if upto > min(model.sizes) else []


@dataclass(frozen=True)
class Far:
    """A prediction beyond what was measured."""

    setting: Setting
    seconds: float
    low: float
    high: float
    without_a_size: Errors | None
    without_a_length: Errors | None


def far_predictions(scale: Scale, model: Model, curve: Curve, lengths: list[int]) -> list[Far]:
    most = max(one.setting.hosts if curve.per_host else one.setting.ranks for one in model.points)
    xs = FAR_HOSTS if curve.per_host else (curve.upto,)
    settings = [
        curve.setting(scale, x, doubles) for x in xs if x > most for doubles in lengths
    ]  # fmt: skip
    return [
        Far(at, model.fit.predict(at), *model.band(at), *model.errors_like(at)) for at in settings
    ]


@dataclass(frozen=True)
class ModelOf:
    """The model of one kind of exchange, as the page tells of it."""

    by: str
    model: Model
    held_out: Errors | None
    rows: list[LeftOut]


def models_of(scale: Scale) -> list[ModelOf]:
    found = []
    for by in (BUILTIN, MPI):
        model = model_of(scale, by)
        if model:
            errors = errors_of(model.held_out) if model.held_out else None
            found.append(ModelOf(by, model, errors, model.held_out))
    return found
