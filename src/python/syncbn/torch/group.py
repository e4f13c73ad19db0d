# SPDX-License-Identifier: Apache-2.0
"""Groups that sum over the processes of a process group, on the CPU and on CUDA devices."""

from __future__ import annotations

import math
import os
import time
import warnings
import weakref
from array import array
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as dist

from .. import _core
from .compat import backends_of, group_named, store_of, tensor_at

_DEFAULT_TIMEOUT = 300.0  # [s] as in the library, whose SYNCBN_TIMEOUT it also takes

Exchange = Literal["torch", "syncbn"]

# The groups of each process group, by exchange and device (None: the CPU).
_Groups = dict[tuple[Exchange, torch.device | None], Any]
_groups: weakref.WeakKeyDictionary[dist.ProcessGroup, _Groups] = weakref.WeakKeyDictionary()
_alone: _Groups = {}  # the groups of this process by itself


def device_of(x: torch.Tensor) -> torch.device | None:
    """Returns the CUDA device that a tensor is on, None for the CPU."""
    return None if _core.device_index(x) < 0 else x.device


def find(name: str) -> dist.ProcessGroup | None:
    """Returns the process group of a name, None for "" and where there are no process groups."""
    if not name or not dist.is_available() or not dist.is_initialized():
        return None
    group = group_named(name)
    if group is None:
        raise _core.NotConfigured(
            f"there is no process group '{name}' (a layer was stored with it). Give the layer one of "
            "this process: layer.process_group = group."
        )
    return group


def who_sums(group: dist.ProcessGroup | None) -> dist.ProcessGroup | None:
    """Returns the process group whose processes sum, given a layer's own or None for all processes.

    None where this process is alone.
    """
    if not dist.is_available() or not dist.is_initialized():
        return None
    chosen: Any = group or dist.group.WORLD
    if chosen is dist.GroupMember.NON_GROUP_MEMBER:  # what new_group gives to the others
        raise _core.InvalidArgument(
            "this process is not in the process group (others are). Give each process its own."
        )
    return None if chosen.size() == 1 else chosen


def group_of(process_group: dist.ProcessGroup | None, exchange: Exchange) -> _core.Group:
    """Returns the group that sums in the CPU's memory over the processes of a process group.

    None is this process by itself. Collective at the first call for each process group and exchange, of
    which there is one group.
    """
    groups = _groups_of(process_group)
    if (exchange, None) not in groups:
        groups[exchange, None] = (
            _core.Group() if process_group is None else _make(process_group, exchange)
        )
    group: _core.Group = groups[exchange, None]
    return group


def device_group_of(
    process_group: dist.ProcessGroup | None, exchange: Exchange, device: torch.device
) -> _core.DeviceGroup:
    """Returns the group that sums in a device's memory, as group_of does in the CPU's."""
    groups = _groups_of(process_group)
    if (exchange, device) not in groups:
        groups[exchange, device] = _make_on_device(process_group, exchange, device)
    group: _core.DeviceGroup = groups[exchange, device]
    return group


def _groups_of(process_group: dist.ProcessGroup | None) -> _Groups:
    return _alone if process_group is None else _groups.setdefault(process_group, {})


def _make(process_group: dist.ProcessGroup, exchange: Exchange) -> _core.Group:
    timeout = timeout_of_exchanges()
    all_reduce = _AllReduce(process_group, timeout, exchange)
    group = _core.Group(process_group.rank(), process_group.size(), all_reduce)
    if exchange == "syncbn":
        try:
            return group.sharing_memory(timeout)
        except _core.NotConfigured as error:
            warnings.warn(f"syncbn sums over torch's process group: {error}", stacklevel=2)
    return group


def _make_on_device(
    process_group: dist.ProcessGroup | None, exchange: Exchange, device: torch.device
) -> _core.DeviceGroup:
    index, host, timeout = (
        device.index or 0,
        group_of(process_group, exchange),
        timeout_of_exchanges(),
    )
    if process_group is None:
        return _core.DeviceGroup(index, host, timeout, "alone", None, None)
    if exchange == "syncbn":
        try:
            return _core.DeviceGroup(index, host, timeout, "nccl", None, None)
        except (_core.InvalidArgument, _core.NotConfigured) as error:
            warnings.warn(f"syncbn sums CUDA tensors over the process group: {error}", stacklevel=2)
    if _sums_on_streams(process_group):
        all_reduce = _DeviceAllReduce(process_group, device)
        return _core.DeviceGroup(index, host, timeout, "custom", all_reduce, all_reduce.abort)
    return _core.DeviceGroup(index, host, timeout, "staged", None, None)


def _sums_on_streams(process_group: dist.ProcessGroup) -> bool:
    """Tells whether a process group's all-reduce of CUDA tensors is work on a stream."""
    return "cuda:nccl" in backends_of(process_group)


def timeout_of_exchanges() -> float:
    """Returns for how many seconds an exchange waits for a process."""
    text = os.environ.get("SYNCBN_TIMEOUT", "")
    try:
        seconds = float(text) if text else _DEFAULT_TIMEOUT
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise _core.InvalidArgument(
            f"SYNCBN_TIMEOUT is '{text}' (a number of seconds above 0 is needed)."
        )
    return seconds


class _AllReduce:
    """Sums doubles in the CPU's memory over a process group, in place.

    Gloo ends the process if others sum another length, as they do if they call other layers. So a message
    has the length that all expect, the greatest that has followed the lengths before it, and says how
    many doubles are summed; what does not fit takes a second message. Steps of training repeat, so that
    this happens in the first. If processes differ in how many they sum, all get NaNs, by which the
    library sees that they disagree, and asks them what they do.
    """

    _grace = 2.0  # [s] in which the others notice a missing process, after the first has
    _unexpected = 510  # [doubles] what a message has room for that follows what was not seen before
    _remembered = 4  # lengths that tell what follows

    def __init__(
        self, process_group: dist.ProcessGroup, timeout: float, exchange: Exchange
    ) -> None:
        # A process group holds no reference to its groups, so this one does not keep it alive.
        self._process_group = weakref.ref(process_group)
        self._timeout = timedelta(seconds=timeout)
        self._exchange = exchange
        self._channel = _channel_beside(process_group, timeout, exchange)
        self._number = 0
        self._last: tuple[int, ...] = ()
        self._followed: dict[tuple[int, ...], int] = {}
        self._messages: dict[int, tuple[memoryview, torch.Tensor]] = {}

    def __call__(self, memory: memoryview) -> None:
        process_group = self._process_group()
        if process_group is None:
            raise RuntimeError("the process group has been destroyed")
        self._number += 1
        values = memory.cast("d")
        length, size = len(values), process_group.size()
        room = self._followed.get(self._last, self._unexpected)
        head = min(length, room)
        message, tensor = self._message_of(2 + room)
        message[0], message[1] = length, length * length
        message[2 : 2 + head] = values[:head]
        if head < room:
            tensor[2 + head :] = 0
        self._sum(process_group, tensor)
        # Equal sums of the lengths and of their squares: sum((l_r - l)^2) = 0, so all l_r are l.
        if message[0] != size * length or message[1] != size * length * length:
            torch.frombuffer(memory, dtype=torch.float64).fill_(math.nan)
            return
        values[:head] = message[2 : 2 + head]
        if length > head:
            self._sum(process_group, torch.frombuffer(memory, dtype=torch.float64)[head:])
        self._followed[self._last] = max(length, self._followed.get(self._last, 0))
        self._last = (*self._last[1 - self._remembered :], length)

    @torch.inference_mode(False)  # it is used outside of that mode too
    def _message_of(self, length: int) -> tuple[memoryview, torch.Tensor]:
        """Returns memory of so many doubles, by itself and as a tensor."""
        if length not in self._messages:
            memory = memoryview(array("d", bytes(8 * length)))
            self._messages[length] = memory, torch.frombuffer(memory, dtype=torch.float64)
        return self._messages[length]

    def _sum(self, process_group: dist.ProcessGroup, values: torch.Tensor) -> None:
        try:
            (self._channel or process_group).allreduce([values]).wait(self._timeout)
        except RuntimeError as error:
            raise RuntimeError(
                f"no sum within {self._timeout.total_seconds():g} s (SYNCBN_TIMEOUT): "
                f"{error}{self._who_is_missing(process_group)}"
            ) from None

    def _who_is_missing(self, process_group: dist.ProcessGroup) -> str:
        """Asks the group's store who has noticed the failure too; the others are missing."""
        store = store_of(process_group)
        if store is None:
            return ""
        rank, size = process_group.rank(), process_group.size()
        key = f"syncbn/{self._exchange}/failed/{self._number}/"
        try:
            store.set(key + str(rank), "")
            others = [other for other in range(size) if other != rank]
            end = time.monotonic() + self._grace
            while others and time.monotonic() < end:
                others = [other for other in others if not store.check([key + str(other)])]
                time.sleep(0.05)
        except RuntimeError:  # the process that has the store is gone
            return ""
        if not others:
            return " (every process of the group has noticed)"
        return f" (missing: {_ranks(others, size)})"


def _channel_beside(process_group: dist.ProcessGroup, timeout: float, exchange: Exchange) -> Any:
    """Returns what sums tensors of the CPU over a group's processes, beside the group; None if nothing.

    The trainer sums over the group too, and gloo ends the process where a layer's sum of one process
    meets a trainer's of another, as when one is in evaluation. It is not registered with torch, which
    numbers its groups: the numbers must agree in all processes.
    """
    backends, store = backends_of(process_group), store_of(process_group)
    can_be_made = store is not None and hasattr(dist, "ProcessGroupGloo")
    if "cpu:" in backends and not ("cpu:gloo" in backends and can_be_made):
        return None
    if store is None or not can_be_made:
        raise _core.NotConfigured(
            "the process group sums no tensors of the CPU, and none that does can be made beside it. Make "
            "it with a backend for both: init_process_group('cpu:gloo,cuda:nccl')."
        )
    rank, size = process_group.rank(), process_group.size()
    came = f"syncbn/{exchange}/came/"
    store.set(came + str(rank), "")
    try:
        return dist.ProcessGroupGloo(
            dist.PrefixStore(f"syncbn/{exchange}", store), rank, size, timedelta(seconds=timeout)
        )
    except RuntimeError as error:
        missing = [other for other in range(size) if not store.check([came + str(other)])]
        if missing:
            raise _core.CommError(
                f"{_ranks(missing, size)} did not come to the first exchange within {timeout:g} s "
                f"(SYNCBN_TIMEOUT): {error}"
            ) from None
        raise _core.CommError(
            f"the processes cannot connect to each other (GLOO_SOCKET_IFNAME?): {error}"
        ) from None


def _ranks(ranks: list[int], size: int) -> str:
    names = ", ".join(map(str, ranks))
    return f"{'rank' if len(ranks) == 1 else 'ranks'} {names} of {size}"


class _DeviceAllReduce:
    """Puts the sum of doubles of a device over a process group on the stream on which torch works."""

    _most_kept = 1024  # tensors; more where a program goes on making layers

    def __init__(self, process_group: dist.ProcessGroup, device: torch.device) -> None:
        self._process_group = weakref.ref(process_group)
        self._device = device
        self._tensors: dict[tuple[int, int], torch.Tensor] = {}

    @torch.inference_mode(False)
    def __call__(self, address: int, length: int, stream: int) -> None:
        process_group = self._process_group()
        if process_group is None:
            raise RuntimeError("the process group has been destroyed")
        values = self._tensors.get((address, length))
        if values is None:  # a layer's sums stay in one place
            if len(self._tensors) == self._most_kept:
                self._tensors.clear()
            values = tensor_at(address, length, self._device)
            self._tensors[address, length] = values
        process_group.allreduce([values]).wait()  # has the stream wait

    def abort(self) -> None:
        """Ends the process group, after a failure: streams would stand still in its all-reduces."""
        process_group = self._process_group()
        if process_group is not None:
            process_group.abort()
