# SPDX-License-Identifier: Apache-2.0
"""Synchronized batch norm for PyTorch, on the CPU and on CUDA devices.

Every process of a data-parallel job calls these layers, which normalize with the statistics of the
whole batch:

    import syncbn.torch as sbn
    model = sbn.convert_sync_batchnorm(model)
    model = sbn.fuse(model)  # batch norm and relu in one pass
    model = torch.nn.parallel.DistributedDataParallel(model)
    with sbn.save_memory():  # keeps no outputs that are quickly computed again
        loss = criterion(model(images), labels)
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
