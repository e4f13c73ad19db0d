# SPDX-License-Identifier: Apache-2.0
"""Models whose parameters torch averages or shards, against one process with the whole batch."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

import syncbn.torch as sbn
from ranks import Ranks
from whole_batch import AFTER_TRAINING, Results, WholeBatch, draw, give_parameters

CHANNELS = 6
CLASSES = 4
BATCH = 8
# Where the shards of a batch begin and end.
CUTS = (0, 3, BATCH)
STEPS = 5


def make_network() -> nn.Sequential:
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Conv2d(3, CHANNELS, 3), nn.BatchNorm2d(CHANNELS), nn.ReLU(),
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS), nn.ReLU(),
        nn.Flatten(), nn.Linear(CHANNELS * 16, CLASSES),
    )  # fmt: skip
    give_parameters(network[1])
    give_parameters(network[4])
    return network


def batch_of(seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    return draw((BATCH, 3, 6, 6), seed, dtype), torch.arange(BATCH) % CLASSES


def loss_of(model: nn.Module, seed: int, part: slice) -> Tensor:
    """Returns the share of some samples in the mean loss over a batch."""
    x, target = batch_of(seed)
    return nn.functional.cross_entropy(model(x[part]), target[part], reduction="sum") / BATCH


def train_alone(forwards: int = 1) -> nn.Module:
    network = make_network().double()
    optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9)
    for step in range(STEPS):
        optimizer.zero_grad()
        for number in range(forwards):
            loss_of(network, forwards * step + number, slice(0, BATCH)).backward()
        optimizer.step()
    return network


def distance(got: dict[str, Any], expected: nn.Module) -> float:
    states = expected.state_dict()
    assert got.keys() == states.keys()
    return max(float((got[name] - wanted).abs().max()) for name, wanted in states.items())


def run_accumulation(rank: int, size: int, sync_buffers: bool, convert: bool = True) -> float:
    """Adds the gradients of two batches up before a step, of which the second averages them."""
    network = make_network().double()
    mesh = init_device_mesh("cpu", (size, 1), mesh_dim_names=("data", "tensor"))
    if convert:
        sbn.convert_sync_batchnorm(network, mesh["data"])
    model = DistributedDataParallel(
        network, process_group=mesh.get_group("data"), forward_sync_buffers=sync_buffers
    )
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    part = slice(CUTS[rank], CUTS[rank + 1])
    for step in range(STEPS):
        optimizer.zero_grad()
        for number in range(2):
            with contextlib.nullcontext() if number == 1 else model.no_sync():
                # Gradients are averaged over the processes, and are to be the sum.
                (loss_of(model, 2 * step + number, part) * size).backward()
        optimizer.step()
    for buffer in network.buffers():
        first = buffer.clone()
        dist.broadcast(first, 0)
        assert not convert or torch.equal(first, buffer)
    return distance(network.state_dict(), train_alone(forwards=2))


@pytest.mark.parametrize("sync_buffers", [True, False])
def test_accumulated_gradients_equal_those_of_one_process(pair: Ranks, sync_buffers: bool) -> None:
    for error in pair.run(run_accumulation, sync_buffers):
        assert error < 10 * AFTER_TRAINING  # twice as many batches


def test_accumulated_gradients_of_local_batch_norm_do_not(pair: Ranks) -> None:
    """Shows that the comparison above sees whether layers are synchronized."""
    assert min(pair.run(run_accumulation, True, False)) > 1e-3


def shard(network: nn.Sequential, **policy: Any) -> nn.Sequential:
    """Shards a network's parameters: convolutions by themselves, all else together."""
    options = {
        "mesh": init_device_mesh("cpu", (dist.get_world_size(),)),
        "mp_policy": MixedPrecisionPolicy(**policy),
    }
    for place in (0, 3):
        fully_shard(network[place], **options)
    fully_shard(network, **options)
    return network


def run_sharded(rank: int, size: int, convert: bool) -> float:
    network = make_network().double()
    if convert:
        sbn.convert_sync_batchnorm(network)
    network = shard(network)
    optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9)
    part = slice(CUTS[rank], CUTS[rank + 1])
    for step in range(STEPS):
        optimizer.zero_grad()
        (loss_of(network, step, part) * size).backward()
        optimizer.step()
    options = StateDictOptions(full_state_dict=True)
    state = get_model_state_dict(network, options=options)
    make_network().double().load_state_dict(state)
    return distance(state, train_alone())


def test_sharded_parameters_equal_those_of_one_process(pair: Ranks) -> None:
    for error in pair.run(run_sharded, True):
        assert error < AFTER_TRAINING


def test_sharded_parameters_with_local_batch_norm_do_not(pair: Ranks) -> None:
    """Shows that the comparison above sees whether layers are synchronized."""
    assert min(pair.run(run_sharded, False)) > 1e-3


class Watch:
    """Keeps what one layer takes and gives in a step."""

    def __init__(self, layer: Any) -> None:
        self.seen: dict[str, Tensor] = {}
        self.before = {name: values.clone() for name, values in layer.named_buffers()}
        layer.register_forward_hook(self._forward)

    def _forward(self, layer: Any, inputs: tuple[Tensor, ...], y: Tensor) -> None:
        (x,) = inputs
        for name, values in (("x", x), ("y", y), ("weight", layer.weight), ("bias", layer.bias)):
            self.seen[name] = values.detach().clone()
        x.register_hook(lambda gradient: self._keep("dx", gradient))
        y.register_hook(lambda gradient: self._keep("dy", gradient))

    def _keep(self, name: str, gradient: Tensor) -> None:
        self.seen[name] = gradient.detach().clone()


def gathered(values: Tensor) -> tuple[Tensor, int]:
    """Returns the samples of all processes, and which is the first of this one."""
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, values)
    return torch.cat(parts), sum(len(part) for part in parts[: dist.get_rank()])


def run_mixed_precision(rank: int, size: int) -> list[float]:
    """Trains in bfloat16 with the layers' statistics in float32, and looks at the first step."""
    policy: dict[str, Any] = {"param_dtype": torch.bfloat16, "reduce_dtype": torch.float32}
    network = shard(sbn.convert_sync_batchnorm(make_network()), **policy)
    layers = [layer for layer in network if isinstance(layer, nn.BatchNorm2d)]
    watches = [Watch(layer) for layer in layers]
    optimizer = torch.optim.SGD(network.parameters(), 0.05)
    part = slice(CUTS[rank], CUTS[rank + 1])
    losses = []
    for step in range(20):
        x, target = batch_of(1, torch.float32)
        loss = nn.functional.cross_entropy(network(x[part]).float(), target[part])
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            for watch, layer in zip(watches, layers, strict=True):
                expect_whole_batch(watch, layer)
        optimizer.step()
        losses.append(loss.item())
    assert {values.dtype for values in network.state_dict().values()} == {
        torch.float32, torch.int64,
    }  # fmt: skip
    return losses


def expect_whole_batch(watch: Watch, layer: Any) -> None:
    """Requires of a layer what it gives for what it has taken."""
    seen = watch.seen
    assert seen["x"].dtype == seen["weight"].dtype == torch.bfloat16
    assert layer.running_mean.dtype == torch.float32
    oracle_layer = sbn.SyncBatchNorm(CHANNELS)
    with torch.no_grad():
        oracle_layer.weight.copy_(seen["weight"])
        oracle_layer.bias.copy_(seen["bias"])
    oracle_layer.load_state_dict(watch.before, strict=False)
    (x, first), (dy, _) = gathered(seen["x"]), gathered(seen["dy"])
    oracle = WholeBatch(oracle_layer, x, dy)
    oracle.results.dweight = oracle.results.dbias = None  # of the shards, averaged: see above
    oracle.expect(
        Results(seen["y"], seen["dx"], None, None, layer.running_mean, layer.running_var), first
    )


def test_sharded_parameters_in_bfloat16_train_with_statistics_of_the_whole_batch(
    pair: Ranks,
) -> None:
    for losses in pair.run(run_mixed_precision):
        assert losses[-1] < losses[0] / 2, losses


def run_torchs_layer(rank: int, size: int) -> None:
    network = shard(make_network(), param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    with pytest.raises(RuntimeError, match="scalar type BFloat16 but found Float") as caught:
        network(batch_of(1, torch.float32)[0])
    assert any(entry.name == "batch_norm" for entry in caught.traceback)


def test_torchs_batch_norm_takes_no_bfloat16_with_statistics_in_float32(pair: Ranks) -> None:
    """Shows what the test above is about."""
    pair.run(run_torchs_layer)
