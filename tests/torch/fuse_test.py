# SPDX-License-Identifier: Apache-2.0
"""fuse: what it makes one pass, what it leaves alone, and that results stay."""

from __future__ import annotations

import copy
import functools
import io
import pickle
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import timm
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

import syncbn.torch as sbn
from ranks import Ranks
from syncbn.torch.layer import Synchronized
from whole_batch import draw, give_parameters

CHANNELS = 5
SHAPE = (4, CHANNELS, 4, 3)

# The modules below are of classes that fuse does not know.
fuse = functools.partial(sbn.fuse, also=(nn.Module,))
pytestmark = pytest.mark.filterwarnings("ignore:fuse found nothing")


class Block(nn.Module):
    """What the forwards below are made of."""

    flag = False

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(CHANNELS)
        self.conv2 = nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(CHANNELS)
        self.relu = nn.ReLU(inplace=True)
        self.leaky = nn.LeakyReLU(0.25)
        self.nothing = nn.Identity()
        self.others = nn.ModuleList([nn.BatchNorm2d(CHANNELS), nn.ReLU()])
        self.count, self.log = 0, ["a"]
        for norm in (self.bn, self.bn2, self.others[0]):
            give_parameters(norm)


def block(forward: Callable[..., Any], **attributes: Any) -> Any:
    """Returns a synchronized Block in float64 with a forward, which has parameters of its own."""
    torch.manual_seed(3)
    module = type("Made", (Block,), {"forward": forward})().double()
    for name, value in attributes.items():
        setattr(module, name, value)
    return sbn.convert_sync_batchnorm(module)


class Slopes(list[float]):
    """The slopes that calls of layers have been given."""


@pytest.fixture
def slopes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slopes]:
    seen = Slopes()
    normalize = Synchronized._normalize

    def watch(self: Any, *args: Any) -> Tensor:
        if args[-1] is not None:
            seen.append(args[-1])
        return normalize(self, *args)

    monkeypatch.setattr(Synchronized, "_normalize", watch)
    yield seen


def step(model: nn.Module, x: Tensor, call: Callable[..., Any] | None = None) -> list[Any]:
    """Makes a step. Returns its results: output, gradients and buffers."""
    model.zero_grad()
    leaf = x.clone().requires_grad_()
    y = (call or model)(leaf * 1)
    (y * y.detach().sin()).sum().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    return [y.detach(), leaf.grad, *gradients, *(buffer.clone() for buffer in model.buffers())]


def expect_near(got: list[Any], expected: list[Any], roundings: float = 1000) -> None:
    """Expects the same up to so many roundings of the largest value."""
    for ours, theirs in zip(got, expected, strict=True):
        if ours is None or theirs is None:
            assert ours is theirs
            continue
        assert ours.dtype == theirs.dtype
        if ours.is_floating_point() and theirs.numel():
            tolerance = roundings * torch.finfo(ours.dtype).eps * float(theirs.detach().abs().max())
            torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)
        else:
            assert torch.equal(ours, theirs)


def plain(self: Any, x: Tensor) -> Tensor:
    return self.relu(self.bn(self.conv(x)))


def added_in_place(self: Any, x: Tensor) -> Tensor:
    y = self.bn(self.conv(x))
    y += x
    return self.relu(y)


def added_by_method(self: Any, x: Tensor) -> Tensor:
    return self.bn(self.conv(x)).add_(x).relu()


def added_by_function(self: Any, x: Tensor) -> Tensor:
    return functional.leaky_relu(torch.add(x, self.bn(self.conv(x))), 0.1)


def one_relu_many_times(self: Any, x: Tensor) -> Tensor:
    y = self.relu(self.bn(self.conv(x)))
    return self.relu(self.bn2(self.conv2(y)) + x)


def two_layers_added(self: Any, x: Tensor) -> Tensor:
    y = self.bn(self.conv(x))
    z = self.bn2(self.conv2(x))
    return functional.relu(y + z)


def through_identity(self: Any, x: Tensor) -> Tensor:
    return torch.relu(self.nothing(self.bn(self.conv(x))))


def in_a_list(self: Any, x: Tensor) -> Tensor:
    return self.others[1](self.others[0](x))


def leaky(self: Any, x: Tensor) -> Tensor:
    return self.leaky(self.bn(x))


def with_an_option(self: Any, x: Tensor, scale: Tensor | None = None) -> Tensor:
    y = self.relu(self.bn(x))
    return y if scale is None else y * scale


FUSED = {
    plain: [0.0],
    added_in_place: [0.0],
    added_by_method: [0.0],
    added_by_function: [0.1],
    one_relu_many_times: [0.0, 0.0],
    two_layers_added: [0.0],
    through_identity: [0.0],
    in_a_list: [0.0],
    leaky: [0.25],
    with_an_option: [0.0],
}


def used_twice(self: Any, x: Tensor) -> Tensor:
    y = self.bn(x)
    return y + functional.relu(y)


def sum_used_twice(self: Any, x: Tensor) -> Tensor:
    y = self.bn(self.conv(x)) + x
    return y * functional.relu(y)


def result_of_in_place_unused(self: Any, x: Tensor) -> Tensor:
    y = self.bn(x)
    self.relu(y)
    return y  # type: ignore[no-any-return]


def scaled_addition(self: Any, x: Tensor) -> Tensor:
    return functional.relu(torch.add(self.bn(self.conv(x)), x, alpha=2))


def number_added(self: Any, x: Tensor) -> Tensor:
    return functional.relu(self.bn(x) + 0.5)


def doubled(self: Any, x: Tensor) -> Tensor:
    y = self.bn(x)
    return functional.relu(y + y)


def other_operand_in_place(self: Any, x: Tensor) -> Tensor:
    z = x * 2
    y = z.add_(self.bn(self.conv(x)))
    return functional.relu(y) + z


def input_used_later(self: Any, x: Tensor) -> Tensor:
    z = self.conv(x)
    y = self.bn(z)
    return functional.relu(y + z.detach())


def other_activation(self: Any, x: Tensor) -> Tensor:
    return functional.hardtanh(self.bn(x))


def by_mode(self: Any, x: Tensor) -> Tensor:
    y = self.relu(self.bn(x))
    return y * 2 if self.training else y  # type: ignore[no-any-return]


def by_dropouts_mode(self: Any, x: Tensor) -> Tensor:
    return functional.dropout(self.relu(self.bn(x)), 0.0, self.training)


def by_value(self: Any, x: Tensor) -> Tensor:
    return self.relu(self.bn(x if x.sum() > 0 else -x))  # type: ignore[no-any-return]


def by_type(self: Any, x: Tensor) -> Tensor:
    return self.relu(self.bn(x if isinstance(x, Tensor) else x[0]))  # type: ignore[no-any-return]


def without_gradient(self: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        y = self.relu(self.bn(x))
    return y + x  # type: ignore[no-any-return]


def with_autocast(self: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=not torch.is_autocast_enabled("cpu")):
        return self.relu(self.bn(x))  # type: ignore[no-any-return]


def checkpointed(self: Any, x: Tensor) -> Tensor:
    y = checkpoint(self.conv, x, use_reentrant=False)
    return self.relu(self.bn(y))  # type: ignore[no-any-return]


def counting(self: Any, x: Tensor) -> Tensor:
    self.count += 1
    return self.relu(self.bn(x))  # type: ignore[no-any-return]


def logging(self: Any, x: Tensor) -> Tensor:
    self.log.append("b")
    return self.relu(self.bn(x))  # type: ignore[no-any-return]


def keeping(self: Any, x: Tensor) -> Tensor:
    self.last = self.relu(self.bn(x))
    return self.last


def gambling(self: Any, x: Tensor) -> Tensor:
    y = self.relu(self.bn(x))
    return y if random.random() < 2 else -y  # type: ignore[no-any-return]


LEFT_ALONE = (
    used_twice, sum_used_twice, result_of_in_place_unused, scaled_addition, number_added, doubled,
    other_operand_in_place, input_used_later, other_activation, by_mode, by_dropouts_mode, by_value,
    by_type, without_gradient, with_autocast, checkpointed, counting, logging, keeping, gambling,
)  # fmt: skip


@pytest.mark.parametrize("forward", FUSED, ids=lambda forward: forward.__name__)
def test_pattern_becomes_one_call_with_the_same_results(
    forward: Callable[..., Any], slopes: Slopes
) -> None:
    for training in (True, False):
        model = block(forward).train(training)
        fused = fuse(copy.deepcopy(model))
        expected = step(model, draw(SHAPE, 1, torch.float64))
        assert not slopes
        expect_near(step(fused, draw(SHAPE, 1, torch.float64)), expected)
        assert slopes == FUSED[forward]
        slopes.clear()


@pytest.mark.parametrize("forward", LEFT_ALONE, ids=lambda forward: forward.__name__)
def test_forward_is_left_alone(forward: Callable[..., Any]) -> None:
    model = block(forward)
    before = dict(vars(model)), list(model.log), random.getstate(), type(model)
    fuse(model)
    assert before == (dict(vars(model)), list(model.log), random.getstate(), type(model))
    step(model, draw(SHAPE, 1, torch.float64))


def test_later_of_two_layers_is_fused(slopes: Slopes) -> None:
    model = fuse(block(two_layers_added))
    calls: list[str] = []
    for name in ("bn", "bn2"):
        layer = getattr(model, name)
        find = layer._bound_for
        layer._bound_for = lambda *key, name=name, find=find: calls.append(name) or find(*key)
    model(draw(SHAPE, 1, torch.float64))
    assert calls == ["bn", "bn2"]


def test_layers_with_a_forward_or_an_activation_of_their_own_are_left_alone() -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    for layer in (
        timm.layers.BatchNormAct2d(CHANNELS),
        sbn.SyncBatchNorm(CHANNELS, activation="leaky_relu"),
    ):
        model = nn.Sequential(sbn.convert_sync_batchnorm(layer), nn.ReLU())
        assert type(fuse(model)) is nn.Sequential
    model = nn.Sequential(nn.BatchNorm2d(CHANNELS), nn.ReLU())
    assert type(fuse(model)) is nn.Sequential
    model[0].forward = lambda x: x
    assert type(fuse(sbn.convert_sync_batchnorm(model))) is nn.Sequential
    model = sbn.convert_sync_batchnorm(nn.Sequential(nn.BatchNorm2d(CHANNELS), nn.ReLU()))
    model.forward = lambda x: x
    assert type(fuse(model)) is nn.Sequential


@pytest.mark.parametrize("name", ["bn", "relu", "nothing"])
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_hooked_module_is_called_by_itself(name: str, first: bool, slopes: Slopes) -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        return self.relu(self.nothing(self.bn(self.conv(x))))  # type: ignore[no-any-return]

    results = []
    for fused in (False, True):
        model = block(forward)
        if fused and not first:
            fuse(model)
        seen: list[Tensor] = []
        getattr(model, name).register_forward_hook(lambda m, i, o, s=seen: s.append(o.clone()))
        if fused and first:
            assert type(fuse(model)).__name__ == "Made"
        results.append([*step(model, draw(SHAPE, 1, torch.float64)), *seen])
    expect_near(results[1], results[0])
    assert not slopes


def test_module_whose_attributes_change_takes_its_own_forward() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        y = self.relu(self.bn(x))
        if self.conv2 is not None:
            y = self.conv2(y)
        return -y if self.scale else y

    x = draw(SHAPE, 1, torch.float64)
    for name, value in (("scale", True), ("conv2", None)):
        model, fused = block(forward, scale=False), fuse(block(forward, scale=False))
        assert "_fused" in vars(fused)
        for module in (model, fused):
            setattr(module, name, value)
        assert torch.equal(model(x), fused(x))


def test_module_with_further_children_takes_its_own_forward() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        y = self.relu(self.bn(x))
        for other in self.others:
            y = other(y)
        return y  # type: ignore[no-any-return]

    x = draw(SHAPE, 1, torch.float64)
    model, fused = block(forward), fuse(block(forward))
    assert "_fused" in vars(fused)
    for module in (model, fused):
        module.others.append(nn.Softmax(1))
    assert torch.equal(model(x), fused(x))


def test_other_arguments_take_the_own_forward(slopes: Slopes) -> None:
    model, fused = block(with_an_option), fuse(block(with_an_option))
    x, scale = draw(SHAPE, 1, torch.float64), draw(SHAPE, 2, torch.float64)
    assert torch.equal(fused(x, scale), model(x, scale))
    assert torch.equal(fused(x=x), model(x=x))
    assert not slopes


class WithResidual(Block):
    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.relu(self.bn(x) + residual)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "change",
    [lambda r: r[:1, :, :1], lambda r: r.double(), lambda r: r.bfloat16(), lambda r: 2.0,
     lambda r: r.expand(2, *r.shape).contiguous(), lambda r: r.movedim(1, -1).contiguous().movedim(-1, 1)],
    ids=["broadcast", "wider", "narrower", "number", "more axes", "other layout"],
)  # fmt: skip
def test_residual_unlike_the_input_is_added_by_itself(
    change: Callable[[Tensor], Any], slopes: Slopes
) -> None:
    model = sbn.convert_sync_batchnorm(WithResidual())
    fused = fuse(copy.deepcopy(model))
    got, expected = (
        step(module, draw(SHAPE, 1), lambda x, module=module: module(x, change(x * 2)))
        for module in (fused, model)
    )
    expect_near(got, expected, 0)
    assert not slopes


def test_autocast_changes_what_it_changes_without() -> None:
    """The convolution gives bfloat16, and the residual is float32."""
    model = sbn.convert_sync_batchnorm(type("Made", (Block,), {"forward": added_by_function})())
    fused = fuse(copy.deepcopy(model))
    results = []
    for module in (model, fused):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            results.append(step(module, draw(SHAPE, 1)))
    assert results[0][0].dtype == torch.float32
    expect_near(results[1], results[0], 0)


def small() -> nn.Module:
    """Returns what MobileNet is made of, with a leaky relu, in Sequentials."""
    layers: list[nn.Module] = []
    for groups, activation in ((1, nn.ReLU(True)), (6, nn.LeakyReLU()), (1, nn.Identity())):
        conv = nn.Conv2d(6 if layers else 3, 6, 3, padding=1, groups=groups, bias=False)
        layers.append(nn.Sequential(conv, nn.BatchNorm2d(6), activation))
    return nn.Sequential(*layers)


def resnet(name: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        timm = pytest.importorskip("timm", reason="timm is not installed")
        return timm.create_model(name, num_classes=7)  # type: ignore[no-any-return]

    return make


MODELS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "small": (small, 2),
    "resnet18": (resnet("resnet18"), 17),
    "resnet50": (resnet("resnet50"), 49),
}


def make(name: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(5)
    return sbn.convert_sync_batchnorm(MODELS[name][0]().to(dtype))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_model_gives_the_same(name: str, training: bool, slopes: Slopes) -> None:
    model = make(name).train(training)
    fused = fuse(copy.deepcopy(model))
    assert isinstance(fused, type(model))
    assert fused.state_dict().keys() == model.state_dict().keys()
    x = draw((4, 3, 32, 32), 1, torch.float64)
    expected = step(model, x)
    got = step(fused, x)
    assert len(slopes) == MODELS[name][1]
    # Roundings grow by the network's condition, which is that of float32, too.
    expect_near(got, expected, 1e6)


def test_model_in_float32_gives_the_same() -> None:
    model = make("small", torch.float32)
    fused = fuse(copy.deepcopy(model))
    x = draw((4, 3, 8, 8), 1)
    expect_near(step(fused, x), step(model, x), 100)


COPIES = (
    copy.deepcopy,
    lambda model: pickle.loads(pickle.dumps(model)),
    lambda model: torch.load(save(model), weights_only=False),
)


def save(model: nn.Module) -> io.BytesIO:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return file


@pytest.mark.parametrize("copied", COPIES, ids=["deepcopy", "pickle", "save"])
def test_copies_are_fused(copied: Callable[[nn.Module], nn.Module], slopes: Slopes) -> None:
    model = fuse(make("resnet18"))
    other = copied(model)
    x = draw((4, 3, 32, 32), 1, torch.float64)
    expected, count = step(model, x), len(slopes)
    assert type(other) is type(model)
    expect_near(step(other, x), expected, 0)
    assert len(slopes) == 2 * count > 0
    with torch.no_grad():  # the copy has parameters of its own
        for parameter in other.parameters():
            parameter.zero_()
    assert not other(x).any() and model(x).any()


def test_unfused_and_reverted_models_have_their_classes_back(slopes: Slopes) -> None:
    model = make("small")
    classes = [type(module) for module in model.modules()]
    fuse(fuse(model))
    assert [type(module) for module in model.modules()] != classes
    assert [type(module) for module in sbn.unfuse(model).modules()] == classes
    sbn.revert_sync_batchnorm(fuse(model))
    assert not any("_fused" in vars(module) for module in model.modules())
    expected = [type(module) for module in MODELS["small"][0]().modules()]
    assert [type(module) for module in model.modules()] == expected
    step(model, draw((4, 3, 8, 8), 1, torch.float64))
    assert not slopes


def test_layer_that_is_reverted_in_a_fused_module_is_called_by_itself() -> None:
    model = fuse(block(plain))
    sbn.revert_sync_batchnorm(model.bn)
    expect_near(
        step(model, draw(SHAPE, 1, torch.float64)),
        step(block(plain), draw(SHAPE, 1, torch.float64)),
    )


def test_parts_of_a_sequential_are_themselves() -> None:
    model = fuse(make("small"))[0].eval()
    x = draw((4, 3, 8, 8), 1, torch.float64)
    conv, bn, _ = model
    assert torch.equal(model[:2](x), bn(conv(x)))
    assert torch.equal(model[:1](x), conv(x))


def test_compiled_model_is_fused() -> None:
    for training in (True, False):
        torch._dynamo.reset()
        model = fuse(make("small")).train(training)
        eager = copy.deepcopy(model)
        counter = CompileCounter()
        compiled = torch.compile(model, backend=counter, fullgraph=True)
        x = draw((4, 3, 8, 8), 1, torch.float64)
        expect_near(step(model, x, compiled), step(eager, x))
        assert counter.frame_count == 1


def test_equal_modules_are_compiled_once() -> None:
    torch._dynamo.reset()
    counter = CompileCounter()
    model = fuse(block(plain))
    for module in (model, copy.deepcopy(model), copy.deepcopy(model)):
        module.compile(backend=counter, fullgraph=True)
        module(draw(SHAPE, 1, torch.float64))
    assert counter.frame_count == 1


def run_processes(rank: int, size: int) -> None:
    """Fused models of processes with parts of a batch equal the unfused ones, also under DDP."""
    x = draw((5, 3, 16, 16), 1, torch.float64)[slice(0, 4) if rank == 0 else slice(4, 5)]
    model = make("resnet18")
    fused = fuse(copy.deepcopy(model))
    expected = step(model, x)
    expect_near(step(fused, x), expected, 1e6)
    model, fused = make("small"), fuse(make("small"))
    expected = step(model, x, DistributedDataParallel(model))
    expect_near(step(fused, x, DistributedDataParallel(fused)), expected)
    dist.barrier()


def test_processes_give_the_same(pair: Ranks) -> None:
    pair.run(run_processes, deadline=240)


def test_only_known_classes_are_looked_into_unless_others_are_given() -> None:
    model = nn.Sequential(block(plain), nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 1)))
    model[1].extend([sbn.SyncBatchNorm(CHANNELS), nn.ReLU()])
    sbn.fuse(model)
    assert "_fused" not in model[0].__dict__ and "_fused" in model[1].__dict__
    sbn.fuse(model, also=(Block,))
    assert "_fused" in model[0].__dict__ and "_fused" in model[1].__dict__


def test_nothing_to_fuse_is_told() -> None:
    with pytest.warns(UserWarning, match="fuse found nothing to fuse"):
        sbn.fuse(nn.Sequential(nn.BatchNorm2d(CHANNELS), nn.ReLU()))


def sets_an_attribute_of_a_tensor(self: Any, x: Tensor) -> Tensor:
    z = self.bn(self.conv(x))
    z.requires_grad = True
    return self.relu(z)


def changes_what_the_layer_is_given(self: Any, x: Tensor) -> Tensor:
    z = self.conv(x)
    y = self.bn(z.view(z.shape))
    z = z.mul_(3)
    return (y + z).relu()


@pytest.mark.parametrize(
    "forward", [sets_an_attribute_of_a_tensor, changes_what_the_layer_is_given]
)
def test_forward_with_effects_on_tensors_is_left_alone(forward: Callable[..., Any]) -> None:
    assert "_fused" not in fuse(block(forward)).__dict__


def drops_by_its_child(self: Any, x: Tensor) -> Tensor:
    return self.relu(self.bn(self.conv(self.drop.forward(x))))


def test_mode_of_a_child_is_not_built_in() -> None:
    model = block(drops_by_its_child, drop=nn.Dropout(0.9))
    assert "_fused" not in fuse(model).__dict__


def test_class_that_was_made_of_a_fused_one_is_left_alone() -> None:
    model = fuse(block(plain))
    model.__class__ = type("Further", (type(model),), {})
    kind = type(model)
    assert type(fuse(model)) is kind


class OfTheUser(timm.models.resnet.ResNet):
    def forward_features(self, x: Tensor) -> Tensor:
        return super().forward_features(x)


def test_models_of_libraries_are_known_and_what_users_make_of_them_is_not() -> None:
    known = sbn.fuse(sbn.convert_sync_batchnorm(timm.create_model("resnet18")))
    assert "_fused" in known.__dict__ and "_fused" in known.layer1[0].__dict__
    own = OfTheUser(timm.models.resnet.BasicBlock, (1, 1, 1, 1))
    sbn.fuse(sbn.convert_sync_batchnorm(own))
    assert "_fused" not in own.__dict__ and "_fused" in own.layer1[0].__dict__
