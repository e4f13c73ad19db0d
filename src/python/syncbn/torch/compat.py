# SPDX-License-Identifier: Apache-2.0
"""What is used of torch beyond its documented interface, and what to do where it is missing."""

from __future__ import annotations

import torch
import torch.distributed as dist


def store_of(process_group: dist.ProcessGroup) -> dist.Store | None:
    """Returns the store by which the processes of a group found each other, if torch tells it."""
    try:
        return dist.distributed_c10d._world.pg_map[process_group][1]
    except (AttributeError, KeyError, TypeError, IndexError):
        return None


def name_of(process_group: dist.ProcessGroup) -> str:
    """Returns the name by which `group_named` finds a process group again, "" if it has none."""
    return getattr(process_group, "group_name", "")


def group_named(name: str) -> dist.ProcessGroup | None:
    """Returns the process group of a name, None where there is none of that name."""
    try:
        return dist.distributed_c10d._resolve_process_group(name)  # type: ignore[arg-type]
    except (AttributeError, ValueError, LookupError, RuntimeError):
        return None


def is_exporting() -> bool:
    """Tells, inside of torch.compiler.is_compiling(), whether torch.export is what compiles."""
    try:
        return torch.compiler.is_exporting()
    except AttributeError:
        return False


def keep_in_order(library: torch.library.Library, operator: str) -> None:
    """Tells torch's compilers that an operator exchanges with other processes.

    They must neither change the order of such operators, nor drop or repeat one. Before torch has a
    word for that, they have no reason to do any of it with operators that use each other's results.
    """
    try:
        from torch._higher_order_ops.effects import _EffectType

        library._register_effectful_op(operator, _EffectType.ORDERED)
    except (ImportError, AttributeError):
        return


def in_backward() -> bool:
    """Tells whether this thread runs a backward, as torch.utils.checkpoint asks too."""
    return torch._C._current_graph_task_id() != -1


def saving_hooks() -> bool:
    """Tells whether hooks are set that get what a forward saves (torch.autograd.graph)."""
    return torch._C._autograd._top_saved_tensors_default_hooks(False) is not None
