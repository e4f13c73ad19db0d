# SPDX-License-Identifier: Apache-2.0
"""Time and memory of a training step of a whole network under DistributedDataParallel.

    local    torch.nn.BatchNorm2d, which does not synchronize
    torch    converted, exchange="torch"
    shared   converted, exchange="syncbn" (shared memory)
    fused    shared, and fused
    saving   fused, and its forward within save_memory

Processor time has no waiting for other processes in it, and little of their noise. Memory is what
torch's allocator has given out at most during a step, beyond what there was before it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
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
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import ProfilerActivity, profile

from ..convert import convert_sync_batchnorm
from ..fuse import fuse
from ..memory import save_memory
from .layers import LAYOUTS

KINDS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "local": lambda model: model,
    "torch": convert_sync_batchnorm,
    "shared": lambda model: convert_sync_batchnorm(model, exchange="syncbn"),
    "fused": lambda model: fuse(convert_sync_batchnorm(model, exchange="syncbn")),
    "saving": lambda model: fuse(convert_sync_batchnorm(model, exchange="syncbn")),
}


@dataclass
class Result:
    """What a step of one kind takes."""

    kind: str
    layout: str
    seconds: float
    processor_seconds: float  # of the process, which has no waiting for others in it
    peak: int  # [bytes]


class _Training:
    """A model of one kind and its optimizer."""

    def __init__(self, kind: str, model: nn.Module) -> None:
        self.kind = kind
        self._model = DistributedDataParallel(KINDS[kind](model))
        self._optimizer = torch.optim.SGD(self._model.parameters(), 1e-3, momentum=0.9)
        self._forward = save_memory if kind == "saving" else contextlib.nullcontext

    def step(self, images: Tensor, labels: Tensor) -> None:
        with self._forward():
            loss = nn.functional.cross_entropy(self._model(images), labels)
        loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad()

    def constant(self) -> int:
        """Returns the bytes of parameters, buffers, momenta and DistributedDataParallel's buckets."""
        parameters = sum(values.nbytes for values in self._model.parameters())
        return 3 * parameters + sum(values.nbytes for values in self._model.buffers())


def _make(name: str) -> nn.Module:
    torch.manual_seed(1)
    with contextlib.suppress(ImportError):
        import timm

        return timm.create_model(name)  # type: ignore[no-any-return, unused-ignore]
    with contextlib.suppress(ImportError):
        import torchvision  # type: ignore[import-untyped, unused-ignore]

        return torchvision.models.get_model(name)  # type: ignore[no-any-return, unused-ignore]
    raise SystemExit(
        "There is neither timm nor torchvision, which have networks: pip install timm."
    )


def peak_of(step: Callable[[], object]) -> int:
    """Returns the bytes that torch's allocator gives out at most, at a time, during a step."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    events: Any = seen.profiler.kineto_results.events()
    changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    now = most = 0
    for _, change in sorted(changes, key=lambda at: at[0]):
        now += change
        most = max(most, now)
    return most


def _measure(arguments: argparse.Namespace, layout: str) -> tuple[list[Result], int]:
    generator = torch.Generator().manual_seed(dist.get_rank())
    shape = (arguments.batch, 3, arguments.size, arguments.size)
    images = torch.randn(shape, generator=generator).contiguous(memory_format=LAYOUTS[layout])
    labels = torch.randint(10, (arguments.batch,), generator=generator)
    trainings = [
        _Training(kind, _make(arguments.network).to(memory_format=LAYOUTS[layout]))
        for kind in KINDS
    ]
    times: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    peaks = {}
    for training in trainings:
        for _ in range(2):  # the second makes no optimizer state, and rebuilds no buckets
            training.step(images, labels)
        peaks[training.kind] = peak_of(functools.partial(training.step, images, labels))
    for _ in range(arguments.steps):
        for training in trainings:
            dist.barrier()
            start, processor_start = time.perf_counter(), time.process_time()
            training.step(images, labels)
            taken = time.perf_counter() - start, time.process_time() - processor_start
            times[training.kind].append(taken)
    results = [
        Result(
            kind, layout,
            statistics.median(taken for taken, _ in of_kind),
            statistics.median(taken for _, taken in of_kind),
            peaks[kind],
        )
        for kind, of_kind in times.items()
    ]  # fmt: skip
    return results, trainings[0].constant()


def _line(result: Result, local: Result) -> str:
    columns = (
        (result.seconds, local.seconds, 1e3, "ms"),
        (result.processor_seconds, local.processor_seconds, 1e3, "ms of processor"),
        (result.peak, local.peak, 1e-6, "MB"),
    )
    cells = (f"{own * unit:>9.1f} {name} {own / of:>6.3f} x" for own, of, unit, name in columns)
    return f"  {result.kind:<8}" + "".join(cells)


def measure(arguments: argparse.Namespace) -> None:
    """Prints what steps cost, and writes it to a file if one is given. Collective."""
    first = dist.get_rank() == 0
    report: dict[str, Any] = {"torch": torch.__version__, "steps": []}
    for layout in arguments.layouts:
        results, constant = _measure(arguments, layout)
        report["constant"] = constant
        report["steps"] += [vars(result) for result in results]
        if first:
            size = arguments.size
            print(f"{arguments.network}, {arguments.batch} x 3 x {size} x {size}, {layout}:")
            for result in results:
                print(_line(result, results[0]), flush=True)
    if first:
        print(
            "x: of local. MB: beside the parameters, momenta, buffers and buckets, which take "
            f"{report['constant'] / 1e6:.0f} MB."
        )
        if arguments.json:
            unfinished = Path(arguments.json + ".part")
            unfinished.write_text(json.dumps(report, indent=1) + "\n")
            os.replace(unfinished, arguments.json)
