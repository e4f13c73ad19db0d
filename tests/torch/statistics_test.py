# SPDX-License-Identifier: Apache-2.0
"""verify, which tells whether a model synchronizes, and precise_bn."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import syncbn
import syncbn.torch as sbn
from ranks import Ranks
from whole_batch import draw

CHANNELS = 4


class Named(nn.BatchNorm1d):
    """A user's class with a forward of its own."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).tanh()


def make() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv1d(3, CHANNELS, 3),
        nn.BatchNorm1d(CHANNELS),
        nn.ReLU(),
        nn.Sequential(nn.Conv1d(CHANNELS, CHANNELS, 3), Named(CHANNELS, momentum=None)),
        nn.BatchNorm1d(CHANNELS, affine=False, track_running_stats=False),
    )


def state(model: nn.Module) -> list[Any]:
    of_modules = [
        (module.training, getattr(module, "momentum", 0), getattr(module, "track_running_stats", 0))
        for module in model.modules()
    ]
    return [[values.clone() for values in model.state_dict().values()], of_modules]


def run_verify(rank: int, size: int) -> list[str]:
    sample = draw((3 + rank, 3, 9), rank)
    texts = []
    converted = sbn.convert_sync_batchnorm(make())
    for_some = make()
    sbn.convert_sync_batchnorm(for_some[3])
    for model in (make(), converted, for_some, converted.eval()):
        before = state(model)
        report = sbn.verify(model, sample)
        assert str(state(model)) == str(before)
        assert report.synchronized == (model is converted)
        texts.append(str(report))
    same = sbn.verify(converted, draw((3, 3, 9), 1))
    assert not same.synchronized
    texts.append(str(same))
    return texts


def test_verify_tells_synchronized_layers_from_others(trio: Ranks) -> None:
    first, *others = trio.run(run_verify)
    assert all(texts == first for texts in others)
    local, converted, some, evaluated, same = first
    assert "3 of 3 batch norm layers take the statistics of one process" in local
    assert "convert_sync_batchnorm" in local
    assert (
        "All 3 batch norm layers take the statistics of the whole batch of 3 processes" in converted
    )
    assert "2 of 3" in some
    assert "  1: not synchronized" in some and "  3.1: synchronized" in some
    assert evaluated == converted
    assert "Cannot tell" in same and "other samples" in same


def test_verify_of_one_process_says_so() -> None:
    report = sbn.verify(sbn.convert_sync_batchnorm(make()), draw((3, 3, 9), 1))
    assert not report.synchronized and "This process is alone" in str(report)
    assert "no batch norm layer" in str(sbn.verify(nn.ReLU(), draw((3, 3), 1)))


def test_verify_restores_the_model_after_an_error() -> None:
    model = sbn.convert_sync_batchnorm(make()).eval()
    before = state(model)
    with pytest.raises(RuntimeError):
        sbn.verify(model, draw((3, 5, 9), 1))
    assert str(state(model)) == str(before)


BATCHES = (6, 2, 5)  # samples


def run_precise(rank: int, size: int) -> list[Tensor]:
    model = sbn.convert_sync_batchnorm(make())
    parts = [slice(0, 2), slice(2, 6)]
    sbn.precise_bn(model, [draw((n, 3, 9), n)[parts[rank]] for n in BATCHES])
    return list(model.buffers())


def test_precise_bn_gives_the_statistics_of_all_elements(pair: Ranks) -> None:
    """Also of batches of other sizes, of which a process has none."""
    inputs = torch.cat([draw((n, 3, 9), n) for n in BATCHES]).double()
    x = make().double()[0](inputs)
    first, second = pair.run(run_precise)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    mean, var = first[:2]
    torch.testing.assert_close(
        mean.double(), x.mean((0, 2)), rtol=0, atol=1e-6
    )  # stored in float32
    torch.testing.assert_close(var.double(), x.var((0, 2)), rtol=1e-5, atol=0)


def test_precise_bn_refuses_what_it_can_do_nothing_with() -> None:
    model = sbn.convert_sync_batchnorm(make())
    with pytest.raises(syncbn.InvalidArgument, match=r"Call model\.train\(\) first"):
        sbn.precise_bn(model.eval(), [draw((6, 3, 9), 1)])
    with pytest.raises(syncbn.InvalidArgument, match="Give it a list"):
        sbn.precise_bn(model.train(), draw((6, 3, 9), 1))


def test_other_buffers_stay_as_they_are() -> None:
    norm = nn.InstanceNorm1d(CHANNELS, track_running_stats=True)
    model = sbn.convert_sync_batchnorm(nn.Sequential(nn.BatchNorm1d(CHANNELS), norm))
    model(draw((6, CHANNELS, 9), 1))
    before = copy.deepcopy(norm.state_dict())
    sbn.verify(model, draw((6, CHANNELS, 9), 2))
    sbn.precise_bn(model, [draw((6, CHANNELS, 9), 2)])
    assert all(torch.equal(values, before[name]) for name, values in norm.state_dict().items())


def run_groups(rank: int, size: int) -> list[str]:
    """Layers are compared with the batch of their own group."""
    groups = [dist.new_group(ranks) for ranks in ([0, 1], [2], [0], [1])]
    texts = []
    for mine in (groups[rank // 2], groups[(2, 3, 1)[rank]]):
        model = sbn.convert_sync_batchnorm(make(), mine)
        texts.append(str(sbn.verify(model, draw((6, 3, 9), rank))).splitlines()[0])
    return texts


def test_verify_looks_at_each_layers_own_group(trio: Ranks) -> None:
    together, alone = trio.run(run_groups)[0]
    assert together.startswith(
        "All 3 batch norm layers take the statistics of the whole batch of 2"
    )
    assert alone.startswith("3 of 3 batch norm layers have a group of this process alone")


def test_precise_bn_leaves_all_else_as_it_was() -> None:
    model = sbn.convert_sync_batchnorm(make())
    model[1].eval()
    before = copy.deepcopy(model)
    sbn.precise_bn(model, [(draw((6, 3, 9), 1),)])
    assert torch.equal(model[1].running_mean, before[1].running_mean)
    assert not torch.equal(model[3][1].running_mean, before[3][1].running_mean)
    assert model[3][1].num_batches_tracked == 0 and model[3][1].momentum is None
    with pytest.raises(syncbn.InvalidArgument, match="no batch"):
        sbn.precise_bn(model, [])
