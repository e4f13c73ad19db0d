# SPDX-License-Identifier: Apache-2.0
"""What a synchronized layer has besides what torch's batch norm has."""

from __future__ import annotations

import itertools
import math
from typing import Any, Literal, get_args

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .. import _core
from . import ops
from .compat import name_of
from .group import Exchange, find

Activation = Literal["relu", "leaky_relu"]

_instances = itertools.count()


def slope_of(activation: Activation | None, negative_slope: float) -> float:
    """Returns what an activation multiplies negative values by: 1 is no activation, 0 is relu."""
    if activation == "leaky_relu":
        if not (math.isfinite(negative_slope) and negative_slope >= 0):
            raise _core.InvalidArgument(
                f"negative_slope is {negative_slope} (a finite number, at least 0, is needed)."
            )
        return float(negative_slope)
    if activation not in (None, "relu"):
        choices = ", ".join(map(repr, get_args(Activation)))
        raise _core.InvalidArgument(f"activation is {activation!r}. Choose None, {choices}.")
    if negative_slope != 0.01:
        raise _core.InvalidArgument(
            f"negative_slope is {negative_slope}, and activation is {activation!r} (which has no slope). "
            "Choose activation='leaky_relu', or leave negative_slope out."
        )
    return 1.0 if activation is None else 0.0


def activate(values: Tensor, slope: float) -> Tensor:
    """Does in torch's operations what a slope says."""
    if slope == 1:
        return values
    if slope == 0:
        return torch.nn.functional.relu(values)
    return torch.nn.functional.leaky_relu(values, slope)


class Settings:
    """The group, the exchange, the activation and the name of a synchronized layer."""

    __slots__ = (
        "__weakref__", "_process_group", "exact", "exchange", "group_name", "handle", "instance",
        "name", "original", "slope",
    )  # fmt: skip

    def __init__(
        self,
        process_group: Any = None,
        name: str = "",
        exact: bool = False,
        slope: float = 1.0,
        exchange: Exchange = "torch",
        original: type[nn.Module] | None = None,
    ) -> None:
        if exchange not in get_args(Exchange):
            raise _core.InvalidArgument(
                f"exchange is '{exchange}'. Choose {' or '.join(map(repr, get_args(Exchange)))}."
            )
        self.exchange = exchange
        self.set_group(process_group)
        self._enter()
        self.name = name
        self.exact = exact
        self.slope = slope  # of the layer's activation, see slope_of
        self.original = original  # class before the conversion, if it was converted

    def __getstate__(self) -> dict[str, Any]:
        # A process group belongs to its process; whoever reads this finds that of the same name.
        kept = ("exact", "exchange", "group_name", "name", "original", "slope")
        return {slot: getattr(self, slot) for slot in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for slot, value in state.items():
            setattr(self, slot, value)
        self._process_group: dist.ProcessGroup | None = None
        self._enter()

    def _enter(self) -> None:
        self.instance = next(_instances)  # tells layers of a process apart
        self.handle = ops.handle_of(self)

    def set_group(self, group: Any) -> None:
        """Takes a process group, a DeviceMesh of one dimension, or None for all processes."""
        if hasattr(group, "get_group"):
            group = group.get_group()
        self._process_group = group
        self.group_name = "" if group is None else name_of(group)

    def group(self) -> dist.ProcessGroup | None:
        """Returns the process group, None for all processes."""
        if self._process_group is None and self.group_name:
            self._process_group = find(self.group_name)
        return self._process_group
