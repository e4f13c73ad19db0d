# SPDX-License-Identifier: Apache-2.0
"""Classes of converted layers, which are still of the class that they were of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from .checkpoint import Time, time_of_forward
from .compat import is_compiling
from .layer import SyncBatchNorm, Synchronized

_classes: dict[type[nn.Module], type[Any]] = {}


class _InPlaceOfTorch(TorchFunctionMode):
    """Has a synchronized layer compute what a forward asks of torch's batch_norm."""

    def __init__(self, layer: SynchronizedSubclass) -> None:
        super().__init__()
        self._layer = layer

    def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        if function is torch.nn.functional.batch_norm:
            return self._layer._batch_norm(*args, **kwargs)
        return function(*args, **kwargs)


class SynchronizedSubclass(Synchronized):
    """The behaviour of a converted layer whose class has a forward of its own.

    That forward runs as it is, but for torch.nn.functional.batch_norm inside it.
    """

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        count = self.num_batches_tracked
        before = None
        if count is not None and not is_compiling():
            before = count.clone() if time_of_forward() is Time.AGAIN else None
        try:
            with _InPlaceOfTorch(self):
                # The next forward in the order of classes behind ours is the converted class's.
                return super(Synchronized, self).forward(*args, **kwargs)
        finally:
            if before is not None:  # this batch has been counted, the first time
                self.num_batches_tracked.copy_(before)  # type: ignore[union-attr]

    def _batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        # The forward has counted this batch already, and the library is about to.
        count = None
        if running_mean is not None and self.num_batches_tracked is not None:
            count = self.num_batches_tracked - 1
        cumulative = self.momentum is None and count is not None
        return self._normalize(
            input, weight, bias, (running_mean, running_var, count), eps,
            None if cumulative else momentum, frozen=not training,
        )  # fmt: skip


def synchronized_class(original: type[nn.Module]) -> type[Any]:
    """Returns the class that a layer of the class `original` gets: it is still one of that class."""
    if original not in _classes:
        _classes[original] = _make_class(original)
    return _classes[original]


def _make_class(original: type[Any]) -> type[Any]:
    if issubclass(original, nn.SyncBatchNorm):
        return SyncBatchNorm  # DistributedDataParallel refuses torch's on the CPU
    plain = original.forward is _BatchNorm.forward
    base = Synchronized if plain else SynchronizedSubclass
    members: dict[str, Any] = {
        "__doc__": f"{original.__name__} with the statistics of the whole group's batch.",
        "__module__": __name__,
        "__reduce_ex__": _reduce,
    }
    becomes = getattr(original, "cls_to_become", None)
    if becomes is not None:  # a lazy layer, which becomes another when it sees its first input
        members["cls_to_become"] = synchronized_class(becomes)
    return type(f"Sync{original.__name__}", (base, original), members)


def _reduce(self: Any, protocol: int) -> Any:
    return _rebuild, (type(self).__bases__[1],), self.__getstate__()


def _rebuild(original: type[nn.Module]) -> Any:
    cls: Any = synchronized_class(original)
    return cls.__new__(cls)
