# SPDX-License-Identifier: Apache-2.0
"""Processes with different numbers of batches, against one that takes the batches of each step."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.join import Joinable, JoinHook
from torch.nn.parallel import DistributedDataParallel

import syncbn.torch as sbn
from ranks import Ranks
from whole_batch import AFTER_TRAINING, draw, give_parameters

CHANNELS = 5
CLASSES = 4


class Doubled(nn.BatchNorm2d):
    """A batch norm whose forward is its own."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class Network(nn.Module):
    """Has layers of each kind: plain, without parameters, fused, with its own forward, cumulative."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, CHANNELS, 3)
        self.plain = nn.BatchNorm2d(CHANNELS)
        self.bare = nn.BatchNorm2d(CHANNELS, affine=False, track_running_stats=False)
        self.second = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.fused = (
            sbn.SyncBatchNorm(CHANNELS, activation="relu") if fused else nn.BatchNorm2d(CHANNELS)
        )
        self.own = Doubled(CHANNELS)
        self.last = nn.Linear(CHANNELS * 16, CLASSES)
        self.cumulative = nn.BatchNorm1d(CLASSES, momentum=None)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bare(self.plain(self.first(x)).relu())
        y = self.second(x)
        if isinstance(self.fused, sbn.SyncBatchNorm):
            x = self.fused(y, residual=x)
        else:
            x = (self.fused(y) + x).relu()
        x = self.own(x)
        result: Tensor = self.cumulative(self.last(x.flatten(1)))
        return result


def make_network(fused: bool = False) -> nn.Module:
    torch.manual_seed(1)
    network = Network(fused).double()
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            give_parameters(layer)
    return network


def batch_of(rank: int, number: int) -> tuple[Tensor, Tensor]:
    """Returns a rank's batch of a number: of another size each time."""
    size = 2 + (rank + number) % 3
    x = draw((size, 3, 6, 6), 100 * rank + number, torch.float64)
    return x, (torch.arange(size) + rank) % CLASSES


def train_alone(counts: tuple[int, ...], divide: bool, forwards: int) -> tuple[nn.Module, Any]:
    """Trains one process with the batches that ranks have at each step."""
    network = make_network()
    optimizer = torch.optim.SGD(network.parameters(), 0.05)
    losses = []
    for step in range(0, max(counts), forwards):
        have = [rank for rank, count in enumerate(counts) if step < count]
        loss = torch.zeros((), dtype=torch.float64)
        for number in range(step, step + forwards):
            batches = [batch_of(rank, number) for rank in have]
            outputs = network(torch.cat([x for x, _ in batches])).split(
                [len(x) for x, _ in batches]
            )
            of_ranks = [
                nn.functional.cross_entropy(output, target)
                for output, (_, target) in zip(outputs, batches, strict=True)
            ]
            losses += [(rank, float(value)) for rank, value in zip(have, of_ranks, strict=True)]
            loss = loss + sum(of_ranks) / (len(counts) if divide else len(have))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network, losses


class Counter(Joinable, JoinHook):
    """Counts at the end of a step who has made it, and waits for the answer."""

    def __init__(self) -> None:
        super().__init__()

    def count(self, has_batch: bool = True) -> int:
        number = torch.tensor([int(has_batch)])
        dist.all_reduce(number)
        return int(number)

    def join_hook(self, **_: Any) -> JoinHook:
        return self

    def main_hook(self) -> None:
        self.count(has_batch=False)

    @property
    def join_device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def join_process_group(self) -> Any:
        return dist.group.WORLD


def write_buffers_late(model: DistributedDataParallel) -> None:
    """Has a process without batches write the buffers that it is sent when it has long gone on."""
    receive, finish = model._sync_module_buffers, model._match_all_reduce_for_bwd_pass
    sent: list[Tensor] = []

    def write(values: list[Tensor]) -> None:
        for buffer, value in zip(model.buffers(), values, strict=True):
            buffer.copy_(value)

    def receive_only(rank: int) -> None:
        before = [buffer.clone() for buffer in model.buffers()]
        receive(rank)
        sent[:] = [buffer.clone() for buffer in model.buffers()]
        write(before)

    def finish_and_write() -> None:
        finish()
        write(sent)

    model._sync_module_buffers = receive_only  # type: ignore[method-assign]
    model._match_all_reduce_for_bwd_pass = finish_and_write  # type: ignore[method-assign]


def run_join(
    rank: int,
    size: int,
    counts: tuple[int, ...],
    convert: bool = True,
    exchange: Any = "torch",
    divide: bool = True,
    forwards: int = 1,
    broadcast: bool = True,
    compiler: str = "",
    late: bool = False,
) -> float:
    """Trains on this process's batches. Returns how far losses and model are from one process's."""
    network = make_network(fused=convert)
    if convert:
        sbn.convert_sync_batchnorm(network, exchange=exchange)
    inner: nn.Module = network
    if compiler:
        torch._dynamo.reset()
        inner = torch.compile(network, backend=compiler)  # type: ignore[assignment]
    model = DistributedDataParallel(inner, forward_sync_buffers=broadcast)
    if late:
        write_buffers_late(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    losses = []
    others = [Counter()] if forwards == 1 else []  # it counts once a forward
    with sbn.join(model, *others, divide_by_initial_world_size=divide):
        for step in range(0, counts[rank], forwards):
            values = []
            for number in range(step, step + forwards):
                x, target = batch_of(rank, number)
                last = number == step + forwards - 1
                with contextlib.nullcontext() if last else model.no_sync():
                    values.append(nn.functional.cross_entropy(model(x), target))
            optimizer.zero_grad()
            torch.stack(values).sum().backward()
            optimizer.step()
            for counter in others:
                assert counter.count() == sum(step < count for count in counts)
            losses += [float(value) for value in values]
    alone, expected = train_alone(counts, divide, forwards)
    expected = [loss for of, loss in expected if of == rank]
    worst = max((abs(a - b) for a, b in zip(losses, expected, strict=True)), default=0.0)
    sbn.revert_sync_batchnorm(network)
    states = zip(network.state_dict().values(), alone.state_dict().values(), strict=True)
    return max(worst, *(float((got - wanted).abs().max()) for got, wanted in states))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"divide": False},
        {"forwards": 2, "counts": (4, 2, 0)},
        {"exchange": "syncbn", "broadcast": False},
        {"counts": (0, 1, 3), "exchange": "syncbn"},
        {"late": True},
    ],
    ids=["average of all", "average of those left", "two forwards", "shared memory", "first has none",
         "late buffers"],
)  # fmt: skip
def test_three_processes_with_uneven_batches_equal_one(
    trio: Ranks, options: dict[str, Any]
) -> None:
    options = {"counts": (5, 3, 0), **options}
    for distance in trio.run(run_named, run_join, options):
        assert distance < AFTER_TRAINING


def run_named(rank: int, size: int, function: Any, options: dict[str, Any]) -> Any:
    return function(rank, size, **options)


@pytest.mark.parametrize("counts", [(3, 1), (0, 2), (2, 2)])
def test_two_processes_with_uneven_batches_equal_one(pair: Ranks, counts: tuple[int, ...]) -> None:
    for distance in pair.run(run_join, counts):
        assert distance < AFTER_TRAINING


def test_processes_with_batch_norm_of_their_own_do_not_equal_one(pair: Ranks) -> None:
    """Shows that the comparisons above see whether layers are synchronized."""
    assert min(pair.run(run_join, (3, 1), False)) > 1e-3


def test_compiled_model_with_uneven_batches_equals_one_process(pair: Ranks) -> None:
    for distance in pair.run(
        run_named, run_join, {"counts": (3, 1), "compiler": "aot_eager"}, deadline=300.0
    ):
        assert distance < AFTER_TRAINING


def run_early_end(rank: int, size: int) -> int:
    model = DistributedDataParallel(sbn.convert_sync_batchnorm(nn.BatchNorm1d(CHANNELS)))
    steps = 0
    with (
        pytest.raises(RuntimeError, match="exhausted"),
        sbn.join(model, throw_on_early_termination=True),
    ):
        for step in range(3 - rank):
            model(draw((4, CHANNELS), step)).sum().backward()
            steps += 1
    return steps


def test_all_processes_end_with_the_first_if_asked_to(pair: Ranks) -> None:
    assert pair.run(run_early_end) == [2, 2]


def run_disabled(rank: int, size: int) -> None:
    model = DistributedDataParallel(sbn.convert_sync_batchnorm(nn.BatchNorm1d(CHANNELS)))
    with sbn.join(model, enable=False):
        model(draw((4, CHANNELS), rank)).sum().backward()
    assert model.module.process_group is None


def test_join_that_is_not_enabled_changes_nothing(pair: Ranks) -> None:
    pair.run(run_disabled)


class Either(nn.Module):
    """Calls one of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.BatchNorm1d(CHANNELS), nn.BatchNorm1d(CHANNELS)

    def forward(self, x: Tensor, other: bool = False) -> Tensor:
        result: Tensor = (self.other if other else self.one)(x)
        return result


def run_failure(rank: int, size: int, what: str) -> str:
    """Has rank 2 without a batch, while something goes wrong with one of ranks 0 and 1."""
    os.environ["SYNCBN_TIMEOUT"] = "2"
    model = DistributedDataParallel(
        sbn.convert_sync_batchnorm(Either()),
        find_unused_parameters=True,
        forward_sync_buffers=False,
    )
    try:
        with sbn.join(model):
            for step in range(0 if rank == 2 else 2):
                if what == "stops" and rank == 0 and step == 1:
                    raise ValueError("of the program")
                model(draw((4, CHANNELS), step), other=rank == 1 and step == 1).sum().backward()
    except (sbn.CommError, ValueError) as error:
        return str(error)
    return "nothing"


def test_process_without_batches_is_told_that_the_others_disagree(trio: Ranks) -> None:
    for text in trio.run(run_failure, "disagrees"):
        assert "the ranks disagree" in text and "forward of 'one'" in text, text
        assert "forward of 'other'" in text, text
    trio.kill()  # gradients have been left half exchanged


def test_process_without_batches_does_not_wait_for_ever(trio: Ranks) -> None:
    of_program, missed, waited = trio.run(run_failure, "stops")
    assert of_program == "of the program"
    assert "do not begin an iteration together" in missed, missed
    assert "no batch left, and waits to be told" in waited, waited
    trio.kill()


def run_unfinished(rank: int, size: int) -> str:
    """Has rank 1 end with a forward, whose backward the other takes later."""
    os.environ["SYNCBN_TIMEOUT"] = "2"
    model = DistributedDataParallel(sbn.convert_sync_batchnorm(nn.BatchNorm1d(CHANNELS)))
    try:
        with sbn.join(model), model.no_sync():
            losses = [model(draw((4, CHANNELS), step)).sum() for step in range(2 - rank)]
            if rank == 0:
                torch.stack(losses).sum().backward()
    except sbn.Error as error:
        return str(error)
    return "nothing"


def test_forward_without_its_backward_is_told(pair: Ranks) -> None:
    missed, told = pair.run(run_unfinished)
    assert "the others go back through a forward that this process has made" in told, told
    assert "missing: rank 1 of 2" in missed, missed
    pair.kill()


def run_torchs_join(rank: int, size: int) -> None:
    os.environ["SYNCBN_TIMEOUT"] = "2"
    model = sbn.convert_sync_batchnorm(nn.BatchNorm1d(CHANNELS), dist.new_group([0, 1]))
    parallel = DistributedDataParallel(model)
    with pytest.raises(sbn.CommError, match="missing: rank 1 of 2"), parallel.join():
        for step in range(1 if rank == 1 else 2):
            parallel(draw((4, CHANNELS), step)).sum().backward()


def test_join_of_torch_misses_a_process_in_the_layers(pair: Ranks) -> None:
    """Shows that uneven batches need more than torch does."""
    pair.run(run_torchs_join, lost=frozenset({1}))
