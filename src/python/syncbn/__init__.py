# SPDX-License-Identifier: Apache-2.0
"""Synchronized batch norm for data-parallel training.

`syncbn.torch` has the layer for PyTorch, `syncbn.report` the pages that show what was measured.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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


# The binary module is loaded with the first of its names, so that `syncbn.report` works without it.
def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        core = import_module("._core", __name__)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"the binary module of syncbn is not in {Path(__file__).parent} (these are the sources of the "
            "package, or it was built for another Python). Install it with `pip install .` in the "
            "checkout, and leave its directory src/python out of PYTHONPATH."
        ) from error
    value = globals()[name] = getattr(core, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
