# SPDX-License-Identifier: Apache-2.0
"""Which ranks lose so much time to the machine that they are named."""

from __future__ import annotations

from pathlib import Path

import pytest

import planted
from planted import Truth
from syncbn.report.documents import Member
from syncbn.report.scale.measurements import NoiseCell
from syncbn.report.scale.noise import noisy_ranks
from syncbn.report.scale.reading import scale_of


def cell_of(lost: list[float]) -> NoiseCell:
    run = planted.scale(Truth(hosts=1, per_host=len(lost), layers=False, train=False))
    (made,) = (cell for cell in run["cells"] if cell["kind"] == "noise")
    for rank, share in zip(made["ranks"], lost, strict=True):
        rank["lost"] = share
    (cell,) = scale_of(Member(run, Path("scale.json"))).of(NoiseCell)
    return cell


@pytest.mark.parametrize(
    ("lost", "named"),
    [
        ([0.01, 0.2, 0.01, 0.012], [1]),
        ([0.34, 0.64], [1]),  # measured beside a busy core, on a machine with other load
        ([0.35, 0.41], []),  # measured without
        ([0.001, 0.004], []),  # four times as much, of nearly nothing
        ([0.85, 0.86], []),
    ],
)
def test_ranks_that_lose_clearly_more_than_others_are_named(
    lost: list[float], named: list[int]
) -> None:
    assert [one.rank for one in noisy_ranks(cell_of(lost))] == named
