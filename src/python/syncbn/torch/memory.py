# SPDX-License-Identifier: Apache-2.0
"""Outputs of layers that are computed again in the backward, to spare their memory.

A layer's backward needs its input x; the operation behind it, a convolution, needs its output y. With
x, the statistics and the parameters at hand, y is one read and one write away, to the same bits, and
without an exchange. So what would save y saves how to compute it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from .compat import saving_hooks

if TYPE_CHECKING:
    from .function import Pass


@contextlib.contextmanager
def save_memory() -> Iterator[None]:
    """Within it, a forward keeps no outputs of synchronized layers for the backward.

        with sbn.save_memory():
            loss = criterion(model(images), labels)
        loss.backward()

    They are computed again where the backward needs them, to the same bits and without an exchange,
    which takes a read and a write of each. It helps where the layer's own output is what a convolution
    takes: where the activation is fused (`fuse`, or the layer's `activation`). It needs no invertible
    activation, and no lower limit of weights.

    Kept are outputs that are changed in place (by an nn.ReLU(inplace=True) that is not fused), views,
    and outputs of which the input or the residual is not kept: of a chain of residual blocks every
    second one. What torch.utils.checkpoint computes again, and what torch.compile has compiled, keep
    what they keep without it.
    """
    with saved_tensors_hooks(_pack, _unpack):
        yield


def is_saving() -> bool:
    """Tells whether what is saved now is saved by save_memory."""
    hooks = saving_hooks()
    return hooks is not None and hooks[0] is _pack


def is_dropped(tensor: Tensor) -> bool:
    """Tells whether a tensor is a layer's output, as the layer returned it, that is not kept."""
    return getattr(tensor.grad_fn, "recomputable", False) and tensor._version == 0


class _Kept:
    """A tensor, and the version that it has."""

    __slots__ = ("tensor", "version")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.version = tensor._version

    def get(self) -> Tensor:
        # Torch leaves this to hooks, where there are any.
        if self.tensor._version != self.version:
            raise RuntimeError(
                f"a tensor of shape {tuple(self.tensor.shape)} that the backward needs has been modified "
                f"by an inplace operation (its version is {self.tensor._version}, and was "
                f"{self.version} in the forward). Change a copy of it."
            )
        return self.tensor


class _Dropped:
    """The output of a layer, of which there is what it is computed from."""

    __slots__ = ("call", "inputs")

    def __init__(self, call: Pass, inputs: tuple[Tensor | None, ...]) -> None:
        self.call = call
        self.inputs = [None if tensor is None else _Kept(tensor.detach()) for tensor in inputs]
        call.readers += 1

    def get(self) -> Tensor:
        x, *others = (None if kept is None else kept.get() for kept in self.inputs)
        assert x is not None
        return self.call.output_again(x, *others)


def _pack(tensor: Tensor) -> _Kept | _Dropped:
    if not is_dropped(tensor):
        return _Kept(tensor)
    node: Any = tensor.grad_fn
    return _Dropped(node.call, node.saved_tensors)


def _unpack(saved: _Kept | _Dropped) -> Tensor:
    return saved.get()
