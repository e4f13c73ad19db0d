# SPDX-License-Identifier: Apache-2.0
"""What is used of torch beyond its documented interface, and what to do where it is missing."""

from __future__ import annotations

import ctypes
import sys
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
import torch.utils.checkpoint as torch_checkpoint
from torch import Tensor


def store_of(process_group: dist.ProcessGroup) -> dist.Store | None:
    """Returns the store by which the processes of a group found each other, if torch tells it."""
    try:
        return dist.distributed_c10d._world.pg_map[process_group][1]
    except (AttributeError, KeyError, TypeError, IndexError):
        return None


def backends_of(process_group: dist.ProcessGroup) -> str:
    """Returns what sums a process group's tensors, by device: "cpu:gloo,cuda:nccl"."""
    if hasattr(dist, "get_backend_config"):
        return dist.get_backend_config(process_group)
    backend = dist.get_backend(process_group)  # before 2.1 a group has one
    return f"{'cuda' if backend == 'nccl' else 'cpu'}:{backend}"


def name_of(process_group: dist.ProcessGroup) -> str:
    """Returns the name by which `group_named` finds a process group again, "" if it has none."""
    return getattr(process_group, "group_name", "")


def group_named(name: str) -> dist.ProcessGroup | None:
    """Returns the process group of a name, None where there is none of that name."""
    try:
        return dist.distributed_c10d._resolve_process_group(name)  # type: ignore[arg-type]
    except (AttributeError, ValueError, LookupError, RuntimeError):
        return None


class _Doubles:
    """Memory of a CUDA device, by the interface that torch takes from other libraries."""

    def __init__(self, address: int, length: int) -> None:
        self.__cuda_array_interface__ = {
            "data": (address, False), "shape": (length,), "typestr": "<f8", "version": 3,
        }  # fmt: skip


def tensor_at(address: int, length: int, device: torch.device) -> Tensor:
    """Returns a tensor of doubles that are in a device's memory, and stay their owner's."""
    if device.type == "cpu":  # which a device is when it is emulated
        return torch.frombuffer(
            (ctypes.c_double * length).from_address(address), dtype=torch.float64
        )
    return torch.as_tensor(_Doubles(address, length), device=device)


# Operators with derivatives, which compiled graphs are made of, are torch's from 2.4 on. With an older
# torch, torch.compile leaves the layer out of its graphs.
HAS_OPERATORS = hasattr(torch.library, "register_autograd")

if HAS_OPERATORS:
    from torch.compiler import is_compiling as is_compiling
else:

    def is_compiling() -> bool:
        """Tells whether a compiler watches that the layer has operators for."""
        return False


def register_hook_before(module: torch.nn.Module, hook: Any) -> Any:
    """Registers a hook that is called with a module, its arguments and keywords before its forward."""
    try:
        return module.register_forward_pre_hook(hook, with_kwargs=True)
    except TypeError:  # before 2.0 there are no keywords
        return module.register_forward_pre_hook(lambda of, inputs: hook(of, inputs, {}))


def register_hook_behind(module: torch.nn.Module, hook: Any) -> Any:
    """Registers a hook that is called with a module, arguments, keywords and output after its forward."""
    try:
        return module.register_forward_hook(hook, with_kwargs=True)
    except TypeError:
        return module.register_forward_hook(lambda of, inputs, y: hook(of, inputs, {}, y))


def wait_for(device: torch.device) -> None:
    """Waits for all work on a device, which an emulated one does at once."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def is_sharded(module: torch.nn.Module) -> bool:
    """Tells whether FSDP, the first or the second, has a module's parameters in shards."""
    kinds = ("FSDPModule", "FullyShardedDataParallel")
    return any(kind.__name__ in kinds for kind in type(module).__mro__)


def is_exporting() -> bool:
    """Tells, inside of torch.compiler.is_compiling(), whether torch.export is what compiles."""
    # torch.compiler.is_exporting() is always true in a graph of torch 2.9's.
    return getattr(torch.compiler, "_is_exporting_flag", False)


def keep_in_order(library: torch.library.Library, operator: str) -> None:
    """Tells torch's compilers that an operator exchanges with other processes.

    They must neither change the order of such operators, nor drop or repeat one. Before torch has a
    word for that, they have no reason to do so with operators that use each other's results, but for
    checkpoints, whose operators they repeat. 2.10 and 2.12 have the word, and then fail to compile
    checkpoints.
    """
    if torch.__version__ < "2.15":  # a TorchVersion, which compares numbers
        return
    try:
        from torch._higher_order_ops.effects import _EffectType

        library._register_effectful_op(operator, _EffectType.ORDERED)
    except (ImportError, AttributeError):
        return


def in_backward() -> bool:
    """Tells whether this thread runs a backward, as torch.utils.checkpoint asks too.

    A torch before 2.1 does not tell. Then only backwards that compute a checkpoint again are seen.
    """
    if hasattr(torch._C, "_current_graph_task_id"):
        return torch._C._current_graph_task_id() != -1
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_filename == torch_checkpoint.__file__ and code.co_name in ("backward", "unpack"):
            return True
        frame = frame.f_back
    return False


def saving_hooks() -> tuple[object, object] | None:
    """Returns the hooks that get what a forward saves (torch.autograd.graph), if there are any.

    Hooks that are nobody's where torch does not tell, as before 2.1.
    """
    try:
        return torch._C._autograd._top_saved_tensors_default_hooks(False)
    except AttributeError:
        return None, None


def ambient_state() -> tuple[object, ...]:
    """Returns what context managers of torch have set that changes what operations do."""
    devices = ("cpu", "cuda")
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        *(torch.is_autocast_enabled(device) for device in devices),
        *(torch.get_autocast_dtype(device) for device in devices),
        saving_hooks(),
        torch._C._len_torch_function_stack(),
    )
