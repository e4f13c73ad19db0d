# SPDX-License-Identifier: Apache-2.0
"""What `syncbn study` found, as objects: src/app/study/report.hpp says what they mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..machine import Machine

HELD, FAILED, OPEN = "held", "did not hold", "not decided"  # the verdicts

MOST_LISTED = 5  # of runs that are missing

Factor = str | float


@dataclass(frozen=True)
class Claim:
    """A sentence, and the quantity that decides it: one value a seed, and the band of their mean."""

    text: str
    verdict: str
    control: bool  # whether the main claim says what it says only if this one holds, too
    quantity: str
    unit: str
    test: str  # "above", "below" or "within"
    margin: float
    resolution: float  # of values that are read off a grid
    values: list[float]
    mean: float
    low: float | None  # None where there is no band
    high: float | None


@dataclass(frozen=True)
class Run:
    """One training."""

    name: str
    experiments: list[str]
    variant: dict[str, Factor]  # what distinguishes it inside the experiment
    seed: int
    ranks: int
    command: str
    seconds: float
    diverged_at: int | None  # the step
    series: dict[str, list[float]]  # by evaluation; NaN where there was no number
    final: dict[str, float]

    @property
    def norm(self) -> str:
        return str(self.variant.get("norm", ""))

    def last(self, quantity: str) -> float:
        """Returns the final value of a quantity, NaN where the run has none."""
        return self.final.get(quantity, math.nan)


@dataclass(frozen=True)
class ScaleErrors:
    """How far BN((aW)u) is from BN(Wu) for one scale a, and the gradients from what follows. All relative
    to the largest element."""

    scale: float
    errors: dict[str, float]  # of output, input_gradient and weight_gradient
    tolerances: dict[str, float]  # what rounding explains
    output_with_eps: float


def _in_words(variant: dict[str, Factor]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {value if isinstance(value, str) else f'{value:g}'}"
        for name, value in variant.items()
    )


@dataclass(frozen=True)
class Experiment:
    name: str
    title: str
    source: str
    verdict: str
    claims: list[Claim]  # the main one first
    runs: list[Run]
    identity: list[ScaleErrors]

    @property
    def deciding(self) -> list[Claim]:
        """The claims that the experiment's verdict goes by: the main one and the controls."""
        return self.claims[:1] + [claim for claim in self.claims[1:] if claim.control]

    def of(self, norm: str, **factors: Factor) -> list[Run]:
        """Returns the runs of a variant, one a seed. Factors that are not given may be any."""
        return [
            run
            for run in self.runs
            if run.norm == norm
            and all(run.variant.get(name) == value for name, value in factors.items())
        ]

    def values(self, factor: str, runs: Iterable[Run] | None = None) -> list[float]:
        """Returns the numbers that a factor takes, ascending."""
        found = [run.variant.get(factor) for run in (self.runs if runs is None else runs)]
        return sorted({float(one) for one in found if isinstance(one, int | float)})

    def missing(self, seeds: list[int]) -> list[str]:
        """Returns in words what the runs should have but do not: variants of some seeds, and controls."""
        variants = {tuple(run.variant.items()): run.variant for run in self.runs}
        lost = []
        for key, variant in variants.items():
            had = {run.seed for run in self.runs if tuple(run.variant.items()) == key}
            absent = [str(seed) for seed in seeds if seed not in had]
            if absent:
                lost.append(f"{_in_words(variant)} with seed {', '.join(absent)}")
        if len(lost) > MOST_LISTED:
            lost = [*lost[: MOST_LISTED - 1], f"{len(lost) - MOST_LISTED + 1} more"]
        norms = {run.norm for run in self.runs}
        return [f"norm {norm}" for norm in ("none", "affine", "sync") if norm not in norms] + lost


@dataclass(frozen=True)
class Data:
    directory: str
    training_images: int
    test_images: int
    height: int
    width: int
    classes: int
    checksums: list[int]


@dataclass(frozen=True)
class Study:
    version: str
    command: str
    started: str
    seconds: float
    sittings: int
    budget: str
    seeds: list[int]
    most_steps: int | None
    machine: Machine
    data: Data
    method: str
    experiments: list[Experiment]
    runs: list[Run]


def gap_of(run: Run, more: str, less: str) -> float:
    """Returns by how much one final accuracy is above another, in points."""
    return 100 * (run.last(more) - run.last(less))


Quantity = Callable[[Run], float]


def final(quantity: str, factor: float = 1.0) -> Quantity:
    """Returns what gives the last value of a quantity."""
    return lambda run: factor * run.last(quantity)
