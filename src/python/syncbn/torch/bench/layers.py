# SPDX-License-Identifier: Apache-2.0
"""Times of layers by themselves: forward and backward of torch's and of ours, in turns.

local       torch.nn.BatchNorm2d, which does not synchronize
operations  synchronized batch norm of torch's tensor operations and all_reduce
syncbn      syncbn.torch.SyncBatchNorm, exchange="torch", and "syncbn" (shared memory)
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..layer import SyncBatchNorm

# ResNet-50's batch norm layers at 224 x 224: channels, height and width.
RESNET_50 = (
    (64, 112), (64, 56), (256, 56), (128, 28), (512, 28), (256, 14), (1024, 14), (512, 7), (2048, 7),
)  # fmt: skip
_SMALL = (2, 8, 4, 4)
LAYOUTS = {"channels_first": torch.contiguous_format, "channels_last": torch.channels_last}
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


class _OfOperations(torch.autograd.Function):
    """Synchronized batch norm as it is written in a few lines of Python."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        axes, channels = [0, 2, 3], x.size(1)
        sums = torch.cat([x.sum(axes), x.square().sum(axes), x.new_tensor([x.numel() / channels])])
        dist.all_reduce(sums)
        mean = sums[:channels] / sums[-1]
        invstd = (sums[channels:-1] / sums[-1] - mean.square() + eps).rsqrt()
        normalized = (x - mean.view(1, -1, 1, 1)) * invstd.view(1, -1, 1, 1)
        ctx.save_for_backward(normalized, weight, invstd, sums[-1])
        return normalized * weight.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        normalized, weight, invstd, number = ctx.saved_tensors
        sums = torch.cat([dy.sum([0, 2, 3]), (dy * normalized).sum([0, 2, 3])])
        own = sums.clone()
        dist.all_reduce(sums)
        of_bias, of_weight = (sums / number).view(2, 1, -1, 1, 1)
        dx = (dy - of_bias - normalized * of_weight) * (weight * invstd).view(1, -1, 1, 1)
        bias_grad, weight_grad = own.chunk(2)
        return dx, weight_grad, bias_grad, None


class OfOperations(nn.BatchNorm2d):
    """Synchronized batch norm of tensor operations, without running statistics."""

    def forward(self, input: Tensor) -> Tensor:
        return _OfOperations.apply(input, self.weight, self.bias, self.eps)


LAYERS: dict[str, Callable[[int], nn.Module]] = {
    "local": nn.BatchNorm2d,
    "operations": OfOperations,
    "syncbn, torch": lambda channels: SyncBatchNorm(channels),
    "syncbn, shared": lambda channels: SyncBatchNorm(channels, exchange="syncbn"),
}


@dataclass
class Case:
    """One shape in one layout, and the median seconds of a step of each layer."""

    shape: tuple[int, ...]
    layout: str
    dtype: str
    seconds: dict[str, float]


def _step(layer: nn.Module, x: Tensor, dy: Tensor) -> None:
    layer(x).backward(dy)
    x.grad = None


def _measure(shape: tuple[int, ...], layout: str, dtype: str, budget: float) -> dict[str, float]:
    """Takes steps of the layers in turns until the budget [s] is used up."""
    generator = torch.Generator().manual_seed(dist.get_rank())
    x, dy = (
        torch.randn(shape, generator=generator)
        .to(DTYPES[dtype])
        .contiguous(memory_format=LAYOUTS[layout])
        for _ in range(2)
    )
    x.requires_grad_()
    layers = {name: make(shape[1]) for name, make in LAYERS.items()}
    times: dict[str, list[float]] = {name: [] for name in layers}
    for warm_up in (True, False):
        end = time.perf_counter() + (0 if warm_up else budget)
        while True:
            for name, layer in layers.items():
                dist.barrier()
                start = time.perf_counter()
                _step(layer, x, dy)
                times[name].append(time.perf_counter() - start)
            done = torch.tensor([float(time.perf_counter() >= end)])
            dist.broadcast(done, 0)
            if done:
                break
        if warm_up:
            for measured in times.values():
                measured.clear()
    return {name: statistics.median(measured) for name, measured in times.items()}


def _host_times(calls: int) -> dict[str, tuple[float, float]]:
    """Returns the seconds of a forward and of a backward of a small tensor, without an exchange."""
    x = torch.randn(_SMALL).requires_grad_()
    dy = torch.randn(_SMALL)
    group = dist.new_group([dist.get_rank()], use_local_synchronization=True)
    layers = {
        "local": nn.BatchNorm2d(_SMALL[1]),
        "syncbn": SyncBatchNorm(_SMALL[1], process_group=group),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in layers}
    for _ in range(calls):
        for name, layer in layers.items():
            start = time.perf_counter()
            y = layer(x)
            middle = time.perf_counter()
            y.backward(dy)
            times[name].append((middle - start, time.perf_counter() - middle))
    return {
        name: (
            statistics.median(forward for forward, _ in measured),
            statistics.median(backward for _, backward in measured),
        )
        for name, measured in times.items()
    }


def measure(arguments: argparse.Namespace) -> None:
    """Prints what layers cost, and writes it to a file if one is given. Collective."""
    first = dist.get_rank() == 0
    cases = []
    if first:
        print(f"{'':34}" + "".join(f"{name:>20}" for name in LAYERS))
    for layout in arguments.layouts:
        for shape in arguments.shapes:
            case = Case(
                shape, layout, arguments.dtype,
                _measure(shape, layout, arguments.dtype, arguments.seconds),
            )  # fmt: skip
            cases.append(case)
            if first:
                print(_line(case), flush=True)
    host = _host_times(3000)
    if first:
        _print_totals(cases)
        _print_host_times(host)
        if arguments.json:
            _write_json(arguments.json, cases, host)


def _line(case: Case) -> str:
    local = case.seconds["local"]
    name = f"{'x'.join(map(str, case.shape))} {case.layout} {case.dtype}"
    cells = "".join(
        f"{seconds * 1e3:>10.2f} ms {local / seconds:>5.2f}x" for seconds in case.seconds.values()
    )
    return f"{name:<34}{cells}"


def _print_totals(cases: list[Case]) -> None:
    for layout in dict.fromkeys(case.layout for case in cases):
        of_layout = [case.seconds for case in cases if case.layout == layout]
        total = {name: sum(seconds[name] for seconds in of_layout) for name in LAYERS}
        print(_line(Case(("all",), layout, cases[0].dtype, total)))  # type: ignore[arg-type]
    print("x: how many times faster than torch.nn.BatchNorm2d, which does not synchronize.")


def _print_host_times(host: dict[str, tuple[float, float]]) -> None:
    shape = "x".join(map(str, _SMALL))
    for name, (forward, backward) in host.items():
        print(
            f"{shape}, one process, {name:<8} {forward * 1e6:6.1f} us forward "
            f"{backward * 1e6:6.1f} us backward"
        )


def _write_json(path: str, cases: list[Case], host: dict[str, tuple[float, float]]) -> None:
    report = {"cases": [vars(case) for case in cases], "host": host, "torch": torch.__version__}
    unfinished = Path(path + ".part")
    unfinished.write_text(json.dumps(report, indent=1) + "\n")
    os.replace(unfinished, path)
