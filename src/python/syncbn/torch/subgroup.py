# SPDX-License-Identifier: Apache-2.0
"""Groups of as many processes as statistics need samples."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist

from .. import _core
from .group import who_sums


def group_of_samples(
    mine: int, samples: int, process_group: Any = None
) -> dist.ProcessGroup | None:
    """Returns a process group of neighbours that have at least so many samples together.

    Every process of the job calls it; the groups are made of the process group, or DeviceMesh of one
    dimension, that each gives (None: all processes). `mine` is how many samples this process has in a
    step, and may differ. Each group is the smallest that has enough; processes left over join the last
    one. None where this process is alone. To normalize over more samples costs regularization, and
    gains little beyond some dozens:

        model = sbn.convert_sync_batchnorm(model, sbn.group_of_samples(len(batch), 32))
    """
    if hasattr(process_group, "get_group"):
        process_group = process_group.get_group()
    whole = who_sums(process_group)
    if whole is None:
        return None
    given: list[Any] = [None] * whole.size()
    dist.all_gather_object(given, (mine, samples), group=whole)
    if any(of_process[1] != samples for of_process in given):
        wanted = ", ".join(str(of_process[1]) for of_process in given)
        raise _core.InvalidArgument(
            f"processes ask for different numbers of samples ({wanted}). Give all the same."
        )
    counts = [of_process[0] for of_process in given]
    if samples < 1 or min(counts) < 0:
        raise _core.InvalidArgument(
            f"a group of {samples} samples, of processes with {counts} (at least 1 of at least 0 each)."
        )
    ranks = dist.get_process_group_ranks(whole)
    for first, end in _cut(counts, samples):
        if first <= whole.rank() < end:
            group: Any = dist.new_group(ranks[first:end], use_local_synchronization=True)
            return group
    raise AssertionError("every process is in a group")


def _cut(counts: list[int], samples: int) -> list[tuple[int, int]]:
    """Returns where groups begin and end."""
    ends, found = [], 0
    for place, count in enumerate(counts):
        found += count
        if found >= samples:
            ends.append(place + 1)
            found = 0
    ends = ends or [len(counts)]
    ends[-1] = len(counts)
    return list(zip([0, *ends[:-1]], ends, strict=True))
