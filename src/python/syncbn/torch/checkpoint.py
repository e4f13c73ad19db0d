# SPDX-License-Identifier: Apache-2.0
"""Forwards that torch.utils.checkpoint computes a second time.

It does so in the backward, to spare the memory of what lies between. The second forward of a layer must
not exchange again, nor move the running statistics again: it takes the statistics of the first, which
it knows by its input's sums, the same to the bit. On a device, where a comparison would have the host
wait, it compares them only if several forwards come into question.
"""

from __future__ import annotations

import sys
import weakref
from collections import deque
from enum import Enum, auto
from types import FrameType
from typing import TYPE_CHECKING

import torch
import torch.utils.checkpoint as torch_checkpoint
from torch import Tensor

from .. import _core
from .compat import in_backward, saving_hooks

if TYPE_CHECKING:
    from .function import Pass

_Kind = tuple[torch.Size, torch.dtype, torch.device]


class Time(Enum):
    """Whether a forward will be computed again, or is."""

    ONLY = auto()
    FIRST = auto()
    AGAIN = auto()


def time_of_forward() -> Time:
    """Tells which it is of the forward that runs now. Costs little where nothing is checkpointed."""
    if in_backward():
        return Time.AGAIN if _inside_checkpoint() else Time.ONLY
    if torch.is_grad_enabled() and not saving_hooks():
        return Time.ONLY
    return Time.FIRST if _inside_checkpoint() else Time.ONLY


def _inside_checkpoint() -> bool:
    """Tells whether torch.utils.checkpoint has called, directly or not, what runs now."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == torch_checkpoint.__file__:
            return True
        frame = frame.f_back
    return False


class Forwards:
    """The forwards of a layer that may be computed again."""

    # A reentrant checkpoint keeps nothing of the first forward alive, so that the oldest are dropped.
    _most_kept = 64

    def __init__(self) -> None:
        self._alive: dict[_Kind, weakref.WeakKeyDictionary[Pass, Tensor]] = {}
        self._kept: deque[tuple[_Kind, Pass, Tensor]] = deque(maxlen=self._most_kept)

    def add(self, call: Pass, x: Tensor) -> None:
        kind, sums = _kind(x), _sums(call, x)
        if torch.is_grad_enabled():
            self._alive = {of: calls for of, calls in self._alive.items() if calls}
            self._alive.setdefault(kind, weakref.WeakKeyDictionary())[call] = sums
        else:
            self._kept.append((kind, call, sums))

    def find(self, call: Pass, x: Tensor, name: str) -> Pass:
        """Returns the first forward of which `call` is the second."""
        kind = _kind(x)
        possible = list(self._alive.get(kind, {}).items())
        possible += [(first, sums) for of, first, sums in self._kept if of == kind]
        if len(possible) == 1 and call.bound.device is not None:
            return possible[0][0]  # to compare sums would have the host wait for the device
        sums = _sums(call, x)
        found = [first for first, of_first in possible if _is_same(of_first, sums)]
        if not found:
            raise _core.InvalidArgument(
                f"{name or 'a layer'} is computed again with another input than in the forward (its "
                "statistics are those of the first). Make what is checkpointed give the same results "
                "twice: keep preserve_rng_state, and change no tensor in between."
            )
        last = found[-1]
        if x.numel() and not all(_had_same_batch(first, last) for first in found):
            raise _core.InvalidArgument(
                f"{name or 'a layer'} is computed again, with an input that this process has had "
                "twice, while other processes had others (so which statistics it had is not known). "
                "Take the backward of one before the forward of the other."
            )
        return last


def _kind(x: Tensor) -> _Kind:
    return x.shape, x.dtype, x.device


def _sums(call: Pass, x: Tensor) -> Tensor:
    """Returns numbers that depend on every element of x."""
    channels = x.size(1)
    memory = torch.zeros(3 * channels + 1, dtype=torch.float64, device=x.device)
    call.bound.layer.local_sums(x, call.position_weights, memory)
    return memory[: 2 * channels + 1]


def _had_same_batch(one: Pass, other: Pass) -> bool:
    """Tells whether the means of two forwards are equal but for rounding."""
    mean, var = one.statistics()
    distance = mean - other.statistics()[0]
    return not bool((distance.square() > 1e-10 * var).any())


def _is_same(a: Tensor, b: Tensor) -> bool:
    """Tells whether doubles have the same bits, as NaNs may too."""
    return torch.equal(a.view(torch.int64), b.view(torch.int64))
