#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times PyTorch's batch norm on a CUDA device, as a measure for `syncbn bench --device cuda`.

batch_norm is torch.nn.BatchNorm2d; sync_batch_norm what torch.nn.SyncBatchNorm calls in a group of one
rank, without the collectives and the wait for the host between them; syncbn_layer is this project's
layer, where it can be imported; copy is one tensor copied to another. Training mode, float parameters.

Times are those between two CUDA events around a call. The device is kept busy beforehand, so that the
host's part of a call does not show. Tensors take turns, over four times the size of the last-level
cache. With --device cpu, to try the program, the clock is the host's.
"""

import argparse
import itertools
import json
import math
import os
import statistics
import sys
import time
from pathlib import Path

try:
    from syncbn.torch import SyncBatchNorm
except ImportError:
    SyncBatchNorm = None

# channels, side, and how many there are: ResNet-50's batch norm layers (He et al. 2015, table 1)
RESNET50 = [(64, 112, 1), (64, 56, 6), (256, 56, 4), (128, 56, 1), (128, 28, 7), (512, 28, 5),
            (256, 28, 1), (256, 14, 11), (1024, 14, 7), (512, 14, 1), (512, 7, 5), (2048, 7, 4)]
DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "f64": "float64"}
LAYOUTS = {"channels_first": "contiguous_format", "channels_last": "channels_last"}
EPS, MOMENTUM = 1e-5, 0.1
BUSY_CYCLES = 4_000_000  # two milliseconds, in which the host puts the calls of a round on the stream
FEWEST_SETS, MOST_SETS = 2, 64
WARM_UP = 3


def quartiles(samples):
    lower, median, upper = statistics.quantiles(samples, n=4, method="inclusive") \
        if len(samples) > 1 else samples * 3
    return {"repetitions": len(samples), "median": median, "lower_quartile": lower,
            "upper_quartile": upper, "min": min(samples), "max": max(samples)}


class HostClock:
    """Times calls that have ended when they return."""

    def __init__(self):
        self.times = {}

    def round(self, calls):
        for name, call in calls:
            begin = time.perf_counter()
            call()
            self.times.setdefault(name, []).append(time.perf_counter() - begin)


class DeviceClock:
    """Times what calls put on the current stream."""

    def __init__(self, torch):
        self.torch = torch
        self.times = {}

    def round(self, calls):
        cuda = self.torch.cuda
        events = [(name, cuda.Event(enable_timing=True), cuda.Event(enable_timing=True))
                  for name, _ in calls]
        cuda._sleep(BUSY_CYCLES)  # pylint: disable=protected-access
        for (_, call), (_, begin, end) in zip(calls, events):
            begin.record()
            call()
            end.record()
        cuda.synchronize()
        for name, begin, end in events:
            self.times.setdefault(name, []).append(begin.elapsed_time(end) / 1e3)


class Layer:
    """A layer's calls, on sets of tensors that take turns. What a call gives stays with its set, so
    that the memory of results takes turns too."""

    def __init__(self, torch, device, shape, dtype, layout, cache_bytes):
        self.torch = torch
        channels = shape[1]
        order = getattr(torch, LAYOUTS[layout])
        kind = getattr(torch, DTYPES[dtype])

        def draw():
            return torch.randn(shape, device=device).to(kind).contiguous(memory_format=order)

        self.bytes = math.prod(shape) * kind.itemsize
        sets = math.ceil(4 * cache_bytes / (4 * self.bytes))  # x, y, dy, dx
        self.sets = itertools.cycle(
            [{"x": draw(), "dy": draw()} for _ in range(min(max(sets, FEWEST_SETS), MOST_SETS))])
        self.module = torch.nn.BatchNorm2d(channels, EPS, MOMENTUM, device=device)
        self.ours = SyncBatchNorm and SyncBatchNorm(channels, EPS, MOMENTUM, device=device)
        self.count = torch.full((1,), math.prod(shape) // channels, dtype=torch.float32, device=device)

    def copy(self):
        on = next(self.sets)
        if "y" not in on:
            on["y"] = self.torch.empty_like(on["x"])

        def call():
            on["y"].copy_(on["x"])
        return [("copy", call)]

    def batch_norm(self):
        return self.calls_of(self.module, "batch_norm")

    def syncbn_layer(self):
        return self.calls_of(self.ours, "syncbn_layer") if self.ours else []

    def calls_of(self, module, name):
        on = next(self.sets)
        x = on["x"].detach().requires_grad_()
        weights = [module.weight, module.bias]

        def forward():
            on["y"] = module(x)

        def backward():
            on["dx"] = self.torch.autograd.grad(on["y"], [x] + weights, on["dy"])[0]
            on["y"] = on["y"].detach()
        return [(f"{name}_forward", forward), (f"{name}_backward", backward)]

    def sync_batch_norm(self):
        """torch.nn.modules._functions.SyncBatchNorm, PyTorch 2.11."""
        torch, on = self.torch, next(self.sets)
        weight, bias = self.module.weight.detach(), self.module.bias.detach()
        kept = {}

        def forward():
            mean, invstd = torch.batch_norm_stats(on["x"], EPS)
            gathered = torch.cat([mean, invstd, self.count]).view(1, -1)
            means, invstds, counts = torch.split(gathered, mean.numel(), dim=1)
            kept["mean"], kept["invstd"] = torch.batch_norm_gather_stats_with_counts(
                on["x"], means, invstds, self.module.running_mean, self.module.running_var, MOMENTUM,
                EPS, counts.view(-1))
            kept["count"] = counts.view(-1).to(torch.int32)
            on["y"] = torch.batch_norm_elemt(on["x"], weight, bias, kept["mean"], kept["invstd"], EPS)

        def backward():
            sum_dy, sum_dy_xmu, _, _ = torch.batch_norm_backward_reduce(
                on["dy"], on["x"], kept["mean"], kept["invstd"], weight, True, True, True)
            sum_dy, sum_dy_xmu = torch.split(torch.cat([sum_dy, sum_dy_xmu]), sum_dy.numel())
            on["dx"] = torch.batch_norm_backward_elemt(on["dy"], on["x"], kept["mean"],
                                                       kept["invstd"], weight, sum_dy, sum_dy_xmu,
                                                       kept["count"])
        return [("sync_batch_norm_forward", forward), ("sync_batch_norm_backward", backward)]


def time_layer(layer, clock, repeat):
    """Why some of its calls could not be timed, by their names."""
    missing = {}
    for calls in (layer.copy, layer.batch_norm, layer.sync_batch_norm, layer.syncbn_layer):
        try:
            for _ in range(WARM_UP):
                for _, call in calls():
                    call()
            for _ in range(repeat):
                clock.round(calls())
        except (NotImplementedError, RuntimeError) as error:  # out of memory, or not on this device
            missing[calls.__name__] = str(error).split(". ", maxsplit=1)[0]
    return missing


def parse_shapes(text, batch):
    if text == "resnet50":
        return [((batch, channels, side, side), layers) for channels, side, layers in RESNET50]
    return [(tuple(map(int, part.split("x"))), 1) for part in text.split(",")]


def measure(layer, clock, repeat):
    missing = time_layer(layer, clock, repeat)
    phases = {name: quartiles(samples) for name, samples in clock.times.items()}
    if "copy" in phases:
        phases["copy"]["gb_per_s"] = 2 * layer.bytes / phases["copy"]["median"] / 1e9
    return {"phases": phases} | ({"missing": missing} if missing else {})


def write(whole, path):
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(json.dumps(whole, indent=1) + "\n")
    unfinished.replace(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--dtype", default="f32,bf16", help=", ".join(DTYPES))
    parser.add_argument("--layout", default=",".join(LAYOUTS), help=", ".join(LAYOUTS))
    parser.add_argument("--shapes", default="resnet50", help="resnet50, or NxCxHxW,...")
    parser.add_argument("--batch", type=int, default=32, help="samples, with --shapes resnet50")
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--limit", type=float, default=math.inf, metavar="SECONDS",
                        help="begins no layer after that")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    start = time.monotonic()
    try:
        import torch  # pylint: disable=import-outside-toplevel
    except ImportError:
        parser.error("PyTorch is not installed (pip install torch)")
    if options.device == "cuda" and not torch.cuda.is_available():
        print("PyTorch sees no CUDA device (--device cpu tries the program)", file=sys.stderr)
        sys.exit(77)

    device = torch.device(options.device)
    properties = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    cache_bytes = properties.L2_cache_size if properties else 1 << 20
    whole = {"torch": torch.__version__, "device": properties.name if properties else "cpu",
             "cache_bytes": cache_bytes, "repeat": options.repeat, "runs": [], "not_run": []}
    for dtype, layout in itertools.product(options.dtype.split(","), options.layout.split(",")):
        run = {"dtype": dtype, "layout": layout, "layers": []}
        whole["runs"].append(run)
        for shape, layers in parse_shapes(options.shapes, options.batch):
            text = "x".join(map(str, shape))
            if time.monotonic() - start > options.limit:
                whole["not_run"].append(f"{dtype} {layout} {text}")
                continue
            clock = DeviceClock(torch) if device.type == "cuda" else HostClock()
            row = measure(Layer(torch, device, shape, dtype, layout, cache_bytes), clock,
                          options.repeat)
            run["layers"].append({"shape": text, "layers": layers} | row)
            times = ", ".join(f"{name} {1e6 * phase['median']:.1f} us"
                              for name, phase in row["phases"].items())
            print(f"{dtype} {layout} {text}: {times}"
                  + "".join(f"; no {name}: {why}" for name, why in row.get("missing", {}).items()),
                  flush=True)
        if options.json:
            write(whole, options.json)


if __name__ == "__main__":
    main()
