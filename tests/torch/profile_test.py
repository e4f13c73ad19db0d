# SPDX-License-Identifier: Apache-2.0
"""The table of what layers take."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import pytest
import torch
from torch import nn

import syncbn.torch as sbn
from ranks import Ranks
from whole_batch import ON_DEVICE, draw


def make(exchange: Any = "torch") -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.BatchNorm2d(6))
    return sbn.convert_sync_batchnorm(model, exchange=exchange)


def run_profile(rank: int, size: int, exchange: str) -> None:
    model = make(exchange)
    for _ in range(2):  # what comes before and after is not counted
        with sbn.profile(model) as taken:
            for seed in range(3):
                model(draw((4, 3, 8, 8), seed)).sum().backward()
        model(draw((4, 3, 8, 8), 9))
        assert [layer.name for layer in taken.layers] == ["1", "3"]
        for layer in taken.layers:
            assert layer.shape == (4, 6, 6, 6)
            assert layer.forwards == layer.backwards == 3
            # One message a pass of 2C + 2 doubles, over a process group of 8 more. The first step sums
            # 8 by themselves before each length, and a forward twice.
            assert layer.messages >= 6 and layer.bytes >= 6 * 8 * (2 * 6 + 2), layer
            assert layer.bytes <= layer.messages * 8 * (2 * 6 + 2 + 8)
            assert 0 < layer.waiting < layer.forward + layer.backward
        assert "_normalize" not in model[1].__dict__  # type: ignore[index]
    lines = str(taken).splitlines()
    assert len(lines) == 4
    assert re.match(r"1 +4x6x6x6 +3 +[\d.]+ ms +[\d.]+ ms +[\d.]+ ms +[\d.]+ KiB", lines[1]), lines


@pytest.mark.skipif(ON_DEVICE, reason="there messages are work on a stream")
@pytest.mark.parametrize("exchange", ["torch", "syncbn"])
def test_calls_messages_and_times_are_those_of_the_layers(pair: Ranks, exchange: str) -> None:
    pair.run(run_profile, exchange)


def test_layer_of_one_process_sends_nothing() -> None:
    model = make()
    with sbn.profile(model) as taken:
        model(draw((4, 3, 8, 8), 1)).sum().backward()
    assert all(layer.bytes == 0 and layer.forwards == 1 for layer in taken.layers)


def test_results_are_those_without_it() -> None:
    x = draw((4, 3, 8, 8), 1)
    torch.manual_seed(3)
    plain = make()
    torch.manual_seed(3)
    measured = make()
    with sbn.profile(measured):
        assert torch.equal(measured(x), plain(x))


def test_error_inside_leaves_the_layers_as_they_were() -> None:
    model = make()
    with pytest.raises(RuntimeError), sbn.profile(model):
        model(draw((4, 5, 8, 8), 1))
    assert "_normalize" not in model[1].__dict__  # type: ignore[index]


def test_copy_that_is_made_inside_is_a_layer_of_its_own() -> None:
    model = make()
    with sbn.profile(model) as taken:
        copied = copy.deepcopy(model)
        pickle.loads(pickle.dumps(model))
    copied(draw((4, 3, 8, 8), 1))
    assert taken.layers[0].forwards == 0 and "_normalize" not in copied[1].__dict__  # type: ignore


def test_model_without_synchronized_layers_is_refused() -> None:
    for context in (
        sbn.profile(nn.BatchNorm1d(3)),
        sbn.accumulate(nn.BatchNorm1d(3), [draw((4, 3), 1)]),
    ):
        with pytest.raises(sbn.InvalidArgument, match="convert_sync_batchnorm"), context:
            pass
