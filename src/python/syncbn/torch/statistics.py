# SPDX-License-Identifier: Apache-2.0
"""The statistics that a model's batch norm layers take: to check them, and to take them anew."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .. import _core
from .group import who_sums


def _layers_of(model: nn.Module) -> dict[str, _BatchNorm]:
    """Returns a model's batch norm layers by their place in it."""
    return {
        path or type(layer).__name__: layer
        for path, layer in model.named_modules()
        if isinstance(layer, _BatchNorm)
    }


def _device_of(model: nn.Module) -> torch.device:
    """Returns the device of a model's tensors, on which its process group can sum."""
    tensors = itertools.chain(model.parameters(), model.buffers())
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


@contextlib.contextmanager
def _showing_statistics(layers: Iterable[_BatchNorm]) -> Iterator[None]:
    """Makes running_mean and running_var of layers the statistics of their last batch, for a while."""
    attributes = (
        "momentum", "track_running_stats", "running_mean", "running_var", "num_batches_tracked",
    )  # fmt: skip
    before = [(layer, {name: getattr(layer, name) for name in attributes}) for layer in layers]
    try:
        for layer, had in before:
            like = had["running_mean"] if had["running_mean"] is not None else layer.weight
            if like is None:  # without parameters and statistics it has no type
                like = torch.empty(layer.num_features)
            layer.momentum, layer.track_running_stats = 1.0, True
            layer.running_mean = torch.zeros_like(like, requires_grad=False)
            layer.running_var = torch.ones_like(like, requires_grad=False)
            layer.num_batches_tracked = torch.zeros((), dtype=torch.int64, device=like.device)
        yield
    finally:
        for layer, had in before:
            for name, value in had.items():
                setattr(layer, name, value)


@dataclass(frozen=True)
class LayerReport:
    """What `verify` has found of a layer: distances in standard deviations of the whole batch."""

    name: str
    calls: int
    from_whole: float  # of the layer's statistics from those of the whole batch
    from_local: float  # of the statistics of one process's part from those of the whole batch

    @property
    def verdict(self) -> str:
        """One of "synchronized", "not synchronized", "cannot tell" and "not called"."""
        if self.calls == 0:
            return "not called"
        if self.from_local < 1e-4:
            return "cannot tell"
        return "synchronized" if self.from_whole < 0.1 * self.from_local else "not synchronized"


@dataclass(frozen=True)
class Report:
    """What `verify` has found; the same in every process."""

    processes: int
    layers: tuple[LayerReport, ...]

    @property
    def synchronized(self) -> bool:
        """Tells whether every layer that was called synchronizes."""
        called = [layer for layer in self.layers if layer.calls]
        return bool(called) and all(layer.verdict == "synchronized" for layer in called)

    def __str__(self) -> str:
        lines = [
            f"  {layer.name}: {layer.verdict}"
            + (
                f" (off by {layer.from_whole:.1e} of the standard deviation; the statistics of one "
                f"process alone are off by {layer.from_local:.1e})"
                if layer.calls
                else ""
            )
            for layer in self.layers
        ]
        return "\n".join([self._conclusion(), *lines])

    def _conclusion(self) -> str:
        count = dict.fromkeys(("synchronized", "not synchronized", "cannot tell"), 0)
        for layer in self.layers:
            if layer.calls:
                count[layer.verdict] += 1
        if not sum(count.values()):
            return "The sample went through no batch norm layer."
        if self.processes == 1:
            return "This process is alone: there is nothing to synchronize with."
        if count["cannot tell"]:
            return (
                "Cannot tell: the processes' samples have the same statistics. Give each process "
                "other samples."
            )
        if count["not synchronized"]:
            return (
                f"{count['not synchronized']} of {sum(count.values())} batch norm layers take the "
                "statistics of one process. Convert the model with convert_sync_batchnorm."
            )
        return (
            f"All {count['synchronized']} batch norm layers take the statistics of the whole batch of "
            f"{self.processes} processes."
        )


class _Watch:
    """Compares what one layer takes with what the processes' inputs give."""

    def __init__(self, layer: _BatchNorm, process_group: dist.ProcessGroup | None) -> None:
        self.layer = layer
        self.calls = 0
        self.from_whole = self.from_local = 0.0
        self._process_group = process_group

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        x = inputs[0].detach().double()
        axes = [0, *range(2, x.dim())]
        number = x.new_tensor([x.numel() / x.size(1)])
        mean, var = _moments(x.sum(axes), x.square().sum(axes), number)
        sums = torch.cat([x.sum(axes), x.square().sum(axes), number])
        if self._process_group is not None:
            dist.all_reduce(sums, group=self._process_group)
        of_mean, of_squares, total = sums.split([x.size(1), x.size(1), 1])
        whole_mean, whole_var = _moments(of_mean, of_squares, total)
        scale = (whole_var + self.layer.eps).sqrt()
        taken, of_layer = self.layer.running_mean, self.layer.running_var
        assert taken is not None and of_layer is not None
        biased = of_layer.double() * (total - 1) / total  # running variances are unbiased
        self.calls += 1
        self.from_whole = max(
            self.from_whole, _distance(taken.double(), biased, whole_mean, whole_var, scale)
        )
        if number:
            self.from_local = max(
                self.from_local, _distance(mean, var, whole_mean, whole_var, scale)
            )


def _moments(sums: Tensor, squares: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
    mean = sums / number
    return mean, (squares / number - mean.square()).clamp(min=0)


def _distance(
    mean: Tensor, var: Tensor, whole_mean: Tensor, whole_var: Tensor, scale: Tensor
) -> float:
    of_mean = ((mean - whole_mean) / scale).abs().max()
    of_var = ((var - whole_var) / scale.square()).abs().max()
    return float(torch.maximum(of_mean, of_var))


def verify(model: nn.Module, *sample: Any, process_group: Any = None, **keywords: Any) -> Report:
    """Tells whether a model's batch norm layers really take the statistics of the whole batch.

    Collective over the process group (None: all processes). Every process calls the model in training
    mode, without gradients, with its own sample, and compares the statistics that each layer takes
    with those of its input over all processes. The model is as before afterwards. Print the report.
    """
    group = who_sums(process_group)
    layers = _layers_of(model)
    training = {module: module.training for module in model.modules()}
    watches = {name: _Watch(layer, group) for name, layer in layers.items()}
    hooks = [watch.layer.register_forward_hook(watch) for watch in watches.values()]
    try:
        model.train()
        with _showing_statistics(layers.values()), torch.no_grad():
            model(*sample, **keywords)
    finally:
        for hook in hooks:
            hook.remove()
        for module, was_training in training.items():
            module.training = was_training
    found = [(watch.from_whole, watch.from_local) for watch in watches.values()]
    worst = torch.tensor(found, device=_device_of(model))
    if group is not None and layers:
        dist.all_reduce(worst, dist.ReduceOp.MAX, group=group)
    return Report(
        1 if group is None else group.size(),
        tuple(
            LayerReport(name, watch.calls, *map(float, distances))
            for (name, watch), distances in zip(watches.items(), worst, strict=True)
        ),
    )


def precise_bn(model: nn.Module, batches: Iterable[Any]) -> None:
    """Takes running statistics anew: those of all elements of the batches, with today's weights.

    Running averages lag behind the weights, and weigh the last batches most (Wu & Johnson 2021,
    "Rethinking Batch in BatchNorm", section 3). Collective where layers synchronize: every process
    gives equally many batches. A batch is the model's argument, or a tuple of its arguments. Layers
    without running statistics, and layers in evaluation mode, are left out.
    """
    layers = [
        layer
        for layer in _layers_of(model).values()
        if layer.training and layer.track_running_stats and layer.running_mean is not None
    ]
    means: list[list[Tensor]] = [[] for _ in layers]
    squares: list[list[Tensor]] = [[] for _ in layers]

    def note(place: int) -> Any:
        def hook(layer: Any, inputs: Any, output: Any) -> None:
            mean, var = layer.running_mean.double(), layer.running_var.double()
            means[place].append(mean)
            squares[place].append(var + mean.square())

        return hook

    hooks = [layer.register_forward_hook(note(place)) for place, layer in enumerate(layers)]
    try:
        with _showing_statistics(layers), torch.no_grad():
            for batch in batches:
                model(*batch) if isinstance(batch, (tuple, list)) else model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    if layers and not any(means):
        raise _core.InvalidArgument("precise_bn had no batch. Give it some.")
    with torch.no_grad():
        for layer, of_means, of_squares in zip(layers, means, squares, strict=True):
            if of_means:
                mean = torch.stack(of_means).mean(0)
                var = torch.stack(of_squares).mean(0) - mean.square()
                layer.running_mean.copy_(mean)  # type: ignore[union-attr]
                layer.running_var.copy_(var)  # type: ignore[union-attr]
