# SPDX-License-Identifier: Apache-2.0
"""Statistics over several micro-batches, where memory holds the graph of one.

A first pass without gradients runs the model on all micro-batches in step: each waits at a layer for the
others, and the layer normalizes them together, as one batch. A layer's statistics depend on what the
layers before it made of all of them, so there is no other order. Then each micro-batch has a forward
and a backward of its own, with these statistics.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .. import _core
from .compat import in_backward, is_sharded
from .converted import SynchronizedSubclass
from .function import Pass, record_in_tensor
from .layer import Synchronized, replaced, synchronized_layers
from .statistics import arguments_of


@contextlib.contextmanager
def accumulate(model: nn.Module, batches: Iterable[Any]) -> Iterator[None]:
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
    time. Random layers draw other numbers there. Models that are compiled, or that FSDP has in shards,
    are refused.
    """
    if isinstance(batches, Tensor):
        raise _core.InvalidArgument("accumulate takes several batches. Give it a list: [batch].")
    batches = [arguments_of(batch) for batch in batches]
    model = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
    _refuse_compiled_and_sharded(model)
    layers = synchronized_layers(model)
    found: _Found = {}
    with _counted_once(layers.values(), found) as counts:
        _take_statistics(model, layers, batches, found, counts)
        replay = _Replay(layers, found, len(batches))
        begins = model.register_forward_pre_hook(replay.next_batch)
        try:
            with replaced(layers.values(), "_accumulation", lambda _: replay):
                yield
            replay.require_all()
        finally:
            begins.remove()


def _refuse_compiled_and_sharded(model: nn.Module) -> None:
    for path, module in model.named_modules():
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
            raise _core.InvalidArgument(
                f"{path or 'the model'} is compiled (its layers take no statistics of others). "
                "Accumulate with the model as it was."
            )
        if is_sharded(module):
            raise _core.InvalidArgument(
                f"{path or 'the model'} is sharded by FSDP, which does not let several batches into it at "
                "a time. Accumulate with DistributedDataParallel, or with larger batches under "
                "torch.utils.checkpoint."
            )


# For each call of a layer in a forward: its forward with all batches together, and their shapes.
_Found = dict[Synchronized, list[tuple[Pass, list[torch.Size]]]]


class _Replay:
    """Gives each forward of a micro-batch the statistics of all, in the order of the first pass."""

    def __init__(self, layers: dict[str, Synchronized], found: _Found, batches: int) -> None:
        self._names = {layer: name for name, layer in layers.items()}
        self._found = found
        self._batches = batches
        self._batch = -1
        self._calls: dict[Synchronized, int] = {}

    def next_batch(self, model: nn.Module, *_: Any) -> None:
        if (
            not model.training or in_backward()
        ):  # not a batch, or one that a checkpoint computes again
            return
        self._batch += 1
        self._calls = {}
        if self._batch == self._batches:
            raise _core.InvalidArgument(
                f"the model is called once more than there are batches ({self._batches} were given to "
                "accumulate). Give it all of a step, and call the model once for each."
            )

    def require_all(self) -> None:
        if self._batch < self._batches - 1:
            raise _core.InvalidArgument(
                f"the model was called with {self._batch + 1} of the {self._batches} batches that were "
                "given to accumulate. Call that model, not a compiled one, once for each."
            )

    def prepare(self, layer: Synchronized, call: Pass, x: Tensor) -> None:
        """Has a forward take the statistics of all batches."""
        number = self._calls.get(layer, 0)
        self._calls[layer] = number + 1
        calls = self._found.get(layer, [])
        known = number < len(calls) and self._batch >= 0
        if not known or calls[number][1][self._batch] != x.shape:
            raise _core.InvalidArgument(
                f"{self._names[layer]} is called with {tuple(x.shape)}, which is not what batch "
                f"{self._batch} of accumulate had there. Call the model with the same batches, in the "
                "same order."
            )
        together = calls[number][0]
        assert together.memory is not None
        note = together.record.note_like(x)
        call.record, call.memory = _core.Record(together.memory, x.size(1), note), together.memory
        call.again = True


# The numbers of batches that layers whose own forward counts had seen before.
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
            assert layer.num_batches_tracked is not None
            layer.num_batches_tracked.copy_(before + len(found.get(layer, [])))


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
    turns = _Turns(len(batches))
    together = _Together(turns, found, {layer: name for name, layer in layers.items()}, counts)
    with (
        replaced(layers.values(), "_normalize", together.stand_in),
        replaced(layers.values(), "_accumulation", lambda _: together),
    ):
        turns.run([_in_thread_as_here(model, batch) for batch in batches])


def _in_thread_as_here(model: nn.Module, batch: tuple[Any, ...]) -> Callable[[], None]:
    """Returns a call of the model that has, in another thread, this thread's settings of torch."""
    autocasts = [
        (kind, torch.get_autocast_dtype(kind))
        for kind in ("cpu", "cuda")
        if torch.is_autocast_enabled(kind)
    ]
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    streams = [torch.cuda.current_stream(device) for device in devices]
    current = torch.cuda.current_device() if streams else -1

    def call() -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            for kind, dtype in autocasts:
                stack.enter_context(torch.autocast(kind, dtype))
            for stream in streams:
                stack.enter_context(torch.cuda.stream(stream))
            stack.enter_context(torch.cuda.device(current))
            model(*batch)

    return call


class _Stopped(BaseException):
    """Ends a thread because another has failed."""


class _Turns:
    """Functions in threads of which one runs at a time, until it ends its turn."""

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
        try:
            for thread in threads:
                thread.join()
        except BaseException as error:  # an interruption by the user
            self._fail(error)
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
            self._fail(error)
        with self._changed:
            self._running.discard(number)
            self._pass_on(number)

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def end(self) -> None:
        """Ends this thread's turn, and returns when it has the next one."""
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


class _Together:
    """Normalizes the batches of all threads together, when the last of them has come to a layer."""

    def __init__(
        self, turns: _Turns, found: _Found, names: dict[Synchronized, str], counts: _Counts
    ) -> None:
        self._turns = turns
        self._found = found
        self._names = names
        self._counts = counts
        # The layer and the tensors of each batch that has come to it so far.
        self._arrived: list[tuple[Synchronized, tuple[Tensor | None, ...]]] = []
        self._outputs: list[Tensor] = []

    def stand_in(self, layer: Synchronized) -> Callable[..., Tensor]:
        """Returns what takes the place of a layer's _normalize in the threads."""
        normalize = layer._normalize

        def in_thread(
            x: Tensor, weight: Any, bias: Any, buffers: Any, eps: float, momentum: float | None,
            frozen: bool, residual: Tensor | None = None, position_weights: Tensor | None = None,
            *rest: Any,
        ) -> Tensor:  # fmt: skip
            if layer in self._counts:  # its forward has counted for each of the batches
                buffers = (*buffers[:2], self._counts[layer] + len(self._found.get(layer, [])))
            options = (weight, bias, buffers, eps, momentum, frozen)
            if frozen:
                return normalize(x, *options, residual, position_weights, *rest)
            if residual is not None:
                residual = residual.expand_as(x)
            if position_weights is not None:
                position_weights = position_weights.expand(x.size(0), *x.shape[2:])
            outputs = self._outputs
            self._arrived.append((layer, (x, residual, position_weights)))
            if len(self._arrived) == self._turns.count:
                y = normalize(self._joined(0), *options, self._joined(1), self._joined(2), *rest)
                self._outputs = list(y.split([len(given[0]) for given in self._given()]))
                self._arrived = []
            self._turns.end()
            if self._outputs is outputs:  # another has ended without coming here
                self._refuse_different_layers()
            return self._outputs[self._turns.number]

        return in_thread

    def prepare(self, layer: Synchronized, call: Pass, x: Tensor) -> None:
        """Keeps a layer's forward with all batches, which follows."""
        call.record, call.memory = record_in_tensor(x.size(1), x.device)
        shapes = [given[0].shape for given in self._given()]
        self._found.setdefault(layer, []).append((call, shapes))

    def _given(self) -> list[Any]:
        return [given for _, given in self._arrived]

    def _joined(self, which: int) -> Any:
        """Returns the batches' inputs, residuals or weights of positions as one tensor, or None."""
        layer = self._arrived[0][0]
        if any(other is not layer for other, _ in self._arrived):
            self._refuse_different_layers()
        tensors = [given[which] for given in self._given()]
        present = [tensor for tensor in tensors if tensor is not None]
        shapes = {tuple(tensor.shape[1:]) for tensor in present}
        if len(shapes) > 1 or len(present) not in (0, len(tensors)):
            raise _core.InvalidArgument(
                f"{self._names[layer]} has batches of different shapes (without samples: {shapes}). "
                "Give batches that differ in their number of samples alone."
            )
        return torch.cat(present) if present else None

    def _refuse_different_layers(self) -> None:
        called = ", ".join(self._names[layer] for layer, _ in self._arrived)
        raise _core.InvalidArgument(
            f"the batches of accumulate call different layers ({called or 'some none'}). Give batches of "
            "which the model calls the same layers."
        )
