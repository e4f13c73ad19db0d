# SPDX-License-Identifier: Apache-2.0
"""Layers whose tensors are on a device, emulated or CUDA's: the ways in which processes sum there.

The tests of other files also run on it: of layers, processes, checkpoints and derivatives.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import torch
import torch.distributed as dist

import syncbn.torch as sbn
from ranks import Ranks
from ranks_test import CHANNELS, CUTS, make, shard_errors
from syncbn import _core
from syncbn.torch import compat
from syncbn.torch import group as groups
from whole_batch import DEVICE, ON_DEVICE, draw

pytestmark = pytest.mark.skipif(not ON_DEVICE, reason="takes a device, or an emulated one")

TIMEOUT = 2.0  # [s] of the library's
# How the values of a device are summed, and the exchange that is asked for.
EXCHANGES = {"staged": "torch", "custom": "torch", "nccl": "syncbn"}
KINDS = list(EXCHANGES)
if DEVICE.type == "cuda" and torch.cuda.nccl.version() < (2, 30, 3):
    KINDS.remove("nccl")  # it lets no two processes have one device


@pytest.fixture(params=[2, 3], ids=["2 processes", "3 processes"])
def ranks(request: pytest.FixtureRequest, pair: Ranks, trio: Ranks) -> Iterator[Ranks]:
    yield pair if request.param == 2 else trio


class Chosen:
    """Has layers sum in one of the ways, over a process group of their own, and notes which it was.

    Gloo stands for the process group that sums tensors of a device on its streams.
    """

    def __init__(self, kind: str, size: int) -> None:
        os.environ["SYNCBN_TIMEOUT"] = str(TIMEOUT)
        os.environ["NCCL_MULTI_RANK_GPU_ENABLE"] = "1"  # all processes have the same device
        self.made: list[str] = []
        self.group = dist.new_group(list(range(size)), timeout=timedelta(seconds=TIMEOUT))
        self.options: dict[str, Any] = {"process_group": self.group, "exchange": EXCHANGES[kind]}
        self._kind = kind

    def __enter__(self) -> Chosen:
        original: Any = _core.DeviceGroup
        self._before = original, groups._sums_on_streams

        def noted(index: int, host: Any, timeout: float, kind: str, *functions: Any) -> Any:
            self.made.append(kind)
            return original(index, host, timeout, kind, *functions)

        _core.DeviceGroup = noted  # type: ignore[misc,assignment]
        groups._sums_on_streams = lambda _: self._kind == "custom"
        return self

    def __exit__(self, *_: object) -> None:
        _core.DeviceGroup, groups._sums_on_streams = self._before  # type: ignore[misc]


def run_splits(rank: int, size: int, kind: str) -> None:
    with Chosen(kind, size) as chosen, warnings.catch_warnings():
        warnings.simplefilter("error")
        for shape in ((9, CHANNELS, 7), (9, CHANNELS, 4, 3)):
            for name, cuts in CUTS[size].items():
                for dtype in (torch.float32, torch.float64, torch.bfloat16):
                    x, dy = draw(shape, 1, dtype), draw(shape, 2, dtype)
                    errors = shard_errors(rank, make(**chosen.options), x, dy, cuts)
                    assert all(e <= 1 for e in errors.values()), (shape, name, dtype, errors)
        assert chosen.made == [kind]


@pytest.mark.parametrize("kind", KINDS)
def test_any_split_equals_the_whole_batch(ranks: Ranks, kind: str) -> None:
    ranks.run(run_splits, kind)


def run_shared_device(rank: int, size: int) -> None:
    with Chosen("nccl", size) as chosen:
        del os.environ["NCCL_MULTI_RANK_GPU_ENABLE"]
        with pytest.warns(UserWarning, match="over the process group: .* same device"):
            errors = shard_errors(
                rank, make(**chosen.options), draw((9, CHANNELS), 1), draw((9, CHANNELS), 2),
                CUTS[size]["uneven"],
            )  # fmt: skip
        assert all(e <= 1 for e in errors.values()), errors
        assert chosen.made == ["nccl", "staged"]


def test_processes_that_share_a_device_which_nccl_refuses_sum_over_the_cpu(pair: Ranks) -> None:
    pair.run(run_shared_device)


def run_missing(rank: int, size: int, kind: str) -> None:
    with Chosen(kind, size) as chosen:
        layer = sbn.SyncBatchNorm(CHANNELS, name="stem.bn", **chosen.options)
        for seed in range(2):
            layer(draw((3, CHANNELS), seed))
        if rank == 1:
            os._exit(0)
        with pytest.raises(sbn.CommError, match=r"rank 1|stem\.bn"):
            for seed in range(3):  # a sum on a stream fails in the call after it
                layer(draw((3, CHANNELS), seed))
                torch.ones(1).add_(1)


@pytest.mark.parametrize("kind", KINDS)
def test_process_that_is_missing_ends_in_an_error(pair: Ranks, kind: str) -> None:
    pair.run(run_missing, kind, lost=frozenset({1}))


def run_other_layer(rank: int, size: int, kind: str) -> None:
    with Chosen(kind, size) as chosen:
        layers = [
            sbn.SyncBatchNorm(CHANNELS, name=name, **chosen.options) for name in ("left", "right")
        ]
        for layer in layers:
            layer(draw((3, CHANNELS), 1))
        with pytest.raises(sbn.CommError, match="the ranks disagree") as caught:
            for _ in range(3):
                layers[rank](draw((3, CHANNELS), 1))
        assert "left" in str(caught.value) and "right" in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_processes_that_call_different_layers_are_told_both(pair: Ranks, kind: str) -> None:
    pair.run(run_other_layer, kind)


def test_a_tensor_is_made_of_a_devices_memory() -> None:
    values = torch.arange(6.0, dtype=torch.float64)
    compat.tensor_at(values.data_ptr() + 16, 3, DEVICE).add_(10)
    assert values.tolist() == [0, 1, 12, 13, 14, 5]


def test_layer_on_a_device_takes_the_types_of_its_tensors() -> None:
    layer = sbn.SyncBatchNorm(CHANNELS)
    layer(draw((3, CHANNELS), 1))
    (bound,) = layer.__dict__["_layers"].values()
    assert bound.device is not None and bound.gradients is not None
    assert layer.double()(draw((3, CHANNELS), 1, torch.float64)).dtype == torch.float64
