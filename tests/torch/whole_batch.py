# SPDX-License-Identifier: Apache-2.0
"""One process that holds the whole batch: torch's own batch norm in float64, and how near to it a
synchronized layer must come.

Tolerances are those of the library's own tests (tests/bn/layer_test.cpp). With u the unit round-off of
the arithmetic (2^-24; 2^-53 for float64), u_out that of the stored type, n the elements per channel,
and s what the statistics add, in standard deviations:

    y    at most 6 roundings of terms no larger than M = |weight x^| + |bias| + |residual|, one to
         store, and |weight| s (1 + M)
    dx   at most 9 roundings of M' = |weight| invstd (|dy| + |dbias| / n + |x^ dweight| / n), one to
         store, and |weight| invstd 3 s (3 + |x^|)
    s    1e-9 for float32, on a device 7e-7 (1 + k)^2 where the mean moves by k standard deviations
         from one step to the next (batch_norm.hpp), which in tests is less than 1;
         3 sqrt(n) u64 + 1e-13 + |mean| u64 for float64, whose reference is rounded too, by less than
         that; 3 sqrt(n) u64 + 12 u + 5e-5 for 16-bit types
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Where the tests' tensors are: on the first CUDA device if the variable is "cuda", else on the CPU.
DEVICE = torch.device(os.environ.get("SYNCBN_TEST_DEVICE", "cpu"))
if DEVICE.type == "cuda":
    torch.set_default_device(DEVICE)
    torch.backends.cudnn.deterministic = True  # tests compare the bits of networks
# Whether a device computes, if only an emulated one, whose memory is the CPU's.
ON_DEVICE = DEVICE.type == "cuda" or os.environ.get("SYNCBN_EMULATED_TENSORS") == "1"

TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


# The largest difference of parameters after five steps of training in float64 of other roundings: 1e-13
# of statistics in each, of gradients below 10; each step multiplies what is there by less than 10.
AFTER_TRAINING = 1e-13 * 10 * 10**4


def unit(dtype: torch.dtype) -> float:
    """Returns the unit round-off of a stored type."""
    return torch.finfo(dtype).eps / 2


def smallest(dtype: torch.dtype) -> float:
    """Returns the largest rounding error of numbers too small for a type's full precision."""
    return torch.finfo(dtype).tiny * torch.finfo(dtype).eps / 2


def by_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (x.dim() - 2))


def draw(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Returns normal numbers about 0.5, the same in every process and, rounded, in every type."""
    generator = torch.Generator("cpu").manual_seed(seed)
    values = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu") + 0.5
    return values.to(DEVICE, dtype)


def give_parameters(layer: nn.Module) -> None:
    """Writes the same parameters to every layer of as many channels: some small, some negative."""
    weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
    with torch.no_grad():
        for c in range(0 if weight is None else len(weight)):
            weight[c] = (0.5 + 0.25 * (c % 5)) * (-1) ** (c // 3)
        for c in range(0 if bias is None else len(bias)):
            bias[c] = -0.5 + 0.3 * (c % 5)


@dataclass
class Results:
    """What a step gives: the output, the gradients, and the running statistics after it."""

    y: Tensor
    dx: Tensor
    dweight: Tensor | None
    dbias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None


def step(layer: nn.Module, x: Tensor, dy: Tensor) -> Results:
    """Calls a layer, and its backward."""
    x = x.detach().requires_grad_()
    y = layer(x)
    y.backward(dy)
    assert x.grad is not None
    weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
    return Results(
        y.detach(),
        x.grad,
        None if weight is None else weight.grad,
        None if bias is None else bias.grad,
        layer.running_mean if isinstance(layer.running_mean, Tensor) else None,
        layer.running_var if isinstance(layer.running_var, Tensor) else None,
    )


class WholeBatch:
    """The step of torch's batch norm in float64, on the whole batch.

    It takes parameters, running statistics and options from a layer that has not made its step yet.
    """

    def __init__(self, layer: nn.Module, x: Tensor, dy: Tensor) -> None:
        self.dtype = x.dtype
        self.x, self.dy = x.detach().double(), dy.detach().double()
        oracle = nn.modules.batchnorm._BatchNorm(
            layer.num_features, layer.eps, layer.momentum, layer.affine, False
        ).double()
        oracle._check_input_dim = lambda input: None  # type: ignore[method-assign]
        for name in ("weight", "bias"):
            values = getattr(layer, name)
            oracle.register_parameter(
                name, None if values is None else nn.Parameter(values.detach().double().clone())
            )
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            values = getattr(layer, name)
            if values is not None and name != "num_batches_tracked":
                values = values.double()
            setattr(oracle, name, None if values is None else values.clone())
        oracle.track_running_stats = layer.track_running_stats
        oracle.train(layer.training)
        self.frozen = not layer.training and layer.running_mean is not None
        mean_before = oracle.running_mean
        var_before = oracle.running_var
        axes = [0, *range(2, x.dim())]
        self.n = max(1, self.x.numel() // self.x.size(1))
        if self.frozen:
            assert mean_before is not None and var_before is not None
            self.mean, self.var = mean_before.clone(), var_before.clone()
        else:
            self.mean, self.var = self.x.mean(axes), self.x.var(axes, unbiased=False)
        self.results = step(oracle, self.x, self.dy)
        self.eps = layer.eps
        self.bias = torch.zeros_like(self.mean) if oracle.bias is None else oracle.bias.detach()
        self.weight = (
            torch.ones_like(self.mean) if oracle.weight is None else oracle.weight.detach()
        )

    def statistics_error(self) -> float:
        """Returns s, see above."""
        rounding = 3 * math.sqrt(self.n) * 2**-53
        if self.dtype == torch.float64:
            return rounding + 1e-13 + 2**-53 * float(self.mean.abs().max())
        if self.dtype == torch.float32:
            return 2.8e-6 if ON_DEVICE else 1e-9
        return rounding + 12 * 2**-24 + 5e-5

    def tolerances(self) -> Results:
        """Returns the largest errors that a layer's results may have, but for how these are stored."""
        arithmetic = 2**-53 if self.dtype == torch.float64 else 2**-24
        s, x, expected = self.statistics_error(), self.x, self.results
        invstd = (self.var + self.eps).rsqrt()
        x_hat = (x - by_channel(self.mean, x)) * by_channel(invstd, x)
        weight, bias = by_channel(self.weight.abs(), x), by_channel(self.bias.abs(), x)
        of_y = weight * x_hat.abs() + bias
        scale = weight * by_channel(invstd, x)
        of_dx = self.dy.abs()
        # Sums of n products, each of relative error 3 u64 and of x^'s s. |x^| and |dy| are below 10.
        of_sums = self.n * 100 * (3 * 2**-53 + s) * torch.ones_like(self.mean)
        if not self.frozen:
            axes = [0, *range(2, x.dim())]
            of_dx = of_dx + by_channel(self.dy.sum(axes).abs(), x) / self.n
            of_dx = of_dx + (x_hat * by_channel((self.dy * x_hat).sum(axes), x)).abs() / self.n
        std = (self.var + self.eps).sqrt()
        return Results(
            of_y * 6 * arithmetic + weight * s * (1 + of_y),
            scale * (of_dx * 9 * arithmetic + 3 * s * (3 + x_hat.abs())),
            of_sums if expected.dweight is not None else None,
            of_sums if expected.dbias is not None else None,
            s * std + 4 * 2**-53 * (self.mean.abs() + 1),
            s * std.square() + 4 * 2**-53 * (self.var + 1),
        )

    def errors(self, got: Results, first: int = 0) -> dict[str, float]:
        """Returns the largest error of each result of a shard, in units of its tolerance.

        `first` is the shard's first sample. The parameters' gradients are to be the group's.
        """
        tolerances, worst = self.tolerances(), {}
        for name, expected in vars(self.results).items():
            actual, tolerance = getattr(got, name), getattr(tolerances, name)
            assert (actual is None) == (expected is None), name
            if expected is None:
                continue
            if name in ("y", "dx"):
                part = slice(first, first + len(actual))
                expected, tolerance = expected[part], tolerance[part]
            assert actual.shape == expected.shape, name
            if actual.numel() == 0:
                continue
            stored = unit(actual.dtype) * expected.abs() + smallest(actual.dtype)
            error = (actual.double() - expected).abs() / (tolerance + stored)
            worst[name] = float(error.nan_to_num(math.inf).max())
        return worst

    def expect(self, got: Results, first: int = 0) -> None:
        """Requires that results are those of the whole batch."""
        errors = self.errors(got, first)
        assert all(error <= 1 for error in errors.values()), f"in units of the tolerance: {errors}"
