# SPDX-License-Identifier: Apache-2.0
"""Groups of a number of samples, and the warning where batch norm has too few."""

from __future__ import annotations

import pickle
import warnings

import pytest
import torch.distributed as dist
from torch import nn

import syncbn
import syncbn.torch as sbn
from ranks import Ranks
from syncbn.torch.subgroup import _cut
from whole_batch import WholeBatch, draw, step


@pytest.mark.parametrize(
    ("counts", "samples", "groups"),
    [
        ([4, 4, 4, 4], 8, [(0, 2), (2, 4)]),
        ([4, 4, 4, 4], 9, [(0, 4)]),  # who is left over joins the last
        ([4, 4, 4, 4], 1, [(0, 1), (1, 2), (2, 3), (3, 4)]),
        ([0, 0, 5, 0], 5, [(0, 4)]),
        ([1, 7, 3, 3, 2], 6, [(0, 2), (2, 5)]),
        ([2], 100, [(0, 1)]),
        ([0, 0], 1, [(0, 2)]),
    ],
)
def test_groups_are_the_smallest_with_enough(
    counts: list[int], samples: int, groups: list[tuple[int, int]]
) -> None:
    assert _cut(counts, samples) == groups


def run_groups(rank: int, size: int) -> None:
    mine = [4, 0, 5][rank]
    group = sbn.group_of_samples(mine, 4)
    assert dist.get_process_group_ranks(group) == ([0] if rank == 0 else [1, 2])
    layer = sbn.SyncBatchNorm(3, process_group=group)
    x = [draw((4, 3), 1), draw((0, 3), 1), draw((5, 3), 2)]
    whole = x[0] if rank == 0 else x[2]
    oracle = WholeBatch(layer, whole, whole)
    results = step(layer, x[rank], x[rank])
    results.dweight = results.dbias = oracle.results.dweight = oracle.results.dbias = None
    oracle.expect(results)


def test_layers_take_the_statistics_of_their_group(trio: Ranks) -> None:
    trio.run(run_groups)


def run_disagreement(rank: int, size: int) -> None:
    with pytest.raises(syncbn.InvalidArgument, match=r"different numbers of samples \(8, 9\)"):
        sbn.group_of_samples(4, 8 + rank)
    with pytest.raises(syncbn.InvalidArgument, match="a group of 0 samples"):
        sbn.group_of_samples(4, 0)


def test_processes_that_ask_for_different_groups_are_told(pair: Ranks) -> None:
    pair.run(run_disagreement)


def run_warning(rank: int, size: int) -> None:
    def make() -> nn.Sequential:
        return nn.Sequential(nn.BatchNorm1d(3), nn.Sequential(nn.BatchNorm1d(3)))

    model = sbn.warn_unsynchronized(make())
    model.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(draw((4, 3), 1))  # running statistics are nobody's noise
    model.train()
    with pytest.warns(UserWarning) as caught:
        model(draw((4, 3), 1))
        model(draw((4, 3), 1))
    (warning,) = caught
    assert str(warning.message).startswith(
        "0 (of 2 batch norm layers) takes the statistics of 4 samples, those of one process of 2."
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sbn.warn_unsynchronized(make())(draw((16, 3), 1))
        sbn.warn_unsynchronized(make(), fewer_than=4)(draw((4, 3), 1))
        sbn.warn_unsynchronized(sbn.convert_sync_batchnorm(make()))(draw((4, 3), 1))


def test_batch_norm_of_few_samples_is_told_of_once(pair: Ranks) -> None:
    pair.run(run_warning)


def run_warning_of_the_last(rank: int, size: int) -> None:
    """A layer that has many samples does not hide one that has few. Keywords and pickling are fine."""
    model = sbn.warn_unsynchronized(nn.ModuleList([nn.BatchNorm1d(3), nn.BatchNorm1d(3)]))
    model = pickle.loads(pickle.dumps(model))
    model[0](input=draw((64, 3), 1))
    with pytest.warns(UserWarning, match=r"^1 \(of 2 batch norm layers\) takes"):
        model[1](input=draw((2, 3), 1))


def test_few_samples_of_any_layer_are_told(pair: Ranks) -> None:
    pair.run(run_warning_of_the_last)


def test_one_process_alone_has_no_group_of_samples() -> None:
    assert sbn.group_of_samples(4, 8) is None


def test_one_process_alone_is_told_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sbn.warn_unsynchronized(nn.BatchNorm1d(3))(draw((4, 3), 1))
