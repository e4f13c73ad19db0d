# SPDX-License-Identifier: Apache-2.0
"""What the page knows of an experiment beyond the data: the question, and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup

from .records import Experiment, Study


@dataclass(frozen=True)
class Figure:
    svg: Markup
    caption: str  # code stands between backquotes


@dataclass(frozen=True)
class Part:
    name: str  # of the experiment in study.json
    question: str
    draw: Callable[[Study, Experiment], list[Figure]]  # as much as its runs allow


CONTROL = (
    "“Scale, shift” is the control: a learned scale and shift alone in the place of batch norm."
)


def bands(study: Study) -> str:
    """Returns the sentence that says what lines and bands are."""
    seeds = len(study.seeds)
    if seeds == 1:
        return "Lines: the one seed that was trained."
    return f"Lines: medians of {seeds} seeds; bands: from the lowest seed to the highest."
