# SPDX-License-Identifier: Apache-2.0
"""Reads study.json, and checks that its verdicts follow from its bands."""

from __future__ import annotations

import math

from ..documents import DocumentError, Member
from ..machine import read_machine
from .records import FAILED, HELD, OPEN, Claim, Data, Experiment, Factor, Run, ScaleErrors, Study

STUDY_FORMAT = "syncbn study 1"
TESTS = ("above", "below", "within")

_CHECKED = ("output", "input_gradient", "weight_gradient")


def _follows(claim: Claim) -> str:
    """Returns the verdict that the band gives, by the rule in src/app/study/report.hpp."""
    low = -math.inf if claim.low is None else claim.low
    high = math.inf if claim.high is None else claim.high
    larger, smaller = low > claim.margin, high < claim.margin
    if claim.test == "within":
        larger, smaller = larger or high < -claim.margin, smaller and low > -claim.margin
    holds, fails = (larger, smaller) if claim.test == "above" else (smaller, larger)
    return HELD if holds else FAILED if fails else OPEN


def _together(claims: list[Claim]) -> str:
    verdicts = [claim.verdict for claim in claims]
    return FAILED if FAILED in verdicts else OPEN if OPEN in verdicts or not verdicts else HELD


def _refuse(member: Member, told: str, follows: str, why: str) -> DocumentError:
    return DocumentError(
        f"{member.file}: {member.place}.verdict is {told!r} ({why} make it {follows!r}). "
        "Was the file edited?"
    )


def _number_or_nan(member: Member) -> float:
    return math.nan if member.value is None else member.number()


def _claim(member: Member, seeds: list[int]) -> Claim:
    claim = Claim(
        member["claim"].text(),
        member["verdict"].text(),
        member["control"].truth(),
        member["quantity"].text(),
        member["unit"].text(),
        member["test"].text(),
        member["margin"].number(),
        member["resolution"].number(),
        [_number_or_nan(one) for one in member["values"]],
        _number_or_nan(member["mean"]),
        member.optional("low", Member.number),
        member.optional("high", Member.number),
    )
    if claim.test not in TESTS:
        raise DocumentError(
            f"{member.file}: {member.place}.test is {claim.test!r} (known: {', '.join(TESTS)}). "
            "Was the file written by another version of syncbn?"
        )
    if len(claim.values) != len(seeds):
        raise DocumentError(
            f"{member.file}: {member.place}.values has {len(claim.values)} values "
            f"(seeds has {len(seeds)}). Was the file edited?"
        )
    if claim.verdict != _follows(claim):
        raise _refuse(member, claim.verdict, _follows(claim), "its band and margin")
    return claim


def _factor(member: Member) -> Factor:
    return member.text() if isinstance(member.value, str) else member.number()


def _run(member: Member) -> Run:
    results = member["results"]
    series = results["series"]
    read = {name: [_number_or_nan(one) for one in series[name]] for name in series.names()}
    steps = len(read.get("step", []))
    for name, values in read.items():
        if len(values) > steps:
            raise DocumentError(
                f"{member.file}: {series.place}.{name} has {len(values)} values "
                f"(step has {steps}). Was the file edited?"
            )
    final = results["final"]
    return Run(
        member["name"].text(),
        [one.text() for one in member["experiments"]],
        {name: _factor(member["variant"][name]) for name in member["variant"].names()},
        member["seed"].integer(),
        member["ranks"].integer(),
        member["command"].text(),
        member["seconds"].number(),
        results.optional("diverged_at", Member.integer),
        read,
        {name: _number_or_nan(final[name]) for name in final.names()},
    )


def _scale_errors(member: Member) -> ScaleErrors:
    return ScaleErrors(
        member["scale"].number(),
        {name: member[name].number() for name in _CHECKED},
        {name: member[f"{name}_tolerance"].number() for name in _CHECKED},
        member["output_with_eps"].number(),
    )


def _experiment(member: Member, seeds: list[int], runs: list[Run]) -> Experiment:
    name = member["name"].text()
    experiment = Experiment(
        name,
        member["title"].text(),
        member["source"].text(),
        member["verdict"].text(),
        [_claim(one, seeds) for one in member["claims"]],
        [run for run in runs if name in run.experiments],
        [_scale_errors(one) for one in member["identity"]] if member.has("identity") else [],
    )
    together = _together(experiment.deciding)
    if experiment.verdict != together:
        raise _refuse(member, experiment.verdict, together, "its main claim and controls")
    return experiment


def study_of(document: Member) -> Study:
    """Returns what a document of format STUDY_FORMAT says."""
    seeds = document["seeds"].integers()
    if not seeds:
        raise DocumentError(f"{document.file}: seeds is empty (a study trains with one or more).")
    runs = [_run(one) for one in document["runs"]]
    experiments = [_experiment(one, seeds, runs) for one in document["experiments"]]
    if not experiments:
        raise DocumentError(f"{document.file}: experiments is empty (a study has one or more).")
    data = document["data"]
    return Study(
        document["version"].text(),
        document["command"].text(),
        document["started"].text(),
        document["seconds"].number(),
        document["sittings"].integer(),
        document["budget"].text(),
        seeds,
        document.optional("most_steps", Member.integer),
        read_machine(document["machine"]),
        Data(
            data["directory"].text(),
            data["training_images"].integer(),
            data["test_images"].integer(),
            data["height"].integer(),
            data["width"].integer(),
            data["classes"].integer(),
            data["checksums"].integers(),
        ),
        document["method"].text(),
        experiments,
        runs,
    )
