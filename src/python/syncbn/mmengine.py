# SPDX-License-Identifier: Apache-2.0
"""Synchronized batch norm for configurations of MMEngine, as the norm layer "syncbn":

    custom_imports = dict(imports=["syncbn.mmengine"])
    norm_cfg = dict(type="syncbn")

Further keys are arguments of syncbn.torch.SyncBatchNorm. To make such a model one of a single process,
call syncbn.torch.revert_sync_batchnorm: MMEngine's function of that name knows torch's layer alone.
Leave `sync_bn` out of the configuration: it turns every batch norm layer into one of torch's.
"""

from mmengine.registry import MODELS  # type: ignore[import-untyped]

from .torch import SyncBatchNorm

MODELS.register_module("syncbn", module=SyncBatchNorm)
