# SPDX-License-Identifier: Apache-2.0
"""torch.utils.checkpoint: a layer that is computed again in the backward."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import syncbn
import syncbn.torch as sbn
from ranks import Ranks
from syncbn.torch.group import group_of
from whole_batch import ON_DEVICE, draw, give_parameters

CHANNELS = 5
SHAPE = (6, CHANNELS, 4)


class Counted(nn.BatchNorm1d):
    """A user's class with a forward of its own."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 2


def make(kind: str = "plain", **options: Any) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(2):
        layer: nn.Module
        if kind == "converted":
            layer = sbn.convert_sync_batchnorm(Counted(CHANNELS, **options))
        else:
            layer = sbn.SyncBatchNorm(CHANNELS, **options)
        give_parameters(layer)
        layers += [layer, nn.Tanh()]
    return nn.Sequential(*layers)


def state_and_gradients(
    model: nn.Module, call: Callable[[nn.Module, Tensor], Tensor], seeds: tuple[int, ...] = (1, 2)
) -> list[Tensor]:
    """Makes one step on several batches, whose backwards come last."""
    inputs = [draw(SHAPE, seed).requires_grad_() for seed in seeds]
    loss = sum(call(model, x).square().sum() for x in inputs)
    assert isinstance(loss, Tensor)
    loss.backward()
    return [
        *(x.grad for x in inputs if x.grad is not None),
        *(p.grad for p in model.parameters() if p.grad is not None),
        *model.buffers(),
    ]


def whole(reentrant: bool) -> Callable[[nn.Module, Tensor], Tensor]:
    return lambda model, x: checkpoint(model, x, use_reentrant=reentrant)


def in_parts(reentrant: bool) -> Callable[[nn.Module, Tensor], Tensor]:
    return lambda model, x: checkpoint_sequential(model, 2, x, use_reentrant=reentrant)


def nested(model: nn.Module, x: Tensor) -> Tensor:
    return checkpoint(lambda x: checkpoint(model, x, use_reentrant=False), x, use_reentrant=False)


def on_disk(model: nn.Module, x: Tensor) -> Tensor:
    """Has other hooks inside of the checkpoint's."""

    def body(x: Tensor) -> Tensor:
        with torch.autograd.graph.save_on_cpu():
            return model(x)  # type: ignore[no-any-return]

    return checkpoint(body, x, use_reentrant=False)


WAYS = {
    "reentrant": whole(True),
    "not reentrant": whole(False),
    "in parts, reentrant": in_parts(True),
    "in parts": in_parts(False),
    "nested": nested,
    "other hooks inside": on_disk,
}


@pytest.mark.parametrize("kind", ["plain", "converted"])
@pytest.mark.parametrize("way", WAYS)
def test_checkpoint_changes_no_bit(way: str, kind: str) -> None:
    for momentum in (0.1, None):
        model = make(kind, momentum=momentum)
        plain = copy.deepcopy(model)
        expected = state_and_gradients(plain, lambda model, x: model(x))
        got = state_and_gradients(model, WAYS[way])
        for of_checkpoint, of_plain in zip(got, expected, strict=True):
            assert torch.equal(of_checkpoint, of_plain)
        assert model[0].num_batches_tracked == 2


def test_torchs_own_layer_is_changed_by_a_checkpoint() -> None:
    """Shows what the test above would see."""
    model = nn.Sequential(nn.BatchNorm1d(CHANNELS), nn.Tanh())
    plain = copy.deepcopy(model)
    state_and_gradients(plain, lambda model, x: model(x))
    state_and_gradients(model, whole(False))
    assert model[0].num_batches_tracked == 4
    assert not torch.equal(model[0].running_mean, plain[0].running_mean)


def test_residual_and_weights_are_those_of_the_first_forward() -> None:
    layer = sbn.SyncBatchNorm(CHANNELS, activation="leaky_relu", negative_slope=0.25)
    give_parameters(layer)
    weights = torch.tensor([[1.0, 1.0, 0.5, 0.0]]).expand(6, 4)
    results = []
    for checkpointed in (False, True):
        model = copy.deepcopy(layer)
        x, residual = draw(SHAPE, 1).requires_grad_(), draw(SHAPE, 2).requires_grad_()
        body = lambda x, residual: torch.tanh(model(x, residual, weights))  # noqa: E731, B023
        y = (
            checkpoint(body, x, residual, use_reentrant=False)
            if checkpointed
            else body(x, residual)
        )
        y.square().sum().backward()
        results.append([x.grad, residual.grad, model.weight.grad, *model.buffers()])
    for got, expected in zip(*results, strict=True):
        assert torch.equal(got, expected)  # type: ignore[arg-type]


@pytest.mark.skipif(ON_DEVICE, reason="there the only forward in question is taken unseen")
def test_input_that_differs_the_second_time_is_told() -> None:
    layer = sbn.SyncBatchNorm(CHANNELS, name="stem.bn")
    calls = itertools.count()

    def body(x: Tensor) -> Tensor:
        return torch.tanh(layer(x + next(calls)))

    for reentrant in (False, True):
        y = checkpoint(body, draw(SHAPE, 1).requires_grad_(), use_reentrant=reentrant)
        with pytest.raises(syncbn.InvalidArgument, match=r"stem\.bn is computed again"):
            y.sum().backward()


def test_forwards_without_a_gradient_are_not_kept() -> None:
    layer = sbn.SyncBatchNorm(CHANNELS)
    with torch.no_grad():
        layer(draw(SHAPE, 1))
    layer(draw(SHAPE, 1))
    assert "_checkpointed" not in layer.__dict__


def test_forwards_are_forgotten_with_their_graph() -> None:
    model = make()
    for seed in range(3):
        y = checkpoint(model, draw(SHAPE, seed).requires_grad_(), use_reentrant=False)
        y.sum().backward()
        del y
    assert not any(model[0]._forwards()._alive.values())


def run_processes(rank: int, size: int) -> None:
    group = group_of(dist.group.WORLD, "torch")
    results, exchanges = [], []
    for way in (lambda model, x: model(x), whole(rank == 0)):
        before = group.counters()[0]
        model = make()
        x = draw((2 + 3 * rank, CHANNELS, 4), rank).requires_grad_()
        way(model, x).square().sum().backward()
        results.append([x.grad, *(p.grad for p in model.parameters()), *model.buffers()])
        exchanges.append(group.counters()[0] - before)
    for got, expected in zip(*results, strict=True):
        assert torch.equal(got, expected)  # type: ignore[arg-type]
    assert exchanges[0] == exchanges[1] > 0


def test_no_exchange_is_repeated(pair: Ranks) -> None:
    """One rank checkpoints in the reentrant way, the other does not: what is repeated would hang."""
    pair.run(run_processes)


def test_two_forwards_of_the_same_input_are_computed_again() -> None:
    """Also after the later one's graph is gone."""
    for reentrant in (False, True):
        model = make()
        inputs = [draw(SHAPE, 1).requires_grad_() for _ in range(2)]
        outputs = [checkpoint(model, x, use_reentrant=reentrant) for x in inputs]
        outputs.pop().sum().backward()
        outputs.pop().sum().backward()
        if ON_DEVICE:  # where the rounding of sums follows from earlier steps
            torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
        else:
            assert torch.equal(inputs[0].grad, inputs[1].grad)  # type: ignore[arg-type]
        assert model[0].num_batches_tracked == 2


def run_ambiguous(rank: int, size: int) -> None:
    """One process has the same input twice, the other has not."""
    model = make()
    inputs = [draw(SHAPE, seed if rank == 0 else 9).requires_grad_() for seed in (1, 2)]
    outputs = [checkpoint(model, x, use_reentrant=False) for x in inputs]
    if rank == 1:
        with pytest.raises(syncbn.InvalidArgument, match="an input that this process has had"):
            outputs[1].sum().backward()
    dist.barrier()


def test_input_of_unknown_statistics_is_refused(pair: Ranks) -> None:
    pair.run(run_ambiguous)
