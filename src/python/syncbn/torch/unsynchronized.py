# SPDX-License-Identifier: Apache-2.0
"""A warning of batch norm that trains on the few samples of one process."""

from __future__ import annotations

import warnings
from typing import Any, TypeVar

import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .layer import Synchronized

_Model = TypeVar("_Model", bound=nn.Module)


def warn_unsynchronized(model: _Model, fewer_than: int = 16) -> _Model:
    """Has a model warn, once, if batch norm trains on fewer samples than that without synchronizing.

    It looks at the first batch that each layer sees in training while there are several processes. The
    statistics of so few samples are noise: Wu & He (2018, "Group Normalization", fig. 1) see the
    error of ResNet-50 rise from 16 samples on down. Returns the model, which is as before otherwise.
    """
    layers = {
        path or type(layer).__name__: layer
        for path, layer in model.named_modules()
        if isinstance(layer, _BatchNorm) and not isinstance(layer, (Synchronized, nn.SyncBatchNorm))
    }
    hooks: list[Any] = []

    def look(name: str) -> Any:
        def hook(layer: nn.Module, inputs: Any) -> None:
            alone = not dist.is_available() or not dist.is_initialized()
            if alone or dist.get_world_size() == 1 or not layer.training:
                return
            samples = inputs[0].size(0)
            for registered in hooks:
                registered.remove()
            if samples < fewer_than:
                warnings.warn(
                    f"{name} and {len(layers) - 1} other batch norm layers take the statistics of "
                    f"{samples} samples, those of one process of {dist.get_world_size()}. To take those "
                    "of all: model = syncbn.torch.convert_sync_batchnorm(model).",
                    stacklevel=2,
                )

        return hook

    hooks += [layer.register_forward_pre_hook(look(name)) for name, layer in layers.items()]
    return model
