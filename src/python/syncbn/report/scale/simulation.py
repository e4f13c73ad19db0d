# SPDX-License-Identifier: Apache-2.0
"""What `launcher/simulate` leaves beside a run: exchanges between simulated hosts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..documents import DocumentError, read

FORMAT = "syncbn simulation 1"


@dataclass(frozen=True)
class SimulatedPoint:
    hosts: int
    ranks_per_host: int
    doubles: int
    seconds: float


@dataclass(frozen=True)
class Simulation:
    simulator: str
    source: str  # of the calibration
    latency: float
    bytes: list[float]
    one_way: list[float]
    options: list[str]
    points: list[SimulatedPoint]


def read_simulation(file: Path) -> Simulation:
    document = read(file)
    if document["format"].value != FORMAT:
        raise DocumentError(
            f"{file}: format is {document['format'].value!r} (this version of the report reads "
            f"{FORMAT!r}). Write it anew with launcher/simulate."
        )
    calibration = document["calibration"]
    return Simulation(
        document["simulator"].text(),
        calibration["source"].text(),
        calibration["latency"].number(),
        calibration["bytes"].numbers(),
        calibration["one_way"].numbers(),
        [one.text() for one in document["options"]],
        [
            SimulatedPoint(
                point["hosts"].integer(),
                point["ranks_per_host"].integer(),
                point["doubles"].integer(),
                point["seconds"].number(),
            )
            for point in document["points"]
        ],
    )
