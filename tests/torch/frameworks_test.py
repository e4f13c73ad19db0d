# SPDX-License-Identifier: Apache-2.0
"""Lightning and MMEngine, which make and train models for their users."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn

import syncbn.torch as sbn
from ranks import Ranks
from syncbn.torch.layer import Synchronized
from whole_batch import AFTER_TRAINING, draw

CHANNELS = 5
CLASSES = 4
BATCH = 8
# Where the shards of a batch begin and end.
CUTS = (0, 3, BATCH)
STEPS = 5


class Own(nn.BatchNorm2d):
    """A class that is to be there again after the training."""


def make_network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, CHANNELS, 3), Own(CHANNELS), nn.ReLU(), nn.Flatten(),
        nn.Linear(CHANNELS * 16, CLASSES), nn.BatchNorm1d(CLASSES),
    ).double()  # fmt: skip


def loss_of(model: nn.Module, seed: int, part: slice) -> Tensor:
    x, target = (
        draw((BATCH, 3, 6, 6), seed, torch.float64)[part],
        torch.arange(BATCH)[part] % CLASSES,
    )
    return nn.functional.cross_entropy(model(x), target, reduction="sum") / BATCH


def train_alone() -> nn.Module:
    network = make_network()
    optimizer = torch.optim.SGD(network.parameters(), 0.05)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss_of(network, step, slice(0, BATCH)).backward()
        optimizer.step()
    return network


def run_lightning(rank: int, size: int, with_plugin: bool) -> float:
    """Has Lightning's Trainer train in this process. Returns how far from one process that is."""
    os.environ.update(LOCAL_RANK=str(rank), NODE_RANK="0", WORLD_SIZE=str(size))
    from pytorch_lightning import LightningModule, Trainer

    import syncbn.lightning

    layers: set[type] = set()

    class Task(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = make_network()

        def training_step(self, batch: Tensor, index: int) -> Tensor:
            layers.add(type(self.network[1]))
            part = slice(CUTS[rank], CUTS[rank + 1])
            return loss_of(self.network, int(batch), part) * size  # gradients are averaged

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.05)

    task = Task()
    trainer = Trainer(
        accelerator="cpu", devices=size, strategy="ddp", max_epochs=1, logger=False,
        plugins=[syncbn.lightning.SyncBatchNorm(exchange="syncbn")] if with_plugin else [],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False,
    )  # fmt: skip
    assert trainer.world_size == size and trainer.global_rank == rank
    trainer.fit(task, torch.utils.data.DataLoader(range(STEPS), batch_size=None))  # type: ignore
    assert all(issubclass(layer, Synchronized) == with_plugin for layer in layers)
    assert type(task.network[1]) is Own and type(task.network[5]) is nn.BatchNorm1d
    states = zip(
        task.network.state_dict().values(), train_alone().state_dict().values(), strict=True
    )
    return max(float((got - wanted).abs().max()) for got, wanted in states)


def test_lightnings_trainer_with_the_plugin_equals_one_process(pair: Ranks) -> None:
    for distance in pair.run(run_lightning, True, deadline=300.0):
        assert distance < AFTER_TRAINING


def test_lightnings_trainer_without_it_does_not(pair: Ranks) -> None:
    """Shows that the comparison above sees whether layers are synchronized."""
    assert min(pair.run(run_lightning, False, deadline=300.0)) > 1e-3


def test_mmengine_builds_the_layer_from_a_configuration() -> None:
    from mmengine.registry import MODELS

    import syncbn.mmengine  # noqa: F401

    layer = MODELS.build(
        {"type": "syncbn", "num_features": CHANNELS, "eps": 1e-3, "exchange": "syncbn"}
    )
    assert type(layer) is sbn.SyncBatchNorm
    assert layer.num_features == CHANNELS and layer.eps == 1e-3
    x = draw((4, CHANNELS, 3), 1)
    assert torch.equal(layer(x), sbn.SyncBatchNorm(CHANNELS, eps=1e-3)(x))
    model = nn.Sequential(layer)
    sbn.revert_sync_batchnorm(model)
    assert not isinstance(model[0], sbn.SyncBatchNorm)
