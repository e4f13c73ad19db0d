# SPDX-License-Identifier: Apache-2.0
"""Layers in 2 and 3 processes, against one that holds the whole batch."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import syncbn
import syncbn.torch as sbn
from ranks import Ranks
from syncbn.torch import group as groups
from whole_batch import DEVICE, TYPES, Results, WholeBatch, draw, give_parameters, step

CHANNELS = 5
SHAPES = ((9, CHANNELS), (9, CHANNELS, 7), (9, CHANNELS, 4, 3), (9, CHANNELS, 2, 3, 2))
# Where the shards of nine samples begin and end.
CUTS = {
    2: {"uneven": (0, 4, 9), "first has one": (0, 1, 9), "first empty": (0, 0, 9),
        "last empty": (0, 9, 9)},
    3: {"even": (0, 3, 6, 9), "uneven": (0, 1, 3, 9), "first empty": (0, 0, 2, 9),
        "one has all": (0, 0, 9, 9)},
}  # fmt: skip


def make(layer: nn.Module | None = None, **options: Any) -> Any:
    layer = layer or sbn.SyncBatchNorm(CHANNELS, **options)
    give_parameters(layer)
    return layer


def shard_of(cuts: tuple[int, ...], rank: int) -> slice:
    return slice(cuts[rank], cuts[rank + 1])


def sum_parameter_gradients(results: Results, group: dist.ProcessGroup | None = None) -> None:
    """Makes the parameters' gradients those of the group, as a trainer does."""
    for name in ("dweight", "dbias"):
        gradient = getattr(results, name)
        if gradient is not None:
            gradient = gradient.double()
            dist.all_reduce(gradient, group=group)
            setattr(results, name, gradient)


def shard_errors(
    rank: int, layer: nn.Module, x: Tensor, dy: Tensor, cuts: tuple[int, ...]
) -> dict[str, float]:
    """Makes a step on this process's shard. Returns its errors, in units of their tolerances."""
    part = shard_of(cuts, rank)
    oracle = WholeBatch(layer, x, dy)
    results = step(layer, x[part], dy[part])
    if results.dweight is not None and results.dweight.dtype != torch.float64:
        # Each process stores its share, rounded.
        assert results.dweight.dtype == torch.float32 and len(cuts) <= 4
    sum_parameter_gradients(results)
    expected = oracle.results
    for name in ("dweight", "dbias"):
        got, wanted = getattr(results, name), getattr(expected, name)
        if got is not None:  # shares of at most 9 * 12 products below 100, stored in float32
            assert (got - wanted).abs().max() < 9 * 12 * 100 * 2**-24 + 9 * 12 * 100 * (
                oracle.statistics_error()
            ), name
        setattr(results, name, None)
        setattr(expected, name, None)
    return oracle.errors(results, part.start)


def run_splits(rank: int, size: int) -> None:
    for shape in SHAPES:
        for name, cuts in CUTS[size].items():
            for dtype in TYPES:
                x, dy = draw(shape, 1, dtype), draw(shape, 2, dtype)
                for layer in (make(), make(affine=False), make(track_running_stats=False)):
                    errors = shard_errors(rank, layer, x, dy, cuts)
                    assert all(e <= 1 for e in errors.values()), (shape, name, dtype, errors)


def test_any_split_over_two_processes_equals_the_whole_batch(pair: Ranks) -> None:
    pair.run(run_splits)


def test_any_split_over_three_processes_equals_the_whole_batch(trio: Ranks) -> None:
    trio.run(run_splits)


def run_layouts(rank: int, size: int) -> None:
    """Each process has its samples in a layout of its own."""
    cuts = CUTS[size]["uneven"]
    part = shard_of(cuts, rank)
    x, dy = draw(SHAPES[2], 1), draw(SHAPES[2], 2)
    layer = make()
    oracle = WholeBatch(layer, x, dy)
    mine = x[part]
    if rank == 1:
        mine = mine.contiguous(memory_format=torch.channels_last)
    results = step(layer, mine, dy[part].transpose(2, 3).contiguous().transpose(2, 3))
    for results_of in (results, oracle.results):
        results_of.dweight = results_of.dbias = None
    oracle.expect(results, part.start)


def test_processes_may_have_different_layouts(pair: Ranks) -> None:
    pair.run(run_layouts)


def run_ragged(rank: int, size: int) -> None:
    """Rows [n_i, C], as sparse tensors and point clouds have them: another number every time."""
    layer = make(track_running_stats=False)
    for seed, cuts in enumerate([(0, 2, 31, 57), (0, 40, 40, 57), (0, 0, 1, 57), (0, 56, 57, 57)]):
        x, dy = draw((57, CHANNELS), seed), draw((57, CHANNELS), 10 + seed)
        layer.zero_grad()
        errors = shard_errors(rank, layer, x, dy, cuts)
        assert all(e <= 1 for e in errors.values()), errors


def test_rows_of_ragged_batches_equal_the_whole_batch(trio: Ranks) -> None:
    trio.run(run_ragged)


def run_local(rank: int, size: int) -> dict[str, float]:
    """Normalizes with torch's batch norm, which knows nothing of the other processes."""
    x, dy = draw(SHAPES[1], 1), draw(SHAPES[1], 2)
    layer = nn.BatchNorm1d(CHANNELS, affine=False)
    return shard_errors(rank, layer, x, dy, CUTS[size]["uneven"])


def test_batch_norm_of_each_process_alone_does_not_equal_the_whole_batch(pair: Ranks) -> None:
    """Shows that the comparisons above see whether layers are synchronized."""
    for rank, error in enumerate(pair.run(run_local)):
        assert error["y"] > 1000 and error["dx"] > 1000 and error["running_var"] > 1000, rank


def run_evaluation(rank: int, size: int) -> None:
    """In evaluation no process waits for another."""
    layer = make()
    layer(draw((4, CHANNELS), rank))
    layer.eval()
    if rank == 1:
        x, dy = draw((6, CHANNELS), 1), draw((6, CHANNELS), 2)
        oracle = WholeBatch(layer, x, dy)
        oracle.expect(step(layer, x, dy))


def test_evaluation_takes_no_other_process(pair: Ranks) -> None:
    pair.run(run_evaluation)


def bits(values: Tensor) -> bytes:
    return values.detach().reshape(-1).view(torch.uint8).cpu().numpy().tobytes()


def run_running_statistics(rank: int, size: int) -> list[bytes]:
    layers = [make(), make(momentum=None), make(dtype=torch.float16), make(exact=True)]
    for seed in range(3):
        for layer in layers:
            layer(draw((rank + seed, CHANNELS, 3), 10 * rank + seed))
    return [bits(values) for layer in layers for values in layer.buffers()]


def test_running_statistics_have_the_same_bits_in_every_process(trio: Ranks) -> None:
    first, *others = trio.run(run_running_statistics)
    assert all(other == first for other in others)


def run_exact(rank: int, size: int, exact: bool) -> list[bytes]:
    """Returns the bits of this process's outputs and input gradients, and of running statistics."""
    if size == 1:
        cuts: tuple[int, ...] = (0, 9)
    else:
        cuts = CUTS[size]["uneven"]
    part = shard_of(cuts, rank)
    found = []
    for dtype in TYPES:
        layer = make(exact=exact, dtype=torch.float64)
        for seed in range(3):
            x, dy = draw(SHAPES[1], seed, dtype), draw(SHAPES[1], 10 + seed, dtype)
            results = step(layer, x[part], dy[part])
            found += [bits(results.y), bits(results.dx)]
    return [*found, *(bits(values) for values in layer.buffers())]


def whole(parts: list[list[bytes]]) -> list[bytes]:
    """Puts the shards' bits one behind the other; the buffers, at the end, are everyone's."""
    tensors, buffers = len(parts[0]) - 3, parts[0][-3:]
    assert all(part[-3:] == buffers for part in parts)
    return [b"".join(part[i] for part in parts) for i in range(tensors)] + buffers


def test_exact_layers_have_the_same_bits_for_1_2_and_3_processes(pair: Ranks, trio: Ranks) -> None:
    alone = run_exact(0, 1, True)
    assert whole(pair.run(run_exact, True)) == alone
    assert whole(trio.run(run_exact, True)) == alone


def test_other_layers_have_other_bits_for_other_numbers_of_processes(pair: Ranks) -> None:
    """Shows that the comparison above sees the order of sums."""
    assert whole(pair.run(run_exact, False)) != run_exact(0, 1, False)


def run_groups(rank: int, size: int) -> None:
    """Ranks 0 and 2 are a group, rank 1 is one by itself."""
    together, single = dist.new_group([0, 2]), dist.new_group([1])
    group = single if rank == 1 else together
    x, dy = draw((9, CHANNELS, 4), 1), draw((9, CHANNELS, 4), 2)
    part = {0: slice(0, 2), 1: slice(0, 9), 2: slice(2, 9)}[rank]
    for layer in (
        make(process_group=group),
        make(sbn.convert_sync_batchnorm(nn.BatchNorm1d(CHANNELS), group)),
        make(sbn.SyncBatchNorm.convert_sync_batchnorm(nn.BatchNorm1d(CHANNELS), group)),
    ):
        assert layer.process_group is group
        oracle = WholeBatch(layer, x, dy)
        results = step(layer, x[part], dy[part])
        if rank != 1:
            sum_parameter_gradients(results, group)
        for name in ("dweight", "dbias"):
            got, wanted = getattr(results, name).double(), getattr(oracle.results, name)
            # Two shares of sums of 36 products below 100, stored in float32.
            assert (got - wanted).abs().max() < 36 * 100 * 2 * 2**-24
            setattr(results, name, None)
            setattr(oracle.results, name, None)
        oracle.expect(results, part.start)
    outsider = make(process_group=single if rank == 0 else group)
    if rank == 0:
        with pytest.raises(syncbn.InvalidArgument, match="not in the process group"):
            outsider(x)
    dist.barrier()


def test_layer_of_a_sub_group_sums_over_that(trio: Ranks) -> None:
    trio.run(run_groups)


def run_mesh(rank: int, size: int) -> None:
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh("cpu", (size, 1), mesh_dim_names=("data", "tensor"))
    x, dy = draw((9, CHANNELS), 1), draw((9, CHANNELS), 2)
    part = shard_of(CUTS[size]["uneven"], rank)
    errors = shard_errors(rank, make(process_group=mesh["data"]), x, dy, CUTS[size]["uneven"])
    assert all(e <= 1 for e in errors.values()), errors
    layer = make(process_group=mesh["tensor"])  # this process alone
    oracle = WholeBatch(layer, x[part], dy[part])
    oracle.expect(step(layer, x[part], dy[part]))


def test_slice_of_a_device_mesh_is_a_group(pair: Ranks) -> None:
    pair.run(run_mesh)


def run_dtensor(rank: int, size: int) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (size,))
    x = distribute_tensor(draw((8, CHANNELS), 1).cpu(), mesh, [Shard(0)])
    layer = make()
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises(syncbn.InvalidArgument, match=r"DTensor.*to_local\(\)"):
        layer(x)
    assert all(torch.equal(values, before[name]) for name, values in layer.state_dict().items())
    layer(x.to_local().to(DEVICE))


def test_dtensor_is_refused(pair: Ranks) -> None:
    pair.run(run_dtensor)


def run_regrouped(rank: int, size: int) -> None:
    """A layer changes its group between steps."""
    single = [dist.new_group([other]) for other in range(size)]
    x, dy = draw((9, CHANNELS), 1), draw((9, CHANNELS), 2)
    cuts = CUTS[size]["uneven"]
    part = shard_of(cuts, rank)
    layer = make()
    layer(x[part])
    layer.process_group = single[rank]
    layer.zero_grad()
    oracle = WholeBatch(layer, x[part], dy[part])
    oracle.expect(step(layer, x[part], dy[part]))
    layer.reset_running_stats()
    layer.process_group = None
    layer.zero_grad()
    errors = shard_errors(rank, layer, x, dy, cuts)
    assert all(e <= 1 for e in errors.values()), errors


def test_layer_can_change_its_group(pair: Ranks) -> None:
    pair.run(run_regrouped)


def run_extras(rank: int, size: int) -> None:
    """Residual, activation and weights of positions, which also hide all of one process's shard."""
    x, residual, dy = (draw((9, CHANNELS, 4), seed, torch.float64) for seed in (1, 2, 3))
    weights = torch.ones(9, 4)
    weights[:4] = 0
    weights[6, 2:] = 0
    part = shard_of((0, 4, 9), rank)
    results = []
    for cut in (slice(0, 9), part):
        alone = cut != part
        group = dist.new_group([rank], use_local_synchronization=True) if alone else None
        layer = make(dtype=torch.float64, activation="leaky_relu", process_group=group)
        leaves = [values[cut].clone().requires_grad_() for values in (x, residual)]
        y = layer(*leaves, position_weights=weights[cut])
        y.backward(dy[cut])
        gradient = layer.weight.grad.clone()
        if not alone:
            dist.all_reduce(gradient)
        results.append(
            [
                *(
                    values[part] if alone else values
                    for values in (y.detach(), *(leaf.grad for leaf in leaves))
                ),
                gradient,
                *layer.buffers(),
            ]
        )
    for expected, got in zip(*results, strict=True):
        # Sums of 18 terms below 100 in another order, and the statistics' 1e-13 (whole_batch.py).
        torch.testing.assert_close(got, expected, rtol=0, atol=18 * 100 * (2 * 2**-53 + 1e-13))


def test_residual_slope_and_position_weights_equal_the_whole_batch(pair: Ranks) -> None:
    pair.run(run_extras)


def run_messages(rank: int, size: int) -> None:
    """Layers of other lengths follow each other, in runs that are longer than what is remembered."""
    widths = [(CHANNELS, CHANNELS, 64), (700,)]
    layers = [sbn.SyncBatchNorm(c) for c in (*widths[0] * 4, *widths[1])]
    sums: list[Any] = []
    original = groups._AllReduce._sum
    groups._AllReduce._sum = lambda *given: (sums.append(given), original(*given))[1]  # type: ignore
    try:
        for step in range(4):
            sums.clear()
            for layer in layers:
                y = layer(draw((3, layer.num_features), 10 * step + rank).requires_grad_())
                y.square().sum().backward()
    finally:
        groups._AllReduce._sum = original  # type: ignore[method-assign]
    assert len(sums) == 2 * len(layers)


def test_each_pass_is_one_message_once_steps_repeat(pair: Ranks) -> None:
    pair.run(run_messages)
