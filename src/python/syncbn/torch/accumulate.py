# SPDX-License-Identifier: Apache-2.0
"""Statistics over several micro-batches, where memory holds the graph of one.

A first pass without gradients runs the model on all micro-batches in step: each waits at a layer for the
others, and the layer normalizes them together, as one batch. A layer's statistics depend on what the
layers before it made of all of them, so there is no other order. Then each micro-batch has a forward
and a backward of its own, with these statistics.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .. import _core
from .function import Pass, record_in_tensor
from .group import who_sums
from .layer import Synchronized, SynchronizedSubclass


@contextlib.contextmanager
def accumulate(model: nn.Module, batches: Sequence[Any]) -> Iterator[None]:
    """Normalizes each of several micro-batches with the statistics of all of them, over all processes.

        with sbn.accumulate(model, inputs):
            for x, y in zip(inputs, targets):
                (criterion(model(x), y) / len(inputs)).backward()
        optimizer.step()

    Within it the model is called with these batches, in this order. A batch is the model's argument, or
    a tuple of its arguments; processes give equally many. Outputs and running statistics are those of
    one batch that holds all, to rounding. Gradients are those of a micro-batch's own: what they owe to
    the statistics (the means over the batch in the backward) is estimated from the micro-batch, over
    all processes, as the others' gradients are not known yet.

    It takes one forward more, without gradients, which holds one layer's input of all batches at a
    time. Random layers draw other numbers there.
    """
    model = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
    _refuse_compiled(model)
    layers = {
        path or type(layer).__name__: layer
        for path, layer in model.named_modules()
        if isinstance(layer, Synchronized)
    }
    found: _Found = {}
    with _counted_once(layers.values(), found) as counts:
        _take_statistics(model, layers, [_arguments(batch) for batch in batches], found, counts)
        replay = _Replay(layers, found, len(batches))
        begins = model.register_forward_pre_hook(replay.next_batch)
        try:
            with _replaced(layers.values(), "_accumulation", replay):
                yield
        finally:
            begins.remove()


def _arguments(batch: Any) -> tuple[Any, ...]:
    return tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)


def _refuse_compiled(model: nn.Module) -> None:
    for path, module in model.named_modules():
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
            raise _core.InvalidArgument(
                f"{path or 'the model'} is compiled (its layers take no statistics of others). "
                "Accumulate with the model as it was."
            )


@contextlib.contextmanager
def _replaced(layers: Iterable[nn.Module], name: str, value: Any) -> Iterator[None]:
    """Gives layers an attribute of their own for a while."""
    layers = list(layers)
    try:
        for layer in layers:
            layer.__dict__[name] = value
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop(name, None)


class _Known:
    """The statistics of all batches, for the forward and the backward of one of them."""

    def __init__(self, together: Pass, shape: torch.Size, count: Tensor) -> None:
        self.shape = shape
        self._together = together
        self._count = count  # elements per channel of this batch, over all processes

    def give(self, call: Pass, x: Tensor) -> None:
        assert self._together.memory is not None
        memory = self._together.memory.clone()
        memory[-1] = self._count  # which is last in a record's memory
        note = self._together.record.note()  # begins with n, c, s, type and layout
        note[0], note[2], note[4] = x.size(0), math.prod(x.shape[2:]), 0 if x.is_contiguous() else 1
        call.record, call.memory = _core.Record(memory, x.size(1), note), memory
        call.again = True


# What a layer's calls have found: for each call in a forward, what each of the batches takes of it.
_Found = dict[Synchronized, list[list[_Known]]]


class _Replay:
    """Hands each forward what the first pass has found, in its order."""

    def __init__(self, layers: dict[str, Synchronized], found: _Found, batches: int) -> None:
        self._names = {layer: name for name, layer in layers.items()}
        self._found = found
        self._batches = batches
        self._batch = -1
        self._calls: dict[Synchronized, int] = {}

    def next_batch(self, *_: Any) -> None:
        self._batch += 1
        self._calls = {}
        if self._batch == self._batches:
            raise _core.InvalidArgument(
                f"the model is called once more than there are batches ({self._batches} were given to "
                "accumulate). Give it all of a step, and call the model once for each."
            )

    def prepare(self, layer: Synchronized, call: Pass, x: Tensor) -> None:
        number = self._calls.get(layer, 0)
        self._calls[layer] = number + 1
        calls = self._found.get(layer, [])
        known = calls[number][self._batch] if number < len(calls) and self._batch >= 0 else None
        if known is None or known.shape != x.shape:
            raise _core.InvalidArgument(
                f"{self._names[layer]} is called with {tuple(x.shape)}, which is not what batch "
                f"{self._batch} of accumulate had there. Call the model with the same batches, in the "
                "same order."
            )
        known.give(call, x)


# Batches that layers have seen before, of layers whose own forward counts.
_Counts = dict[Synchronized, Tensor]


@contextlib.contextmanager
def _counted_once(layers: Iterable[Synchronized], found: _Found) -> Iterator[_Counts]:
    """Has layers whose own forward counts have counted one batch at the end, for each call."""
    counts: _Counts = {
        layer: layer.num_batches_tracked.clone()
        for layer in layers
        if isinstance(layer, SynchronizedSubclass) and layer.num_batches_tracked is not None
    }
    try:
        yield counts
    finally:
        for layer, before in counts.items():
            layer.num_batches_tracked = before + len(found.get(layer, []))


def _take_statistics(
    model: nn.Module,
    layers: dict[str, Synchronized],
    batches: list[tuple[Any, ...]],
    found: _Found,
    counts: _Counts,
) -> None:
    """Runs a model on all batches in step, without gradients, and notes what its layers find."""
    if not batches:
        raise _core.InvalidArgument("accumulate has no batch. Give it some.")
    steps = _InStep(len(batches))
    meeting = _Meeting(steps, found, {layer: name for name, layer in layers.items()}, counts)
    with contextlib.ExitStack() as stack:
        for layer in layers.values():
            stack.enter_context(
                _replaced([layer], "_normalize", meeting.stand_in(layer, layer._normalize))
            )
        stack.enter_context(_replaced(layers.values(), "_accumulation", meeting))
        steps.run([_in_thread_as_here(model, batch) for batch in batches])


def _in_thread_as_here(model: nn.Module, batch: tuple[Any, ...]) -> Callable[[], None]:
    """Returns a call of the model that has, in another thread, this thread's settings of torch."""
    autocasts = [
        (kind, torch.get_autocast_dtype(kind))
        for kind in ("cpu", "cuda")
        if torch.is_autocast_enabled(kind)
    ]
    streams = [torch.cuda.current_stream()] if torch.cuda.is_initialized() else []

    def call() -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            for kind, dtype in autocasts:
                stack.enter_context(torch.autocast(kind, dtype))
            for stream in streams:
                stack.enter_context(torch.cuda.stream(stream))
            model(*batch)

    return call


class _Stopped(BaseException):
    """Ends a thread because another has failed."""


class _InStep:
    """Functions in threads of which one runs at a time, in turns that they end themselves."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._turn = 0
        self._running = set(range(count))
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._own = threading.local()

    @property
    def number(self) -> int:
        """Which of the functions this thread runs."""
        number: int = self._own.number
        return number

    def run(self, functions: list[Callable[[], None]]) -> None:
        """Runs all to their ends. Raises what one has raised, and ends the others."""
        threads = [
            threading.Thread(target=self._run, args=(number, function), daemon=True)
            for number, function in enumerate(functions)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._error is not None:
            raise self._error

    def _run(self, number: int, function: Callable[[], None]) -> None:
        self._own.number = number
        try:
            self._wait()
            function()
        except _Stopped:
            pass
        except BaseException as error:
            with self._changed:
                self._error = self._error or error
        with self._changed:
            self._running.discard(number)
            self._pass_on(number)

    def end_turn(self) -> None:
        """Lets the others have theirs."""
        with self._changed:
            self._pass_on(self.number)
        self._wait()

    def _pass_on(self, number: int) -> None:
        later = [other for other in self._running if other > number]
        if self._running:
            self._turn = min(later or self._running)
        self._changed.notify_all()

    def _wait(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or self._turn == self.number)
            if self._error is not None:
                raise _Stopped


class _Meeting:
    """Where the batches meet at a layer, which normalizes them together."""

    def __init__(
        self, steps: _InStep, found: _Found, names: dict[Synchronized, str], counts: _Counts
    ) -> None:
        self._steps = steps
        self._found = found
        self._names = names
        self._counts = counts
        self._arrived: list[tuple[Synchronized, tuple[Tensor | None, ...]]] = []
        self._outputs: list[Tensor] = []

    def stand_in(
        self, layer: Synchronized, normalize: Callable[..., Tensor]
    ) -> Callable[..., Tensor]:
        """Returns what a layer normalizes by in the thread of one batch."""

        def meet(
            x: Tensor, weight: Any, bias: Any, buffers: Any, eps: float, momentum: float | None,
            frozen: bool, residual: Tensor | None = None, position_weights: Tensor | None = None,
            *rest: Any,
        ) -> Tensor:  # fmt: skip
            if layer in self._counts:  # its forward has counted for each of the batches
                buffers = (*buffers[:2], self._counts[layer] + len(self._found.get(layer, [])))
            options = (weight, bias, buffers, eps, momentum, frozen)
            if frozen:
                return normalize(x, *options, residual, position_weights, *rest)
            if position_weights is not None:
                position_weights = position_weights.expand(x.size(0), *x.shape[2:])
            outputs = self._outputs
            self._arrived.append((layer, (x, residual, position_weights)))
            if len(self._arrived) == self._steps.count:
                together, *others = self._joined()
                y = normalize(together, *options, *others, *rest)
                self._outputs = list(y.split([len(given[0]) for given in self._given()]))
                self._arrived = []
            self._steps.end_turn()
            if self._outputs is outputs:  # another has ended without coming here
                self._refuse_different_layers()
            return self._outputs[self._steps.number]

        return meet

    def prepare(self, layer: Synchronized, call: Pass, x: Tensor) -> None:
        """Keeps what each of the batches will take of a layer's forward, which follows."""
        call.record, call.memory = record_in_tensor(x.size(1), x.device)
        inputs = [given[0] for given in self._given()]
        if call.position_weights is None:
            counts = [batch.numel() / batch.size(1) for batch in inputs]
            elements = torch.tensor(counts, dtype=torch.float64, device=x.device)
        else:
            parts = call.position_weights.split([len(batch) for batch in inputs])
            elements = torch.stack([part.double().sum() for part in parts])
        process_group = who_sums(layer.process_group)
        if process_group is not None:
            dist.all_reduce(elements, group=process_group)
        self._found.setdefault(layer, []).append(
            [
                _Known(call, batch.shape, count)
                for batch, count in zip(inputs, elements, strict=True)
            ]
        )

    def _given(self) -> list[Any]:
        return [given for _, given in self._arrived]

    def _joined(self) -> list[Tensor | None]:
        """Returns the batches' inputs, residuals and weights of positions, each as one tensor or None."""
        layer = self._arrived[0][0]
        if any(other is not layer for other, _ in self._arrived):
            self._refuse_different_layers()
        joined: list[Tensor | None] = []
        for tensors in zip(*self._given(), strict=True):
            present = [tensor for tensor in tensors if tensor is not None]
            shapes = {tuple(tensor.shape[1:]) for tensor in present}
            if len(shapes) > 1 or len(present) not in (0, len(tensors)):
                raise _core.InvalidArgument(
                    f"{self._names[layer]} has batches of different shapes (without samples: {shapes}). "
                    "Give batches that differ in their number of samples alone."
                )
            joined.append(torch.cat(present) if present else None)
        return joined

    def _refuse_different_layers(self) -> None:
        called = ", ".join(self._names[layer] for layer, _ in self._arrived)
        raise _core.InvalidArgument(
            f"the batches of accumulate call different layers ({called or 'some none'}). Give batches of "
            "which the model calls the same layers."
        )
