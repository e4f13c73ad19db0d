# SPDX-License-Identifier: Apache-2.0
"""The binary module: layers and groups for tensors of any framework.

A tensor is whatever DLPack's exchange interface describes, or what has PyTorch's attributes. Arguments
are given by place.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, final

__version__: str

Tensor: TypeAlias = Any

class Error(RuntimeError): ...
class InvalidArgument(Error, ValueError): ...
class NotConfigured(Error): ...
class CommError(Error): ...
class DeviceError(Error): ...

def set_report_handler(handler: Callable[[str], object] | None, /) -> None:
    """Sets the function that is told, in a text, of processes that are late."""

def is_like(tensor: Tensor, other: Tensor, /) -> bool:
    """Tells whether a tensor is dense with the shape, type, layout and device of another."""

def local_sums(x: Tensor, position_weights: Tensor | None, /) -> bytes:
    """Returns bytes that depend on every element of this process's x."""

def normalize(
    record: Record,
    weight: Tensor | None,
    bias: Tensor | None,
    negative_slope: float,
    x: Tensor,
    y: Tensor,
    residual: Tensor | None,
    position_weights: Tensor | None,
    /,
) -> None:
    """Writes the y of the forward that filled the record, given the same arguments."""

@final
class Group:
    """Processes that sum together."""

    def __new__(
        cls, rank: int = ..., size: int = ..., all_reduce: Callable[[memoryview], object] = ..., /
    ) -> Group: ...
    def counters(self) -> tuple[int, int, float]: ...
    def sharing_memory(self, deadline: float, /) -> Group:
        """Collective: makes a group of the same processes that sums through shared memory."""

@final
class Record:
    """What a backward needs from its forward, besides the tensors.

    Record(memory, channels, note) is one in a tensor of Record.length(channels) doubles: empty, or with
    a note filled as it was.
    """

    def __new__(
        cls, memory: Tensor = ..., channels: int = ..., note: Sequence[int] | None = ..., /
    ) -> Record: ...
    @staticmethod
    def length(channels: int, /) -> int: ...
    def note(self) -> list[int]: ...
    def mean(self) -> list[float]: ...
    def var(self) -> list[float]: ...
    def count(self) -> float: ...

@final
class Layer:
    """A layer over a group. Its parameters and running statistics are given in every call."""

    def __new__(
        cls,
        group: Group,
        name: str,
        channels: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        negative_slope: float,
        exact: bool,
        /,
    ) -> Layer: ...
    def forward(
        self,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        num_batches_tracked: Tensor | None,
        record: Record,
        x: Tensor,
        y: Tensor,
        residual: Tensor | None,
        position_weights: Tensor | None,
        /,
    ) -> None: ...
    def infer(
        self,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        num_batches_tracked: Tensor | None,
        record: Record,
        x: Tensor,
        y: Tensor,
        residual: Tensor | None,
        position_weights: Tensor | None,
        /,
    ) -> None: ...
    def backward(
        self,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        num_batches_tracked: Tensor | None,
        record: Record,
        x: Tensor,
        dy: Tensor,
        dx: Tensor,
        weight_grad: Tensor | None,
        bias_grad: Tensor | None,
        y: Tensor | None,
        dresidual: Tensor | None,
        position_weights: Tensor | None,
        /,
    ) -> None: ...
