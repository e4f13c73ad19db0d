# SPDX-License-Identifier: Apache-2.0
"""Trains a network on this process's shard, as RANK of WORLD_SIZE, and compares it with one that has the
whole batch. It takes nothing but PyTorch, of any version from 1.13 on, and the installed package."""

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import syncbn.torch as sbn

STEPS = 5
SAMPLES = 4  # a rank
TOLERANCE = 1e-10  # all is in double


def network(norm: type[nn.Module]) -> nn.Module:
    torch.manual_seed(1)
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3), norm(8), nn.ReLU(),
        nn.Conv2d(8, 4, 3), norm(4), nn.Flatten(), nn.Linear(4 * 8 * 8, 10),
    )  # fmt: skip
    return layers.double()


def train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()


def distance(model: nn.Module, other: nn.Module) -> float:
    pairs = zip(model.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs)


def main() -> None:
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(2)
    images = torch.randn(SAMPLES * size, 3, 12, 12, dtype=torch.double)
    labels = torch.randint(10, (SAMPLES * size,))
    shard = slice(SAMPLES * rank, SAMPLES * (rank + 1))

    whole = network(nn.BatchNorm2d)
    train(whole, images, labels)
    synchronized = network(sbn.SyncBatchNorm)
    train(DistributedDataParallel(synchronized), images[shard], labels[shard])
    local = network(nn.BatchNorm2d)
    train(DistributedDataParallel(local), images[shard], labels[shard])

    ours, control = distance(synchronized, whole), distance(local, whole)
    assert ours < TOLERANCE, f"rank {rank} is off by {ours}"
    assert control > 1e-3, f"local statistics are off by {control} only: this proves nothing"
    print(
        f"PyTorch {torch.__version__}, rank {rank} of {size}: off by {ours:.1e} after {STEPS} steps, "
        f"with local statistics by {control:.1e}"
    )
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
