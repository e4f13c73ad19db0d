# SPDX-License-Identifier: Apache-2.0
"""The layer under torch.compile and torch.export, against torch's batch norm and against itself."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.checkpoint import checkpoint

import syncbn
import syncbn.torch as sbn
from ranks import Ranks
from whole_batch import TYPES, WholeBatch, draw, give_parameters, step

BACKENDS = ("aot_eager", "inductor")
# Compilers build sizes 0 and 1 into a graph, the first other size too, and then make a graph for all
# others: four graphs.
SIZES = (4, 2, 5, 1, 0)
GRAPHS = 4
CHANNELS = 5


@pytest.fixture(autouse=True)
def _forget_graphs() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def make(layer: nn.Module | None = None, **options: Any) -> Any:
    layer = layer or sbn.SyncBatchNorm(CHANNELS, **options)
    give_parameters(layer)
    return layer


def compiled(function: Any, backend: Any, **options: Any) -> Any:
    return torch.compile(function, backend=backend, fullgraph=True, **options)


class Doubled(nn.BatchNorm2d):
    """A user's layer, whose forward does something besides."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "plain": make,
    "converted": lambda: make(sbn.convert_sync_batchnorm(nn.BatchNorm2d(CHANNELS))),
    "momentum=None": lambda: make(momentum=None),
    "affine=False": lambda: make(affine=False),
    "bias=False": lambda: make(bias=False),
    "track_running_stats=False": lambda: make(track_running_stats=False),
    "exact": lambda: make(exact=True),
}


@pytest.mark.parametrize(
    ("backend", "name"),
    [("aot_eager", name) for name in LAYERS]
    + [("inductor", name) for name in ("plain", "momentum=None", "affine=False")],
)
def test_steps_with_batches_of_any_size_equal_torch(backend: str, name: str) -> None:
    layer = LAYERS[name]()
    eager = copy.deepcopy(layer)
    counter = CompileCounterWithBackend(backend)
    function = compiled(layer, counter)
    for size in SIZES:
        x, dy = (draw((size, CHANNELS, 7, 3), 10 * size + seed) for seed in (1, 2))
        layer.zero_grad()
        eager.zero_grad()
        oracle = WholeBatch(layer, x, dy) if size else None
        results = step(function, x, dy)
        if oracle:
            oracle.expect(results)
        for values, expected in zip(
            vars(results).values(), vars(step(eager, x, dy)).values(), strict=True
        ):
            assert (values is None) == (expected is None)
            assert values is None or torch.equal(values, expected)  # the same code computes both
    assert torch.equal(
        layer.num_batches_tracked or torch.tensor(0), eager.num_batches_tracked or torch.tensor(0)
    )
    assert counter.frame_count == GRAPHS


def test_counter_of_graphs_sees_one_for_every_size() -> None:
    """Shows that the bound above is one."""
    counter = CompileCounterWithBackend("aot_eager")
    function = compiled(make(), counter, dynamic=False)
    for size in SIZES:
        function(draw((size, CHANNELS, 3), 1))
    assert counter.frame_count == len(SIZES)


# Inductor takes seconds for each graph in evaluation, where the operations are torch's own.
@pytest.mark.parametrize(
    ("backend", "options", "sizes"),
    [
        ("aot_eager", {}, SIZES),
        ("aot_eager", {"affine": False}, SIZES),
        ("aot_eager", {"bias": False}, SIZES),
        ("inductor", {}, (4,)),
    ],
    ids=str,
)
def test_evaluation_equals_torch(
    backend: str, options: dict[str, Any], sizes: tuple[int, ...]
) -> None:
    layer = make(**options)
    layer(draw((6, CHANNELS, 4), 1))
    layer.eval()
    state = copy.deepcopy(layer.state_dict())
    counter = CompileCounterWithBackend(backend)
    function = compiled(layer, counter)
    for size in sizes:
        x, dy = (draw((size, CHANNELS, 4), 10 * size + seed) for seed in (1, 2))
        layer.zero_grad()
        oracle = WholeBatch(layer, x, dy)
        results = step(function, x, dy)
        for parameter in ("dweight", "dbias"):
            got, expected = getattr(results, parameter), getattr(oracle.results, parameter)
            if got is not None:  # torch's sums of 20 products below 100, in float32
                assert (got - expected).abs().max() < 20 * 100 * 2**-24
            setattr(results, parameter, None)
            setattr(oracle.results, parameter, None)
        oracle.expect(results)
    assert all(torch.equal(values, state[name]) for name, values in layer.state_dict().items())
    assert counter.frame_count <= GRAPHS


@pytest.mark.parametrize("training", [True, False])
def test_every_mix_of_types_gives_what_it_gives_without_a_compiler(training: bool) -> None:
    for of_x in TYPES:
        for of_parameters in TYPES:
            for of_buffers in TYPES:
                torch._dynamo.reset()
                layer = make(dtype=of_parameters)
                layer.running_mean = layer.running_mean.to(of_buffers)
                layer.running_var = layer.running_var.to(of_buffers)
                layer.train(training)
                eager = copy.deepcopy(layer)
                x = draw((6, CHANNELS, 4), 1, of_x)
                y, expected = compiled(layer, "aot_eager")(x), eager(x)
                assert y.dtype == expected.dtype
                if training:
                    assert torch.equal(y, expected)
                    for got, wanted in zip(layer.buffers(), eager.buffers(), strict=True):
                        assert torch.equal(got, wanted)
                else:  # Each: 6 roundings of values below 16, of float32 at least, and one to store.
                    stored = max(torch.finfo(of_x).eps, torch.finfo(torch.float32).eps)
                    torch.testing.assert_close(y, expected, rtol=stored, atol=2 * 6 * 16 * 2**-24)


def call_with_extras(layer: nn.Module, x: Tensor, residual: Tensor, weights: Tensor) -> Tensor:
    y: Tensor = layer(x, residual=residual, position_weights=weights)
    return y


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("training", [True, False])
def test_residual_slope_and_position_weights_give_what_they_give_without_a_compiler(
    training: bool, backend: str
) -> None:
    layer = make(activation="leaky_relu", negative_slope=0.25, dtype=torch.float64).train(training)
    eager = copy.deepcopy(layer)
    counter = CompileCounterWithBackend(backend)
    function = compiled(call_with_extras, counter)
    sizes = SIZES if backend == "aot_eager" else (4,)
    for size in sizes:
        shape = (size, CHANNELS, 4, 3)
        results = []
        for module, call in ((layer, function), (eager, call_with_extras)):
            module.zero_grad()
            x, residual = (draw(shape, seed, torch.float64).requires_grad_() for seed in (1, 2))
            weights = torch.ones(size, 4, 3)
            weights[:, 1] = 0.0
            weights[:1, 2:] = 0.5
            y = call(module, x, residual, weights)
            y.backward(draw(shape, 3, torch.float64))
            results.append(
                [y.detach(), x.grad, residual.grad, module.weight.grad, module.bias.grad,
                 *module.buffers()]
            )  # fmt: skip
        for got, expected in zip(*results, strict=True):
            if training:
                assert torch.equal(got, expected)
            else:  # sums of 60 products below 100, some roundings each
                torch.testing.assert_close(got, expected, rtol=0, atol=60 * 100 * 8 * 2**-53)
    assert counter.frame_count <= GRAPHS


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("training", [True, False])
def test_layout_is_that_of_the_input(training: bool, backend: str) -> None:
    layer = make().train(training)
    eager = copy.deepcopy(layer)
    function = compiled(layer, backend)
    x = draw((4, CHANNELS, 7, 3), 1)
    for layout in (
        x.contiguous(memory_format=torch.channels_last), x, x.transpose(2, 3),
        x.movedim(0, -1).contiguous().movedim(-1, 0), x[:, :1].expand_as(x),
    ):  # fmt: skip
        results = []
        for call in (function, eager):
            leaf = layout.detach().requires_grad_()
            y = call(leaf)
            y.backward(draw(y.shape, 2))
            results.append((y.detach(), leaf.grad))
        for got, expected in zip(*results, strict=True):
            # In evaluation torch computes it: 12 roundings of values below 16.
            torch.testing.assert_close(
                got, expected, rtol=0, atol=0 if training else 12 * 16 * 2**-24
            )
            if training or backend == "aot_eager":  # inductor chooses for its own code
                assert got.stride() == expected.stride(), (layout.stride(), got.stride())


# torch's own forward makes a number of a tensor for momentum=None; 2.9 and 2.10 trace that if told to.
@torch._dynamo.config.patch(capture_scalar_outputs=True)
def test_subclasses_with_a_forward_of_their_own_compile() -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    for original in (
        Doubled(CHANNELS), Doubled(CHANNELS, momentum=None), timm.layers.BatchNormAct2d(CHANNELS)
    ):  # fmt: skip
        layer = make(sbn.convert_sync_batchnorm(original))
        for training in (True, False):
            layer.train(training)
            eager = copy.deepcopy(layer)
            torch._dynamo.reset()
            function = compiled(layer, "aot_eager")
            for size in SIZES:
                x = draw((size, CHANNELS, 7, 3), size)
                torch.testing.assert_close(
                    function(x), eager(x), rtol=0, atol=0 if training else 12 * 16 * 2**-24
                )
            for got, expected in zip(layer.buffers(), eager.buffers(), strict=True):
                assert torch.equal(got, expected)


def test_layers_of_a_model_compiled_one_by_one_share_a_graph() -> None:
    """So that a model whose blocks are compiled one by one stays below torch's limit of graphs."""
    layers = [make(name=str(number)) for number in range(12)]
    assert len(layers) > torch._dynamo.config.recompile_limit
    counter = CompileCounterWithBackend("aot_eager")
    x = draw((4, CHANNELS, 3), 1)
    for layer in layers:
        eager = copy.deepcopy(layer)
        layer.compile(backend=counter, fullgraph=True)
        assert torch.equal(layer(x), eager(x))
    assert counter.frame_count == 1


def test_compiled_layer_takes_gradients_only_where_they_are_wanted() -> None:
    layer = make().requires_grad_(False)
    function = compiled(layer, "aot_eager")
    x = draw((4, CHANNELS, 3), 1)
    assert not function(x).requires_grad
    leaf = x.clone().requires_grad_()
    function(leaf).square().sum().backward()
    assert leaf.grad is not None and layer.weight.grad is None
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            expected = make()(x)
            assert torch.equal(compiled(make(), "aot_eager")(x), expected)


def test_checkpointed_layer_is_not_called_again_in_the_backward() -> None:
    layer = make()
    eager = copy.deepcopy(layer)
    function = compiled(lambda x: checkpoint(layer, x, use_reentrant=False), "aot_eager")
    gradients = []
    for call in (function, eager):
        x = draw((4, CHANNELS, 3), 1).requires_grad_()
        call(x).pow(3).sum().backward()
        gradients.append(x.grad)
    assert torch.equal(*gradients)
    assert layer.num_batches_tracked == 1
    assert torch.equal(layer.running_mean, eager.running_mean)


def test_second_derivative_of_a_compiled_layer_is_refused() -> None:
    x = draw((4, CHANNELS, 3), 1).requires_grad_()
    y = compiled(make(), "aot_eager")(x)
    (dx,) = torch.autograd.grad(y.pow(2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        dx.sum().backward()


def test_backward_runs_after_the_model_is_gone() -> None:
    def call(wrap: Callable[[nn.Module], Any]) -> tuple[Tensor, Tensor, Any]:
        layer = make()
        x = draw((4, CHANNELS, 3), 1).requires_grad_()
        return x, wrap(layer)(x), weakref.ref(layer._synchronized)

    gradients = []
    for wrap in (lambda layer: compiled(layer, "aot_eager"), lambda layer: layer):
        x, y, settings = call(wrap)
        torch._dynamo.reset()
        gc.collect()
        assert settings() is None
        y.pow(2).sum().backward()
        gradients.append(x.grad)
    assert torch.equal(*gradients)


SHARDS = ((4, 5), (5, 2), (1, 2), (0, 5), (5, 0), (2, 1), (1, 1), (0, 1), (1, 0), (0, 2), (0, 0))


def run_compiled(rank: int, size: int, backend: str, momentum: float | None) -> int:
    """Makes steps of a compiled layer whose processes have batches of 0, 1 and more samples."""
    torch._dynamo.reset()
    layer = make(momentum=momentum)
    counter = CompileCounterWithBackend(backend)
    function = compiled(layer, counter)
    for number, sizes in enumerate(SHARDS):
        total, first = sum(sizes), sum(sizes[:rank])
        x, dy = (draw((total, CHANNELS, 4), 10 * number + seed) for seed in (1, 2))
        part = slice(first, first + sizes[rank])
        layer.zero_grad()
        oracle = WholeBatch(layer, x, dy) if total else None
        # A view begins somewhere in its memory, which makes more graphs.
        results = step(function, x[part].clone(), dy[part].clone())
        if oracle is None:
            continue
        for name in ("dweight", "dbias"):
            got = getattr(results, name).double()
            dist.all_reduce(got)
            # Two shares of sums of 36 products below 100, stored in float32.
            expected = getattr(oracle.results, name)
            assert (got - expected).abs().max() < 36 * 100 * 2 * 2**-24, (sizes, name)
            setattr(results, name, None)
            setattr(oracle.results, name, None)
        errors = oracle.errors(results, first)
        assert all(error <= 1 for error in errors.values()), (sizes, errors)
    graphs: int = counter.frame_count
    return graphs


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_processes_with_batches_of_any_size_equal_the_whole_batch(
    pair: Ranks, backend: str
) -> None:
    for momentum in (0.1, None):
        for graphs in pair.run(run_compiled, backend, momentum):
            assert graphs <= GRAPHS


def run_models(rank: int, size: int, backend: str) -> None:
    """Trains a compiled model and an eager one: weights and running statistics have the same bits."""
    torch._dynamo.reset()
    results = []
    for compile_it in (True, False):
        torch.manual_seed(1)
        model = sbn.convert_sync_batchnorm(
            nn.Sequential(
                nn.Linear(4, CHANNELS), nn.BatchNorm1d(CHANNELS), nn.Tanh(),
                nn.Linear(CHANNELS, CHANNELS), nn.BatchNorm1d(CHANNELS, momentum=None),
            )
        )  # fmt: skip
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        function = compiled(model, backend) if compile_it else model
        for number in range(4):
            x = draw((3 * (rank + 1) - number * rank, 4), 10 * rank + number)
            function(x).pow(2).mean().backward()
            for parameter in model.parameters():
                dist.all_reduce(parameter.grad)
            optimizer.step()
            optimizer.zero_grad()
        results.append(list(model.state_dict().values()))
    for got, expected in zip(*results, strict=True):
        # Inductor's own code rounds some ten values below 10 differently in each of four steps.
        atol = 0 if backend == "aot_eager" else 4 * 10 * 10 * 2**-24
        torch.testing.assert_close(got, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("backend", BACKENDS)
def test_compiled_model_trains_like_one_that_is_not(pair: Ranks, backend: str) -> None:
    pair.run(run_models, backend)


def run_regrouped(rank: int, size: int) -> None:
    """A compiled layer's group changes, and a layer without statistics evaluates alone."""
    torch._dynamo.reset()
    single = [dist.new_group([other]) for other in range(size)]
    x = draw((4 + rank, CHANNELS), rank)
    layer = make(track_running_stats=False)
    function = compiled(layer, "aot_eager")
    alone = nn.BatchNorm1d(CHANNELS, track_running_stats=False)
    give_parameters(alone)
    together = function(x)
    assert (together - alone(x)).abs().max() > 0.01
    layer.process_group = single[rank]
    # Six roundings each, of values below 16.
    torch.testing.assert_close(function(x), alone(x), rtol=0, atol=2 * 6 * 16 * 2**-24)
    layer.process_group = None
    assert torch.equal(function(x), together)
    layer.eval()
    if rank == 0:  # and rank 1 does not
        torch.testing.assert_close(function(x), alone(x), rtol=0, atol=2 * 6 * 16 * 2**-24)


def test_compiled_layer_follows_its_group_and_its_mode(pair: Ranks) -> None:
    pair.run(run_regrouped)


def model_of_two() -> nn.Module:
    torch.manual_seed(1)
    return sbn.convert_sync_batchnorm(
        nn.Sequential(
            nn.Conv2d(3, CHANNELS, 3), nn.BatchNorm2d(CHANNELS), nn.ReLU(),
            nn.BatchNorm2d(CHANNELS, momentum=None),
        )
    )  # fmt: skip


def operators_of(program: torch.export.ExportedProgram) -> list[str]:
    return [str(node.target) for node in program.graph.nodes if node.op == "call_function"]


def export(model: nn.Module, x: Tensor) -> torch.export.ExportedProgram:
    return torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=2)},))


def test_program_exported_for_training_equals_the_model(tmp_path: Any) -> None:
    model = model_of_two().train()
    program = export(model, draw((4, 3, 6, 6), 1))
    assert sum("syncbn.forward" in name for name in operators_of(program)) == 2
    torch.export.save(program, tmp_path / "program.pt2")
    for kind, exported in (
        ("kept", program), ("read", torch.export.load(tmp_path / "program.pt2"))
    ):  # fmt: skip
        trained, eager = exported.module(), model_of_two()
        for seed in (2, 3):
            x = draw((seed, 3, 6, 6), seed)
            y, expected = trained(x), eager(x)
            assert torch.equal(y, expected), kind
            y.pow(2).sum().backward()
            expected.pow(2).sum().backward()
        gradients = {name: values.grad for name, values in trained.named_parameters()}
        for name, values in eager.named_parameters():
            assert torch.equal(gradients[name], values.grad), (kind, name)
        state = trained.state_dict()
        for name, values in eager.state_dict().items():
            assert torch.equal(state[name], values), (kind, name)


def test_program_exported_for_evaluation_needs_nothing_of_ours() -> None:
    model = model_of_two()
    model(draw((4, 3, 6, 6), 1))
    model.eval()
    program = export(model, draw((4, 3, 6, 6), 1))
    assert not any("syncbn" in name for name in operators_of(program))
    x = draw((3, 3, 6, 6), 2)
    # Two layers of six roundings each, and the other's, of values below 16.
    torch.testing.assert_close(program.module()(x), model(x), rtol=0, atol=4 * 6 * 16 * 2**-24)


def run_exported(rank: int, size: int) -> None:
    group = dist.new_group(list(range(size)))
    layer = make(process_group=group)
    x = draw((4 + rank, CHANNELS), rank)
    program = export(layer, draw((4, CHANNELS), 1))
    assert torch.equal(program.module()(x), make(process_group=group)(x))
    dist.destroy_process_group(group)
    with pytest.raises(syncbn.NotConfigured, match="there is no process group"):
        program.module()(x)


def test_exported_program_finds_its_group_by_name(pair: Ranks) -> None:
    pair.run(run_exported)


def operator_arguments(**options: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Returns arguments of syncbn::forward and, of a forward with them, of syncbn::backward."""
    layer = make(**options)
    settings = layer._synchronized
    x, dy = draw((4, CHANNELS, 3), 1), draw((4, CHANNELS, 3), 2)
    parameters = [
        None if values is None else values.detach() for values in (layer.weight, layer.bias)
    ]
    buffers = (layer.running_mean, layer.running_var, layer.num_batches_tracked)
    residual = draw((4, CHANNELS, 3), 3) if settings.slope != 1 else None
    weights = torch.ones(4, 3) if residual is not None else None
    key = (settings.handle, "", "", 0, "torch", True, layer.eps, layer.momentum,
           settings.slope, settings.exact)  # fmt: skip
    forward = (x, *parameters, *buffers, residual, weights, *key)
    y, memory, note, *_ = torch.ops.syncbn.forward(*forward)
    saved_y = None if residual is None else y
    given = (residual is not None, layer.running_mean is not None)
    return forward, (dy, x, *parameters, saved_y, memory, note, weights, *given, *key)


@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": None}, {"affine": False}, {"track_running_stats": False},
     {"activation": "leaky_relu", "negative_slope": 0.25}],
    ids=str,
)  # fmt: skip
def test_operators_pass_torchs_own_check(options: dict[str, Any]) -> None:
    forward, backward = operator_arguments(**options)
    # A note counts the forwards of a layer, and the check makes a few: up to 4 more. (It takes
    # tolerances only if neither is 0.)
    torch.library.opcheck(torch.ops.syncbn.forward.default, forward, rtol=1e-9, atol=4.0)
    torch.library.opcheck(torch.ops.syncbn.backward.default, backward)


def test_torchs_check_sees_an_operator_that_changes_its_input() -> None:
    """Shows that the check above does."""
    library = torch.library.Library("syncbn_test", "FRAGMENT")
    library.define("negate(Tensor x) -> Tensor")
    library.impl("negate", lambda x: x.neg_().clone(), "CPU")
    torch.library.register_fake("syncbn_test::negate", torch.empty_like, lib=library)
    with pytest.raises(Exception, match="mutat"):
        torch.library.opcheck(torch.ops.syncbn_test.negate.default, (torch.ones(3),))
