# SPDX-License-Identifier: Apache-2.0
"""Statistics over several micro-batches."""

from __future__ import annotations

import copy
import functools
import os
from typing import Any

import pytest
import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import syncbn
import syncbn.torch as sbn
from ranks import Ranks
from whole_batch import DEVICE, draw, give_parameters

fuse = functools.partial(sbn.fuse, also=(nn.Module,))
SIZES = (3, 0, 1, 4)  # of the micro-batches


class Net(nn.Module):
    """Layers of three kinds, one of which is called twice, and a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.first = nn.BatchNorm2d(6)
        self.twice = nn.BatchNorm2d(6, momentum=None)
        self.own_forward = BatchNormAct2d(6, momentum=None)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.conv(x)).relu()
        x = self.twice(x * 2).relu() + self.twice(x)
        return self.head(self.own_forward(x).mean((2, 3)))


def make() -> Any:
    torch.manual_seed(1)
    model = Net().double()
    for module in model.children():
        give_parameters(module) if isinstance(module, nn.BatchNorm2d) else None
    return fuse(sbn.convert_sync_batchnorm(model))


def batches(rank: int = 0) -> list[Tensor]:
    return [
        draw((size, 3, 5, 4), 10 * rank + place, torch.float64) + place
        for place, size in enumerate(SIZES)
    ]


def run_outputs(rank: int, size: int) -> None:
    """Outputs and running statistics are those of one batch that holds all."""
    model = make()
    whole = copy.deepcopy(model)
    for step in range(2):
        inputs = [x + step for x in batches(rank)]
        if rank == 1:
            inputs.reverse()
        expected = whole(torch.cat(inputs))
        with sbn.accumulate(model, inputs):
            got = [model(x) for x in inputs]
        torch.testing.assert_close(torch.cat(got), expected)
        for name, values in model.state_dict().items():
            torch.testing.assert_close(values, whole.state_dict()[name], msg=name)
    assert model.twice.num_batches_tracked == 4 and model.own_forward.num_batches_tracked == 2
    # Afterwards the layers are as ever.
    torch.testing.assert_close(model(inputs[0]), whole(inputs[0]))


def test_outputs_and_running_statistics_are_those_of_one_batch(pair: Ranks) -> None:
    run_outputs(0, 1)
    pair.run(run_outputs)


def test_each_batch_by_itself_gives_other_outputs() -> None:
    """Shows that the comparison above sees whose statistics a batch has."""
    model = make()
    inputs = batches()
    expected = model(torch.cat(inputs))
    assert (torch.cat([model(x) for x in inputs if len(x)]) - expected).abs().max() > 0.1


def run_gradient(rank: int, size: int) -> None:
    """With n_i elements of micro-batch i in the group, and statistics of all batches:

    dx = weight invstd (dy - sum_i(dy) / n_i - x^ sum_i(dy x^) / n_i)
    """
    layer = sbn.SyncBatchNorm(6, dtype=torch.float64)
    give_parameters(layer)
    inputs = [draw((n, 6, 5), 10 * rank + place, torch.float64) for place, n in enumerate(SIZES)]
    every = torch.cat(inputs).transpose(0, 1).flatten(1)
    moments = torch.stack([every.sum(1), every.square().sum(1), torch.full((6,), every.size(1))])
    if size > 1:
        dist.all_reduce(moments)
    mean = (moments[0] / moments[2])[:, None]
    invstd = (moments[1] / moments[2] - mean[:, 0].square() + layer.eps).rsqrt()[:, None]
    dweight = torch.zeros(6, dtype=torch.float64)
    with sbn.accumulate(layer, inputs):
        for place, x in enumerate(inputs):
            dy = draw(tuple(x.shape), 100 + 10 * rank + place, torch.float64)
            leaf = x.clone().requires_grad_()
            layer(leaf).backward(dy)
            x_hat = (x - mean) * invstd
            sums = torch.stack(
                [dy.sum((0, 2)), (dy * x_hat).sum((0, 2)), torch.full((6,), 5 * len(x))]
            )
            dweight += sums[1]
            if size > 1:
                dist.all_reduce(sums)
            of_dy, of_product, number = sums[:, :, None]
            estimate = of_dy / number + x_hat * of_product / number
            expected = layer.weight[:, None] * invstd * (dy - estimate)
            torch.testing.assert_close(leaf.grad, expected.detach())
    torch.testing.assert_close(layer.weight.grad, dweight)


def test_gradients_are_of_each_micro_batch(pair: Ranks) -> None:
    run_gradient(0, 1)
    pair.run(run_gradient)


def test_one_micro_batch_is_an_ordinary_step() -> None:
    model = make()
    ordinary = copy.deepcopy(model)
    x = batches()[3]
    ordinary(x).square().sum().backward()
    with sbn.accumulate(model, [x]):
        model(x).square().sum().backward()
    for got, expected in zip(model.parameters(), ordinary.parameters(), strict=True):
        torch.testing.assert_close(got.grad, expected.grad)


def test_weights_of_positions_count() -> None:
    layer = sbn.SyncBatchNorm(3, dtype=torch.float64)
    inputs = [(draw((n, 3, 4), n, torch.float64), None, torch.rand(n, 4)) for n in (2, 3)]
    whole = copy.deepcopy(layer)(
        torch.cat([x for x, _, _ in inputs]), None, torch.cat([w for _, _, w in inputs])
    )
    with sbn.accumulate(layer, inputs):
        got = [layer(*batch) for batch in inputs]
    torch.testing.assert_close(torch.cat(got), whole)


def test_autocast_holds_in_the_first_pass() -> None:
    model = nn.Sequential(nn.Linear(3, 6), sbn.SyncBatchNorm(6))
    inputs = [draw((4, 3), seed) for seed in (1, 2)]
    with torch.autocast(DEVICE.type, torch.bfloat16):
        whole = copy.deepcopy(model)(torch.cat(inputs))
        with sbn.accumulate(model, inputs):
            got = torch.cat([model(x) for x in inputs])
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got, whole)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = sbn.SyncBatchNorm(3), sbn.SyncBatchNorm(3)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) == 5:
            return x
        return self.left(x) if len(x) % 2 else self.right(x)


@pytest.mark.parametrize("sizes", [(1, 2), (1, 3, 5), (5, 1, 3), (1, 5, 3)])
def test_batches_that_call_different_layers_are_refused(sizes: tuple[int, ...]) -> None:
    model = Branching()
    before = copy.deepcopy(model.state_dict())
    inputs = [draw((size, 3), 1) for size in sizes]
    with (
        pytest.raises(syncbn.InvalidArgument, match="call different layers"),
        sbn.accumulate(model, inputs),
    ):
        raise AssertionError("no batch has statistics")
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())
    assert not {"_normalize", "_accumulation"} & model.left.__dict__.keys()


@pytest.mark.filterwarnings("ignore:Dynamo does not know how to trace")
def test_what_is_called_otherwise_than_announced_is_refused() -> None:
    layer = sbn.SyncBatchNorm(3, name="bn")
    inputs = [draw((4, 3), 1), draw((5, 3), 2)]
    with sbn.accumulate(layer, inputs):
        with pytest.raises(
            syncbn.InvalidArgument, match=r"called with \(5, 3\), which is not what"
        ):
            layer(inputs[1])
        layer(inputs[1])
        with pytest.raises(syncbn.InvalidArgument, match="once more than there are batches"):
            layer(inputs[1])
    with (
        pytest.raises(syncbn.InvalidArgument, match="different shapes"),
        sbn.accumulate(layer, [draw((4, 3), 1), draw((4, 3, 2), 1)]),
    ):
        pass
    with pytest.raises(syncbn.InvalidArgument, match="has no batch"), sbn.accumulate(layer, []):
        pass
    few = pytest.raises(syncbn.InvalidArgument, match="with 1 of the 2 batches")
    with few, sbn.accumulate(layer, inputs):
        layer(inputs[0])
    compiled = torch.compile(layer, backend="eager")
    with pytest.raises(Exception, match="compiled"), sbn.accumulate(layer, inputs):
        compiled(inputs[0])
    layer.compile()
    with pytest.raises(syncbn.InvalidArgument, match="is compiled"), sbn.accumulate(layer, inputs):
        pass


def test_error_of_the_model_in_the_first_pass_is_the_callers() -> None:
    model = nn.Sequential(sbn.SyncBatchNorm(3), nn.Linear(4, 2))
    with (
        pytest.raises(RuntimeError, match="shapes cannot be multiplied"),
        sbn.accumulate(model, [draw((4, 3), 1), draw((5, 3), 2)]),
    ):
        pass
    assert not {"_normalize", "_accumulation"} & model[0].__dict__.keys()


def test_other_calls_of_the_model_are_no_batches() -> None:
    model = make()
    inputs = [x for x in batches() if len(x)]
    expected = copy.deepcopy(model)(torch.cat(inputs))
    got = []
    with sbn.accumulate(model, inputs):
        for x in inputs:
            got.append(checkpoint(model, x, use_reentrant=False))
            got[-1].sum().backward()
            model.eval()(x)
            model.train()
    torch.testing.assert_close(torch.cat(got), expected)


def test_contexts_within_each_other_leave_nothing() -> None:
    layer = sbn.SyncBatchNorm(3)
    inputs = [draw((4, 3), 1), draw((5, 3), 2)]
    with sbn.profile(layer) as taken, sbn.accumulate(layer, inputs):
        for x in inputs:
            layer(x.requires_grad_()).sum().backward()
    assert taken.layers[0].forwards == 3 and taken.layers[0].backwards == 2
    assert not {"_normalize", "_accumulation"} & layer.__dict__.keys()


def run_error_of_one(rank: int, size: int) -> None:
    """A process whose model raises leaves the others to the layer's own deadline."""
    os.environ["SYNCBN_TIMEOUT"] = "2"
    group = dist.new_group(list(range(size)))
    layer = sbn.SyncBatchNorm(3, name="bn", process_group=group)
    model = nn.Sequential(layer, nn.Linear(3 + rank, 3), layer)
    with pytest.raises(RuntimeError) as caught, sbn.accumulate(model, [draw((4, 3), 1)] * 2):
        pass
    assert rank == 1 or "'bn'" in str(caught.value)


def test_error_of_one_process_ends_the_others(pair: Ranks) -> None:
    pair.run(run_error_of_one)
