# SPDX-License-Identifier: Apache-2.0
"""Synchronized batch norm for models that Lightning trains:

import lightning
import syncbn.lightning
trainer = lightning.Trainer(..., plugins=[syncbn.lightning.SyncBatchNorm()])
"""

from __future__ import annotations

import copy
import importlib
import sys
from typing import Any

from torch.nn import Module

from .torch import convert_sync_batchnorm, revert_sync_batchnorm, unfuse
from .torch.layer import Synchronized

__all__ = ["SyncBatchNorm"]


def _layer_sync() -> Any:
    """Returns the base class of plugins for layers.

    Lightning comes under two names, each with classes of its own. The program has imported one.
    """
    names = ("lightning.pytorch", "pytorch_lightning")
    for name in sorted(names, key=lambda name: name not in sys.modules):
        try:
            return importlib.import_module(f"{name}.plugins.layer_sync").LayerSync
        except ModuleNotFoundError as error:
            if not name.startswith(str(error.name)):  # of something that it needs
                raise
    raise ModuleNotFoundError("syncbn.lightning needs Lightning (pip install lightning).")


class SyncBatchNorm(_layer_sync()):  # type: ignore[misc]
    """Plugin for Trainer that synchronizes a model's batch norm layers while it is fitted.

    It takes the place of Trainer(sync_batchnorm=True). The arguments are those of
    syncbn.torch.convert_sync_batchnorm. Afterwards layers are again of the classes that they were.
    """

    def __init__(self, process_group: Any = None, **options: Any) -> None:
        self.process_group = process_group
        self.options = options
        self._converted: list[Module] = []

    def apply(self, model: Module) -> Module:
        # Layers that are synchronized already stay as they are.
        own = {
            layer: layer._synchronized
            for layer in model.modules()
            if isinstance(layer, Synchronized)
        }
        for layer in own:
            layer._synchronized = copy.copy(own[layer])
        convert_sync_batchnorm(model, self.process_group, **self.options)
        for layer, settings in own.items():
            layer._synchronized = settings
        self._converted = [
            layer
            for layer in model.modules()
            if isinstance(layer, Synchronized) and layer not in own
        ]
        return model

    def revert(self, model: Module) -> Module:
        unfuse(model)
        for layer in self._converted:
            revert_sync_batchnorm(layer)
        return model
