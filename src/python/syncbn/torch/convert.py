# SPDX-License-Identifier: Apache-2.0
"""Making the batch norm layers of a model synchronized ones, and back."""

from __future__ import annotations

from typing import Any, TypeVar, get_args

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .. import _core
from .converted import synchronized_class
from .fuse import unfuse
from .group import Exchange
from .layer import SyncBatchNorm, Synchronized
from .settings import Settings, activate

_Model = TypeVar("_Model", bound=nn.Module)


class BatchNorm(_BatchNorm):
    """Batch norm of this process alone for inputs [N, C, ...]: what a SyncBatchNorm reverts to.

    It adds the residual and has the activation that the SyncBatchNorm had.
    """

    slope = 1.0  # of negative values

    def forward(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        y = super().forward(input)
        return activate(y if residual is None else y + residual, self.slope)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2D input (got {input.dim()}D input)")


def convert_sync_batchnorm(
    module: _Model,
    process_group: Any = None,
    *,
    exact: bool | None = None,
    exchange: Exchange | None = None,
) -> _Model:
    """Makes all batch norm layers of a model synchronize over a group, and returns the model.

    The group is a process group, a DeviceMesh of one dimension, or None for all processes. Layers
    stay the objects they are, with parameters, buffers, hooks and mode, and stay instances of their
    classes, so that a subclass's own forward still runs. Messages name them by their place in the
    model. Layers that are synchronized already get the group. `exact` and `exchange` are those of
    SyncBatchNorm; None is its default, and for layers that are synchronized already what they have.
    """
    exchanges: tuple[Exchange | None, ...] = (None, *get_args(Exchange))
    if exchange not in exchanges:
        raise _core.InvalidArgument(
            f"exchange is '{exchange}'. Choose {' or '.join(map(repr, get_args(Exchange)))}."
        )
    for path, layer in module.named_modules():
        if isinstance(layer, Synchronized):
            settings = layer._synchronized
            settings.exact = settings.exact if exact is None else exact
            settings.exchange = exchange or settings.exchange
            layer.process_group = process_group  # drops what was made for the old settings
        elif isinstance(layer, _BatchNorm):
            original = type(layer)
            layer.__dict__.pop("process_group", None)  # torch.nn.SyncBatchNorm's
            layer.__class__ = synchronized_class(original)
            layer.__dict__["_synchronized"] = Settings(
                process_group,
                path or original.__name__,
                bool(exact),
                exchange=exchange or "torch",
                original=original,
            )
    return module


def revert_sync_batchnorm(module: _Model) -> _Model:
    """Gives a model's synchronized layers their classes back, and returns the model.

    A layer that was made as a SyncBatchNorm becomes a batch norm of this process alone. A fused model
    is no longer fused.
    """
    unfuse(module)
    for layer in module.modules():
        if not isinstance(layer, Synchronized):
            continue
        settings = layer.__dict__.pop("_synchronized")
        layer._drop_layers()
        if isinstance(layer, SyncBatchNorm):
            original: Any = settings.original or BatchNorm
            layer.__class__ = original
            if settings.slope != 1:
                layer.slope = settings.slope
            if issubclass(original, nn.SyncBatchNorm):
                layer.process_group = settings.group()
        else:
            # The class may have changed since the conversion: lazy layers do.
            layer.__class__ = type(layer).__bases__[1]
    return module
