#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains a small ResNet on Fashion-MNIST with several processes. Any of:

    torchrun --nproc-per-node 2 fashion_mnist.py --data /usr/share/datasets/fashion-mnist
    mpirun -n 2 python fashion_mnist.py --data /usr/share/datasets/fashion-mnist

Lines that end in "# syncbn" synchronize batch norm; without them the program is as it would be with
DistributedDataParallel alone. The data are Debian's package dataset-fashion-mnist.
"""

import argparse
import gzip
import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import syncbn.torch as sbn  # syncbn


def read_idx(path: Path) -> Tensor:
    """Reads a file of bytes in MNIST's format: 0, 0, 8, dimensions, each size in 4 bytes, the bytes."""
    data = bytearray(gzip.decompress(path.read_bytes()))
    sizes = [int.from_bytes(data[4 * i : 4 * i + 4], "big") for i in range(1, data[3] + 1)]
    return torch.frombuffer(data, dtype=torch.uint8, offset=4 + 4 * data[3]).view(sizes)


def read_set(directory: Path, name: str, most: int | None) -> tuple[Tensor, Tensor]:
    images = read_idx(directory / f"{name}-images-idx3-ubyte.gz")[:most]
    labels = read_idx(directory / f"{name}-labels-idx1-ubyte.gz")[:most]
    return images.unsqueeze(1).float().div(127.5).sub(1), labels.long()


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.layers(x)).relu()


def make_resnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), Block(16),
        nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), Block(32),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains a small ResNet on Fashion-MNIST.")
    parser.add_argument("--data", type=Path, required=True, help="where the four .gz files are")
    parser.add_argument("--images", type=int, help="train with so many images only")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64, help="of all processes together")
    parser.add_argument("--rate", type=float, default=0.1, help="learning rate at the start")
    parser.add_argument("--checkpoint", type=Path, help="write the trained model to this file")
    options = parser.parse_args()

    if "OMPI_COMM_WORLD_RANK" in os.environ:  # Open MPI's mpirun on one host
        names = {"RANK": "OMPI_COMM_WORLD_RANK", "WORLD_SIZE": "OMPI_COMM_WORLD_SIZE"}
        os.environ.update({name: os.environ[theirs] for name, theirs in names.items()})
    alone = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    os.environ.update({**alone, **os.environ})
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()

    images, labels = read_set(options.data, "train", options.images)
    torch.manual_seed(1)
    network = make_resnet()
    sbn.convert_sync_batchnorm(network, exchange="syncbn")  # syncbn
    report = sbn.verify(network, images[rank::size][:64])  # syncbn
    if rank == 0:
        print(f"{size} processes, {len(images)} images")
        print(str(report).splitlines()[0])  # syncbn
    model = DistributedDataParallel(network)
    optimizer = torch.optim.SGD(model.parameters(), options.rate, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs)
    test_images, test_labels = (part[rank::size] for part in read_set(options.data, "t10k", None))

    for epoch in range(options.epochs):
        model.train()
        sums = torch.zeros(3, dtype=torch.float64)  # losses, right answers, answers
        for batch in torch.randperm(len(images)).split(options.batch_size):
            mine = batch.tensor_split(size)[rank]
            losses = nn.functional.cross_entropy(model(images[mine]), labels[mine], reduction="sum")
            optimizer.zero_grad()
            (losses * size / len(batch)).backward()  # gradients are averaged over the processes
            optimizer.step()
            sums[0] += losses.detach()
        schedule.step()
        model.eval()
        with torch.no_grad():
            for some, answers in zip(test_images.split(500), test_labels.split(500), strict=True):
                sums[1] += (model(some).argmax(1) == answers).sum()
                sums[2] += len(some)
        dist.all_reduce(sums)
        if rank == 0:
            loss, accuracy = sums[0] / len(images), 100 * sums[1] / sums[2]
            print(f"epoch {epoch + 1}: loss {loss:.4f}, test accuracy {accuracy:.2f} %", flush=True)

    if options.checkpoint and rank == 0:
        unfinished = options.checkpoint.with_suffix(".unfinished")
        torch.save(network.state_dict(), unfinished)
        unfinished.replace(options.checkpoint)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
