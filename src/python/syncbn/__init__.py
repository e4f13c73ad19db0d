# SPDX-License-Identifier: Apache-2.0
"""Synchronized batch norm for data-parallel training.

`syncbn.torch` has the layer for PyTorch.
"""

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
