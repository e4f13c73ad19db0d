# SPDX-License-Identifier: Apache-2.0
"""The section of an experiment: question, trainings, figures, verdicts, source."""

from __future__ import annotations

from ..page import render
from ..section import Section
from .part import Part
from .records import Experiment, Run, Study
from .verdicts import COLOURS, amount_of, band_of, rule_of, value_of


def _options(command: str) -> list[str]:
    """Returns the options of `syncbn train` in a command, with their values: ["--norm none", ...]."""
    return [f"--{one}" for one in command.split(" --")[1:]]


def common_options(runs: list[Run]) -> list[str]:
    """Returns the options that all commands have."""
    every = [_options(run.command) for run in runs]
    return [one for one in every[0] if all(one in own for own in every)] if every else []


def differing_options(runs: list[Run]) -> list[str]:
    """Returns the names of the options in which commands differ, but for the seed."""
    common = set(common_options(runs))
    names = [
        one.split(" ")[0] for run in runs for one in _options(run.command) if one not in common
    ]
    return list(dict.fromkeys(name for name in names if name != "--seed"))


def command_of(study: Study, name: str) -> str:
    """Returns the command that repeats an experiment."""
    parts = [f"syncbn study --experiments {name}"]
    if study.budget != "quick":
        parts.append(f"--budget {study.budget}")
    parts.append(f"--seeds {len(study.seeds)}")
    if study.seeds[0] != 1:
        parts.append(f"--first-seed {study.seeds[0]}")
    if study.most_steps is not None:
        parts.append(f"--steps {study.most_steps}")
    return " ".join([*parts, "--output DIR"])


def section(study: Study, experiment: Experiment, part: Part | None) -> Section:
    runs = experiment.runs
    first = [run for run in runs if run.seed == study.seeds[0]]
    ranks = [str(one) for one in sorted({run.ranks for run in runs})]
    body = render(
        "study/experiment.html.j2", study=study, experiment=experiment,
        question=part.question if part else "", known=part is not None,
        figures=part.draw(study, experiment) if part else [],
        variants=len({tuple(run.variant.items()) for run in runs}), first=first or runs,
        ranks=ranks,
        common=common_options(runs), differing=differing_options(runs),
        diverged=sum(run.diverged_at is not None for run in runs),
        missing=experiment.missing(study.seeds), command=command_of(study, experiment.name),
        colours=COLOURS, amount_of=amount_of, rule_of=rule_of, value_of=value_of, band_of=band_of,
    )  # fmt: skip
    return Section(experiment.name, experiment.title, body)
