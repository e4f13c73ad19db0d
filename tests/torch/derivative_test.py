# SPDX-License-Identifier: Apache-2.0
"""First and second derivatives: against finite differences, and of two processes against one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import grad, gradcheck, gradgradcheck

import syncbn.torch as sbn
from ranks import Ranks
from whole_batch import draw, give_parameters

CHANNELS = 3
SHAPE = (4, CHANNELS, 2)


def function_of(
    layer: nn.Module, position_weights: Tensor | None = None
) -> Callable[[Tensor, Tensor | None, Tensor | None, Tensor | None], Tensor]:
    """Returns a layer as a function of its input, parameters and residual."""

    def function(
        x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None = None
    ) -> Tensor:
        parameters = {
            name: values
            for name, values in (("weight", weight), ("bias", bias))
            if values is not None
        }
        # Buffers of each call's own, so that calls do not depend on those before.
        buffers = {name: values.clone() for name, values in layer.named_buffers()}
        return torch.func.functional_call(
            layer, parameters | buffers, (x, residual, position_weights)
        )

    return function


def leaf(shape: tuple[int, ...], seed: int) -> Tensor:
    return draw(shape, seed, torch.float64).requires_grad_()


def make(**options: Any) -> sbn.SyncBatchNorm:
    layer = sbn.SyncBatchNorm(CHANNELS, dtype=torch.float64, **options)
    give_parameters(layer)
    return layer


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("activation", [None, "leaky_relu"])
@pytest.mark.parametrize("with_residual", [True, False])
def test_derivatives_equal_finite_differences(
    training: bool, activation: str | None, with_residual: bool
) -> None:
    layer = make(activation=activation).train(training)
    layer.running_mean = draw((CHANNELS,), 9, torch.float64)
    weights = torch.tensor([[1.0, 0.5], [0.0, 1.0], [2.0, 1.0], [1.0, 1.0]])
    inputs = [leaf(SHAPE, 1), layer.weight.detach().requires_grad_(), leaf((CHANNELS,), 2)]
    if with_residual:
        inputs.append(leaf(SHAPE, 3))
    for position_weights in (None, weights) if training else (None,):
        function = function_of(layer, position_weights)
        assert gradcheck(function, inputs)
        assert gradgradcheck(function, inputs)


@pytest.mark.parametrize("options", [{"affine": False}, {"bias": False}], ids=str)
def test_derivatives_without_parameters_equal_finite_differences(options: dict[str, Any]) -> None:
    layer = make(**options)
    inputs = [leaf(SHAPE, 1), layer.weight, None]
    assert gradcheck(function_of(layer), inputs)
    assert gradgradcheck(function_of(layer), inputs)


def test_gradcheck_sees_a_wrong_derivative() -> None:
    """Shows that the checks above do: the statistics' part of the derivative is left out."""
    layer = make()

    def function(x: Tensor) -> Tensor:
        y: Tensor = layer(x)
        return y.detach() + (x - x.detach()) * layer.weight.detach().view(1, -1, 1)

    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        gradcheck(function, leaf(SHAPE, 1))


def penalty(
    function: Callable[..., Tensor], inputs: list[Tensor], factors: Tensor, total: bool
) -> list[Tensor]:
    """Returns the gradients of a gradient penalty, as WGAN-GP and Hessian products have."""
    y = function(*inputs)
    (dx,) = grad((y * factors).sum(), inputs[0], create_graph=True)
    gradients = list(grad((dx * dx * factors).sum() + (y * y).sum(), inputs))
    if total:
        for gradient in gradients[1:3]:  # parameters'
            dist.all_reduce(gradient)
    return gradients


def run_penalty(rank: int, size: int) -> None:
    x, residual, factors = (draw((9, CHANNELS, 2), seed, torch.float64) for seed in (1, 2, 3))
    cuts = {2: (0, 4, 9), 3: (0, 0, 3, 9)}[size]
    part = slice(cuts[rank], cuts[rank + 1])
    position_weights = torch.ones(9, 2)
    position_weights[3:5, 0] = 0.5
    alone = dist.new_group([rank], use_local_synchronization=True)
    for training, activation, with_residual, weighted in itertools.product(
        (True, False), (None, "leaky_relu"), (True, False), (True, False)
    ):
        results = []
        for group, cut in ((alone, slice(0, 9)), (None, part)):
            layer = make(activation=activation, process_group=group)
            layer.train(training)
            inputs = [
                x[cut].clone().requires_grad_(),
                layer.weight.detach().requires_grad_(),
                layer.bias.detach().requires_grad_(),
            ]
            if with_residual:
                inputs.append(residual[cut].clone().requires_grad_())
            weights = position_weights[cut] if weighted and training else None
            gradients = penalty(function_of(layer, weights), inputs, factors[cut], group is None)
            if group is not None:
                gradients = [
                    values[part] if values.shape == x.shape else values for values in gradients
                ]
            results.append(gradients)
        for expected, got in zip(*results, strict=True):
            # Sums of 18 terms below 1000 in another order, and the statistics' 1e-13
            # (whole_batch.py), which second derivatives take twice.
            torch.testing.assert_close(
                got, expected, rtol=0, atol=18 * 1000 * (2 * 2**-53 + 2 * 1e-13)
            )


def test_second_derivatives_over_two_processes_equal_the_whole_batch(pair: Ranks) -> None:
    pair.run(run_penalty)


def test_second_derivatives_over_three_processes_equal_the_whole_batch(trio: Ranks) -> None:
    trio.run(run_penalty)


def test_second_derivatives_of_float32_equal_torch() -> None:
    x, factors = draw((6, CHANNELS, 4), 1), draw((6, CHANNELS, 4), 2, torch.float64)
    theirs = nn.BatchNorm1d(CHANNELS, dtype=torch.float64)
    ours = sbn.SyncBatchNorm(CHANNELS)
    results = []
    for layer, kind in ((ours, torch.float32), (theirs, torch.float64)):
        give_parameters(layer)
        inputs = [
            x.to(kind).requires_grad_(),
            layer.weight.detach().requires_grad_(),
            layer.bias.detach().requires_grad_(),
        ]
        results.append(
            penalty(lambda x, w, b, layer=layer: torch.func.functional_call(
                layer, {"weight": w, "bias": b}, (x,)), inputs, factors.to(kind), False)
        )  # fmt: skip
    for got, expected in zip(*results, strict=True):
        # Sums of 24 products of values that are below 10 and rounded twice, in float32.
        torch.testing.assert_close(got.double(), expected, rtol=0, atol=24 * 100 * 2 * 2**-24)


def test_third_derivatives_equal_those_of_tensor_operations() -> None:
    inputs = [leaf(SHAPE, 1), leaf((CHANNELS,), 2), leaf((CHANNELS,), 3)]
    function = function_of(make())

    def of_operations(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        centred = x - x.mean((0, 2), keepdim=True)
        invstd = (centred.square().mean((0, 2), keepdim=True) + 1e-5).rsqrt()
        return centred * invstd * weight[:, None] + bias[:, None]

    results = []
    for normalize in (function, of_operations):  # torch's batch norm has no third derivative
        (first,) = grad(normalize(*inputs).pow(3).sum(), inputs[0], create_graph=True)
        second = grad(first.pow(2).sum(), inputs[:2], create_graph=True)
        results.append(grad(sum(part.pow(2).sum() for part in second), inputs))
    largest = max(float(expected.abs().max()) for expected in results[1])
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9 * largest)
