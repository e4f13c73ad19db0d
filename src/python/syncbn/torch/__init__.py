# SPDX-License-Identifier: Apache-2.0
"""Synchronized batch norm for PyTorch, on the CPU and on CUDA devices.

Every process of a data-parallel job calls these layers, which normalize with the statistics of the
whole batch:

    import syncbn.torch as sbn
    model = sbn.convert_sync_batchnorm(model)
    print(sbn.verify(model, images))
    model = torch.nn.parallel.DistributedDataParallel(model)

    convert_sync_batchnorm    makes a model's batch norm layers synchronize
    revert_sync_batchnorm     undoes it
    SyncBatchNorm             is the layer by itself
    verify                    tells whether layers really take the statistics of the whole batch
    profile                   measures what each layer takes
    warn_unsynchronized       has a model warn where batch norm trains on few samples of one process
    fuse, unfuse              batch norm, residual and relu in one pass
    save_memory               computes outputs again in the backward
    accumulate                takes statistics over several micro-batches
    join                      lets processes have different numbers of batches
    group_of_samples          makes groups of as many processes as statistics need samples
    precise_bn                takes running statistics anew
    set_report_handler        is told of processes that are late

Errors are CommError (processes disagree, or are missing), InvalidArgument, which is a ValueError, and
NotConfigured; all are Error, which is a RuntimeError.
"""

from .. import CommError, Error, InvalidArgument, NotConfigured, set_report_handler
from .accumulate import accumulate
from .convert import convert_sync_batchnorm, revert_sync_batchnorm
from .fuse import fuse, unfuse
from .join import join
from .layer import SyncBatchNorm
from .memory import save_memory
from .profile import profile
from .statistics import precise_bn, verify
from .subgroup import group_of_samples
from .unsynchronized import warn_unsynchronized

__all__ = [
    "CommError",
    "Error",
    "InvalidArgument",
    "NotConfigured",
    "SyncBatchNorm",
    "accumulate",
    "convert_sync_batchnorm",
    "fuse",
    "group_of_samples",
    "join",
    "precise_bn",
    "profile",
    "revert_sync_batchnorm",
    "save_memory",
    "set_report_handler",
    "unfuse",
    "verify",
    "warn_unsynchronized",
]
