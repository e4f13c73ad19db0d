# SPDX-License-Identifier: Apache-2.0
"""The step from tensors to the binary module, and its derivatives."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor

from .. import _core
from .compat import wait_for
from .derivative import backward_of_backward
from .group import Exchange, device_group_of, group_of
from .memory import chain_of, output_again

Buffers: TypeAlias = tuple[Tensor | None, Tensor | None, Tensor | None]

# These are called before a pass exchanges: with its kind, its Pass, x, and whether it has a residual.
listeners: list[Callable[[Literal["forward", "backward"], Pass, Tensor, bool], None]] = []


class Bound:
    """A layer of the library for one group and one set of options, and what its passes need to know."""

    __slots__ = (
        "__weakref__", "_unused", "device", "eps", "gradients", "layer", "negative_slope", "process_group",
    )  # fmt: skip

    def __init__(
        self,
        layer: _core.Layer,
        process_group: dist.ProcessGroup | None,
        device: torch.device | None,
        gradients: Tensor | None,
        eps: float,
        negative_slope: float,
    ) -> None:
        self.layer = layer
        self.process_group = process_group  # None: this process alone
        self.device = device  # None: the CPU
        # A layer on a device leaves the gradients of weight and bias here, [2, C] doubles.
        self.gradients = gradients
        self.eps = eps
        self.negative_slope = negative_slope
        self._unused: Buffers | None = None

    @torch.inference_mode(False)  # it is used outside of that mode too
    def unused_buffers(self, channels: int) -> Buffers:
        """Returns running statistics for a backward, which uses none.

        The library's layer keeps what it was given last, and it must not be memory that is freed.
        """
        if self._unused is None:
            device = self.device or "cpu"
            mean, var = torch.zeros(2, channels, device=device)
            self._unused = (mean, var, torch.zeros((), dtype=torch.int64, device=device))
        return self._unused

    def new_record(self, channels: int) -> tuple[_core.Record, Tensor | None]:
        """Returns a record for one forward, and the memory that it needs for as long."""
        if self.device is None:
            return _core.Record(), None
        return record_in_tensor(channels, self.device)


def record_in_tensor(channels: int, device: torch.device | None) -> tuple[_core.Record, Tensor]:
    """Returns an empty record, and the tensor that is its memory."""
    memory = torch.empty(_core.Record.length(channels), dtype=torch.float64, device=device)
    return _core.Record(memory, channels, None), memory


@torch.inference_mode(False)  # what it makes is used outside of that mode too
def bind(
    process_group: dist.ProcessGroup | None,
    exchange: Exchange,
    device: torch.device | None,
    name: str,
    channels: int,
    eps: float,
    momentum: float | None,
    affine: bool,
    track: bool,
    negative_slope: float,
    exact: bool,
) -> Bound:
    """Makes the library's layer for a group, a device and options, which serves all calls with these.

    The device is None for the CPU.
    """
    options = (name, channels, eps, momentum, affine, track, negative_slope, exact)
    try:
        host = group_of(process_group, exchange)
    except _core.CommError as error:
        raise _core.CommError(f"layer '{name}': {error}") from None
    if device is None:
        layer = _core.Layer(host, *options)
        return Bound(layer, process_group, None, None, eps, negative_slope)
    gradients = None
    if affine:
        gradients = torch.zeros(2, channels, dtype=torch.float64, device=device)

    def allocate(size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8, device=device)

    of_parameters = (None, None) if gradients is None else gradients.unbind()
    group = device_group_of(process_group, exchange, device)
    # The library writes to what it allocates at once, and torch gives memory that its stream may use yet.
    wait_for(device)
    layer = _core.Layer(group, *options, allocate, *of_parameters)
    bound = Bound(layer, process_group, device, gradients, eps, negative_slope)
    # The memory goes back to one stream, and others may use it yet.
    weakref.finalize(bound, wait_for, device).atexit = False
    return bound


class Pass:
    """One forward of a layer, and what its backward needs to know besides the tensors.

    `buffers` are running_mean, running_var and num_batches_tracked, or three times None. A forward that
    is computed again has the record of the first, and exchanges nothing. `output` is there in a backward
    that has computed the forward's output again (memory.py), until the layer's own is done.
    """

    __slots__ = (
        "__weakref__", "again", "bound", "buffers", "frozen", "memory", "output",
        "position_weights", "record",
    )  # fmt: skip

    def __init__(
        self,
        bound: Bound,
        buffers: Buffers,
        frozen: bool,
        position_weights: Tensor | None,
        record: _core.Record,
        memory: Tensor | None,
    ) -> None:
        self.bound = bound
        self.buffers = buffers
        self.frozen = frozen
        self.position_weights = position_weights
        self.record = record
        self.memory = memory  # the record's, None where it has its own
        self.again = False
        self.output: Tensor | None = None

    def repeat(self, first: Pass) -> None:
        """Makes this a forward that takes the statistics of another, and exchanges nothing."""
        self.record, self.memory, self.again = first.record, first.memory, True

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Returns mean and biased variance of the group's batch, [C] doubles each."""
        if self.memory is None:
            mean, var = self.record.mean(), self.record.var()
            return torch.tensor(mean, dtype=torch.float64), torch.tensor(var, dtype=torch.float64)
        channels = self.memory.numel() // 5  # a record's memory begins with the two
        return self.memory[:channels], self.memory[channels : 2 * channels]

    def forward(
        self, x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None
    ) -> Tensor:
        if self.again:
            return self.normalize(x, weight, bias, residual)
        y = torch.empty_like(x)
        record, weights = self.record, self.position_weights
        if self.frozen:
            self.bound.layer.infer(weight, bias, *self.buffers, record, x, y, residual, weights)
        else:
            for listener in listeners:
                listener("forward", self, x, residual is not None)
            self.bound.layer.forward(weight, bias, *self.buffers, record, x, y, residual, weights)
        return y

    def normalize(
        self, x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None
    ) -> Tensor:
        """Computes the output of the forward again."""
        y = torch.empty_like(x)
        self.bound.layer.normalize(weight, bias, self.record, x, y, residual, self.position_weights)
        return y

    def backward(
        self,
        dy: Tensor,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        y: Tensor | None,
        has_residual: bool,
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        dx = torch.empty_like(x)
        if not _core.is_like(dy, x):
            dy = torch.empty_like(x).copy_(dy)
        dresidual = torch.empty_like(x) if has_residual else None
        bound = self.bound
        dweight = dbias = None
        if bound.device is None and weight is not None and bias is not None:
            dweight, dbias = torch.empty_like(weight), torch.empty_like(bias)
        if not self.frozen:
            for listener in listeners:
                listener("backward", self, x, has_residual)
        bound.layer.backward(
            weight, bias, *self.buffers, self.record, x, dy, dx, dweight, dbias,
            y, dresidual, self.position_weights,
        )  # fmt: skip
        if bound.gradients is not None and weight is not None and bias is not None:
            dweight = bound.gradients[0].to(weight.dtype, copy=True)
            dbias = bound.gradients[1].to(bias.dtype, copy=True)
        return dx, dweight, dbias, dresidual


class Normalize(torch.autograd.Function):
    """y of x, weight, bias and residual. One exchange forward, one backward."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None,
        call: Pass,
    ) -> Tensor:  # fmt: skip
        y = call.forward(x, weight, bias, residual)
        ctx.call = call
        ctx.has_residual = residual is not None
        needs_y = residual is not None and call.bound.negative_slope != 1
        # Without an activation, to compute y again takes the residual, which is as large.
        recomputes = residual is None or needs_y
        ctx.syncbn_chain = chain_of(x, residual) if recomputes else 0
        if needs_y and ctx.syncbn_chain:
            ctx.save_for_backward(x, weight, bias, residual)
        else:
            ctx.save_for_backward(x, weight, bias, y if needs_y else None)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, y = ctx.saved_tensors
        if ctx.syncbn_chain:
            if y is not None:  # it is the residual
                y = output_again(ctx)
            ctx.call.output = None  # operations behind the layer have had it by now
        if torch.is_grad_enabled():  # create_graph
            gradients = NormalizeBackward.apply(dy, x, weight, bias, y, ctx.call, ctx.has_residual)
        else:
            gradients = ctx.call.backward(dy, x, weight, bias, y, ctx.has_residual)
        return (*gradients, None)


class NormalizeBackward(torch.autograd.Function):
    """The backward of Normalize, for who differentiates it again."""

    @staticmethod
    def forward(
        ctx: Any, dy: Tensor, x: Tensor, weight: Tensor | None, bias: Tensor | None,
        y: Tensor | None, call: Pass, has_residual: bool,
    ) -> tuple[Tensor | None, ...]:  # fmt: skip
        ctx.call = call
        ctx.has_residual = has_residual
        ctx.save_for_backward(dy, x, weight, bias, y)
        return call.backward(dy, x, weight, bias, y, has_residual)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        dy, x, weight, bias, y = ctx.saved_tensors
        of_dy, of_x, of_weight = backward_of_backward(
            ctx.call, dy, x, weight, bias, y, ctx.has_residual, gradients
        )
        return of_dy, of_x, of_weight, None, None, None, None
