# SPDX-License-Identifier: Apache-2.0
"""The page of a study, and what the command prints of it."""

from __future__ import annotations

from pathlib import PurePosixPath

from .. import machine
from ..documents import Member
from ..page import Page, render
from ..section import Section
from . import (
    activations,
    experiment,
    faster_training,
    group_size,
    leakage,
    learning_rates,
    parameter_scale,
    regularization,
    saturating,
    synchronize,
)
from .reading import STUDY_FORMAT, study_of
from .records import HELD, Study
from .verdicts import COLOURS, amount_of, reasons_of, sentence_of, tally_of

PARTS = {
    module.PART.name: module.PART
    for module in (
        faster_training, activations, learning_rates, parameter_scale, saturating, regularization,
        synchronize, group_size, leakage,
    )
}  # fmt: skip


def recognizes(document: Member) -> bool:
    return isinstance(document.value, dict) and document.value.get("format") == STUDY_FORMAT


def _left_out(study: Study) -> Section | None:
    """Returns the section on the experiments that the study did not make."""
    done = {one.name for one in study.experiments}
    absent = [name for name in PARTS if name not in done]
    if not absent:
        return None
    commands = experiment.command_of(study, ",".join(absent))
    return Section(
        "left-out",
        "What this study left out",
        missing=f"{', '.join(absent)}: `{commands}` studies {'it' if len(absent) == 1 else 'them'}.",
    )


def sections_of(study: Study) -> list[Section]:
    left_out = _left_out(study)
    return [
        *(experiment.section(study, one, PARTS.get(one.name)) for one in study.experiments),
        *([left_out] if left_out else []),
        machine.section(study.machine),
        Section("reproduce", "Reproduce", render("study/reproduce.html.j2", study=study)),
    ]


def build(document: Member) -> Page:
    study = study_of(document)
    held = sum(one.verdict == HELD for one in study.experiments)
    top = render(
        "study/headline.html.j2", study=study, held=held, sentence=sentence_of(study.experiments),
        data=PurePosixPath(study.data.directory).name, colours=COLOURS, amount_of=amount_of,
        tally_of=tally_of, reasons_of=reasons_of,
    )  # fmt: skip
    html = render("study.html.j2", study=study, top=top, held=held, sections=sections_of(study))
    summary = [f"{held} of {len(study.experiments)} experiments held"]
    for one in study.experiments:
        summary.append(f"  {one.verdict:<13} {one.title}; {tally_of(one)}")
        for claim in one.claims[:1]:
            summary.append(f"  {'':<13} {claim.quantity}: {amount_of(claim)}")
    return Page(html, summary)
