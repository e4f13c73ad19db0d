# SPDX-License-Identifier: Apache-2.0
"""One pass for a batch norm, the residual added to it and the activation behind it.

torch.fx traces the forward of every module that calls synchronized layers, with its children as they
are. Where it finds the pattern, the module gets a class derived from its own, whose forward is the
traced one with calls of `normalize_and_activate`. A module whose forward cannot be traced to the full,
or is another in training than in evaluation, stays as it is.
"""

from __future__ import annotations

import copy
import functools
import inspect
import linecache
import operator
import random
import warnings
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules import module as torch_module

from .compat import ambient_state
from .layer import Synchronized
from .settings import activate

_Model = TypeVar("_Model", bound=nn.Module)

_ADDITIONS = {operator.add, torch.add, "add"}
_ADDITIONS_IN_PLACE = {operator.iadd, "add_"}
_RELUS = {functional.relu, functional.relu_, torch.relu, torch.relu_, "relu", "relu_"}
_LEAKY_RELUS = {functional.leaky_relu, functional.leaky_relu_}
_PRODUCERS = (nn.modules.conv._ConvNd, nn.Linear)  # whose results are no views
_CONSTANTS = (bool, int, float, str, type(None))
_OF_MODULES = frozenset(vars(nn.Module()))  # the attributes that every module has

_classes: dict[type[nn.Module], type[Any]] = {}
_functions: dict[tuple[Any, ...], Callable[..., Any]] = {}


def fuse(module: _Model, also: type[nn.Module] | Iterable[type[nn.Module]] = ()) -> _Model:
    """Makes batch norm, the residual added to it and the activation behind it one pass.

    That saves reads and writes of whole tensors, and with `save_memory` their memory. Results are the
    same up to rounding. Fused are calls of synchronized layers of torch's classes of batch norm (see
    convert_sync_batchnorm) in the forwards of the model's modules: relu(bn(x)) and relu(bn(x) + y), with
    relu or leaky_relu as a module, function or method.

    Looked into are the forwards of torch's containers, of the models of torchvision and timm (those whose
    batch norm is torch's), and of the classes `also`, nn.Module for all. These must do nothing but compute
    their result: what they read besides tensors and children (options, the mode of a child, random
    numbers) is taken as it is now.

    Modules stay the objects they are, with parameters, hooks and state_dict, and instances of their
    classes. A layer or activation that has hooks is called by itself. Fuse last, in every process: a
    module takes its old forward again if it gets other attributes or children later (what changes inside
    a list is not seen). `unfuse` and
    revert_sync_batchnorm undo it. Warns where there is nothing to fuse.
    """
    unfuse(module)
    also = (also,) if isinstance(also, type) else tuple(also)
    fused = 0
    for part in module.modules():
        known = _is_known(type(part)) or isinstance(part, also)
        forward = _fused_forward(part) if known and _may_be_fused(part) else None
        if forward is not None:
            part.__class__ = _fused_class(type(part))
            part.__dict__["_fused"] = forward
            fused += 1
    if not fused:
        warnings.warn(
            "fuse found nothing to fuse: no relu or leaky_relu behind a synchronized layer in the forward "
            "of a class that it looks into (is the model converted?).",
            stacklevel=2,
        )
    return module


def unfuse(module: _Model) -> _Model:
    """Gives a model's fused modules their forwards and classes back, and returns the model."""
    for part in module.modules():
        part.__dict__.pop("_fused", None)
        original = type(part).__dict__.get("_unfused_class")
        if original is not None:
            part.__class__ = original
    return module


def normalize_and_activate(
    layer: nn.Module,
    between: Iterable[nn.Module],
    activation: nn.Module | float,
    x: Tensor,
    residual: Any = None,
    in_place: bool = False,
) -> Tensor:
    """Returns activation(layer(x) + residual), in one pass where that gives the same.

    Modules `between` layer and addition do nothing. `activation` is a module or a slope.
    """
    slope = _slope_of(activation)
    if (
        slope is not None
        and _is_plain(layer)
        and all(type(module) is nn.Identity and not _has_hooks(module) for module in between)
        and (residual is None or _adds_as_it_is(residual, x))
    ):
        return layer(x, residual, negative_slope=slope)
    y: Tensor = layer(x)
    for module in between:
        y = module(y)
    if residual is not None:
        y = y.add_(residual) if in_place else y + residual
    return activation(y) if isinstance(activation, nn.Module) else activate(y, activation)


def _has_hooks(module: nn.Module) -> bool:
    return bool(
        torch_module._has_any_global_hook()
        or module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def _is_plain(layer: Any) -> bool:
    """Tells whether a module is a synchronized layer that takes a residual and a slope."""
    return (
        isinstance(layer, Synchronized)
        and type(layer).forward is Synchronized.forward
        and layer._synchronized.slope == 1
        and "forward" not in layer.__dict__
        and not _has_hooks(layer)
    )


def _slope_of(activation: Any) -> float | None:
    """Returns the slope of an activation that a layer can take over, else None."""
    slope = activation
    if isinstance(activation, nn.Module):
        if _has_hooks(activation):
            return None
        if type(activation) is nn.ReLU:
            return 0.0
        slope = activation.negative_slope if type(activation) is nn.LeakyReLU else None
    if isinstance(slope, (int, float)) and 0 <= slope < float("inf"):
        return float(slope)
    return None


def _adds_as_it_is(residual: Any, x: Tensor) -> bool:
    """Tells whether an addition neither broadcasts, nor promotes types, nor changes the layout."""
    return (
        isinstance(residual, Tensor)
        and residual.dtype == x.dtype
        and residual.shape == x.shape
        and residual.stride() == x.stride()
    )


# Libraries whose forwards only compute.
_KNOWN = ("torch.nn.modules", "torchvision.models", "torchvision.ops", "timm.models", "timm.layers")
_SAYS_NOTHING = {"__init__", "__module__", "__doc__", "__annotations__", "__qualname__"}


def _is_known(kind: type[nn.Module]) -> bool:
    """Tells whether a class is of these libraries, or adds nothing to one that is but an __init__."""
    own = kind.__mro__[: kind.__mro__.index(nn.Module)]
    return all(
        any(f"{part.__module__}.".startswith(f"{library}.") for library in _KNOWN)
        or vars(part).keys() <= _SAYS_NOTHING
        for part in own
    )


def _may_be_fused(module: nn.Module) -> bool:
    """Tells whether a module's forward is Python of its own, and calls synchronized layers if any."""
    if isinstance(module, (Synchronized, torch.fx.GraphModule, torch.jit.ScriptModule)):
        return False
    if hasattr(type(module), "_unfused_class"):  # a class that something has made of a fused one
        return False
    if any(
        name in vars(kind)
        for kind in type(module).__mro__
        if kind not in (nn.Module, object)
        for name in ("__getstate__", "__setstate__", "__reduce__", "__reduce_ex__")
    ):
        return False
    if "forward" in module.__dict__ or not inspect.isfunction(type(module).forward):
        return False
    return any(_is_plain(child) for child in _children(module).values())


def _children(module: nn.Module) -> dict[str, nn.Module | None]:
    """Returns a module's children, also those that are missing, and those in lists and dicts."""
    children = {}
    for name, child in module._modules.items():
        children[name] = child
        if isinstance(child, (nn.ModuleList, nn.ModuleDict)):
            children.update({f"{name}.{of}": inner for of, inner in _children(child).items()})
    return children


def _are_missing(module: nn.Module) -> list[tuple[str, bool]]:
    """Returns a module's children, parameters and buffers in their order, and whether each is None."""
    named = (_children(module), module._parameters, module._buffers)
    return [(name, value is None) for of in named for name, value in of.items()]


class _Proxy(torch.fx.Proxy):
    """A proxy of which nobody may ask whether it is a tensor, as it would say no."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise torch.fx.proxy.TraceError("the forward depends on the type of a value")

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("node", "tracer"):
            raise torch.fx.proxy.TraceError("the forward sets an attribute of a value")
        super().__setattr__(name, value)


class _Tracer(torch.fx.Tracer):
    """Traces the forward of one module as it is with the tensors that it must be given."""

    proxy_buffer_attributes = True

    def __init__(self) -> None:
        super().__init__()
        self._ambient = ambient_state()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True

    def proxy(self, node: torch.fx.Node) -> torch.fx.Proxy:
        return _Proxy(node, self)

    def create_arg(self, a: Any) -> Any:
        return a.node if type(a) is _Proxy else super().create_arg(a)

    def create_node(self, *args: Any, **kwargs: Any) -> torch.fx.Node:
        # A graph does not have what a context manager does: no_grad, autocast, a checkpoint.
        if ambient_state() != self._ambient:
            raise torch.fx.proxy.TraceError("the forward has a context")
        return super().create_node(*args, **kwargs)

    def create_args_for_root(
        self, root_fn: Any, is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        names = _required_arguments(root_fn)
        return root_fn, [self.root, *(self.create_proxy("placeholder", n, (), {}) for n in names)]


def _required_arguments(forward: Callable[..., Any]) -> list[str]:
    """Returns the names of the arguments that have no default, but for self."""
    _, *parameters = inspect.signature(forward).parameters.values()
    return [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]


class _Forward:
    """A module's forward with fused calls, and what it has been traced with."""

    def __init__(self, module: nn.Module, graph: torch.fx.Graph) -> None:
        self.arguments = len(_required_arguments(type(module).forward))
        self.attributes = {
            name: value for name, value in vars(module).items() if name not in _OF_MODULES
        }
        self.size = len(vars(module)) + ("_fused" not in vars(module))
        self.children = _are_missing(module)
        self.function = _function_of(graph, type(module).__name__)

    def holds(self, module: nn.Module, arguments: tuple[Any, ...]) -> bool:
        """Tells whether the module's own forward would do the same."""
        if len(arguments) != self.arguments:
            return False
        for argument in arguments:
            if not isinstance(argument, Tensor):
                return False
        own = module.__dict__
        if len(own) != self.size:
            return False
        for name, value in self.attributes.items():
            now = own.get(name, _Forward)
            if now is not value and not (isinstance(value, _CONSTANTS) and now == value):
                return False
        return self.children == _are_missing(module)


def _function_of(graph: torch.fx.Graph, name: str) -> Callable[..., Any]:
    """Returns the function that a graph is: for equal ones the same, as torch.compile compiles each."""
    code = graph.python_code("self")
    key = (code.src, *sorted((variable, id(value)) for variable, value in code.globals.items()))
    if key not in _functions:
        file = f"<fused forward {len(_functions)} of {name}>"
        names = dict(code.globals)
        exec(compile(code.src, file, "exec"), names)
        linecache.cache[file] = (len(code.src), None, code.src.splitlines(True), file)
        _functions[key] = names["forward"]
    return _functions[key]


def _fused_class(original: type[nn.Module]) -> type[Any]:
    """Returns the class that a module of the class `original` gets: it is still one of that class."""
    if original not in _classes:
        _classes[original] = _make_class(original)
    return _classes[original]


def _make_class(original: Any) -> type[Any]:
    @functools.wraps(original.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        # A module that was made of this one, as a Sequential's slices are, has no such forward.
        fused = self.__dict__.get("_fused")
        if fused is None or kwargs or not fused.holds(self, args):
            return original.forward(self, *args, **kwargs)
        return fused.function(self, *args)

    def state_of(self: Any) -> Any:
        state: Any = original.__getstate__(self)
        return {name: value for name, value in state.items() if name != "_fused"}

    def set_state(self: Any, state: Any) -> None:
        original.__setstate__(self, state)
        self.__dict__["_fused"] = _fused_forward(self)

    members = {
        "__doc__": original.__doc__,
        "__module__": __name__,
        "__getstate__": state_of,
        "__setstate__": set_state,
        "__reduce_ex__": _reduce,
        "_unfused_class": original,
        "forward": forward,
    }
    return type(f"Fused{original.__name__}", (original,), members)


def _reduce(self: Any, protocol: int) -> Any:
    return _rebuild, (self._unfused_class,), self.__getstate__()


def _rebuild(original: type[nn.Module]) -> Any:
    cls: Any = _fused_class(original)
    return cls.__new__(cls)


def _fused_forward(module: nn.Module) -> _Forward | None:
    """Returns a module's forward with fused calls, None if it stays as it is."""
    graphs, modes = [], {part: part.training for part in module.modules()}
    try:
        for mode in (True, False):
            for part in modes:
                part.training = mode
            graph = _trace(module)
            if graph is None:
                return None
            graphs.append(graph)
    finally:
        for part, mode in modes.items():
            part.training = mode
    if graphs[0].python_code("self").src != graphs[1].python_code("self").src:
        return None
    return _Forward(module, graphs[0]) if _fuse_calls(graphs[0], module) else None


def _trace(module: nn.Module) -> torch.fx.Graph | None:
    """Returns the graph of a module's forward, None if it cannot be traced or has other effects."""
    unfused = type(module).__dict__.get("_unfused_class")
    attributes = dict(vars(module))
    contents = {
        name: (value, copy.copy(value))
        for name, value in attributes.items()
        if type(value) in (list, dict, set)
    }
    randomness = random.getstate(), torch.get_rng_state()
    tracer, graph = _Tracer(), None
    try:
        if unfused is not None:
            module.__class__ = unfused
        with torch.set_grad_enabled(torch.is_grad_enabled()):  # a forward may leave another mode
            graph = tracer.trace(module)
    except Exception:  # whatever a forward does with what is no tensor
        graph = None
    finally:
        if unfused is not None:
            module.__class__ = _fused_class(unfused)
    changed = vars(module).keys() != attributes.keys() or any(
        vars(module)[name] is not value for name, value in attributes.items()
    )
    vars(module).clear()
    vars(module).update(attributes)
    for value, before in contents.values():
        if len(value) != len(before) or any(a is not b for a, b in zip(value, before, strict=True)):
            changed = True
            value.clear()
            value.extend(before) if isinstance(value, list) else value.update(before)
    if random.getstate() != randomness[0] or not torch.equal(torch.get_rng_state(), randomness[1]):
        changed = True
        random.setstate(randomness[0])
        torch.set_rng_state(randomness[1])
    return None if changed else graph


def _fuse_calls(graph: torch.fx.Graph, module: nn.Module) -> bool:
    """Replaces calls in a graph of a module, and tells whether there were any."""
    found = False
    # If both operands of an addition are outputs of layers, the later one is found first.
    for node in reversed(list(graph.nodes)):
        found = _fuse_behind(node, module) or found
    return found


def _fuse_behind(node: torch.fx.Node, module: nn.Module) -> bool:
    """Replaces the call of a layer and what follows it, if it is one and they fit."""
    layer = _called(node, module)
    if layer is None or not _is_plain(layer) or len(node.args) != 1 or node.kwargs:
        return False
    between, last = [], node
    user = _only_user(last)
    while user is not None and type(_called(user, module)) is nn.Identity:
        between.append(user)
        last, user = user, _only_user(user)
    residual, in_place, place = None, False, node
    if user is not None and _is_addition(user, last):
        in_place, place = user.target in _ADDITIONS_IN_PLACE, user
        (residual,) = (operand for operand in user.args if operand is not last)
        # The layer will be called later, so its input must be the same then, and nobody else's.
        producer: Any = node.args[0]
        if _only_user(producer) is not node or not isinstance(
            _called(producer, module), _PRODUCERS
        ):
            return False
        last, user = user, _only_user(user)
    activation = None if user is None else _activation(user, last, module)
    if user is None or activation is None:
        return False
    graph = node.graph
    with graph.inserting_before(place):

        def get(path: Any) -> torch.fx.Node:
            return graph.create_node("get_attr", path)

        arguments = (
            get(node.target),
            tuple(get(nothing.target) for nothing in between),
            activation if isinstance(activation, float) else get(activation),
            node.args[0],
            *(() if residual is None else (residual, in_place)),
        )
        fused = graph.call_function(normalize_and_activate, arguments)
    user.replace_all_uses_with(fused)
    for done in (user, *([place] if place is not node else []), *reversed(between), node):
        graph.erase_node(done)
    return True


def _called(node: torch.fx.Node, module: nn.Module) -> nn.Module | None:
    """Returns the child that a node calls, if it calls one that has no hooks."""
    if node.op != "call_module":
        return None
    child = module.get_submodule(str(node.target))
    return None if _has_hooks(child) else child


def _only_user(node: Any) -> torch.fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _is_addition(node: torch.fx.Node, of: torch.fx.Node) -> bool:
    """Tells whether a node adds another tensor to `of`, changing at most `of`."""
    if node.op not in ("call_function", "call_method") or node.kwargs or len(node.args) != 2:
        return False
    if not all(isinstance(operand, torch.fx.Node) for operand in node.args):
        return False
    if node.args[0] is node.args[1]:
        return False
    in_place = node.target in _ADDITIONS_IN_PLACE
    return node.target in _ADDITIONS or (in_place and node.args[0] is of)


def _activation(node: torch.fx.Node, of: torch.fx.Node, module: nn.Module) -> str | float | None:
    """Returns the path of the module, or the slope, of the activation that a node applies to `of`."""
    if not node.args or node.args[0] is not of:
        return None
    if node.op == "call_module":
        return None if _slope_of(_called(node, module)) is None else str(node.target)
    slope: Any = None
    if node.target in _RELUS:
        slope = 0.0
    elif node.target in _LEAKY_RELUS:
        slope = node.args[1] if len(node.args) > 1 else node.kwargs.get("negative_slope", 0.01)
    return _slope_of(slope)
