# SPDX-License-Identifier: Apache-2.0
"""Layers that normalize with the statistics of the whole group's batch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .. import _core
from .checkpoint import Forwards, Time, time_of_forward
from .compat import is_compiling, is_exporting
from .function import Bound, Buffers, Normalize, Pass, bind
from .group import Exchange, device_of, who_sums
from .settings import Activation, Settings, activate, slope_of

_NO_BUFFERS: Buffers = (None, None, None)
_HALVES = (torch.float16, torch.bfloat16)


def _refuse_dtensor(x: Tensor) -> None:
    if hasattr(x, "placements") and hasattr(x, "device_mesh"):
        raise _core.InvalidArgument(
            "the input is a DTensor (the layer sums over its process group, and would sum a "
            "DTensor's shards twice). Give it the local tensor: x.to_local()."
        )


def _is_dense(x: Tensor) -> bool:
    """Tells whether x is contiguous or in torch's channels last, which 4 and 5 dimensions have.

    The output has the strides of an input that is, and is contiguous for others.
    """
    if x.is_contiguous():
        return True
    if x.dim() == 4:
        return x.is_contiguous(memory_format=torch.channels_last)
    return x.dim() == 5 and x.is_contiguous(memory_format=torch.channels_last_3d)


def _of_positions(weights: Tensor, x: Tensor) -> Tensor:
    """Returns weights [N, ...], one for each position of x."""
    positions = (x.size(0), *x.shape[2:])
    if weights.dim() != len(positions):
        raise _core.InvalidArgument(
            f"position_weights are {tuple(weights.shape)} (one for each of {positions} is needed, "
            "without channels; sizes of 1 expand)."
        )
    return weights.to(torch.float32).expand(positions)


class Synchronized(_BatchNorm):
    """The behaviour that every synchronized layer has."""

    _synchronized: Settings

    @property
    def process_group(self) -> dist.ProcessGroup | None:
        return self._synchronized.group()

    @process_group.setter
    def process_group(self, group: Any) -> None:
        self._synchronized.set_group(group)
        self._drop_layers()

    def forward(
        self,
        input: Tensor,
        residual: Tensor | None = None,
        position_weights: Tensor | None = None,
        *,
        negative_slope: float | None = None,
    ) -> Tensor:
        """Normalizes [N, C, ...] with the statistics of the whole group's batch.

        In training every process of the group calls this, with any number of samples, also none. A
        residual [N, C, ...] is added before the activation. position_weights [N, ...],
        without channels and with sizes of 1 that expand, weigh positions in the statistics: 0 leaves
        one out, and its result is 0.
        negative_slope is the activation of this call instead of the layer's own: what negative values
        are multiplied by, so that 0 is relu and 1 is none.
        """
        self._check_input_dim(input)
        # Module's own way to its tensors takes as long as the layer itself on a small input.
        parameters, buffers = self._parameters, self._buffers
        weight = parameters["weight"] if "weight" in parameters else self.weight
        bias = parameters["bias"] if "bias" in parameters else self.bias
        mean = buffers["running_mean"] if "running_mean" in buffers else self.running_mean
        training = self.training
        state = _NO_BUFFERS
        if mean is not None and (not training or self.track_running_stats):
            state = (
                mean,
                buffers["running_var"] if "running_var" in buffers else self.running_var,
                buffers["num_batches_tracked"]
                if "num_batches_tracked" in buffers
                else self.num_batches_tracked,
            )
        frozen = not training and mean is not None
        return self._normalize(
            input, weight, bias, state, self.eps, self.momentum, frozen, residual, position_weights,
            negative_slope,
        )  # fmt: skip

    def _normalize(
        self,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        buffers: Buffers,
        eps: float,
        momentum: float | None,
        frozen: bool,
        residual: Tensor | None = None,
        position_weights: Tensor | None = None,
        slope: float | None = None,
    ) -> Tensor:
        if slope is None:
            slope = self._synchronized.slope
        if buffers[0] is not None and buffers[2] is None:
            # A counter of this call alone: the library's layer would count on in the last one.
            buffers = (*buffers[:2], torch.zeros((), dtype=torch.int64, device=x.device))
        tracing = torch.jit.is_tracing()
        if tracing and not frozen:
            raise _core.InvalidArgument(
                "torch.jit.trace records no synchronized training. Call model.eval() first, or "
                "revert_sync_batchnorm."
            )
        if tracing or is_compiling():
            if "_accumulation" in self.__dict__:
                raise _core.InvalidArgument(
                    "the model is compiled, and a compiled layer does not take the statistics that "
                    "accumulate has found. Call the model as it was."
                )
            return self._normalize_in_graph(
                x, weight, bias, buffers, eps, momentum, frozen, residual, position_weights, slope
            )
        if type(x) is not Tensor:
            _refuse_dtensor(x)
        if not _is_dense(x):
            x = x.contiguous()
        if residual is not None and not _core.is_like(residual, x):
            residual = torch.empty_like(x).copy_(residual.expand_as(x))
        if position_weights is not None:
            position_weights = _of_positions(position_weights, x).contiguous()
        if bias is None and weight is not None:
            bias = self._zeros_like(weight)
        channels = x.size(1)
        bound = self._bound_for(
            device_of(x), channels, eps, momentum, weight is not None, buffers[0] is not None, slope
        )
        time = Time.ONLY if frozen else time_of_forward()
        call = Pass(bound, buffers, frozen, position_weights, *bound.new_record(channels))
        if time is Time.AGAIN:
            call.repeat(self._forwards().find(call, x, self._synchronized.name))
        elif "_accumulation" in self.__dict__ and not frozen:
            self.__dict__["_accumulation"].prepare(self, call, x)
        if torch.is_grad_enabled():
            y = Normalize.apply(x, weight, bias, residual, call)
        else:
            y = call.forward(x, weight, bias, residual)
        if time is Time.FIRST:
            self._forwards().add(call, x)
        return y

    def _normalize_in_graph(
        self,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        buffers: Buffers,
        eps: float,
        momentum: float | None,
        frozen: bool,
        residual: Tensor | None,
        position_weights: Tensor | None,
        slope: float,
    ) -> Tensor:
        """Does what _normalize does, in operations that a compiler or tracer records."""
        if position_weights is not None:
            position_weights = _of_positions(position_weights, x)
        if frozen:
            return self._infer_in_graph(
                x, weight, bias, buffers, eps, residual, position_weights, slope
            )
        if not _is_dense(x):
            x = x.contiguous()
        if residual is not None:
            residual = torch.empty_like(x).copy_(residual.expand_as(x))
        if position_weights is not None:
            position_weights = position_weights.contiguous()
        if bias is None and weight is not None:
            bias = torch.zeros_like(weight, requires_grad=False)
        settings = self._synchronized
        handle: Tensor | None = settings.handle
        identity = ("", "", 0)
        if is_exporting():
            handle, identity = None, (settings.name, settings.group_name, settings.instance)
        y, _, _, *new = torch.ops.syncbn.forward(
            x, weight, bias, *buffers, residual, position_weights, handle, *identity,
            settings.exchange, self.training, eps, momentum, slope, settings.exact,
        )  # fmt: skip
        for buffer, value in zip(buffers, new, strict=True):
            if buffer is not None:
                buffer.copy_(value.detach())
        return y

    def _infer_in_graph(
        self,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        buffers: Buffers,
        eps: float,
        residual: Tensor | None,
        position_weights: Tensor | None,
        slope: float,
    ) -> Tensor:
        """Normalizes by running statistics in torch's operations, which a compiler knows and fuses."""
        mean, var, _ = buffers
        given = {tensor.dtype for tensor in (mean, var, weight, bias) if tensor is not None}
        if given == {x.dtype} or (given == {torch.float32} and x.dtype in _HALVES):
            y = torch.nn.functional.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)
        else:  # types that torch's does not take together
            kind = torch.float64 if x.dtype == torch.float64 else torch.float32
            mean, var, weight, bias = (
                None if tensor is None else tensor.to(kind).view([-1] + [1] * (x.dim() - 2))
                for tensor in (mean, var, weight, bias)
            )
            assert mean is not None and var is not None
            y = (x.to(kind) - mean) * (var + eps).rsqrt()
            y = y if weight is None else y * weight
            y = y if bias is None else y + bias
        if residual is not None:
            y = y + residual
        y = activate(y, slope)
        if position_weights is not None:
            y = torch.where(position_weights.unsqueeze(1) != 0, y, 0)
        return y.to(x.dtype)

    def _bound_for(self, device: torch.device | None, *key: Any) -> Bound:
        """Returns the library's layer for a device, and what bind takes from channels to negative_slope."""
        settings = self._synchronized
        bounds = self.__dict__.setdefault("_layers", {})
        process_group = who_sums(settings.group()) if self.training else None
        bound = bounds.get((process_group, device, *key))
        if bound is None:
            channels, _, _, affine, tracks, _ = key
            if (affine or tracks) and channels != self.num_features:
                raise _core.InvalidArgument(
                    f"the input has {channels} channels (the layer '{settings.name}' has "
                    f"{self.num_features})."
                )
            bound = bounds[(process_group, device, *key)] = bind(  # type: ignore[call-arg]
                process_group, settings.exchange, device, settings.name, *key, settings.exact
            )
        return bound

    def _forwards(self) -> Forwards:
        return self.__dict__.setdefault("_checkpointed", Forwards())

    @torch.inference_mode(False)  # it is used outside of that mode too
    def _zeros_like(self, weight: Tensor) -> Tensor:
        zeros = self.__dict__.get("_zeros")
        if zeros is None or zeros.dtype != weight.dtype or zeros.device != weight.device:
            zeros = torch.zeros_like(weight, requires_grad=False)
            self.__dict__["_zeros"] = zeros
        return zeros

    def _drop_layers(self) -> None:
        self.__dict__.pop("_layers", None)
        self.__dict__.pop("_zeros", None)
        self.__dict__.pop("_checkpointed", None)

    def __getstate__(self) -> dict[str, Any]:
        own = ("_layers", "_zeros", "_checkpointed", "_normalize", "_accumulation")
        return {name: value for name, value in self.__dict__.items() if name not in own}

    def extra_repr(self) -> str:
        settings = self._synchronized
        text = super().extra_repr()
        if settings.slope == 0:
            text += ", activation='relu'"
        elif settings.slope != 1:
            text += f", activation='leaky_relu', negative_slope={settings.slope}"
        if settings.exact:
            text += ", exact=True"
        if settings.exchange != "torch":
            text += f", exchange='{settings.exchange}'"
        return text


_Layer = TypeVar("_Layer", bound=nn.Module)


def named_layers(model: nn.Module, kind: type[_Layer]) -> dict[str, _Layer]:
    """Returns a model's layers of a kind, by their place in it."""
    return {
        path or type(layer).__name__: layer
        for path, layer in model.named_modules()
        if isinstance(layer, kind)
    }


def synchronized_layers(model: nn.Module) -> dict[str, Synchronized]:
    """Returns a model's synchronized layers by their place in it, of which there must be some."""
    layers = named_layers(model, Synchronized)
    if not layers:
        raise _core.InvalidArgument(
            "the model has no synchronized layer. Call convert_sync_batchnorm(model) first."
        )
    return layers


@contextlib.contextmanager
def replaced(layers: Iterable[nn.Module], name: str, value: Callable[[Any], Any]) -> Iterator[None]:
    """Gives each layer an attribute value(layer) of its own for a while."""
    layers = list(layers)
    before = [(layer, layer.__dict__.get(name)) for layer in layers]
    try:
        for layer in layers:
            layer.__dict__[name] = value(layer)
        yield
    finally:
        for layer, had in before:
            layer.__dict__.pop(name)
            if had is not None:
                layer.__dict__[name] = had


class SyncBatchNorm(Synchronized):
    """Batch norm with the statistics of the whole group's batch, for inputs [N, C, ...].

    A drop-in for torch.nn.SyncBatchNorm: the same arguments, state_dict and results, on the CPU too.
    Every process of the group calls the layer the same number of times in training, with any number
    of samples. If one does not, or if processes call different layers, the others get a CommError
    that says so.

    Further arguments: `name` is the layer's in messages, and `exact` makes results that do not depend,
    to the bit, on how the batch is split over how many processes. `activation` is applied to the
    output, in the same pass: "relu", or "leaky_relu" with `negative_slope`. `exchange` is how
    processes sum: "torch" over the process group, "syncbn" through shared memory where all are on one
    host, which is faster, else over the process group.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Any = None,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
        name: str = "",
        exact: bool = False,
        activation: Activation | None = None,
        negative_slope: float = 0.01,
        exchange: Exchange = "torch",
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)
        if affine and not bias:
            self.register_parameter("bias", None)
        slope = slope_of(activation, negative_slope)
        self._synchronized = Settings(process_group, name, exact, slope, exchange)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2D input (got {input.dim()}D input)")

    @classmethod
    def convert_sync_batchnorm(cls, module: nn.Module, process_group: Any = None) -> nn.Module:
        """Converts a model's batch norm layers, as torch.nn.SyncBatchNorm's method does."""
        from .convert import convert_sync_batchnorm

        return convert_sync_batchnorm(module, process_group)
