# SPDX-License-Identifier: Apache-2.0
"""The derivatives of the backward, in tensor operations: exact, and as slow as these are.

With n elements per channel in the group, x^ = (x - mean) * invstd, dz the gradient before the
activation, and sums over the group's batch (Ioffe & Szegedy 2015, section 3):

    dx      = weight * invstd * (dz - sum(dz) / n - x^ * sum(dz * x^) / n)
    dweight = sum of dz * x^ over this process's part, dbias = sum of dz over it
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from .function import Pass


class _Sum(torch.autograd.Function):
    """The sum of a tensor over the processes of a group, whose gradient is the gradients' sum."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, process_group: Any) -> Tensor:
        ctx.process_group = process_group
        total = values.clone()
        dist.all_reduce(total, group=process_group)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Sum.apply(gradient.contiguous(), ctx.process_group), None


def _of_group(values: Tensor, call: Pass) -> Tensor:
    if call.bound.process_group is None:
        return values
    return _Sum.apply(values, call.bound.process_group)


def _by_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.view([1, -1] + [1] * (like.dim() - 2))


def _statistics(call: Pass, x: Tensor, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns mean, invstd and the number of elements per channel, of the group's batch."""
    axes = [0, *range(2, x.dim())]
    number = share.expand(x.shape).sum(axes)[0]
    if call.frozen:
        mean, var = (values.to(x.dtype) for values in call.buffers[:2])  # type: ignore[union-attr]
        return mean, (var + call.bound.eps).rsqrt(), number
    # About a mean without derivative, so that little is lost; the derivative of the rest is whole.
    shift = call.statistics()[0].to(x.dtype)
    centred = x - _by_channel(shift, x)
    sums = torch.cat([(centred * share).sum(axes), number.view(1)])
    total = _of_group(sums, call)
    number = total[-1]
    offset = total[:-1] / number
    deviation = centred - _by_channel(offset, x)
    squares = _of_group((deviation * deviation * share).sum(axes), call)
    return shift + offset, (squares / number + call.bound.eps).rsqrt(), number


def _backward(
    call: Pass, dy: Tensor, x: Tensor, weight: Tensor | None, bias: Tensor | None,
    y: Tensor | None, share: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Returns dx, dweight, dbias and dz as functions that can be differentiated."""
    axes = [0, *range(2, x.dim())]
    mean, invstd, number = _statistics(call, x, share)
    normalized = (x - _by_channel(mean, x)) * _by_channel(invstd, x)
    gamma = torch.ones_like(mean) if weight is None else weight
    dz = dy
    if call.bound.negative_slope != 1:
        if y is None:
            z = normalized * _by_channel(gamma, x)
            y = z if bias is None else z + _by_channel(bias, x)
        dz = torch.where(y.detach() > 0, dy, dy * call.bound.negative_slope)
    dz = dz * share.ne(0)
    weighted = dz
    sums = torch.cat([dz.sum(axes), (dz * normalized).sum(axes)])
    dbias, dweight = sums.chunk(2)
    if not call.frozen:
        of_bias, of_weight = _of_group(sums, call).chunk(2)
        weighted = dz - share * (
            _by_channel(of_bias / number, x) + normalized * _by_channel(of_weight / number, x)
        )
    return weighted * _by_channel(gamma * invstd, x), dweight, dbias, dz


def _apart(tensor: Tensor, connected: bool) -> Tensor:
    """Returns a tensor's values in double as a tensor of its own to differentiate by.

    If it is connected, it is differentiable in the tensor, and otherwise not.
    """
    if connected and tensor.requires_grad:
        return tensor.double().view_as(tensor)
    return tensor.detach().double().requires_grad_()


def backward_of_backward(
    call: Pass, dy: Tensor, x: Tensor, weight: Tensor | None, bias: Tensor | None,
    y: Tensor | None, has_residual: bool, gradients: tuple[Tensor | None, ...],
) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
    """Returns the gradients of dy, x and weight, given those of dx, dweight, dbias and dresidual.

    Where derivatives are recorded, they have these too.
    """
    connected = torch.is_grad_enabled()
    share = torch.ones((), dtype=torch.float64, device=x.device)
    if call.position_weights is not None:
        share = call.position_weights.double().view([x.size(0), 1, *x.shape[2:]])
    with torch.enable_grad():
        # In doubles, of which the results are rounded once.
        of_dy, of_x = _apart(dy, connected), _apart(x, connected)
        of_weight = None if weight is None else _apart(weight, connected)
        of_bias = None if bias is None else bias.detach().double()
        of_y = None if y is None else y.detach().double()
        results = _backward(call, of_dy, of_x, of_weight, of_bias, of_y, share)
        pairs = [
            (result, gradient.double())
            for result, gradient in zip(results, gradients, strict=True)
            if gradient is not None and result.requires_grad
        ]
        wanted = [leaf for leaf in (of_dy, of_x, of_weight) if leaf is not None]
        found = torch.autograd.grad(
            [result for result, _ in pairs], wanted, [gradient for _, gradient in pairs],
            create_graph=connected, allow_unused=True,
        )  # fmt: skip
    rounded = [
        torch.zeros_like(leaf) if gradient is None else gradient
        for leaf, gradient in zip(wanted, found, strict=True)
    ]
    found_weight = rounded[2].to(weight.dtype) if weight is not None else None
    return rounded[0].to(dy.dtype), rounded[1].to(x.dtype), found_weight
