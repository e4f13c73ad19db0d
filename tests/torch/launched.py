# SPDX-License-Identifier: Apache-2.0
"""A small training program, which launch_test.py has different launchers start.

Usage: launched.py DIRECTORY. Rank 0 writes the losses of three steps to DIRECTORY/losses.json. Then
rank 1 leaves a layer out, which is to end the program with rank 0's message.
"""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import syncbn.torch as sbn
from whole_batch import draw

BATCH = 7


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 5)
        self.norm = nn.BatchNorm1d(5)
        self.last = nn.Linear(5, 3)

    def forward(self, x: Tensor, skip: bool = False) -> Tensor:
        x = self.first(x)
        result: Tensor = self.last(x if skip else self.norm(x).relu())
        return result


def make(convert: bool) -> nn.Module:
    torch.manual_seed(1)
    network = Network().double()
    return sbn.convert_sync_batchnorm(network) if convert else network


def loss_of(network: nn.Module, step: int, samples: Tensor) -> Tensor:
    """Returns the share of some samples in the mean loss over a batch."""
    x, target = draw((BATCH, 6), step, torch.float64)[samples], samples % 3
    return nn.functional.cross_entropy(network(x), target, reduction="sum") / BATCH


def train(network: nn.Module, rank: int, size: int) -> list[float]:
    """Returns the mean losses of three steps over the whole batch, of which each rank has a part."""
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    losses = []
    for step in range(3):
        loss = loss_of(network, step, torch.arange(BATCH).tensor_split(size)[rank])
        optimizer.zero_grad()
        (loss * size).backward()  # gradients are averaged
        optimizer.step()
        total = loss.detach()
        if size > 1:
            dist.all_reduce(total)
        losses.append(total.item())
    return losses


def main(rank: int, directory: str) -> None:
    os.environ["SYNCBN_TIMEOUT"] = "5"
    dist.init_process_group("gloo")
    size = dist.get_world_size()
    assert rank == dist.get_rank()
    model = DistributedDataParallel(make(convert=True))
    losses = train(model, rank, size)
    if rank == 0:
        Path(directory, "losses.json").write_text(json.dumps(losses))
    model(draw((2, 6), rank, torch.float64), skip=rank == 1)
    dist.barrier()
    Path(directory, f"unharmed-{rank}").touch()


def main_of_spawn(rank: int, size: int, directory: str) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size))
    main(rank, directory)


if __name__ == "__main__":
    if "--spawn" in sys.argv:
        torch.multiprocessing.spawn(main_of_spawn, (2, sys.argv[1]), nprocs=2)
    else:
        if "OMPI_COMM_WORLD_RANK" in os.environ:  # Open MPI's mpirun
            os.environ["RANK"] = os.environ["OMPI_COMM_WORLD_RANK"]
            os.environ["WORLD_SIZE"] = os.environ["OMPI_COMM_WORLD_SIZE"]
        main(int(os.environ["RANK"]), sys.argv[1])
