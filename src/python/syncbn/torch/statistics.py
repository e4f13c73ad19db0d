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
from .compat import register_hook_behind
from .group import who_sums
from .layer import Synchronized, named_layers


def arguments_of(batch: Any) -> tuple[Any, ...]:
    """Returns the arguments of a model that a batch is: itself, or the tuple that it is."""
    return tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)


def input_of(inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Tensor:
    """Returns a batch norm layer's input, given the arguments of a call."""
    x: Tensor = inputs[0] if inputs else keywords["input"]
    return x


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
    processes: int  # of the layer's group

    @property
    def verdict(self) -> str:
        """Says whether the layer is synchronized, as far as one can tell."""
        if self.calls == 0:
            return "not called in training"
        if self.processes == 1:
            return "alone"
        if self.from_local < 1e-4:
            return "cannot tell"
        return "synchronized" if self.from_whole < 0.1 * self.from_local else "not synchronized"


@dataclass(frozen=True)
class Report:
    """What `verify` has found; the same in every process of a layer's group."""

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
        verdicts = [layer.verdict for layer in self.layers if layer.calls]
        if not verdicts:
            return "The sample went through no batch norm layer."
        if self.processes == 1:
            return "This process is alone: there is nothing to synchronize with."
        if "cannot tell" in verdicts:
            return (
                "Cannot tell: the processes' samples have the same statistics, or all but one have no "
                "samples. Give each process other samples."
            )
        if "not synchronized" in verdicts:
            return (
                f"{verdicts.count('not synchronized')} of {len(verdicts)} batch norm layers take the "
                "statistics of one process. Convert the model with convert_sync_batchnorm."
            )
        if "alone" in verdicts:
            return (
                f"{verdicts.count('alone')} of {len(verdicts)} batch norm layers have a group of this "
                "process alone, whose statistics they take. Give them a larger group."
            )
        sizes = sorted({layer.processes for layer in self.layers if layer.calls})
        return (
            f"All {len(verdicts)} batch norm layers take the statistics of the whole batch of "
            f"{' or '.join(map(str, sizes))} processes."
        )


class _Watch:
    """Compares what one layer takes with what the processes' inputs give."""

    def __init__(self, layer: _BatchNorm, process_group: dist.ProcessGroup | None) -> None:
        self.layer = layer
        self.calls = 0
        self.processes = 1 if process_group is None else process_group.size()
        self.from_whole = self.from_local = 0.0
        self._process_group = process_group

    def __call__(self, module: Any, inputs: Any, keywords: Any, output: Any) -> None:
        if not module.training:  # of its own accord
            return
        x = input_of(inputs, keywords).detach().double()
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
    with those of its input over all processes, or those of the layer's own group. Parameters, buffers
    and mode are as before afterwards. Call it before torch.compile, and print the report.
    """
    group = who_sums(process_group)
    layers = named_layers(model, _BatchNorm)
    watches = {
        name: _Watch(
            layer, who_sums(layer.process_group) if isinstance(layer, Synchronized) else group
        )
        for name, layer in layers.items()
    }
    training = {module: module.training for module in model.modules()}
    hooks = [register_hook_behind(layers[name], watch) for name, watch in watches.items()]
    try:
        model.train()
        with _same_buffers(model), _showing_statistics(layers.values()), torch.no_grad():
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
            LayerReport(name, watch.calls, of_whole, of_local, watch.processes)
            for (name, watch), (of_whole, of_local) in zip(
                watches.items(), worst.tolist(), strict=True
            )
        ),
    )


@contextlib.contextmanager
def _same_buffers(model: nn.Module) -> Iterator[None]:
    """Gives a model's buffers the values back that they had."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, values in before:
                buffer.copy_(values)


def precise_bn(model: nn.Module, batches: Iterable[Any]) -> None:
    """Takes running statistics anew: those of all elements of the batches, with today's weights.

    Running averages lag behind the weights, and weigh the last batches most (Wu & Johnson 2021,
    "Rethinking Batch in BatchNorm", section 3). Collective where layers synchronize: every process
    gives equally many batches, of any sizes. A batch is the model's argument, or a tuple of its
    arguments: of a loader of images and labels give `((images,) for images, _ in loader)`. The model is
    in training mode. Layers in evaluation mode, and those without running statistics, are left out.
    """
    if isinstance(batches, Tensor):
        raise _core.InvalidArgument("precise_bn takes several batches. Give it a list: [batch].")
    of_model = named_layers(model, _BatchNorm).values()
    layers = [
        layer
        for layer in of_model
        if layer.training and layer.track_running_stats and layer.running_mean is not None
    ]
    if of_model and not layers:
        raise _core.InvalidArgument(
            "precise_bn takes the statistics of layers in training mode that have running ones, and the "
            "model has none of these. Call model.train() first."
        )
    taken = [_Moments() for _ in layers]
    hooks = [register_hook_behind(*pair) for pair in zip(layers, taken, strict=True)]
    try:
        with _same_buffers(model), _showing_statistics(layers), torch.no_grad():
            for batch in batches:
                model(*arguments_of(batch))
    finally:
        for hook in hooks:
            hook.remove()
    if layers and not any(moments.means for moments in taken):
        raise _core.InvalidArgument("precise_bn had no batch. Give it some.")
    with torch.no_grad():
        for layer, moments in zip(layers, taken, strict=True):
            if moments.means:
                mean, var = moments.of_all(layer)
                layer.running_mean.copy_(mean)  # type: ignore[union-attr]
                layer.running_var.copy_(var)  # type: ignore[union-attr]


class _Moments:
    """Keeps, as a hook of a layer, the statistics that it takes of each batch."""

    def __init__(self) -> None:
        self.means: list[Tensor] = []
        self._vars: list[Tensor] = []
        self._numbers: list[float] = []  # of elements per channel in this process

    def __call__(self, layer: Any, inputs: Any, keywords: Any, output: Any) -> None:
        x = input_of(inputs, keywords)
        self.means.append(layer.running_mean.double())
        self._vars.append(layer.running_var.double())
        self._numbers.append(x.numel() / x.size(1))

    def of_all(self, layer: _BatchNorm) -> tuple[Tensor, Tensor]:
        """Returns mean and unbiased variance of all batches."""
        means, variances = torch.stack(self.means), torch.stack(self._vars)
        numbers = means.new_tensor(self._numbers).unsqueeze(1)
        group = who_sums(layer.process_group) if isinstance(layer, Synchronized) else None
        if group is not None:
            dist.all_reduce(numbers, group=group)
        total = numbers.sum()
        if total == 0:
            return layer.running_mean, layer.running_var  # type: ignore[return-value]
        mean = (means * numbers).sum(0) / total
        # A layer's running variance is unbiased: by n / (n - 1).
        squares = (variances * (numbers - 1).clamp(min=0) + means.square() * numbers).sum(0) / total
        return mean, (squares - mean.square()).clamp(min=0) * total / (total - 1).clamp(min=1)
