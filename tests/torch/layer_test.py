# SPDX-License-Identifier: Apache-2.0
"""The layer in one process, against torch's batch norm in float64."""

from __future__ import annotations

import copy
import itertools
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import syncbn
import syncbn.torch as sbn
from whole_batch import DEVICE, ON_DEVICE, TYPES, Results, WholeBatch, draw, give_parameters, step

SHAPES = ((23, 5), (9, 5, 7), (4, 5, 7, 3), (2, 5, 3, 4, 2))


def contiguous(x: Tensor) -> Tensor:
    return x.contiguous()


def channels_last(x: Tensor) -> Tensor:
    """Returns [N, C, ...] stored as [N, ..., C]."""
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def permuted(x: Tensor) -> Tensor:
    """Returns a tensor whose axes are stored in the reverse order."""
    axes = list(reversed(range(x.dim())))
    return x.permute(axes).contiguous().permute(axes)


def sliced(x: Tensor) -> Tensor:
    """Returns part of a tensor that is larger in all directions."""
    larger = x.new_full([2 * size + 1 for size in x.shape], 1000.0)
    part = larger[tuple(slice(1, None, 2) for _ in x.shape)]
    return part.copy_(x)


def expanded(x: Tensor) -> Tensor:
    """Returns a tensor in which all channels are the same memory."""
    return x[:, :1].expand_as(x)


LAYOUTS = (contiguous, channels_last, permuted, sliced, expanded)


def make(channels: int = 5, **options: object) -> sbn.SyncBatchNorm:
    layer = sbn.SyncBatchNorm(channels, **options)  # type: ignore[arg-type]
    give_parameters(layer)
    return layer


def check(layer: nn.Module, x: Tensor, dy: Tensor) -> Results:
    """Makes a step, and requires that it is that of torch in float64."""
    oracle = WholeBatch(layer, x, dy)
    results = step(layer, x, dy)
    oracle.expect(results)
    assert results.y.dtype == results.dx.dtype == x.dtype
    return results


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_torch_for_every_layout_of_input_and_gradient(shape: tuple[int, ...]) -> None:
    for of_x, of_dy in itertools.product(LAYOUTS, repeat=2):
        check(make(), of_x(draw(shape, 1)), of_dy(draw(shape, 2)))


def test_output_has_the_strides_of_torch() -> None:
    # On CUDA torch's depend on which of its kernels runs, but for these.
    layouts = LAYOUTS if DEVICE.type == "cpu" else (contiguous, channels_last)
    theirs = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
    thin = ((4, 1, 7, 3), (4, 5, 1, 1), (1, 5, 7, 3), (4, 5, 1, 3), (4, 5, 1, 1, 1), (4, 1, 3))
    for shape, layout in itertools.product((*SHAPES, *thin), layouts):
        x = layout(draw(shape, 1))
        expected = theirs[len(shape)](shape[1])(x).stride()
        assert make(shape[1])(x).stride() == expected, (shape, layout.__name__)


def test_equals_torch_for_every_mix_of_types() -> None:
    for of_x, of_parameters, of_buffers in itertools.product(TYPES, repeat=3):
        layer = make(dtype=of_parameters)
        assert layer.running_mean is not None and layer.running_var is not None
        layer.running_mean = layer.running_mean.to(of_buffers)
        layer.running_var = layer.running_var.to(of_buffers)
        results = check(layer, draw((6, 5, 4), 1, of_x), draw((6, 5, 4), 2, of_x))
        assert results.dweight is not None and results.dweight.dtype == of_parameters
        assert layer.running_mean.dtype == layer.running_var.dtype == of_buffers
        layer.zero_grad()
        check(layer.eval(), draw((6, 5, 4), 3, of_x), draw((6, 5, 4), 4, of_x))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"momentum": None},
        {"momentum": 1.0},
        {"momentum": 0.0},
        {"affine": False},
        {"bias": False},
        {"track_running_stats": False},
        {"eps": 0.25},
    ],
    ids=str,
)
def test_options_mean_what_they_mean_in_torch(options: dict[str, object], training: bool) -> None:
    layer = make(**options)
    for count in range(1, 4):
        layer.zero_grad()
        layer.train()
        check(layer, draw((6, 5, 4), 10 * count), draw((6, 5, 4), 10 * count + 1))
        if layer.num_batches_tracked is not None:
            assert layer.num_batches_tracked == count
        if not training:
            layer.zero_grad()
            layer.eval()
            before = copy.deepcopy(layer.state_dict())
            check(layer, draw((6, 5, 4), 10 * count + 2), draw((6, 5, 4), 10 * count + 3))
            expect_state(layer, before)


def test_layer_of_the_wrong_options_does_not_equal_torch() -> None:
    """Shows that the comparison sees a small mistake: eps is off by a tenth, on a device tenfold."""
    x, dy = draw((6, 5, 4), 1), draw((6, 5, 4), 2)
    layer = make(eps=1e-5)
    oracle = WholeBatch(make(eps=1e-4 if ON_DEVICE else 1.1e-5), x, dy)
    errors = oracle.errors(step(layer, x, dy))
    assert errors["y"] > 1 and errors["dx"] > 1
    assert errors["running_mean"] <= 1 and errors["running_var"] <= 1


def test_options_that_change_after_construction_count() -> None:
    layer = make()
    theirs = nn.BatchNorm1d(5, dtype=torch.float64)
    give_parameters(theirs)
    changes: list[tuple[str, object]] = [
        ("momentum", 0.5),
        ("eps", 0.1),
        ("momentum", None),
        ("track_running_stats", False),
        ("training", False),
        ("track_running_stats", True),
        ("training", True),
    ]
    for number, (name, value) in enumerate(changes):
        for changed in (layer, theirs):
            setattr(changed, name, value)
            changed.zero_grad()
        x, dy = draw((6, 5, 4), number), draw((6, 5, 4), 100 + number)
        check(layer, x, dy)
        theirs(x.double())
        # Each step adds a rounding of the statistics that are stored, at most 2^-24 of them.
        for ours, expected in zip(layer.buffers(), theirs.buffers(), strict=True):
            torch.testing.assert_close(
                ours.double(), expected.double(), rtol=len(changes) * 2**-24, atol=1e-9
            )


def test_without_a_gradient_the_output_has_the_same_bits_and_no_history() -> None:
    x = draw((6, 5, 4), 1).requires_grad_()
    for training, context in itertools.product(
        (True, False), (torch.no_grad, torch.inference_mode)
    ):
        with_history = make().train(training)(x)
        with context():
            without = make().train(training)(x)
        assert torch.equal(with_history, without)
        assert with_history.requires_grad and not without.requires_grad


def test_frozen_layer_gives_no_gradient_of_parameters_that_want_none() -> None:
    layer = make().eval().requires_grad_(False)
    x = draw((6, 5, 4), 1).requires_grad_()
    layer(x).sum().backward()
    assert x.grad is not None and layer.weight.grad is None and layer.bias.grad is None
    layer = make().eval().requires_grad_(False)
    assert not layer(x.detach()).requires_grad


def test_only_some_of_the_tensors_want_gradients() -> None:
    x, dy = draw((6, 5, 4), 1), draw((6, 5, 4), 2)
    everything = step(make(), x, dy)
    layer = make()
    layer(x).backward(dy)
    assert torch.equal(layer.weight.grad, everything.dweight)  # type: ignore[arg-type]
    layer = make()
    layer.weight.requires_grad_(False)
    x.requires_grad_()
    layer(x).backward(dy)
    assert torch.equal(x.grad, everything.dx)  # type: ignore[arg-type]
    assert torch.equal(layer.bias.grad, everything.dbias)  # type: ignore[arg-type]
    assert layer.weight.grad is None


def test_autocast_leaves_the_type_of_the_input() -> None:
    linear, ours, theirs = nn.Linear(3, 5), make(), nn.BatchNorm1d(5)
    give_parameters(theirs)
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        x = linear(draw((12, 3), 1))
        y, expected = ours(x), theirs(x)
    assert x.dtype == y.dtype == expected.dtype == torch.bfloat16
    # Both round to bfloat16 what differs by less than a quarter of its unit of the last place.
    torch.testing.assert_close(y, expected, rtol=2**-8, atol=2**-8)
    y.sum().backward()
    assert linear.weight.grad is not None and linear.weight.grad.dtype == torch.float32


def test_two_forwards_before_their_backwards_equal_torch() -> None:
    layer = make()
    inputs = [draw((6, 5, 4), seed) for seed in (1, 2)]
    dy = draw((6, 5, 4), 3)
    oracles = [WholeBatch(layer, x, dy) for x in inputs]
    leaves = [x.requires_grad_() for x in inputs]
    outputs = [layer(x) for x in leaves]
    for number in (0, 1):  # the older one first
        layer.zero_grad()
        outputs[number].backward(dy)
        got = Results(
            outputs[number].detach(), leaves[number].grad, layer.weight.grad, layer.bias.grad,
            None, None,
        )  # fmt: skip
        oracles[number].results.running_mean = oracles[number].results.running_var = None
        oracles[number].expect(got)


def test_retained_graph_gives_the_same_gradient_twice() -> None:
    layer, x, dy = make(), draw((6, 5, 4), 1).requires_grad_(), draw((6, 5, 4), 2)
    y = layer(x)
    (first,) = torch.autograd.grad(y, x, dy, retain_graph=True)
    (second,) = torch.autograd.grad(y, x, dy)
    assert torch.equal(first, second)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(y, x, dy)


def test_input_that_changed_before_the_backward_is_refused() -> None:
    x = draw((6, 5, 4), 1).requires_grad_()
    copied = x * 1
    y = make()(copied)
    copied.add_(1)
    with pytest.raises(RuntimeError, match="inplace operation"):
        y.sum().backward()


ACTIVATIONS: tuple[tuple[dict[str, object], Callable[[Tensor], Tensor]], ...] = (
    ({}, lambda y: y),
    ({"activation": "relu"}, nn.functional.relu),
    ({"activation": "leaky_relu"}, nn.functional.leaky_relu),
    (
        {"activation": "leaky_relu", "negative_slope": 0.25},
        lambda y: nn.functional.leaky_relu(y, 0.25),
    ),
)


def test_residual_and_activation_equal_separate_operations() -> None:
    x, residual, dy = (draw((6, 5, 4), seed, torch.float64) for seed in (1, 2, 3))
    for (options, activation), layout in itertools.product(ACTIVATIONS, LAYOUTS):
        fused = make(dtype=torch.float64, **options)
        plain = make(dtype=torch.float64)
        results = []
        for layer in (fused, plain):
            inputs = [x.clone().requires_grad_(), layout(residual).detach().requires_grad_()]
            y = layer(*inputs) if layer is fused else activation(layer(inputs[0]) + inputs[1])
            y.backward(dy)
            results.append([y.detach(), *(tensor.grad for tensor in inputs), layer.weight.grad])
        for ours, expected in zip(*results, strict=True):
            # Three roundings of terms below 10, of sums of 24 terms for the weight's gradient.
            torch.testing.assert_close(ours, expected, rtol=0, atol=24 * 30 * 2**-53)


def test_position_weights_of_0_leave_positions_out() -> None:
    x, dy = draw((6, 5, 4), 1, torch.float64), draw((6, 5, 4), 2, torch.float64)
    real = torch.tensor([[1, 1, 1, 0]] * 4 + [[0, 0, 0, 0]] * 2, dtype=torch.bool)
    flat = x.movedim(1, -1)[real].requires_grad_()  # [positions, C]
    theirs = make(dtype=torch.float64)
    expected = theirs(flat)
    expected.backward(dy.movedim(1, -1)[real])
    for weights in (real, real.float(), real.double()):
        ours = make(dtype=torch.float64)
        leaf = x.clone().requires_grad_()
        y = ours(leaf, position_weights=weights)
        y.backward(dy)
        assert leaf.grad is not None and flat.grad is not None
        pairs = [(y, expected), (leaf.grad, flat.grad)]
        for got, wanted in pairs:
            # Sums of 12 terms in another order; values are below 10.
            torch.testing.assert_close(
                got.movedim(1, -1)[real], wanted, rtol=0, atol=12 * 10 * 2**-53 + 1e-13
            )
            assert not got.movedim(1, -1)[~real].any()
        for got, wanted in zip(ours.buffers(), theirs.buffers(), strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("shape", [(0, 5), (0, 5, 7), (3, 5, 0), (0, 5, 2, 2)])
def test_batch_without_elements_passes_and_changes_no_statistics(shape: tuple[int, ...]) -> None:
    for dtype, training in itertools.product(TYPES, (True, False)):
        layer = make().train(training)
        before = copy.deepcopy(layer.state_dict())
        x = torch.empty(shape, dtype=dtype, requires_grad=True)
        y = layer(x)
        y.sum().backward()
        assert y.shape == shape and y.dtype == dtype
        assert x.grad is not None and x.grad.shape == shape
        assert not layer.weight.grad.any() and not layer.bias.grad.any()
        after = layer.state_dict()
        for name in ("running_mean", "running_var"):
            assert torch.equal(after[name], before[name])


def test_one_value_per_channel_gives_the_bias() -> None:
    layer = make()
    y = layer(draw((1, 5), 1))
    assert torch.equal(y[0], layer.bias)
    assert all(torch.isfinite(buffer).all() for buffer in layer.buffers())


def expect_state(layer: nn.Module, expected: dict[str, Tensor]) -> None:
    state = layer.state_dict()
    assert state.keys() == expected.keys()
    for name, values in state.items():
        assert torch.equal(values, expected[name]), name


REFUSED: list[tuple[Callable[[], Tensor], type[Exception], str]] = [
    (lambda: torch.zeros(5), ValueError, r"at least 2D input \(got 1D input\)"),
    (lambda: torch.zeros(()), ValueError, r"at least 2D input \(got 0D input\)"),
    (lambda: torch.zeros(3, 4), syncbn.InvalidArgument, r"4 .*5|5 .*4"),
    (lambda: torch.zeros(3, 6, 2), syncbn.InvalidArgument, r"6 .*5|5 .*6"),
    (lambda: torch.zeros(3, 5, dtype=torch.int64), syncbn.InvalidArgument, "float32"),
    (lambda: torch.zeros(3, 5, dtype=torch.bool), syncbn.InvalidArgument, "float32"),
    (lambda: torch.zeros(3, 5, dtype=torch.complex64), syncbn.InvalidArgument, "float32"),
    (lambda: torch.zeros(3, 5, device="meta"), Exception, "meta|device"),
    (lambda: torch.zeros(3, 5).to_sparse(), Exception, "format"),
    (lambda: torch.zeros([1, 5, *[1] * 7]), syncbn.InvalidArgument, "dimensions"),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case[2])
def test_refused_input_leaves_the_layer_as_it_was(
    case: tuple[Callable[[], Tensor], type[Exception], str],
) -> None:
    make_input, error, message = case
    for training in (True, False):
        layer = make().train(training)
        layer(draw((6, 5, 4), 1))
        before = copy.deepcopy(layer.state_dict())
        with pytest.raises(error, match=message):
            layer(make_input())
        expect_state(layer, before)
        check(layer, draw((6, 5, 4), 2), draw((6, 5, 4), 3))


def test_converted_layer_refuses_inputs_that_its_class_refuses() -> None:
    layer = sbn.convert_sync_batchnorm(nn.BatchNorm2d(5))
    with pytest.raises(ValueError, match="expected 4D input"):
        layer(torch.zeros(3, 5, 2))


def test_parameters_and_buffers_that_are_no_fit_are_refused() -> None:
    layer = make()
    layer.weight = nn.Parameter(torch.ones(7))
    with pytest.raises(syncbn.InvalidArgument, match="7"):
        layer(draw((6, 5), 1))
    layer = make()
    layer.num_batches_tracked = torch.tensor(0.0)
    with pytest.raises(syncbn.InvalidArgument, match="num_batches_tracked"):
        layer(draw((6, 5), 1))
    layer = make()
    layer.running_mean = torch.zeros(10)[::2]
    with pytest.raises(syncbn.InvalidArgument, match="running_mean"):
        layer(draw((6, 5), 1))


def test_extra_repr_has_what_torch_lacks() -> None:
    assert repr(sbn.SyncBatchNorm(5)) == repr(nn.SyncBatchNorm(5))
    text = repr(sbn.SyncBatchNorm(5, activation="relu", exact=True))
    assert "activation='relu'" in text and "slope" not in text and "exact=True" in text
    assert "activation='leaky_relu', negative_slope=0.5" in repr(
        sbn.SyncBatchNorm(5, activation="leaky_relu", negative_slope=0.5)
    )


@pytest.mark.parametrize(
    "options",
    [
        {"activation": "gelu"},
        {"activation": 0.5},
        {"negative_slope": 0.0},
        {"activation": "relu", "negative_slope": 0.2},
        {"activation": "leaky_relu", "negative_slope": -1.0},
        {"activation": "leaky_relu", "negative_slope": float("nan")},
    ],
    ids=str,
)
def test_activation_that_is_none_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(syncbn.InvalidArgument, match=r"^(activation|negative_slope) is"):
        make(**options)


def test_activation_of_a_call_is_taken_instead_of_the_layers() -> None:
    x, residual, dy = (draw((6, 5, 4), seed, torch.float64) for seed in (1, 2, 3))
    layer, relu = make(dtype=torch.float64), make(dtype=torch.float64, activation="relu")
    for training in (True, False):
        layer.train(training)
        relu.train(training)
        results = []
        for module, slopes in ((layer, (0.0, None)), (relu, (None, 1.0))):
            module.zero_grad()
            leaf = x.clone().requires_grad_()
            outputs = [module(leaf, residual, negative_slope=slope) for slope in slopes]
            torch.autograd.backward(outputs, [dy, dy])
            results.append([*outputs, leaf.grad, module.weight.grad, *module.buffers()])
        for got, expected in zip(*results, strict=True):
            assert torch.equal(got, expected)
        assert not torch.equal(results[0][0], results[0][1])


def test_tensors_without_dlpacks_interface_are_found_by_their_attributes() -> None:
    """As torch before 2.10 has them: in a process, as types are looked at once."""
    program = """
import torch
if hasattr(torch.Tensor, "__dlpack_c_exchange_api__"):
    del torch.Tensor.__dlpack_c_exchange_api__
import syncbn.torch as sbn
ours, theirs = sbn.SyncBatchNorm(3), torch.nn.BatchNorm2d(3)
for dtype in (torch.float32, torch.float64):
    x = torch.arange(120.0, dtype=dtype).sin().view(2, 3, 4, 5)
    x = x.contiguous(memory_format=torch.channels_last)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, z = ours.to(dtype)(a), theirs.to(dtype)(b)
    y.square().sum().backward()
    z.square().sum().backward()
    torch.testing.assert_close(y, z)
    torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=1e-5)
assert ours.num_batches_tracked == theirs.num_batches_tracked == 2
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_weights_of_positions_of_other_dimensions_are_refused() -> None:
    layer = sbn.SyncBatchNorm(5)
    for shape in ((4,), (4, 1, 7)):
        with pytest.raises(syncbn.InvalidArgument, match=r"one for each of \(4, 7\) is needed"):
            layer(draw((4, 5, 7), 1), position_weights=torch.ones(shape))
    assert layer.num_batches_tracked == 0
    layer(draw((4, 5, 7), 1), position_weights=torch.ones(4, 1))


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.* is deprecated")
def test_evaluation_can_be_traced_and_training_is_refused() -> None:
    model = nn.Sequential(nn.Conv1d(3, 5, 2), sbn.SyncBatchNorm(5, activation="relu"))
    model(draw((4, 3, 9), 1))
    with pytest.raises(syncbn.InvalidArgument, match="records no synchronized training"):
        torch.jit.trace(model, draw((4, 3, 9), 2))
    with torch.no_grad():
        traced = torch.jit.trace(model.eval(), draw((4, 3, 9), 2))
        torch.testing.assert_close(traced(draw((6, 3, 9), 3)), model(draw((6, 3, 9), 3)))


def test_call_in_inference_mode_leaves_a_layer_that_trains() -> None:
    layers = [sbn.SyncBatchNorm(5), sbn.SyncBatchNorm(5, bias=False)]
    for layer in layers:
        with torch.inference_mode():
            layer(draw((4, 5), 1))
            layer.eval()(draw((4, 5), 1))
        layer.train()(draw((4, 5), 1).requires_grad_()).sum().backward()
