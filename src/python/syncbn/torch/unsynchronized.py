# SPDX-License-Identifier: Apache-2.0
"""A warning of batch norm that trains on the few samples of one process."""

from __future__ import annotations

import warnings
from typing import Any, TypeVar

import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .compat import register_hook_before
from .layer import Synchronized, named_layers

_Model = TypeVar("_Model", bound=nn.Module)


def warn_unsynchronized(model: _Model, fewer_than: int = 16) -> _Model:
    """Has a model warn, once, if batch norm trains on fewer samples than that without synchronizing.

    It looks at the first batch that each layer has in training while there are several processes. The
    statistics of so few samples are noise: Wu & He (2018, "Group Normalization", fig. 1) see the error
    of ResNet-50 rise from 16 samples on down. Returns the model, which computes what it did.
    """
    layers = named_layers(model, _BatchNorm)
    looks = [
        _Look(name, fewer_than)
        for name, layer in layers.items()
        if not isinstance(layer, (Synchronized, nn.SyncBatchNorm))
    ]
    for look in looks:
        look.all = looks
        look.handle = register_hook_before(layers[look.name], look)
    return model


class _Look:
    """A hook of one layer, called before its forward."""

    def __init__(self, name: str, fewer_than: int) -> None:
        self.name = name
        self.fewer_than = fewer_than
        self.handle: Any = None
        self.all: list[_Look] = []

    def __call__(self, layer: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        processes = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        synchronized = isinstance(layer, (Synchronized, nn.SyncBatchNorm))
        if not layer.training or processes == 1 or synchronized:
            return
        self.handle.remove()
        x = inputs[0] if inputs else keywords["input"]
        if x.size(0) >= self.fewer_than:
            return
        for look in self.all:
            look.handle.remove()
        others = len(self.all) - 1
        which = self.name if others == 0 else f"{self.name} (of {others + 1} batch norm layers)"
        warnings.warn(
            f"{which} takes the statistics of {x.size(0)} samples, those of one process of {processes}. "
            "To take those of all: model = syncbn.torch.convert_sync_batchnorm(model).",
            stacklevel=2,
        )
