# SPDX-License-Identifier: Apache-2.0
"""Verdicts in words: by how much a claim held or not, and what would have decided it."""

from __future__ import annotations

from collections.abc import Sequence

from ..numbers import NARROW_SPACE, amount, brief, signed
from .records import FAILED, HELD, OPEN, Claim, Experiment

COLOURS = {HELD: "yes", FAILED: "no", OPEN: "partly"}  # classes of templates/style.css
_BAND = f"95{NARROW_SPACE}% band "
_DIFFERENCES = ("points", "decades", "widths")  # units of which values are differences


def value_of(claim: Claim, value: float) -> str:
    """Returns a value of a claim without its unit."""
    return signed(value) if claim.unit in _DIFFERENCES else brief(value)


def _unit(claim: Claim) -> str:
    return f" {claim.unit}" if claim.unit else ""


def band_of(claim: Claim) -> str:
    if claim.low is None or claim.high is None:
        return "no band"
    return f"{value_of(claim, claim.low)} to {value_of(claim, claim.high)}"


def amount_of(claim: Claim) -> str:
    """Returns by how much: "+16.6 points (95 % band +15.9 to +17.3, 3 seeds)"."""
    band = band_of(claim)
    return (
        f"{value_of(claim, claim.mean)}{_unit(claim)} "
        f"({'' if claim.low is None else _BAND}{band}, {amount(len(claim.values), 'seed')})"
    )


def rule_of(claim: Claim) -> str:
    """Returns when a claim holds."""
    unit = _unit(claim)
    if claim.margin == 1 and claim.unit in _DIFFERENCES:
        unit = unit.removesuffix("s")
    margin = f"{claim.margin:g}{unit}"
    if claim.test == "within":
        return f"within ±{margin}"
    return f"{claim.test} {margin}"


def _count(experiment: Experiment, verdict: str) -> int:
    return sum(claim.verdict == verdict for claim in experiment.claims)


def tally_of(experiment: Experiment) -> str:
    """Returns how many of an experiment's claims held."""
    count = len(experiment.claims)
    if _count(experiment, HELD) == count:
        return "the claim held" if count == 1 else f"all {count} claims held"
    return f"{_count(experiment, HELD)} of {amount(count, 'claim')} held"


def reasons_of(experiment: Experiment) -> list[str]:
    """Returns the claims that made the verdict, if the main one has another verdict."""
    if not experiment.claims or experiment.claims[0].verdict == experiment.verdict:
        return []
    return [claim.text for claim in experiment.deciding if claim.verdict == experiment.verdict]


def sentence_of(experiments: Sequence[Experiment]) -> str:
    """Returns how many experiments did not hold, and how many are not decided; "" if all held."""
    parts = []
    for verdict, one, several in (
        (FAILED, "did not hold", "did not hold"),
        (OPEN, "is not decided", "are not decided"),
    ):
        count = sum(experiment.verdict == verdict for experiment in experiments)
        if count:
            parts.append(f"{count} {one if count == 1 else several}")
    return ", ".join(parts)
