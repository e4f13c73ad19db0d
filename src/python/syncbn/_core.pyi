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

def device_index(tensor: Tensor, /) -> int:
    """Returns the number of the CUDA device that a tensor is on, -1 for the CPU."""

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
class DeviceGroup:
    """Processes that sum in the memory of a CUDA device.

    The kinds are "alone": one process; "staged": by copies to the CPU, where `host` sums; "nccl": by the
    NCCL that the process has or finds; and "custom": by a function that puts the sum of so many doubles at
    an address on a stream, and one that ends the sums which it has put there.
    """

    def __new__(
        cls,
        index: int,
        host: Group,
        deadline: float,
        kind: str,
        all_reduce: Callable[[int, int, int], object] | None,
        abort: Callable[[], object] | None,
        /,
    ) -> DeviceGroup: ...

@final
class Record:
    """What a backward needs from its forward, besides the tensors.

    Record() is one for tensors of the CPU. Record(memory, channels, note) is one in a tensor of
    Record.length(channels) doubles on any device: empty, or with a note filled as it was. The memory
    begins with mean and var, [C] each. The functions that return statistics are for the CPU's memory.
    """

    def __new__(
        cls, memory: Tensor = ..., channels: int = ..., note: Sequence[int] | None = ..., /
    ) -> Record: ...
    @staticmethod
    def length(channels: int, /) -> int: ...
    def note(self) -> list[int]: ...
    def note_like(self, x: Tensor, /) -> list[int]:
        """Returns the note of a forward that had x, of as many channels, in place of its input."""
    def mean(self) -> list[float]: ...
    def var(self) -> list[float]: ...
    def count(self) -> float: ...

@final
class Layer:
    """A layer over a group. Its parameters and running statistics are given in every call.

    One over a group on a device is also given a function that allocates so many bytes there, and where
    it leaves the gradients of weight and bias, [C] each. It works on the stream that is torch's current
    one in each call.
    """

    def __new__(
        cls,
        group: Group | DeviceGroup,
        name: str,
        channels: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        negative_slope: float,
        exact: bool,
        allocate: Callable[[int], Tensor] = ...,
        weight_grad: Tensor | None = ...,
        bias_grad: Tensor | None = ...,
        /,
    ) -> Layer: ...
    def normalize(
        self,
        weight: Tensor | None,
        bias: Tensor | None,
        record: Record,
        x: Tensor,
        y: Tensor,
        residual: Tensor | None,
        position_weights: Tensor | None,
        /,
    ) -> None:
        """Writes the y of the forward that filled the record, given the same arguments."""
    def local_sums(self, x: Tensor, position_weights: Tensor | None, memory: Tensor, /) -> None:
        """Writes numbers that depend on every element of x: the first 2C + 1 of 3C + 1 doubles, all 0."""
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
