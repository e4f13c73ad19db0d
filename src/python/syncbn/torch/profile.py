# SPDX-License-Identifier: Apache-2.0
"""A table of what each synchronized layer of a model takes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .compat import is_compiling
from .group import group_of, who_sums
from .layer import Synchronized, replaced, synchronized_layers


class _Span:
    """A time that is measured: on the CPU by its clock, on a device by events on torch's stream."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._events: tuple[torch.cuda.Event, ...] | None = None
        if device.type == "cuda":
            self._events = tuple(torch.cuda.Event(enable_timing=True) for _ in range(2))
            self._events[0].record(torch.cuda.current_stream(device))
        self._start = time.perf_counter()
        self._seconds = 0.0

    def stop(self) -> None:
        self._seconds = time.perf_counter() - self._start
        if self._events is not None:
            self._events[1].record(torch.cuda.current_stream(self._device))

    def seconds(self) -> float:
        if self._events is None:
            return self._seconds
        self._events[1].synchronize()
        return self._events[0].elapsed_time(self._events[1]) / 1e3


@dataclass
class LayerProfile:
    """What a layer has taken in this process, all calls together."""

    name: str
    shape: tuple[int, ...] = ()  # of the last input
    forwards: int = 0
    backwards: int = 0
    messages: int = 0  # that it has exchanged, on the CPU
    bytes: int = 0  # of these messages, each counted once
    waiting: float = 0.0  # in exchanges on the CPU, for other processes too [s]
    _is_open: bool = True
    _forward: list[_Span] = field(default_factory=list)
    _backward: list[_Span] = field(default_factory=list)

    @property
    def forward(self) -> float:
        """Seconds in forwards, exchanges included."""
        return sum(span.seconds() for span in self._forward)

    @property
    def backward(self) -> float:
        """Seconds in backwards, exchanges included."""
        return sum(span.seconds() for span in self._backward)


class Profile:
    """What the synchronized layers of a model have taken. Print it."""

    def __init__(self) -> None:
        self.layers: list[LayerProfile] = []

    def __str__(self) -> str:
        width = max([5, *(len(layer.name) for layer in self.layers)])
        lines = [
            f"{'layer':<{width}} {'input':>18} {'calls':>6} {'forward':>11} {'backward':>11} "
            f"{'exchanging':>11} {'sent':>10}"
        ]
        lines += [_line(layer, width) for layer in self.layers]
        total = LayerProfile("all", forwards=sum(layer.forwards for layer in self.layers))
        total.messages = sum(layer.messages for layer in self.layers)
        total.bytes = sum(layer.bytes for layer in self.layers)
        total.waiting = sum(layer.waiting for layer in self.layers)
        forward = sum(layer.forward for layer in self.layers)
        backward = sum(layer.backward for layer in self.layers)
        lines.append(_line(total, width, forward, backward))
        return "\n".join(lines)


def _line(
    layer: LayerProfile, width: int, forward: float | None = None, backward: float | None = None
) -> str:
    shape = "x".join(map(str, layer.shape))
    forward = layer.forward if forward is None else forward
    backward = layer.backward if backward is None else backward
    return (
        f"{layer.name:<{width}} {shape:>18} {layer.forwards:>6} {forward * 1e3:>8.2f} ms "
        f"{backward * 1e3:>8.2f} ms {layer.waiting * 1e3:>8.2f} ms {layer.bytes / 1024:>6.1f} KiB"
    )


@contextlib.contextmanager
def profile(model: nn.Module) -> Iterator[Profile]:
    """Measures what each synchronized layer of a model takes while it is open, in this process.

        with sbn.profile(model) as taken:
            loss(model(x), y).backward()
        print(taken)

    The time of an exchange is also the time by which other processes come later. On a CUDA device
    exchanges are work on the stream, and have no column of their own. Inside of compiled graphs nothing
    is seen.
    """
    taken = Profile()
    layers = synchronized_layers(model)
    of_layers = {layer: LayerProfile(name) for name, layer in layers.items()}
    taken.layers = list(of_layers.values())

    def measured(layer: Synchronized) -> Callable[..., Tensor]:
        return _measured(layer, layer._normalize, of_layers[layer])

    try:
        with replaced(layers.values(), "_normalize", measured):
            yield taken
    finally:
        for of_layer in taken.layers:
            of_layer._is_open = False


def _measured(
    layer: Synchronized, normalize: Callable[..., Tensor], of_layer: LayerProfile
) -> Callable[..., Tensor]:
    """Returns a layer's forward, with its backward, made to note what they take."""

    def forward(x: Tensor, *arguments: Any, **keywords: Any) -> Tensor:
        if is_compiling():
            return normalize(x, *arguments, **keywords)
        before, span = _counted(layer), _Span(x.device)
        y = normalize(x, *arguments, **keywords)
        span.stop()
        of_layer.shape = tuple(x.shape)
        of_layer.forwards += 1
        of_layer._forward.append(span)
        _add(of_layer, before, _counted(layer))
        if y.grad_fn is not None:
            _measure_backward(layer, y.grad_fn, x.device, of_layer)
        return y

    return forward


def _measure_backward(
    layer: Synchronized, node: Any, device: torch.device, of_layer: LayerProfile
) -> None:
    started: list[tuple[Any, _Span]] = []

    def start(_: Any) -> None:
        started.append((_counted(layer), _Span(device)))

    def stop(*_: Any) -> None:
        before, span = started.pop()
        if not of_layer._is_open:
            return
        span.stop()
        of_layer.backwards += 1
        of_layer._backward.append(span)
        _add(of_layer, before, _counted(layer))

    node.register_prehook(start)
    node.register_hook(stop)


def _counted(layer: Synchronized) -> tuple[int, int, float]:
    """Returns the messages that the layer's group has exchanged, their bytes and seconds."""
    settings = layer._synchronized
    process_group = who_sums(settings.group())
    if process_group is None or not layer.training:
        return 0, 0, 0.0
    return group_of(process_group, settings.exchange).counters()


def _add(
    of_layer: LayerProfile, before: tuple[int, int, float], after: tuple[int, int, float]
) -> None:
    of_layer.messages += after[0] - before[0]
    of_layer.bytes += after[1] - before[1]
    of_layer.waiting += after[2] - before[2]
