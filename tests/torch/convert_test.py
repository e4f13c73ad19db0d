# SPDX-License-Identifier: Apache-2.0
"""Conversion of models there and back, and storing, copying and moving them."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import syncbn
import syncbn.torch as sbn
from ranks import Ranks
from whole_batch import WholeBatch, draw, give_parameters, step

CHANNELS = 5
SHAPES: dict[type[nn.Module], tuple[int, ...]] = {
    nn.BatchNorm1d: (6, CHANNELS, 4),
    nn.BatchNorm2d: (6, CHANNELS, 4, 3),
    nn.BatchNorm3d: (6, CHANNELS, 4, 3, 2),
    nn.SyncBatchNorm: (6, CHANNELS, 4, 3),
}


class Scaled(nn.BatchNorm2d):
    """A user's layer: it has an argument, an attribute and a forward of its own."""

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__(channels)
        self.scale = scale

    def forward(self, input: Tensor, shift: float = 0.0) -> Tensor:
        return super().forward(input) * self.scale + shift


class Nested(nn.Module):
    """Layers in layers, one of them in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, CHANNELS, 3), nn.BatchNorm2d(CHANNELS))
        self.blocks = nn.ModuleList([nn.Sequential(nn.ReLU(), Scaled(CHANNELS, 2.0))])
        self.again = self.first[1]
        self.head = nn.ModuleDict({"norm": nn.BatchNorm1d(CHANNELS, momentum=None)})

    def forward(self, input: Tensor) -> Tensor:
        y = self.again(self.blocks[0](self.first(input)))
        return self.head["norm"](y.mean((2, 3)))


def norms(model: nn.Module) -> list[nn.Module]:
    return [layer for layer in model.modules() if isinstance(layer, nn.modules.batchnorm._NormBase)]


def bits_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: values.clone() for name, values in model.state_dict().items()}


def expect_same(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert got.keys() == expected.keys()
    for name, values in expected.items():
        assert torch.equal(got[name], values) and got[name].dtype == values.dtype, name


@pytest.mark.parametrize("original", SHAPES, ids=lambda original: original.__name__)
def test_converted_layer_equals_torch_and_reverts_to_its_class(original: Any) -> None:
    shape = SHAPES[original]
    x, dy = draw(shape, 1), draw(shape, 2)
    layer = original(CHANNELS, eps=1e-3, momentum=0.2)
    give_parameters(layer)
    converted = sbn.convert_sync_batchnorm(layer)
    assert converted is layer
    assert isinstance(layer, sbn.SyncBatchNorm if original is nn.SyncBatchNorm else original)
    oracle = WholeBatch(layer, x, dy)
    oracle.expect(step(layer, x, dy))
    state = bits_of(layer)
    assert sbn.revert_sync_batchnorm(layer) is layer
    assert type(layer) is original and "_synchronized" not in vars(layer)
    expect_same(bits_of(layer), state)
    if original is not nn.SyncBatchNorm:  # torch's takes no CPU
        reference = original(CHANNELS, eps=1e-3, momentum=0.2)
        reference.load_state_dict(state)
        assert torch.equal(layer(x), reference(x))
        expect_same(bits_of(layer), bits_of(reference))


def test_layer_made_as_a_synchronized_one_reverts_to_batch_norm_of_any_shape() -> None:
    layer = sbn.revert_sync_batchnorm(sbn.SyncBatchNorm(CHANNELS))
    assert not isinstance(layer, sbn.SyncBatchNorm)
    for shape in ((6, CHANNELS), *SHAPES.values()):
        assert layer(draw(shape, 1)).shape == shape
    with pytest.raises(ValueError, match="at least 2D"):
        layer(torch.zeros(3))


def test_what_hangs_on_a_layer_stays() -> None:
    layer = nn.BatchNorm1d(CHANNELS).eval()
    layer.bias.requires_grad_(False)
    layer.mark = "kept"  # type: ignore[assignment]
    calls: list[str] = []
    layer.register_forward_pre_hook(lambda *_: calls.append("before"))
    layer.register_forward_hook(lambda *_: calls.append("after"))
    layer.register_full_backward_hook(lambda *_: calls.append("backward"))
    tensors = {
        name: id(values) for name, values in [*layer.named_parameters(), *layer.named_buffers()]
    }
    for change in (sbn.convert_sync_batchnorm, sbn.revert_sync_batchnorm):
        change(layer)
        assert not layer.training and layer.mark == "kept"  # type: ignore[comparison-overlap]
        assert layer.weight.requires_grad and not layer.bias.requires_grad
        assert tensors == {
            name: id(values) for name, values in [*layer.named_parameters(), *layer.named_buffers()]
        }
        calls.clear()
        layer(draw((4, CHANNELS), 1).requires_grad_()).sum().backward()
        assert calls == ["before", "after", "backward"]


def test_optimizer_goes_on_with_a_converted_model() -> None:
    models = []
    for convert in (True, False):
        torch.manual_seed(1)
        model = Nested().double().train()
        optimizer = torch.optim.SGD(model.parameters(), 1e-4, momentum=0.9)

        def step_of(seeds: range, model: nn.Module = model, optimizer: Any = optimizer) -> None:
            for seed in seeds:
                optimizer.zero_grad()
                model(draw((6, 3, 8, 8), seed, torch.float64)).pow(2).sum().backward()
                optimizer.step()

        step_of(range(2))
        if convert:
            sbn.convert_sync_batchnorm(model)
        step_of(range(2, 4))
        sbn.revert_sync_batchnorm(model)
        step_of(range(4, 6))
        models.append(model)
    for (name, got), expected in zip(
        models[0].state_dict().items(), models[1].state_dict().values(), strict=True
    ):
        # Two steps of other roundings, 1e-13 of statistics each (whole_batch.py), of values below 10,
        # through four layers that each multiply by less than 10.
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-13 * 2 * 10 * 10**4, msg=name)


def test_nested_layers_convert_and_revert() -> None:
    model = Nested()
    classes = [type(layer) for layer in model.modules()]
    keys = list(model.state_dict())
    sbn.convert_sync_batchnorm(model)
    assert all(type(layer).__name__.startswith("Sync") for layer in norms(model))
    assert model.again is model.first[1]
    assert list(model.state_dict()) == keys
    again = [type(layer) for layer in sbn.convert_sync_batchnorm(model).modules()]
    assert [type(layer) for layer in model.modules()] == again
    assert model.head["norm"]._synchronized.name == "head.norm"
    sbn.revert_sync_batchnorm(sbn.revert_sync_batchnorm(model))
    assert [type(layer) for layer in model.modules()] == classes


def test_subclass_runs_its_own_forward() -> None:
    x, dy = draw((6, CHANNELS, 4, 3), 1, torch.float64), draw((6, CHANNELS, 4, 3), 2, torch.float64)
    for momentum in (0.1, None):
        results = []
        for convert in (True, False):
            layer = Scaled(CHANNELS, 3.0).double()
            layer.momentum = momentum
            give_parameters(layer)
            if convert:
                sbn.convert_sync_batchnorm(layer)
                assert isinstance(layer, Scaled)
            for training in (True, True, False):
                layer.train(training)
                leaf = x.clone().requires_grad_()
                y = layer(leaf, shift=0.5)
                y.backward(dy)
            results.append([y.detach(), leaf.grad, layer.weight.grad, *layer.buffers()])
            sbn.revert_sync_batchnorm(layer)
            assert type(layer) is Scaled
        for got, expected in zip(*results, strict=True):
            # Sums of 72 products below 100 and the statistics' 1e-13 (whole_batch.py).
            torch.testing.assert_close(got, expected, rtol=0, atol=3 * 72 * 100 * (2**-52 + 1e-13))


def test_layer_of_timm_equals_itself_converted() -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    x = draw((6, CHANNELS, 4, 3), 1)
    for training in (True, False):
        layer = timm.layers.BatchNormAct2d(CHANNELS).train(training)
        give_parameters(layer)
        expected = copy.deepcopy(layer)
        sbn.convert_sync_batchnorm(layer)
        assert isinstance(layer, timm.layers.BatchNormAct2d)
        # Each: six roundings of values below 16.
        y = layer(x)
        torch.testing.assert_close(y, expected(x), rtol=0, atol=2 * 6 * 16 * 2**-24)
        assert (y >= 0).all()
        for got, wanted in zip(layer.buffers(), expected.buffers(), strict=True):
            torch.testing.assert_close(got, wanted, rtol=2**-22, atol=2**-22)
        assert type(sbn.revert_sync_batchnorm(layer)) is timm.layers.BatchNormAct2d


@pytest.mark.parametrize("materialized", [True, False])
def test_lazy_layer_converts_before_and_after_its_first_input(materialized: bool) -> None:
    x, dy = draw((6, CHANNELS, 4, 3), 1), draw((6, CHANNELS, 4, 3), 2)
    layer = nn.Sequential(nn.LazyBatchNorm2d())
    if materialized:
        layer(x)
        layer[0].reset_running_stats()
    sbn.convert_sync_batchnorm(layer)
    layer(x)
    layer[0].reset_running_stats()
    assert isinstance(layer[0], nn.BatchNorm2d) and not isinstance(layer[0], nn.LazyBatchNorm2d)
    assert layer[0].num_features == CHANNELS and layer[0]._synchronized.name == "0"
    oracle = WholeBatch(layer[0], x, dy)
    oracle.expect(step(layer[0], x, dy))
    assert type(sbn.revert_sync_batchnorm(layer)[0]) is nn.BatchNorm2d
    unused = sbn.revert_sync_batchnorm(sbn.convert_sync_batchnorm(nn.LazyBatchNorm1d()))
    assert type(unused) is nn.LazyBatchNorm1d


def test_convert_method_of_the_class_is_that_of_torch() -> None:
    model = sbn.SyncBatchNorm.convert_sync_batchnorm(Nested())
    assert all(type(layer).__name__.startswith("Sync") for layer in norms(model))


def test_other_norms_stay() -> None:
    model = nn.Sequential(nn.InstanceNorm1d(3), nn.GroupNorm(1, 3), nn.LayerNorm(3))
    before = [type(layer) for layer in model]
    assert [type(layer) for layer in sbn.convert_sync_batchnorm(model)] == before


@pytest.mark.parametrize(
    "theirs", [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm]
)
@pytest.mark.parametrize(
    "options", [{}, {"affine": False}, {"track_running_stats": False}], ids=str
)
def test_state_dicts_go_both_ways(theirs: Any, options: dict[str, Any]) -> None:
    ours, other = sbn.SyncBatchNorm(CHANNELS, **options), theirs(CHANNELS, **options)
    give_parameters(ours)
    ours(draw((6, CHANNELS), 1))
    assert ours.state_dict()._metadata[""] == other.state_dict()._metadata[""]
    other.load_state_dict(ours.state_dict(), strict=True)
    expect_same(other.state_dict(), ours.state_dict())
    fresh = sbn.SyncBatchNorm(CHANNELS, **options)
    fresh.load_state_dict(other.state_dict(), strict=True)
    expect_same(fresh.state_dict(), ours.state_dict())
    x = draw((6, CHANNELS), 2)
    assert torch.equal(fresh(x), ours(x))
    # A checkpoint of before torch 0.4.1 has no counter.
    state = ours.state_dict()
    if "num_batches_tracked" in state:
        del state["num_batches_tracked"]
        state._metadata[""]["version"] = 1
        fresh.load_state_dict(state, strict=True)
    with pytest.raises(RuntimeError, match=r"size mismatch|Unexpected|Missing"):
        sbn.SyncBatchNorm(CHANNELS + 1).load_state_dict(ours.state_dict(), strict=True)


def through_pickle(model: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(model))  # type: ignore[no-any-return]


def through_torch_save(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)  # type: ignore[no-any-return]


COPIES: list[Callable[[nn.Module], nn.Module]] = [copy.deepcopy, through_pickle, through_torch_save]


@pytest.mark.parametrize("copied", COPIES, ids=lambda function: function.__name__)
def test_copies_are_layers_of_their_own(copied: Callable[[nn.Module], nn.Module]) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    for model in (
        sbn.convert_sync_batchnorm(Nested()),
        sbn.convert_sync_batchnorm(nn.BatchNorm1d(CHANNELS)),
        sbn.convert_sync_batchnorm(timm.layers.BatchNormAct2d(CHANNELS)),
        sbn.convert_sync_batchnorm(nn.SyncBatchNorm(CHANNELS)),
        sbn.SyncBatchNorm(CHANNELS, activation="relu", exact=True, name="a layer"),
    ):
        shape = (6, 3, 8, 8) if isinstance(model, Nested) else (6, CHANNELS, 2, 3)
        x = draw(shape[:3] if isinstance(model, nn.BatchNorm1d) else shape, 1)
        model(x)  # makes what a copy must not take along
        other = copied(model)
        assert type(other) is type(model) and repr(other) == repr(model)
        expect_same(other.state_dict(), bits_of(model))
        before = bits_of(model)
        y = other(x)
        expect_same(bits_of(model), before)  # the copy has buffers of its own
        assert torch.equal(model(x), y)
        expect_same(bits_of(model), bits_of(other))
        for one, two in zip(norms(model), norms(other), strict=True):
            settings, theirs = one._synchronized, two._synchronized
            assert settings.instance != theirs.instance
            for name in ("name", "exact", "exchange", "original", "slope"):
                assert getattr(settings, name) == getattr(theirs, name)
        sbn.revert_sync_batchnorm(other)
        assert all("Sync" not in type(layer).__name__ or type(layer) is nn.SyncBatchNorm
                   for layer in norms(other))  # fmt: skip


def run_pickled(rank: int, size: int, here: bytes) -> bytes:
    """Reads a layer of another process, and returns one that has a group."""
    layer = pickle.loads(here)
    x = draw((9, CHANNELS), 1)
    part = slice(0, 4) if rank == 0 else slice(4, 9)
    oracle = WholeBatch(layer, x, x)
    results = step(layer, x[part], x[part])
    for of in (results, oracle.results):
        of.dweight = of.dbias = None
    oracle.expect(results, part.start)

    group = dist.new_group(list(range(size)))
    alone = dist.new_group([rank], use_local_synchronization=True)
    for own in (group, alone):
        for layer in (
            sbn.SyncBatchNorm(CHANNELS, process_group=own),
            sbn.convert_sync_batchnorm(nn.BatchNorm1d(CHANNELS), own),
        ):
            for copied in COPIES:
                assert copied(layer).process_group is own  # found by its name
            assert copy.deepcopy(layer)(x[part]).shape == x[part].shape
    layer = sbn.SyncBatchNorm(CHANNELS, process_group=group)
    stored = pickle.dumps(layer)
    dist.destroy_process_group(group)
    with pytest.raises(sbn.NotConfigured, match=r"no process group.*layer.process_group = "):
        pickle.loads(stored)(x[part])
    regrouped = pickle.loads(stored)
    regrouped.process_group = None
    regrouped(x[part])
    return stored


def test_layer_goes_from_process_to_process_without_its_group(pair: Ranks) -> None:
    layer = sbn.convert_sync_batchnorm(nn.BatchNorm1d(CHANNELS))
    give_parameters(layer)
    for stored in pair.run(run_pickled, pickle.dumps(layer)):
        # There are no process groups here: the layer is one of this process alone.
        here = pickle.loads(stored)
        assert here.process_group is None
        x = draw((6, CHANNELS), 1)
        assert torch.equal(here(x), sbn.SyncBatchNorm(CHANNELS)(x))


def test_repr_tells_what_a_converted_layer_is() -> None:
    layer = nn.BatchNorm2d(CHANNELS, eps=0.5)
    text = repr(layer)
    assert repr(sbn.convert_sync_batchnorm(layer)) == "Sync" + text
    assert repr(sbn.revert_sync_batchnorm(layer)) == text


def test_layer_moves_to_other_types_and_devices() -> None:
    x = draw((6, CHANNELS, 4), 1)
    layer = sbn.SyncBatchNorm(CHANNELS)
    give_parameters(layer)
    layer(x)
    for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.float32):
        layer.to(dtype)
        layer.zero_grad(set_to_none=True)
        assert layer.num_batches_tracked.dtype == torch.int64
        assert layer.running_mean.dtype == layer.weight.dtype == dtype
        oracle = WholeBatch(layer, x.to(dtype), x.to(dtype))
        oracle.expect(step(layer, x.to(dtype), x.to(dtype)))
    layer.half()
    assert layer(x.half()).dtype == torch.float16
    with torch.device("meta"):
        empty = sbn.SyncBatchNorm(CHANNELS)
    for on_meta in (empty, layer.to("meta")):
        assert on_meta.weight.device.type == on_meta.running_var.device.type == "meta"
        on_meta.to_empty(device="cpu").float()
        on_meta.reset_parameters()
        fresh = sbn.SyncBatchNorm(CHANNELS)
        assert torch.equal(on_meta(x), fresh(x))
        expect_same(bits_of(on_meta), bits_of(fresh))
    torch._dynamo.reset()
    assert torch.equal(torch.compile(empty, backend="aot_eager", fullgraph=True)(x), fresh(x))


def make_classifier() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, CHANNELS, 3), nn.BatchNorm2d(CHANNELS), nn.ReLU(), nn.Flatten(),
        nn.Linear(CHANNELS * 16, 4), nn.BatchNorm1d(4, momentum=None),
    ).double()  # fmt: skip


def run_distributed(rank: int, size: int, convert: bool, exchange: Any) -> float:
    """Trains on this process's samples, and returns how far from one process with all of them."""
    from torch.nn.parallel import DistributedDataParallel

    one, parted = make_classifier(), make_classifier()
    if convert:
        sbn.convert_sync_batchnorm(parted, exchange=exchange)
    parallel = DistributedDataParallel(parted)
    optimizers = [
        torch.optim.SGD(model.parameters(), 0.05, momentum=0.9) for model in (one, parted)
    ]
    for seed in range(5):
        batch = 8
        part = (slice(0, 3), slice(3, 8))[rank]
        x = draw((batch, 3, 6, 6), seed, torch.float64)
        target = torch.arange(batch) % 4
        loss = nn.functional.cross_entropy(one(x), target, reduction="sum") / batch
        # The gradients are averaged over the processes, and are to be the sum.
        own = nn.functional.cross_entropy(parallel(x[part]), target[part], reduction="sum")
        for optimizer, value in zip(optimizers, (loss, own * size / batch), strict=True):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    if convert:
        sbn.revert_sync_batchnorm(parted)
        assert [type(layer) for layer in parted] == [type(layer) for layer in one]
        y, expected = parted(x[part]), copy.deepcopy(one)(x[part])  # of each process alone
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-9)
        return max(
            float((got - wanted).abs().max())
            for got, wanted in zip(parted.parameters(), one.parameters(), strict=True)
        )
    return max(
        float((got - wanted).abs().max())
        for got, wanted in zip(parted.state_dict().values(), one.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("exchange", ["torch", "syncbn"])
def test_data_parallel_training_equals_one_process(pair: Ranks, exchange: str) -> None:
    # Five steps of other roundings, 1e-13 of statistics each (whole_batch.py), of gradients below 10,
    # each step multiplies what is there by less than 10.
    for distance in pair.run(run_distributed, True, exchange):
        assert distance < 1e-13 * 10 * 10**4


def test_data_parallel_training_with_local_batch_norm_does_not(pair: Ranks) -> None:
    """Shows that the comparison above sees whether layers are synchronized."""
    assert min(pair.run(run_distributed, False, "torch")) > 1e-3


def test_second_conversion_gives_what_it_is_told_and_leaves_the_rest() -> None:
    layer = sbn.convert_sync_batchnorm(sbn.SyncBatchNorm(CHANNELS), exchange="syncbn")
    assert "exchange='syncbn'" in repr(layer) and "exact" not in repr(layer)
    sbn.convert_sync_batchnorm(layer, exact=True)
    assert "exchange='syncbn'" in repr(layer) and "exact=True" in repr(layer)
    with pytest.raises(syncbn.InvalidArgument, match="exchange is 'mpi'"):
        sbn.convert_sync_batchnorm(layer, exchange="mpi")  # type: ignore[arg-type]


def test_layer_that_reverts_keeps_its_activation_and_its_residual() -> None:
    layer = sbn.SyncBatchNorm(CHANNELS, activation="leaky_relu", negative_slope=0.25)
    x, residual = draw((4, CHANNELS), 1), draw((4, CHANNELS), 2)
    expected = copy.deepcopy(layer)(x, residual)
    torch.testing.assert_close(sbn.revert_sync_batchnorm(layer)(x, residual), expected)
    assert (expected < 0).any()
