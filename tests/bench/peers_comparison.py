#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times syncbn's layer beside PyTorch's and oneDNN's batch norm on the CPU, on the same tensors.

Needs libsyncbn as a shared library and, in the Python that runs this, PyTorch; oneDNN where it is
there. Both are on PyPI and nothing else is installed:

  python3 -m venv build/peers && build/peers/bin/pip install torch onednn    # 7 GB
  cmake --preset release -B build/shared -DBUILD_SHARED_LIBS=ON -DSYNCBN_TOOL=OFF -DSYNCBN_TESTS=OFF
  cmake --build build/shared
  build/peers/bin/python tests/bench/peers_comparison.py build/shared/src/libsyncbn.so

(PyPI's PyTorch for x86-64 is built for CUDA and cannot be imported without the libraries that come
with it; those at https://download.pytorch.org/whl/cpu are smaller.)

For each number of threads there is a process that may run on as many processors: this oneDNN starts a
thread for each. Every round runs each call once, in another order, on tensors that were not touched
since they left the cache. PyTorch allocates its outputs; the C library is told to keep their memory, so
that no page is faulted in. A ratio is the peer's time / ours, the median over the rounds.
"""

import argparse
import ctypes
import importlib.util
import itertools
import multiprocessing
import os
import statistics
import sys
import time
from pathlib import Path

import onednn

# channels, side: the shapes of ResNet-50's batch norm layers (He et al. 2015, table 1)
RESNET50 = [(64, 112), (64, 56), (256, 56), (128, 56), (128, 28), (512, 28), (256, 28), (256, 14),
            (1024, 14), (512, 14), (512, 7), (2048, 7)]
DTYPES = {"f32": 0, "bf16": 3}
LAYOUTS = ["first", "last"]
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
SC_LEVEL3_CACHE_SIZE = 194  # glibc's <bits/confname.h>; os.sysconf does not know its name
EPS = 1e-5
OURS, PYTORCH, ONEDNN = "ours", "PyTorch", "oneDNN"


class TensorView(ctypes.Structure):
    """syncbn_tensor of syncbn/c/syncbn.h."""
    _fields_ = [("size", ctypes.c_size_t), ("data", ctypes.c_void_p), ("dtype", ctypes.c_int), ("layout", ctypes.c_int),
                ("n", ctypes.c_int64), ("c", ctypes.c_int64), ("s", ctypes.c_int64),
                ("device", ctypes.c_int)]


class TensorSet:
    """What one call works on: x, y, dy, dx, and the outputs that PyTorch allocated last."""

    def __init__(self, x, y, dy, dx):
        self.x, self.y, self.dy, self.dx = x, y, dy, dx
        self.pytorch_y = self.pytorch_dx = None

    def clone(self):
        return TensorSet(*(each.clone() for each in (self.x, self.y, self.dy, self.dx)))


class Ours:
    """A syncbn_batch_norm over a group of one rank."""

    def __init__(self, library, like, dtype):
        self.library = library
        self.dtype = dtype
        self.layout = int(like.shape[1] > 1 and like.stride(1) == 1)
        self.sizes = (like.shape[0], like.shape[1], like.shape[2] * like.shape[3])
        self.layer, self.record, group = (ctypes.c_void_p() for _ in range(3))
        self.check(library.syncbn_communicator_self(ctypes.byref(group)))
        self.check(library.syncbn_batch_norm_new(ctypes.c_int64(like.shape[1]), group, None,
                                                 ctypes.byref(self.layer)))
        self.check(library.syncbn_forward_record_new(ctypes.byref(self.record)))

    def check(self, status):
        if status:
            raise RuntimeError(self.library.syncbn_last_error().decode())

    def view(self, of):
        return ctypes.byref(TensorView(ctypes.sizeof(TensorView), of.data_ptr(), DTYPES[self.dtype],
                                       self.layout, *self.sizes, 0))

    def forward(self, on):
        self.check(self.library.syncbn_batch_norm_forward(self.layer, self.view(on.x), None, None,
                                                          self.view(on.y), self.record, None))

    def backward(self, on):
        self.check(self.library.syncbn_batch_norm_backward(self.layer, self.record, self.view(on.x),
                                                           None, self.view(on.dy), None,
                                                           self.view(on.dx), None, None))


class PyTorch:
    """The operator behind torch.nn.BatchNorm2d in training."""

    def __init__(self, torch, channels):
        self.torch = torch
        self.weight, self.bias = torch.ones(channels), torch.zeros(channels)
        self.mean, self.variance = torch.zeros(channels), torch.ones(channels)
        self.saved = None

    def forward(self, on):
        on.pytorch_y, *self.saved = self.torch.native_batch_norm(
            on.x, self.weight, self.bias, self.mean, self.variance, True, 0.1, EPS)

    def backward(self, on):
        on.pytorch_dx = self.torch.ops.aten.native_batch_norm_backward(
            on.dy, on.x, self.weight, self.mean, self.variance, *self.saved, True, EPS,
            [True, True, True])[0]


class OneDnn:
    """oneDNN's batch normalization, where this oneDNN has it."""

    def __init__(self, torch, library, like, dtype):
        channels = like.shape[1]
        ones, zeros = torch.ones, torch.zeros
        self.norm = onednn.BatchNorm(
            library, like, {"f32": onednn.F32, "bf16": onednn.BF16}[dtype], EPS,
            {onednn.SCALE: ones(channels), onednn.SHIFT: zeros(channels),
             onednn.MEAN: zeros(channels), onednn.VARIANCE: ones(channels),
             onednn.D_SCALE: zeros(channels), onednn.D_SHIFT: zeros(channels)})

    def forward(self, on):
        self.norm.forward(on.x, on.y)

    def backward(self, on):
        self.norm.backward(on.x, on.dy, on.dx)


class Process:
    """One number of threads: the libraries as this process has loaded them."""

    def __init__(self, options, threads):
        import torch  # pylint: disable=import-outside-toplevel
        self.options, self.threads, self.torch = options, threads, torch
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
        self.beyond_caches = 4 * max(libc.sysconf(SC_LEVEL3_CACHE_SIZE), 64 << 20)  # bytes
        torch.set_num_threads(threads)
        self.library = ctypes.CDLL(options.library)
        self.library.syncbn_last_error.restype = ctypes.c_char_p
        self.onednn = onednn.OneDnn(options.onednn) if options.onednn else None

    def pool(self, channels, side, dtype, layout):
        """As many tensor sets as it takes to exceed the last cache several times."""
        order = {"first": self.torch.contiguous_format, "last": self.torch.channels_last}[layout]
        kind = {"f32": self.torch.float32, "bf16": self.torch.bfloat16}[dtype]

        def tensor(fill):
            return fill((self.options.batch, channels, side, side)).to(kind).contiguous(
                memory_format=order)

        randn, zeros = self.torch.randn, self.torch.zeros
        first = TensorSet(tensor(randn), tensor(zeros), tensor(randn), tensor(zeros))
        set_bytes = 6 * first.x.numel() * first.x.element_size()  # with what PyTorch allocates
        return [first] + [first.clone() for _ in range(min(64, self.beyond_caches // set_bytes))]

    def layers(self, like, dtype):
        found = {OURS: Ours(self.library, like, dtype), PYTORCH: PyTorch(self.torch, like.shape[1])}
        if self.onednn:
            try:
                found[ONEDNN] = OneDnn(self.torch, self.onednn, like, dtype)
            except onednn.Unsupported:
                pass  # its columns say "none"
        return found

    def require_same_results(self, layers, on, dtype):
        """Raises RuntimeError if the layers differ by more than rounding."""
        tolerance = 1e-4 if dtype == "f32" else 0.05
        results = {}
        for name, layer in layers.items():
            layer.forward(on)
            layer.backward(on)
            made = (on.pytorch_y, on.pytorch_dx) if name == PYTORCH else (on.y, on.dx)
            results[name] = [each.float().clone() for each in made]
        for name, theirs in results.items():
            for ours, other in zip(results[OURS], theirs):
                if not self.torch.allclose(ours, other, rtol=tolerance, atol=tolerance):
                    raise RuntimeError(f"{tuple(on.x.shape)}: the results of {name} differ from ours")

    def compare(self, channels, side, dtype, layout):
        """Seconds by (name, pass), a list with an entry for each round."""
        pool = self.pool(channels, side, dtype, layout)
        layers = self.layers(pool[0].x, dtype)
        self.require_same_results(layers, pool[0], dtype)
        for each in pool:
            layers[PYTORCH].forward(each)  # so that the memory of its outputs is there
            layers[PYTORCH].backward(each)
        calls = {(name, way): getattr(layer, way)
                 for way in ("forward", "backward") for name, layer in layers.items()}
        order = list(calls)
        times = {call: [] for call in order}
        turns = itertools.cycle(pool)
        for round_ in range(self.options.repeat):
            for i in range(len(order)):
                call = order[(i + round_) % len(order)]
                if self.threads > 1 and self.onednn:
                    time.sleep(0.003)  # until the threads of other runtimes no longer spin
                on = next(turns)
                begin = time.perf_counter()
                calls[call](on)
                times[call].append(time.perf_counter() - begin)
        return times


def ratio(times, name, way):
    """None where the peer has no times."""
    if (name, way) not in times:
        return None
    return statistics.median(theirs / ours
                             for theirs, ours in zip(times[name, way], times[OURS, way]))


def cell(value):
    return f"{'none' if value is None else f'x{value:.2f}':>8}"


def summary(title, ratios):
    """`ratios` are of the faster peer, by a text that says where."""
    worst = min(ratios, key=ratios.get)
    return (f"{title}: the faster peer takes x{statistics.median(ratios.values()):.2f} our time in the "
            f"median, x{ratios[worst]:.2f} at worst ({worst})")


def table(process, dtype, layout):
    """Prints it, and returns the ratios of the faster peer by pass and shape."""
    kind = f"{process.threads} thread{'s' if process.threads > 1 else ''}, {dtype}, channels {layout}"
    print(f"\n{kind}\n{'shape':<17}{'forward':>11} {PYTORCH:>8} {ONEDNN:>8}"
          f"{'backward':>14} {PYTORCH:>8} {ONEDNN:>8}", flush=True)
    fastest = {"forward": {}, "backward": {}}
    for channels, side in RESNET50:
        shape = f"{process.options.batch}x{channels}x{side}x{side}"
        times = process.compare(channels, side, dtype, layout)
        line = f"{shape:<17}"
        for way in ("forward", "backward"):
            peers = [ratio(times, name, way) for name in (PYTORCH, ONEDNN)]
            own = 1e3 * statistics.median(times[OURS, way])
            line += f"{own:>8.2f} ms {' '.join(map(cell, peers))}   "
            fastest[way][f"{shape}, {kind}"] = min(each for each in peers if each is not None)
        print(line.rstrip(), flush=True)
    for way, ratios in fastest.items():
        print(summary(way, {where.split(",")[0]: each for where, each in ratios.items()}), flush=True)
    return {f"{way}, {where}": each for way, ratios in fastest.items()
            for where, each in ratios.items()}


def compare_on_threads(options, threads, results):
    """The child process. Its tables; all ratios go into the queue `results`."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    process = Process(options, threads)
    versions = f"PyTorch {process.torch.__version__}"
    if process.onednn:
        versions += f", oneDNN {process.onednn.version}"
    print(f"\n{versions}; medians of {options.repeat} rounds", flush=True)
    ratios = {}
    for layout, dtype in itertools.product(options.layout, options.dtype):
        ratios.update(table(process, dtype, layout))
    results.put(ratios)


def parse():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", help="libsyncbn.so")
    parser.add_argument("--onednn", metavar="LIBRARY",
                        help="libdnnl.so.3 (PyPI's in this Python's environment); '' for none")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--dtype", choices=DTYPES, nargs="+", default=list(DTYPES))
    parser.add_argument("--layout", choices=LAYOUTS, nargs="+", default=LAYOUTS)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeat", type=int, default=11)
    options = parser.parse_args()
    if max(options.threads) > len(os.sched_getaffinity(0)):
        parser.error(f"--threads {max(options.threads)} is more than the processors this may run on.")
    if not Path(options.library).is_file():
        parser.error(f"{options.library} is not there (build with -DBUILD_SHARED_LIBS=ON).")
    if options.onednn is None:
        pypis = Path(sys.prefix, "lib", "libdnnl.so.3")
        options.onednn = str(pypis) if pypis.is_file() else ""
        if not options.onednn:
            print("oneDNN is not timed (it is not in this Python's environment): pip install onednn")
    if importlib.util.find_spec("torch") is None:
        parser.error("PyTorch is not in this Python's environment: pip install torch")
    return options


def main():
    options = parse()
    if options.onednn:  # PyPI's oneDNN finds neither its libraries nor, through SYCL, the processor
        beside = Path(options.onednn).parent
        os.environ["LD_LIBRARY_PATH"] = f"{beside}:{os.environ.get('LD_LIBRARY_PATH', '')}".strip(":")
        os.environ.setdefault("OCL_ICD_FILENAMES", str(beside / "libintelocl.so"))
    spawn = multiprocessing.get_context("spawn")  # a loader that reads the environment above
    ratios = {}
    for threads in options.threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        results = spawn.Queue()
        child = spawn.Process(target=compare_on_threads, args=(options, threads, results))
        child.start()
        while child.is_alive() and results.empty():
            time.sleep(0.1)
        if results.empty():
            sys.exit(1)
        ratios.update(results.get())
        child.join()
    print("\n" + summary("all", ratios))


if __name__ == "__main__":
    main()
