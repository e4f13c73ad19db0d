# SPDX-License-Identifier: Apache-2.0
"""Training in which processes have different numbers of batches.

torch's own DistributedDataParallel.join() has a process that has run out of batches take part in the
exchanges of gradients, not in those of layers. Here it takes part in both at once:

    processes with batches left              a process without
    DistributedDataParallel's all-reduces    a thread that does what its join() does
    start: who has batches left?             the same
    the first of them tells of each          hears of the layer's exchange, and enters it with an
    exchange of a layer, and enters it       empty shard
    ... and that the iteration is over       ends the iteration

The two columns of exchanges are in no common order, so the layers have a process group of their own.
"""

from __future__ import annotations

import contextlib
import pickle
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Literal, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.join import Join, Joinable, JoinHook
from torch.nn.parallel import DistributedDataParallel

from .. import _core
from . import ops
from .compat import store_of
from .function import Bound, Pass, listeners
from .group import device_of, group_of, timeout_of_exchanges, who_sums
from .layer import Synchronized

Kind = Literal["forward", "backward"]


@contextlib.contextmanager
def join(
    model: DistributedDataParallel,
    *others: Joinable,
    divide_by_initial_world_size: bool = True,
    enable: bool = True,
    throw_on_early_termination: bool = False,
    **options: Any,
) -> Iterator[None]:
    """Lets processes train with different numbers of batches; takes the place of model.join().

        model = DistributedDataParallel(sbn.convert_sync_batchnorm(model))
        with sbn.join(model):
            for images, labels in batches_of_this_process:
                ...

    A process without a batch waits at the end of the block, and takes part in the others' exchanges
    until none has one. Layers then take the statistics of the batches that are left. The arguments
    are those of model.join(); `others` are further objects to join, such as a
    ZeroRedundancyOptimizer.

    Collective over the model's process group. At the first time its layers get a process group of
    their own, which they keep, in place of the model's. Second derivatives are not supported.
    """
    if not isinstance(model, DistributedDataParallel):
        raise _core.InvalidArgument(
            f"join takes a DistributedDataParallel (this is a {type(model).__name__}). Wrap the model."
        )
    for other in others:
        if isinstance(other, nn.Module) and any(
            isinstance(layer, Synchronized) for layer in other.modules()
        ):
            raise _core.InvalidArgument(
                "join follows the layers of one model, and another has synchronized layers too. Train "
                "them with equal numbers of batches, or revert the other's layers."
            )
    context = Join(
        [model, *others],
        enable,
        throw_on_early_termination,
        divide_by_initial_world_size=divide_by_initial_world_size,
        **options,
    )
    if not enable:
        with context:
            yield
        return
    iterations = _Iterations(model)
    context._join_hooks = [_Hook(iterations, context._join_hooks)]
    with context, iterations.watched():
        yield
        iterations.end()


class _Channel:
    """A process group for layers, and messages in its store from one process to the others."""

    def __init__(self, model: DistributedDataParallel) -> None:
        of_model = model.process_group
        self.timeout = timedelta(seconds=timeout_of_exchanges())
        self.group = cast(
            dist.ProcessGroup,
            dist.new_group(
                dist.get_process_group_ranks(of_model),
                self.timeout,
                dist.get_backend(of_model),
                use_local_synchronization=True,
            ),
        )
        store = store_of(self.group)
        if store is None:
            raise _core.NotConfigured("torch does not tell the store of a process group.")
        self._store = store
        self._iteration = self._place = 0
        self._has_said = False

    def start(self) -> None:
        """Begins an iteration's messages: in every process, so that they count alike."""
        if self._has_said:  # the others have heard the last one: all begin together
            self._store.delete_key(self._key(-1))
        self._iteration, self._place, self._has_said = self._iteration + 1, 0, False

    def say(self, message: Any) -> None:
        self._store.set(self._key(), pickle.dumps(message))  # type: ignore[arg-type]
        if self._place:  # all have read the one before: they were in its exchange
            self._store.delete_key(self._key(-1))
        self._place += 1
        self._has_said = True

    def hear(self) -> Any:
        try:
            self._store.wait([self._key()], self.timeout)
            message = pickle.loads(self._store.get(self._key()))
        except RuntimeError as error:
            raise _core.CommError(
                "this process has no batch left, and waits to be told which layer the others call: "
                f"{error}"
            ) from None
        self._place += 1
        return message

    def _key(self, offset: int = 0) -> str:
        return f"syncbn/join/{self._iteration}/{self._place + offset}"


_channels: weakref.WeakKeyDictionary[DistributedDataParallel, _Channel] = (
    weakref.WeakKeyDictionary()
)


def _bounds_of(layer: Synchronized) -> Iterator[tuple[tuple[Any, ...], Bound]]:
    """Yields the library's layers that a layer has called, by what _bound_for takes behind the device."""
    process_group = who_sums(layer.process_group)
    for (of_bound, _, *key), bound in layer.__dict__.get("_layers", {}).items():
        if of_bound is process_group:
            yield tuple(key), bound
    yield from ops.bounds_of(layer._synchronized)


class _Iterations:
    """What a process does beside DistributedDataParallel, with batches or without."""

    # So many records are kept of forwards whose backward may be yet to come.
    _most_kept = 1024

    def __init__(self, model: DistributedDataParallel) -> None:
        self._model = model
        channel = _channels.get(model)
        if channel is None:
            channel = _channels[model] = _Channel(model)
        self._channel = channel
        self._layers = {
            path: layer
            for path, layer in model.module.named_modules()
            if isinstance(layer, Synchronized)
        }
        for layer in self._layers.values():
            if who_sums(layer.process_group) is model.process_group:
                layer.process_group = channel.group
            sums = who_sums(layer.process_group)
            if sums is not None:  # groups are made by all, so before any is told of a layer
                group_of(sums, layer._synchronized.exchange)
        self._called = False  # the model was, and has not called its module yet
        self._tells = False
        self._places: dict[Bound, tuple[str, tuple[Any, ...]]] = {}
        self._forwards: OrderedDict[tuple[Any, ...], Pass] = OrderedDict()
        self._statistics: dict[str, tuple[Tensor, Tensor, Tensor]] = {}

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Follows what this process does with its batches."""
        hooks = (
            self._model.register_forward_pre_hook(self._before_model),
            self._model.module.register_forward_pre_hook(self._before_module),
        )
        listeners.append(self._before_exchange)
        try:
            yield
        finally:
            listeners.remove(self._before_exchange)
            for hook in hooks:
                hook.remove()

    # DistributedDataParallel exchanges between these two, and waits for processes without batches.

    def _before_model(self, *_: Any) -> None:
        self.end()
        self._called = True

    def _before_module(self, *_: Any) -> None:
        if self._called:
            self._called = False
            self._start(has_batch=True)

    def end(self) -> None:
        """Ends the last iteration."""
        if self._tells:
            self._tells = False
            self._channel.say(None)

    def _start(self, has_batch: bool) -> None:
        """Finds out who has a batch. Others get parameters of the first that has, to compare well."""
        group, device = self._channel.group, self._model.join_device
        have = torch.zeros(group.size(), device=device)
        have[group.rank()] = has_batch
        try:
            dist.all_reduce(have, group=group)
        except RuntimeError as error:
            raise _core.CommError(
                f"the processes do not begin an iteration together: {error}"
            ) from None
        self._channel.start()
        if have.all():
            return
        first = int(have.argmax())
        self._tells = first == group.rank()
        parameters = [
            parameter
            for layer in self._layers.values()
            for parameter in (layer.weight, layer.bias)
            if parameter is not None
        ]
        if not parameters:
            return
        values = torch.cat([parameter.detach().double().flatten() for parameter in parameters])
        dist.broadcast(values, dist.get_global_rank(group, first), group=group)
        if not has_batch:
            with torch.no_grad():
                pieces = values.split([parameter.numel() for parameter in parameters])
                for parameter, piece in zip(parameters, pieces, strict=True):
                    parameter.copy_(piece.view_as(parameter))

    def _before_exchange(self, kind: Kind, call: Pass, x: Tensor, has_residual: bool) -> None:
        if not self._tells:
            return
        if call.bound not in self._places:
            for path, layer in self._layers.items():
                self._places.update((bound, (path, key)) for key, bound in _bounds_of(layer))
        if call.bound in self._places:
            forward = 0 if kind == "forward" else call.record.note()[-1]
            self._channel.say((kind, *self._places[call.bound], x.dtype, has_residual, forward))

    def follow(self) -> None:
        """Takes part in an iteration without a batch."""
        self._start(has_batch=False)
        while (told := self._channel.hear()) is not None:
            self._take_part(*told)

    def _take_part(
        self,
        kind: Kind,
        path: str,
        key: tuple[Any, ...],
        dtype: torch.dtype,
        has_residual: bool,
        forward: int,
    ) -> None:
        layer = self._layers[path]
        x = torch.empty(0, key[0], dtype=dtype, device=self._model.join_device)
        weight, bias = layer.weight, layer.bias
        if bias is None and weight is not None:
            bias = layer._zeros_like(weight)
        if kind == "forward":
            bound = self._bound(layer, x, key)
            made = Pass(bound, self._buffers(path, key), False, None, *bound.new_record(key[0]))
            made.forward(x, weight, bias, x if has_residual else None)
            self._forwards[path, key, made.record.note()[-1]] = made
            if len(self._forwards) > self._most_kept:
                self._forwards.popitem(last=False)
        else:
            call = self._forwards.get((path, key, forward))
            if call is None:
                raise _core.InvalidArgument(
                    f"'{path}': the others go back through a forward that this process has made with "
                    "a batch, without its backward. Take that before the batches end."
                )
            needs_y = has_residual and call.bound.negative_slope != 1
            call.backward(x, x, weight, bias, x if needs_y else None, has_residual)

    def _bound(self, layer: Synchronized, x: Tensor, key: tuple[Any, ...]) -> Bound:
        for other, bound in _bounds_of(layer):
            if other == key:
                return bound
        was, layer.training = layer.training, True
        try:
            return layer._bound_for(device_of(x), *key)
        finally:
            layer.training = was

    def _buffers(self, path: str, key: tuple[Any, ...]) -> Any:
        """Returns copies of a layer's running statistics.

        The thread beside may be writing to the layer's own what they already are, which the process
        with batches sent before the iteration: late, that would undo an update.
        """
        *_, tracks, _ = key
        if not tracks:
            return None, None, None
        if path not in self._statistics:
            mean, var, count = _buffers_of(self._layers[path])
            self._statistics[path] = (
                mean.clone(),
                var.clone(),
                torch.zeros((), dtype=torch.int64, device=mean.device)
                if count is None
                else count.clone(),
            )
        return self._statistics[path]

    def finish(self) -> None:
        """Gives layers the running statistics of the iteration, once nobody else writes to them."""
        for path, statistics in self._statistics.items():
            for buffer, value in zip(_buffers_of(self._layers[path]), statistics, strict=True):
                if buffer is not None:
                    buffer.copy_(value)
        self._statistics.clear()


def _buffers_of(layer: Synchronized) -> tuple[Any, Any, Any]:
    return layer.running_mean, layer.running_var, layer.num_batches_tracked


class _Hook(JoinHook):
    """What a process without batches does in an iteration of the others."""

    def __init__(self, iterations: _Iterations, of_torch: list[JoinHook]) -> None:
        self._iterations = iterations
        self._of_torch = of_torch

    def main_hook(self) -> None:
        errors: list[BaseException] = []

        def run_hooks() -> None:
            try:
                for hook in self._of_torch:
                    hook.main_hook()
            except BaseException as error:
                errors.append(error)

        # Where a layer fails, this process tells so at once, and leaves the thread waiting.
        thread = threading.Thread(target=run_hooks, daemon=True)
        thread.start()
        self._iterations.follow()
        thread.join()
        if errors:
            raise errors[0]
        self._iterations.finish()

    def post_hook(self, is_last_joiner: bool) -> None:
        for hook in self._of_torch:
            hook.post_hook(is_last_joiner)
