# SPDX-License-Identifier: Apache-2.0
"""The layer's passes as operators, for torch.compile and torch.export.

They change nothing that they are given: running statistics come in and go out. A forward's record goes
to its backward as two tensors. The exchange is inside, so operators keep their order.

An operator is told its layer in one of two ways. In a compiled graph by a handle, a tensor, as a graph
has numbers and texts built in: one graph serves all layers that differ in nothing else. In an exported
program, which other processes run, by name, process group and instance.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from .. import _core
from .compat import HAS_OPERATORS, keep_in_order
from .function import Bound, Buffers, Pass, bind
from .group import Exchange, device_of, find, who_sums

if TYPE_CHECKING:
    from .settings import Settings

_NOTE_LENGTH = 9

# The library's layers of this process that operators have called: by what they were given, and by
# process group.
_bounds: dict[tuple[Any, ...], dict[dist.ProcessGroup | None, Bound]] = {}


# What layers of this process have as settings, by instance.
_settings: weakref.WeakValueDictionary[int, Settings] = weakref.WeakValueDictionary()


# Layers that are gone. A backward of their last graphs may be yet to come.
_gone: deque[int] = deque()
_most_gone = 64


def _forget(instance: int) -> None:
    """Drops the library's layers of layers that are gone, but for the last ones."""
    _gone.append(instance)
    if len(_gone) > _most_gone:
        oldest = _gone.popleft()
        for key in [key for key in _bounds if key[0] == oldest]:
            del _bounds[key]


@torch.inference_mode(False)  # it is used outside of that mode too
def handle_of(settings: Settings) -> Tensor:
    """Returns a tensor by which operators of this process find a layer's name and group."""
    _settings[settings.instance] = settings
    weakref.finalize(settings, _forget, settings.instance).atexit = False
    # On the CPU also where torch.device("meta") is what tensors are made on.
    return torch.tensor(settings.instance, device="cpu")


def _bound(
    handle: Tensor | None,
    name: str,
    group: str,
    instance: int,
    exchange: Exchange,
    synchronize: bool,
    eps: float,
    momentum: float | None,
    negative_slope: float,
    exact: bool,
    device: torch.device | None,
    channels: int,
    affine: bool,
    track: bool,
) -> Bound:
    """Returns the library's layer for what an operator is given.

    With a handle, name, group and instance are the layer's of now. Else `group` is a process group's
    name, "" that of all processes, and `instance` tells layers apart.
    """
    of_layer = (channels, eps, momentum, affine, track, negative_slope, exact)
    settings = None
    if handle is not None:
        instance = int(handle)
        settings = _settings.get(instance)
    bounds = _bounds.setdefault((instance, exchange, device, synchronize, of_layer), {})
    if handle is not None:
        if settings is None:  # the model is gone, and this is a backward
            return next(reversed(bounds.values()))
        name, process_group = settings.name, settings.group()
    else:
        process_group = find(group)
    process_group = who_sums(process_group) if synchronize else None
    bound = bounds.get(process_group)
    if bound is None:
        bound = bounds[process_group] = bind(process_group, exchange, device, name, *of_layer)
    return bound


def bounds_of(settings: Settings) -> Iterator[tuple[tuple[Any, ...], Bound]]:
    """Yields the library's layers that operators have called for a layer, by what _bound_for takes
    behind the device."""
    process_group = who_sums(settings.group())
    for (instance, _, _, synchronize, of_layer), bounds in _bounds.items():
        if instance == settings.instance and synchronize and process_group in bounds:
            yield of_layer[:-1], bounds[process_group]


_library = torch.library.Library("syncbn", "DEF")

_library.define(
    "forward(Tensor x, Tensor? weight, Tensor? bias, Tensor? running_mean, Tensor? running_var, "
    "Tensor? num_batches_tracked, Tensor? residual, Tensor? position_weights, "
    "Tensor? handle, str name, str group, int instance, str exchange, bool synchronize, float eps, "
    "float? momentum, float negative_slope, bool exact) -> (Tensor y, Tensor memory, Tensor note, "
    "Tensor running_mean, Tensor running_var, Tensor num_batches_tracked)"
)
_library.define(
    "backward(Tensor dy, Tensor x, Tensor? weight, Tensor? bias, Tensor? y, Tensor memory, "
    "Tensor note, Tensor? position_weights, bool residual, bool track, "
    "Tensor? handle, str name, str group, int instance, str exchange, bool synchronize, float eps, "
    "float? momentum, float negative_slope, bool exact) -> (Tensor dx, Tensor dweight, "
    "Tensor dbias, Tensor dresidual)"
)


def _copy(tensor: Tensor | None, like: Tensor) -> Tensor:
    """Returns a copy, an empty tensor for None."""
    return like.new_empty(0) if tensor is None else tensor.clone()


def _forward(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    num_batches_tracked: Tensor | None,
    residual: Tensor | None,
    position_weights: Tensor | None,
    *layer: Any,
) -> tuple[Tensor, ...]:
    channels = x.size(1)
    track = running_mean is not None
    bound = _bound(*layer, device_of(x), channels, weight is not None, track)  # type: ignore[call-arg]
    mean, var = _copy(running_mean, x), _copy(running_var, x)
    count = _copy(num_batches_tracked, torch.empty(0, dtype=torch.int64, device=x.device))
    buffers: Buffers = (mean, var, count if num_batches_tracked is not None else None)
    memory = torch.empty(_core.Record.length(channels), dtype=torch.float64, device=x.device)
    record = _core.Record(memory, channels, None)
    buffers = buffers if track else (None, None, None)
    call = Pass(bound, buffers, False, position_weights, record, memory)
    y = call.forward(x, weight, bias, residual)
    return y, memory, torch.tensor(record.note(), device="cpu"), mean, var, count


def _backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    y: Tensor | None,
    memory: Tensor,
    note: Tensor,
    position_weights: Tensor | None,
    residual: bool,
    track: bool,
    *layer: Any,
) -> tuple[Tensor, ...]:
    bound = _bound(  # type: ignore[call-arg]
        *layer, device_of(x), x.size(1), weight is not None, track
    )
    record = _core.Record(memory, x.size(1), note.tolist())
    buffers = bound.unused_buffers(x.size(1)) if track else (None, None, None)
    call = Pass(bound, buffers, False, position_weights, record, memory)
    found = call.backward(dy, x, weight, bias, y, residual)
    return tuple(x.new_empty(0) if gradient is None else gradient for gradient in found)


def _fake_forward(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    num_batches_tracked: Tensor | None,
    *_: Any,
) -> tuple[Tensor, ...]:
    def like(tensor: Tensor | None, dtype: torch.dtype) -> Tensor:
        return x.new_empty(0, dtype=dtype) if tensor is None else torch.empty_like(tensor)

    return (
        torch.empty_like(x),
        x.new_empty(_core.Record.length(int(x.size(1))), dtype=torch.float64),
        torch.empty(_NOTE_LENGTH, dtype=torch.int64, device="cpu"),
        like(running_mean, x.dtype),
        like(running_var, x.dtype),
        like(num_batches_tracked, torch.int64),
    )


def _fake_backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    y: Tensor | None,
    memory: Tensor,
    note: Tensor,
    position_weights: Tensor | None,
    residual: bool,
    *_: Any,
) -> tuple[Tensor, ...]:
    def like(tensor: Tensor | None) -> Tensor:
        return x.new_empty(0) if tensor is None else torch.empty_like(tensor)

    return torch.empty_like(x), like(weight), like(bias), like(x if residual else None)


for _key in ("CPU", "CUDA"):
    _library.impl("forward", _forward, _key)
    _library.impl("backward", _backward, _key)
if HAS_OPERATORS:
    torch.library.register_fake("syncbn::forward", _fake_forward, lib=_library)
    torch.library.register_fake("syncbn::backward", _fake_backward, lib=_library)
keep_in_order(_library, "syncbn::forward")
keep_in_order(_library, "syncbn::backward")


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """Keeps of a forward what its backward takes."""
    x, weight, bias, running_mean, _, _, residual, position_weights, handle, *layer = inputs
    y, memory, note, *new = output
    *_, negative_slope, _ = layer
    needs_y = residual is not None and negative_slope != 1
    ctx.save_for_backward(
        x, weight, bias, y if needs_y else None, memory, note, position_weights, handle
    )
    ctx.given = (residual is not None, running_mean is not None)
    ctx.layer = layer
    ctx.count = len(inputs)
    ctx.mark_non_differentiable(memory, note, *new)


def _differentiate(ctx: Any, dy: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    x, weight, bias, y, memory, note, position_weights, handle = ctx.saved_tensors
    dx, dweight, dbias, dresidual = torch.ops.syncbn.backward(
        dy, x, weight, bias, y, memory, note, position_weights, *ctx.given, handle, *ctx.layer
    )
    gradients = (
        dx,
        None if weight is None else dweight,
        None if bias is None else dbias,
        *(None, None, None),
        dresidual if ctx.given[0] else None,
    )
    return (*gradients, *[None] * (ctx.count - len(gradients)))


def _refuse(ctx: Any, *_: Any) -> tuple[None, ...]:
    raise NotImplementedError(
        "syncbn has no second derivatives in compiled graphs and exported programs (the layer itself "
        "has). Differentiate the model as it is."
    )


if HAS_OPERATORS:
    torch.library.register_autograd(
        "syncbn::forward", _differentiate, setup_context=_keep, lib=_library
    )
    torch.library.register_autograd("syncbn::backward", _refuse, lib=_library)
