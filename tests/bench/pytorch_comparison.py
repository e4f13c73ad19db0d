#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times syncbn's layer beside PyTorch's batch norm on the CPU, in one process and on the same tensors.

Usage: pytorch_comparison.py LIBSYNCBN_SO [--threads N] [--dtype f32|bf16] [--layout first|last]
                             [--batch N] [--repeat N]

Needs PyTorch, and libsyncbn as a shared library (cmake -DBUILD_SHARED_LIBS=ON). Every round runs each
call once, in another order, on tensors that were not touched since they left the cache. PyTorch
allocates its outputs; the C library is told to keep their memory, so that no page is faulted in.
"""

import argparse
import ctypes
import os
import statistics
import time

# channels, side: the shapes of ResNet-50's batch norm layers (He et al. 2015, table 1)
RESNET50 = [(64, 112), (64, 56), (256, 56), (128, 56), (128, 28), (512, 28), (256, 28), (256, 14),
            (1024, 14), (512, 14), (512, 7), (2048, 7)]
DTYPES = {"f32": 0, "bf16": 3}
BEYOND_CACHES = 256 << 20  # bytes
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


class TensorView(ctypes.Structure):
    """syncbn_tensor of syncbn/c/syncbn.h."""
    _fields_ = [("data", ctypes.c_void_p), ("dtype", ctypes.c_int), ("layout", ctypes.c_int),
                ("n", ctypes.c_int64), ("c", ctypes.c_int64), ("s", ctypes.c_int64)]


class Layer:
    """A syncbn_batch_norm over a group of one rank."""

    def __init__(self, library, channels):
        self.library = library
        self.layer, self.saved, group = (ctypes.c_void_p() for _ in range(3))
        self.check(library.syncbn_communicator_self(ctypes.byref(group)))
        self.check(library.syncbn_batch_norm_new(ctypes.c_int64(channels), group, None,
                                                 ctypes.byref(self.layer)))
        self.check(library.syncbn_saved_new(ctypes.byref(self.saved)))

    def check(self, status):
        if status:
            raise RuntimeError(self.library.syncbn_last_error().decode())

    def forward(self, x, y):
        self.check(self.library.syncbn_batch_norm_forward(self.layer, x, None, None, y, self.saved))

    def backward(self, x, dy, dx):
        self.check(self.library.syncbn_batch_norm_backward(self.layer, self.saved, x, None, dy, None,
                                                           dx, None))


def compare(torch, library, shape, options):
    """Medians in seconds of our forward and backward and of theirs."""
    channels, side = shape
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[options.dtype]
    order = torch.channels_last if options.layout == "last" else torch.contiguous_format

    def tensor(fill):
        return fill((options.batch, channels, side, side)).to(dtype).contiguous(memory_format=order)

    def view(of):
        return ctypes.byref(TensorView(of.data_ptr(), DTYPES[options.dtype],
                                       int(options.layout == "last"), options.batch, channels,
                                       side * side))

    first = [tensor(torch.randn), tensor(torch.zeros), tensor(torch.randn), tensor(torch.zeros)]
    set_bytes = sum(part.numel() * part.element_size() for part in first)
    pool = [first] + [[part.clone() for part in first]
                      for _ in range(min(64, BEYOND_CACHES // set_bytes))]
    weight, bias = torch.ones(channels), torch.zeros(channels)
    mean, var = torch.zeros(channels), torch.ones(channels)
    layer = Layer(library, channels)
    kept = {}

    def ours_forward(x, y, dy, dx):
        layer.forward(view(x), view(y))

    def ours_backward(x, y, dy, dx):
        layer.backward(view(x), view(dy), view(dx))

    def theirs_forward(x, y, dy, dx):
        kept["y"], kept["mean"], kept["invstd"] = torch.native_batch_norm(
            x, weight, bias, mean, var, True, 0.1, 1e-5)

    def theirs_backward(x, y, dy, dx):
        kept["dx"] = torch.ops.aten.native_batch_norm_backward(
            dy, x, weight, mean, var, kept["mean"], kept["invstd"], True, 1e-5,
            [True, True, True])[0]

    calls = [ours_forward, ours_backward, theirs_forward, theirs_backward]
    for call in calls:
        call(*pool[0])
    tolerance = 1e-4 if options.dtype == "f32" else 0.05
    for ours, theirs in ((pool[0][1], kept["y"]), (pool[0][3], kept["dx"])):
        if not torch.allclose(ours.float(), theirs.float(), rtol=tolerance, atol=tolerance):
            raise RuntimeError(f"{shape}: the results differ")

    times = [[] for _ in calls]
    turn = 0
    for round_ in range(options.repeat):
        for i in range(len(calls)):
            which = (i + round_) % len(calls)
            turn = (turn + 1) % len(pool)
            begin = time.perf_counter()
            calls[which](*pool[turn])
            times[which].append(time.perf_counter() - begin)
    return [statistics.median(each) for each in times]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("library")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("--layout", choices=["first", "last"], default="first")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeat", type=int, default=11)
    options = parser.parse_args()

    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # before either library starts its own
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
    libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
    try:
        import torch  # pylint: disable=import-outside-toplevel
    except ImportError:
        parser.error("PyTorch is not installed (pip install torch)")
    torch.set_num_threads(options.threads)
    library = ctypes.CDLL(options.library)
    library.syncbn_last_error.restype = ctypes.c_char_p

    print(f"PyTorch {torch.__version__}, {options.threads} thread(s), {options.dtype}, "
          f"channels {options.layout}; medians of {options.repeat}\n")
    print(f"{'shape':<16} {'forward':>10} {'PyTorch':>10} {'':>6} {'backward':>10} {'PyTorch':>10}")
    for shape in RESNET50:
        ours, ours_back, theirs, theirs_back = compare(torch, library, shape, options)
        print(f"{options.batch}x{shape[0]}x{shape[1]}x{shape[1]:<6}"
              f" {1e3 * ours:>7.2f} ms {1e3 * theirs:>7.2f} ms x{theirs / ours:<5.2f}"
              f" {1e3 * ours_back:>7.2f} ms {1e3 * theirs_back:>7.2f} ms"
              f" x{theirs_back / ours_back:.2f}", flush=True)


if __name__ == "__main__":
    main()
