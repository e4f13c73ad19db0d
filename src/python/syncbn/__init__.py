# SPDX-License-Identifier: Apache-2.0
"""Synchronized batch norm for data-parallel training.

`syncbn.torch` has the layer for PyTorch.
"""

try:
    from . import _core  # noqa: F401
except ImportError:  # a machine may have no OpenMP but the one that comes with PyTorch
    import torch  # noqa: F401

from ._core import (
    CommError,
    DeviceError,
    Error,
    InvalidArgument,
    NotConfigured,
    __version__,
    set_report_handler,
)

__all__ = [
    "CommError",
    "DeviceError",
    "Error",
    "InvalidArgument",
    "NotConfigured",
    "__version__",
    "set_report_handler",
]
