# SPDX-License-Identifier: Apache-2.0
"""The command line, and the processes that measure, which it starts unless torchrun has."""

from __future__ import annotations

import argparse
import os
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from . import layers, network


def _work(rank: int, arguments: argparse.Namespace, port: int) -> None:
    torch.set_num_threads(arguments.threads)
    if not dist.is_torchelastic_launched():
        store = dist.TCPStore("127.0.0.1", port, None, is_master=False)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=arguments.ranks)
    else:
        dist.init_process_group("gloo")
    if dist.get_rank() == 0:
        print(
            f"{dist.get_world_size()} processes of {arguments.threads} threads, "
            f"torch {torch.__version__}"
        )
    (network if arguments.network else layers).measure(arguments)
    dist.destroy_process_group()


def _shape(text: str) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in text.split("x"))
    if len(sizes) != 4 or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no NxCxHxW")
    return sizes


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m syncbn.torch.bench",
        description="Times synchronized batch norm beside torch's local one and one of tensor operations.",
        epilog="Starts its processes itself, or is started by torchrun.",
    )
    parser.add_argument("--ranks", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each (default: 1)")
    parser.add_argument(
        "--layouts", nargs="+", choices=layers.LAYOUTS, default=list(layers.LAYOUTS)
    )
    parser.add_argument("--json", metavar="FILE", help="writes the medians, in seconds, there")
    single = parser.add_argument_group("single layers")
    single.add_argument(
        "--shapes", type=_shape, nargs="+", metavar="NxCxHxW",
        default=[(32, channels, size, size) for channels, size in layers.RESNET_50],
        help="of a process's part of the batch (default: ResNet-50's, 32 samples)",
    )  # fmt: skip
    single.add_argument("--dtype", choices=layers.DTYPES, default="f32")
    single.add_argument("--seconds", type=float, default=2.0, help="for each shape (default: 2)")
    whole = parser.add_argument_group("a whole network")
    whole.add_argument(
        "--network", metavar="NAME", help="a network of timm's or torchvision's, such as resnet50"
    )
    whole.add_argument("--size", type=int, default=64, help="of images (default: 64)")
    whole.add_argument("--batch", type=int, default=32, help="images a process (default: 32)")
    whole.add_argument("--steps", type=int, default=15, help="of each kind (default: 15)")
    given: Any = parser.parse_args(arguments)
    if dist.is_torchelastic_launched():
        _work(int(os.environ["RANK"]), given, 0)
        return
    store = dist.TCPStore("127.0.0.1", 0, None, is_master=True, wait_for_workers=False)
    mp.spawn(_work, args=(given, store.port), nprocs=given.ranks)
