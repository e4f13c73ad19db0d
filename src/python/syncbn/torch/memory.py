# SPDX-License-Identifier: Apache-2.0
"""Outputs of layers that are computed again in the backward, to spare their memory.

A layer's backward needs its input x; the operation behind it, a convolution, needs its output y. With
x, the statistics and the parameters at hand, y is one read and one write away, to the same bits, and
without an exchange. So what would save y saves the layer's step in the graph of the backward instead.

An input or a residual of one layer may be another's output, and is computed again first. The last
outputs of such a chain are held until their own layers' backwards, so chains must not be long.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from .compat import saving_hooks

# How many outputs at most are computed again for one. A stage of a ResNet-50 has 3 to 6 in a row.
_LONGEST_CHAIN = 4


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
    and of a chain of residual blocks every fifth output. What torch.utils.checkpoint computes again,
    and what torch.compile has compiled, keep what they keep without it.

    What an output is computed from must stay until then: torch tells of a residual that was changed in
    place, but not of weights of positions, nor of an output that was changed behind its back
    (y.data, y.numpy()). An operation whose backward comes after the layer's own has freed its graph
    gets torch's error that this happens a second time.
    """
    with saved_tensors_hooks(_pack, _unpack):
        yield


def chain_of(*inputs: Tensor | None) -> int:
    """Returns how many outputs in a row are computed again for that of a layer with these inputs.

    It counts that output itself, and is 0 where it is kept.
    """
    hooks = saving_hooks()
    if hooks is None or hooks[0] is not _pack:
        return 0
    chain = 1 + max(_chain_to(tensor) for tensor in inputs if tensor is not None)
    return chain if chain <= _LONGEST_CHAIN else 0


def _chain_to(tensor: Tensor) -> int:
    """Returns what chain_of has returned for a tensor's layer; 0 for what is no layer's output."""
    chain: int = getattr(tensor.grad_fn, "syncbn_chain", 0)
    return chain if chain and tensor._version == 0 else 0


class _Kept:
    """A tensor, and the version that it has."""

    __slots__ = ("tensor", "version")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.version = tensor._version

    def get(self) -> Tensor:
        # Where there are hooks, torch does not compare versions itself.
        if self.tensor._version != self.version:
            raise RuntimeError(
                f"a tensor of shape {tuple(self.tensor.shape)} that the backward needs has been modified "
                f"by an inplace operation (its version is {self.tensor._version}, and was "
                f"{self.version} in the forward). Change a copy of it."
            )
        return self.tensor


class _Dropped:
    """The output of a layer's step, which is at hand in the backward until that of the layer."""

    __slots__ = ("step",)

    def __init__(self, step: Any) -> None:
        self.step = step

    def get(self) -> Tensor:
        return output_again(self.step)


def output_again(step: Any) -> Tensor:
    """Returns the output of a layer's step, computed once for all who take it in a backward."""
    call = step.call
    output: Tensor | None = call.output  # which the layer's backward, in another thread, may drop
    if output is None:
        x, weight, bias, residual = step.saved_tensors
        output = call.output = call.normalize(x, weight, bias, residual)
    return output


def _pack(tensor: Tensor) -> _Kept | _Dropped:
    return _Dropped(tensor.grad_fn) if _chain_to(tensor) else _Kept(tensor)


def _unpack(saved: _Kept | _Dropped) -> Tensor:
    return saved.get()
