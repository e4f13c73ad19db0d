# SPDX-License-Identifier: Apache-2.0
"""The page of a run of `syncbn scale`, and what the command prints of it."""

from __future__ import annotations

from pathlib import Path

from .. import machine
from ..documents import Member
from ..numbers import error, seconds
from ..page import Page, render
from ..section import Section
from . import exchange, guidelines, noise, phases, price, rules, skew, steps
from .headline import body_of, headline_of, price_lines
from .measurements import Scale
from .models import ModelOf, models_of
from .prediction import section as model_section
from .reading import SCALE_FORMAT, scale_of
from .section import warning_of
from .simulation import read_simulation


def recognizes(document: Member) -> bool:
    return isinstance(document.value, dict) and document.value.get("format") == SCALE_FORMAT


def _model_lines(models: list[ModelOf]) -> list[str]:
    lines = []
    for one in models:
        model = one.model
        lines.append(f"model of {one.by}:")
        for i, term in enumerate(model.fit.terms):
            low, high = model.fit.coefficient_range(i)
            value = float(model.fit.coefficients[i])
            lines.append(
                f"  {term.symbol:<3} {term.name:<28} {seconds(value)} "
                f"({seconds(low)} to {seconds(high)}) times {term.formula}"
            )
        if one.held_out:
            lines.append(
                f"  off at the largest size, not fitted: {error(one.held_out.median)} (median), "
                f"{error(one.held_out.worst)} (worst)"
            )
        else:
            lines.append("  fitted to all sizes, as they are too few to leave one out")
        for words, errors in (
            ("one size", model.without_a_size),
            ("one length", model.without_a_length),
        ):
            if errors:
                lines.append(
                    f"  leaving out {words} at a time: {error(errors.median)} (median), "
                    f"{error(errors.worst)} (worst)"
                )
    return lines


def sections_of(scale: Scale, models: list[ModelOf], file: Path) -> list[Section]:
    simulated = file.with_name("simulated.json")
    simulation = read_simulation(simulated) if simulated.exists() else None
    return [
        machine.section(scale.machine),
        price.section(scale),
        phases.section(scale),
        exchange.section(scale),
        model_section(scale, models, simulation),
        steps.section(scale),
        skew.section(scale),
        noise.section(scale),
        guidelines.section(scale),
        rules.section(scale),
        Section(
            "reproduce",
            "Reproduce",
            render(
                "scale/reproduce.html.j2", scale=scale, simulation=simulation,
                cells=len(scale.cells), short=sum(not cell.enough for cell in scale.cells),
            ),
        ),
    ]  # fmt: skip


def build(document: Member) -> Page:
    scale = scale_of(document)
    models = models_of(scale)
    headline = headline_of(scale, models)
    html = render(
        "scale.html.j2", scale=scale, headline=headline, top=body_of(scale, headline),
        sections=sections_of(scale, models, document.file), warning=warning_of(scale),
    )  # fmt: skip
    summary = ["price of synchronization, T sync / T local (95 % interval):", *price_lines(scale)]
    if headline.price is None:
        summary = ["no price: no group measured all shapes of layers"]
    if scale.machine.crowded:
        summary.append(
            "  with more ranks than processors: the machine's scheduler is measured, too"
        )
    return Page(html, [*summary, *_model_lines(models)])
