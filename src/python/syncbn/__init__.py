# SPDX-License-Identifier: Apache-2.0
"""Synchronized batch norm for data-parallel training.

`syncbn.torch` has the layer for PyTorch, `syncbn.report` the pages that show what was measured.
"""

from __future__ import annotations

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
    from importlib import import_module

    module = f"{__name__}._core"
    try:
        core = import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ImportError(
            f"the binary module of syncbn is not beside {__file__} (these are the sources of the "
            "package, or it was built for another Python). Install it with `pip install .` in the "
            "checkout, and leave its directory src/python out of PYTHONPATH."
        ) from error
    value = globals()[name] = getattr(core, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
