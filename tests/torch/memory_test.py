# SPDX-License-Identifier: Apache-2.0
"""save_memory: the same bits with less memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

import syncbn.torch as sbn
from ranks import Ranks
from syncbn.torch.bench.network import peak_of
from syncbn.torch.function import Pass
from syncbn.torch.group import group_of
from whole_batch import draw, give_parameters

CHANNELS = 5
SHAPE = (4, CHANNELS, 6, 5)


@pytest.fixture
def again(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Pass]]:
    """The forwards whose outputs were computed again."""
    seen: list[Pass] = []
    normalize = Pass.normalize

    def watch(self: Pass, *tensors: Any) -> Tensor:
        seen.append(self)
        return normalize(self, *tensors)

    monkeypatch.setattr(Pass, "normalize", watch)
    yield seen


def norm(**options: Any) -> sbn.SyncBatchNorm:
    layer = sbn.SyncBatchNorm(CHANNELS, **{"activation": "relu", **options})
    give_parameters(layer)
    return layer


def conv() -> nn.Conv2d:
    return nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)


class Blocks(nn.Module):
    """A chain of residual blocks, which shows whose outputs are kept."""

    def __init__(self, count: int = 4, **options: Any) -> None:
        super().__init__()
        self.convs = nn.ModuleList([conv() for _ in range(2 * count + 1)])
        self.norms = nn.ModuleList([norm(**options) for _ in range(2 * count)])
        self.outputs: list[StorageWeakRef] = []

    def forward(self, x: Tensor) -> Tensor:
        self.outputs = []
        norms = iter(self.norms)
        first, *convs = self.convs
        x = first(x)
        for one, two in zip(convs[::2], convs[1::2], strict=True):
            y = self.seen(next(norms)(one(x)))
            x = self.seen(next(norms)(two(y), x))
        return x

    def seen(self, y: Tensor) -> Tensor:
        self.outputs.append(StorageWeakRef(y.untyped_storage()))
        return y

    def gone(self) -> list[bool]:
        return [output.expired() for output in self.outputs]


def step(
    model: nn.Module,
    saving: bool,
    call: Callable[[nn.Module, Tensor], Tensor] = lambda model, x: model(x),
    x: Tensor | None = None,
) -> list[Tensor]:
    """Makes a step of a copy of a model. Returns its output, gradients and buffers."""
    model = copy.deepcopy(model)
    leaf = (draw(SHAPE, 1) if x is None else x).clone().requires_grad_()
    if saving:
        with sbn.save_memory():
            y = call(model, leaf * 1)
    else:
        y = call(model, leaf * 1)
    (y * y.detach().sin()).sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert leaf.grad is not None
    return [y.detach(), leaf.grad, *gradients, *model.buffers()]


def expect_same(model: nn.Module, *call: Any, **options: Any) -> None:
    results = [step(model, saving, *call, **options) for saving in (True, False)]
    for got, expected in zip(*results, strict=True):
        assert torch.equal(got, expected)


OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"activation": "leaky_relu"},
    {"activation": None},
    {"affine": False},
    {"bias": False},
    {"exact": True},
    {"track_running_stats": False},
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("training", [True, False])
def test_no_bit_changes(training: bool, dtype: torch.dtype, again: list[Pass]) -> None:
    for options in OPTIONS:
        for layout in (torch.contiguous_format, torch.channels_last):
            model = Blocks(**options).train(training).to(dtype)
            x = draw(SHAPE, 1, dtype).contiguous(memory_format=layout)
            again.clear()
            expect_same(model, x=x)
            assert again


def test_every_fifth_block_of_a_chain_is_kept(again: list[Pass]) -> None:
    model = Blocks(6)
    with sbn.save_memory():
        y = model(draw(SHAPE, 1).requires_grad_())
    inner, outer = model.gone()[::2], model.gone()[1::2]
    assert inner == [True] * 6
    assert outer == [True, True, True, True, False, False]  # the last is y
    y.sum().backward()
    assert len(again) == len(set(again)) == 11
    y = model(draw(SHAPE, 1).requires_grad_())
    assert not any(model.gone())


def test_allocator_gives_out_less() -> None:
    model, x = Blocks(6), draw((8, CHANNELS, 32, 32), 1)

    def forward(saving: bool) -> Tensor:
        if not saving:
            return model(x)  # type: ignore[no-any-return]
        with sbn.save_memory():
            return model(x)  # type: ignore[no-any-return]

    plain, saving = (peak_of(lambda saving=saving: forward(saving)) for saving in (False, True))
    # Of 6 inner and 6 outer outputs the fifth and the last outer one are kept, and one is in use.
    assert plain - saving >= 9 * x.nbytes
    assert plain >= 24 * x.nbytes  # so that the allocator's figures are those of all tensors


def test_output_is_computed_once_for_all_who_saved_it(again: list[Pass]) -> None:
    class Forked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.convs = norm(), nn.ModuleList([conv(), conv(), conv()])

        def forward(self, x: Tensor) -> Tensor:
            y = self.norm(x)
            return torch.stack([conv(y) for conv in self.convs]).sum(0)

    expect_same(Forked())
    assert len(again) == 1
    again.clear()
    expect_same(Blocks(1))
    # The block's own layer reads its output too, for the activation's derivative.
    assert len(again) == len(set(again)) == 2


def test_backward_may_come_twice(again: list[Pass]) -> None:
    gradients = []
    for saving in (True, False):
        torch.manual_seed(1)
        model, x = Blocks(2), draw(SHAPE, 1).requires_grad_()
        if saving:
            with sbn.save_memory():
                y = model(x)
        else:
            y = model(x)
        of = [x, *model.parameters()]
        dy = draw(SHAPE, 2)
        first = torch.autograd.grad(y, of, dy, retain_graph=True)
        (dx,) = torch.autograd.grad(y, x, dy, create_graph=True)
        third = torch.autograd.grad(dx.square().sum(), of, materialize_grads=True)
        gradients.append([*first, dx, *third])
    for got, expected in zip(*gradients, strict=True):
        assert torch.equal(got, expected)


def kept(forward: Callable[[nn.Module, nn.Module, Tensor], Tensor], **options: Any) -> bool:
    """Tells whether the output that a forward(layer, convolution, x) gives the convolution is kept."""
    model = nn.Sequential(norm(**options), conv())
    seen: list[StorageWeakRef] = []
    model[1].register_forward_pre_hook(
        lambda module, args: seen.append(StorageWeakRef(args[0].untyped_storage()))
    )
    with sbn.save_memory():
        y = forward(model[0], model[1], draw(SHAPE, 1).requires_grad_() * 1)
    expired = seen[0].expired()
    y.sum().backward()
    expect_same(model, lambda model, x: forward(model[0], model[1], x))
    return not expired


def test_only_what_is_computed_again_to_the_same_is_dropped() -> None:
    assert not kept(lambda norm, conv, x: conv(norm(x)))
    assert not kept(lambda norm, conv, x: conv(norm(x)), activation=None)
    assert kept(lambda norm, conv, x: conv(norm(x).relu_()), activation=None)
    assert kept(lambda norm, conv, x: conv(norm(x).relu()), activation=None)
    assert kept(lambda norm, conv, x: conv(norm(x).view(x.shape)))
    assert kept(lambda norm, conv, x: conv(norm(x)[:2]))
    assert not kept(lambda norm, conv, x: conv(norm(norm(norm(x)))))
    # Without an activation, the residual itself would have to be kept for it.
    assert kept(lambda norm, conv, x: conv(norm(x, x * 2)), activation=None)
    assert not kept(lambda norm, conv, x: conv(norm(x, x * 2)))

    def changed_without_a_gradient(norm: nn.Module, conv: nn.Module, x: Tensor) -> Tensor:
        y = norm(x)
        with torch.no_grad():
            y.add_(1)
        return conv(y)  # type: ignore[no-any-return]

    assert kept(changed_without_a_gradient)


def test_output_that_is_changed_after_it_was_saved_does_not_matter() -> None:
    """Torch refuses that. Here the backward takes what the forward took."""
    layer, convolution = norm(), conv()
    x = draw(SHAPE, 1).requires_grad_()
    with sbn.save_memory():
        y = layer(x)
        z = convolution(y)
    expected = convolution(y.detach())
    expected.sum().backward()
    gradient = convolution.weight.grad.clone()
    convolution.zero_grad()
    with torch.no_grad():
        y.add_(1)
    z.sum().backward()
    assert torch.equal(convolution.weight.grad, gradient)


@pytest.mark.parametrize("which", ["input", "weight", "residual", "convolution's"])
def test_tensor_that_changed_before_the_backward_is_refused(which: str) -> None:
    layer, convolution = norm(), conv()
    x, residual = (draw(SHAPE, seed).requires_grad_() * 1 for seed in (1, 2))
    with sbn.save_memory():
        z = convolution(layer(x, residual))
    changed = {
        "input": x, "weight": layer.weight, "residual": residual, "convolution's": convolution.weight,
    }  # fmt: skip
    with torch.no_grad():
        changed[which].add_(1)
    with pytest.raises(RuntimeError, match=r"inplace operation.*Change a copy"):
        z.sum().backward()


def test_nothing_is_kept_for_a_forward_without_gradients() -> None:
    model = Blocks(2)
    with sbn.save_memory(), torch.no_grad():
        y = model(draw(SHAPE, 1))
    assert y.grad_fn is None and model.gone() == [True, True, True, False]


def test_inputs_are_freed_with_the_backward() -> None:
    """While the output lives on."""
    layer, convolution = norm(), conv()
    x = draw(SHAPE, 1).requires_grad_() * 1
    memory = StorageWeakRef(x.untyped_storage())
    with sbn.save_memory():
        y = layer(x)
        z = convolution(y)
    del x
    assert not memory.expired()
    z.sum().backward()
    assert memory.expired() and y is not None


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("inside", [True, False])
def test_checkpoints_go_with_it(inside: bool, reentrant: bool) -> None:
    model = nn.Sequential(Blocks(2), Blocks(2))

    def saving(x: Tensor, part: nn.Module) -> Tensor:
        if not inside:
            return part(x)  # type: ignore[no-any-return]
        with sbn.save_memory():
            return part(x)  # type: ignore[no-any-return]

    def call(model: nn.Module, x: Tensor) -> Tensor:
        first, second = model.children()
        x = checkpoint(saving, x, first, use_reentrant=reentrant)
        return second(x)  # type: ignore[no-any-return]

    results = [step(model, not inside, call), step(model, False)]
    for got, expected in zip(*results, strict=True):
        assert torch.equal(got, expected)


def test_compiled_model_gives_the_same_with_it() -> None:
    torch._dynamo.reset()
    model = nn.Sequential(norm(), conv(), norm())

    def call(model: nn.Module, x: Tensor) -> Tensor:
        return torch.compile(model, backend="aot_eager", fullgraph=True)(x)  # type: ignore[no-any-return]

    expect_same(model, call)


def test_gradients_accumulate() -> None:
    def call(model: nn.Module, x: Tensor) -> Tensor:
        model(x.detach() * 2).square().sum().backward()
        return model(x)  # type: ignore[no-any-return]

    expect_same(Blocks(2), call)


def run_processes(rank: int, size: int) -> None:
    """One process saves memory and the other does not, under DistributedDataParallel."""
    group = group_of(dist.group.WORLD, "torch")
    x = draw((3 + 2 * rank, *SHAPE[1:]), rank)
    results, exchanges = [], []
    for saving in (rank == 0, False):
        torch.manual_seed(1)
        before = group.counters()[0]
        model = Blocks(2)
        results.append(step(model, saving, lambda m, x: DistributedDataParallel(m)(x), x=x))
        exchanges.append(group.counters()[0] - before)
    for got, expected in zip(*results, strict=True):
        assert torch.equal(got, expected)
    assert exchanges[0] == exchanges[1] > 0


def test_processes_exchange_no_more(pair: Ranks) -> None:
    pair.run(run_processes)
