# SPDX-License-Identifier: Apache-2.0
"""What the user asks for, and the refusal of what cannot be done."""

from __future__ import annotations

from dataclasses import dataclass


class Refusal(Exception):
    """What was asked for cannot be done: the problem, why, and what to do about it."""


@dataclass(frozen=True)
class Options:
    """What the user asks for. None leaves it to the plan."""

    ranks: int | None = None
    ranks_per_node: int | None = None
    threads: int | None = None
    hostfile: str | None = None
    launcher: str | None = None  # "srun" or "mpirun"
