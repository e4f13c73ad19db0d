# SPDX-License-Identifier: Apache-2.0
"""Runs of which parts are missing or odd, as of a run that was killed, or on a very short exchange."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

import planted
from pages import Page
from planted import Truth
from syncbn.report.documents import Member
from syncbn.report.scale import page as scale

RUNS = {
    "hosts": Truth(hosts=3, per_host=2, processors=2, simulated=True),
    "one host": Truth(hosts=1, per_host=4, processors=2),
}


def build(run: dict[str, Any]) -> Page:
    return Page(str(scale.build(Member(run, Path("scale.json"))).html))


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("kept", [0.05, 0.3, 0.8])
def test_any_part_of_a_run_has_a_page(kind: str, kept: float) -> None:
    run = planted.scale(RUNS[kind])
    chance = random.Random(f"{kind} {kept}")
    run["cells"] = [cell for cell in run["cells"] if chance.random() < kept]
    assert "Twelve rules" in build(run).text


@pytest.mark.parametrize("only", ["exchange", "ping", "layer", "step", "noise"])
def test_each_kind_of_cells_alone_has_a_page(only: str) -> None:
    run = planted.scale(RUNS["hosts"])
    run["cells"] = [cell for cell in run["cells"] if cell["kind"] == only]
    page = build(run)
    assert bool(page.figures) == (only != "ping")


def test_times_that_the_clock_cannot_tell_from_0_are_drawn() -> None:
    run = planted.scale(Truth(hosts=1, per_host=2, train=False, noise=False, layers=False))
    for cell in run["cells"]:
        nothing = {"median": 0, "low": 0, "high": 0, "quantiles": [0] * len(planted.PROBABILITIES)}
        cell["time"].update(nothing)
    assert build(run).figures
