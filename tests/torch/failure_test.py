# SPDX-License-Identifier: Apache-2.0
"""Processes that disagree, are missing, die or stop: who is told what, and when."""

from __future__ import annotations

import copy
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

import syncbn
import syncbn.torch as sbn
from ranks import Ranks
from syncbn.torch import group as groups
from whole_batch import draw

CHANNELS = 5
TIMEOUT = 2.0  # [s] of the library's
# In the process group a missing process is asked for in the store for 2 s more; a busy machine is slow.
DEADLINE = TIMEOUT + 2.0 + 20.0
EXCHANGES = ("torch", "syncbn")


@pytest.fixture(params=[2, 3], ids=["2 processes", "3 processes"])
def ranks(request: pytest.FixtureRequest, pair: Ranks, trio: Ranks) -> Iterator[Ranks]:
    yield pair if request.param == 2 else trio


class Model:
    """Two layers of a group of their own, which have run twice."""

    def __init__(self, size: int, exchange: Any) -> None:
        os.environ["SYNCBN_TIMEOUT"] = str(TIMEOUT)
        self.group = dist.new_group(list(range(size)))
        self.options: dict[str, Any] = {"process_group": self.group, "exchange": exchange}
        self.first = sbn.SyncBatchNorm(CHANNELS, name="first", **self.options)
        self.wide = sbn.SyncBatchNorm(400, name="wide", **self.options)
        for seed in range(2):
            self.first(draw((3, CHANNELS), seed))
            self.wide(draw((3, 400), seed))


def failure_of(call: Callable[[], Any], layers: list[nn.Module]) -> tuple[str, float]:
    """Returns the text of the CommError of a call, and the seconds that it took.

    Requires that the layers' running statistics stay as they are, bit for bit.
    """
    before = [copy.deepcopy(layer.state_dict()) for layer in layers]
    start = time.monotonic()
    with pytest.raises(sbn.CommError) as caught:
        call()
    seconds = time.monotonic() - start
    for layer, state in zip(layers, before, strict=True):
        for name, values in layer.state_dict().items():
            assert torch.equal(values, state[name]), name
    return str(caught.value), seconds


def expect_named(rank: int, size: int, text: str, one: str, others: str) -> None:
    """Requires that a message names what rank 1 does, and what the others do."""
    assert "the ranks disagree" in text, text
    lines = text.splitlines()
    assert any(one in line for line in lines if line.strip().startswith("rank 1:")), text
    of_others = [line for line in lines[1:] if others in line and "rank 1:" not in line]
    assert of_others and ("0" in of_others[0] and (size == 2 or "2" in of_others[0])), text


def run_other_layer(rank: int, size: int, exchange: str, case: str) -> None:
    model = Model(size, exchange)
    x = draw((3, CHANNELS), 5)
    others = "forward of 'first' (C=5, f32)"
    layer = model.first
    if case == "has run":
        one = "forward of 'wide' (C=400, f32)"
        if rank == 1:
            layer, x = model.wide, draw((3, 400), 5)
    elif case == "is new":
        one = "forward of 'new' (C=5, f32)"
        if rank == 1:
            layer = sbn.SyncBatchNorm(CHANNELS, name="new", **model.options)
    elif case == "other channels":
        one = "(C=7, f32)"
        if rank == 1:
            layer = sbn.SyncBatchNorm(7, name="first", **model.options)
            x = draw((3, 7), 5)
    elif case == "other type":
        one = "forward of 'first' (C=5, f64)"
        x = x.double() if rank == 1 else x
    elif case == "other options":
        one = "forward of 'first (no. 2 of this name)' (C=5, f32)"
        if rank == 1:
            layer.eps = 0.5
    else:
        assert case == "backward"
        one = "backward of 'first' (C=5, f32)"
        y = layer(x.requires_grad_())
        text, _ = failure_of(
            (lambda: y.sum().backward()) if rank == 1 else (lambda: layer(x)), [layer]
        )
        expect_named(rank, size, text, one, others)
        return
    text, seconds = failure_of(lambda: layer(x), [model.first, model.wide, layer])
    expect_named(rank, size, text, one, others)
    assert seconds < DEADLINE
    # The group is done for, and says why.
    text, seconds = failure_of(lambda: layer(x), [layer])
    assert "unusable" in text and "the ranks disagree" in text, text
    assert seconds < TIMEOUT


CASES = ("has run", "is new", "other channels", "other type", "other options", "backward")


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("case", CASES)
def test_processes_that_call_different_layers_are_told_both(
    ranks: Ranks, case: str, exchange: str
) -> None:
    ranks.run(run_other_layer, exchange, case, deadline=3 * DEADLINE)


def run_compiled_disagreement(rank: int, size: int) -> None:
    torch._dynamo.reset()
    model = Model(size, "torch")
    layers = [
        torch.compile(
            sbn.SyncBatchNorm(CHANNELS, name=name, **model.options), backend="aot_eager",
            fullgraph=True,
        )
        for name in ("one", "other")
    ]  # fmt: skip
    text, _ = failure_of(lambda: layers[rank == 1](draw((3, CHANNELS), 1)), layers)
    expect_named(rank, size, text, "forward of 'other'", "forward of 'one'")


def test_compiled_layers_are_told_by_name_too(pair: Ranks) -> None:
    pair.run(run_compiled_disagreement, deadline=3 * DEADLINE)


def run_agreement(rank: int, size: int, exchange: str) -> None:
    model = Model(size, exchange)
    model.first(draw((3, CHANNELS), 5))
    model.wide(draw((3, 400), 5))


def test_processes_that_call_the_same_layers_are_told_nothing(ranks: Ranks) -> None:
    """Shows that the disagreements above are not seen everywhere."""
    for exchange in EXCHANGES:
        ranks.run(run_agreement, exchange)


# What a missing process does instead of calling its layer.
def skip(done: Callable[[], bool]) -> None:
    while not done():
        time.sleep(0.05)


def leave(done: Callable[[], bool]) -> None:
    os._exit(3)


def be_killed(done: Callable[[], bool]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stop(done: Callable[[], bool]) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)
    os._exit(4)  # it is not to go on


MISSING: dict[str, Callable[[Callable[[], bool]], None]] = {
    "skips it": skip, "ends": leave, "is killed": be_killed, "is stopped": stop,
}  # fmt: skip


def run_missing(rank: int, size: int, exchange: str, how: str) -> None:
    model = Model(size, exchange)
    store = dist.distributed_c10d._get_default_store()
    key = f"failed/{exchange}/"
    others = [other for other in range(size) if other != 1]

    def done() -> bool:
        return bool(store.check([key + str(other) for other in others]))

    if rank == 1:
        MISSING[how](done)
        return
    text, seconds = failure_of(
        lambda: model.first(draw((3, CHANNELS), 1)), [model.first, model.wide]
    )
    if how == "skips it":
        store.set(key + str(rank), "")
    assert "forward of 'first' (C=5, f32)" in text, text
    assert "rank 1" in text, text
    if exchange == "torch":
        assert f"missing: rank 1 of {size}" in text, text
    elif how in ("ends", "is killed"):
        assert "has ended" in text and "exchange #4, forward of 'wide'" in text, text
    else:
        assert "rank 1 did not come within 2 s" in text, text
        assert "exchange #4, forward of 'wide'" in text, text
    assert seconds < DEADLINE


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("how", MISSING)
def test_process_that_is_missing_is_named_within_the_deadline(
    ranks: Ranks, how: str, exchange: str
) -> None:
    lost = frozenset() if how == "skips it" else frozenset({1})
    ranks.run(run_missing, exchange, how, deadline=2 * DEADLINE, lost=lost)
    ranks.kill()  # a store remembers keys of groups


def run_late(rank: int, size: int) -> list[str]:
    """Rank 1 comes once the others have reported it; without a handler, after a while."""
    reports: list[str] = []
    told = threading.Event()
    store = dist.distributed_c10d._get_default_store()

    def handle(text: str) -> None:
        reports.append(text)
        store.set(f"reported/{rank}", "")
        told.set()

    os.environ["SYNCBN_REPORT_AFTER"] = "0.2"
    sbn.set_report_handler(handle)
    try:
        os.environ["SYNCBN_TIMEOUT"] = "30"
        group = dist.new_group(list(range(size)))
        layer = sbn.SyncBatchNorm(CHANNELS, process_group=group, exchange="syncbn", name="waits")
        layer(draw((3, CHANNELS), 1))
        del reports[:]  # a slow machine is late by itself
        dist.barrier()
        if rank == 1:
            store.wait([f"reported/{other}" for other in range(size) if other != 1])
        layer(draw((3, CHANNELS), 2))
    finally:
        sbn.set_report_handler(None)
        del os.environ["SYNCBN_REPORT_AFTER"]
    return reports


def test_report_handler_is_told_of_a_late_process_and_that_it_came(ranks: Ranks) -> None:
    ranks.kill()  # the store has no reports yet
    for rank, reports in enumerate(ranks.run(run_late)):
        if rank == 1:
            continue
        assert len(reports) == 2, reports
        assert f"rank {rank}, forward of 'waits' (C=5, f32): rank 1 did not come" in reports[0]
        assert "went on after" in reports[1]


def run_raising_handler(rank: int, size: int) -> None:
    def handle(text: str) -> None:
        raise ValueError("of the handler")

    sbn.set_report_handler(handle)
    os.environ["SYNCBN_REPORT_AFTER"] = "0.2"
    try:
        layer = sbn.SyncBatchNorm(
            CHANNELS, process_group=dist.new_group(list(range(size))), exchange="syncbn"
        )
        layer(draw((3, CHANNELS), 1))
        if rank == 1:
            time.sleep(1.0)  # five times what is reported
        layer(draw((3, CHANNELS), 2))
    finally:
        sbn.set_report_handler(None)
        del os.environ["SYNCBN_REPORT_AFTER"]


def test_exception_of_a_report_handler_does_not_end_the_exchange(pair: Ranks) -> None:
    pair.run(run_raising_handler)


def run_bits(rank: int, size: int, exchange: str) -> list[torch.Tensor]:
    """Returns a training's results with two layers, of which one needs more than one message."""
    torch.manual_seed(1)
    group = dist.new_group(list(range(size)))
    options: dict[str, Any] = {"process_group": group, "exchange": exchange, "exact": True}
    found = []
    for channels in (CHANNELS, 400):
        layer = sbn.SyncBatchNorm(channels, **options)
        for seed in range(3):
            x = draw((2 + rank + seed, channels, 3), 10 * rank + seed).requires_grad_()
            y = layer(x)
            y.pow(2).sum().backward()
            found += [y.detach(), x.grad]
        found += [layer.weight.grad, layer.bias.grad, *layer.buffers()]
    return found


def test_shared_memory_gives_the_bits_of_the_process_group(ranks: Ranks) -> None:
    both = [ranks.run(run_bits, exchange) for exchange in EXCHANGES]
    for of_torch, of_syncbn in zip(*both, strict=True):
        for got, expected in zip(of_syncbn, of_torch, strict=True):
            assert torch.equal(got, expected)


def run_bad_timeout(rank: int, size: int) -> None:
    group = dist.new_group(list(range(size)))
    for text in ("soon", "0", "-1", "nan"):
        os.environ["SYNCBN_TIMEOUT"] = text
        layer = sbn.SyncBatchNorm(CHANNELS, process_group=group)
        with pytest.raises(syncbn.InvalidArgument, match=f"SYNCBN_TIMEOUT is '{text}'"):
            layer(draw((3, CHANNELS), 1))
    del os.environ["SYNCBN_TIMEOUT"]
    layer(draw((3, CHANNELS), 1))


def test_timeout_that_is_none_is_refused(pair: Ranks) -> None:
    pair.run(run_bad_timeout)


def test_unknown_exchange_is_refused() -> None:
    with pytest.raises(
        syncbn.InvalidArgument, match=r"exchange is 'mpi'\. Choose 'torch' or 'syncbn'"
    ):
        sbn.SyncBatchNorm(CHANNELS, exchange="mpi")  # type: ignore[arg-type]


def run_evaluates_alone(rank: int, size: int, exchange: Any) -> str:
    """One process is in evaluation, and the trainer's sums follow those of the layers."""
    os.environ["SYNCBN_TIMEOUT"] = str(TIMEOUT)
    layer = sbn.SyncBatchNorm(CHANNELS, name="stem.bn", exchange=exchange)
    for _ in range(2):
        layer(draw((3, CHANNELS), 1))
    if rank == 1:
        layer.eval()
        layer(draw((3, CHANNELS), 1))
        work = dist.all_reduce(torch.ones(1024), async_op=True)
        assert work is not None
        return ""
    return failure_of(lambda: layer(draw((3, CHANNELS), 1)), [layer])[0]


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_process_in_evaluation_is_told_beside_a_trainers_sums(exchange: str) -> None:
    with Ranks(2) as ranks:
        text = ranks.run(run_evaluates_alone, exchange)[0]
    assert "stem.bn" in text and "rank 1" in text and " 2 s" in text, text


def run_unnumbered(rank: int, size: int) -> None:
    """A group that sums no tensors of the CPU, as one of NCCL, has layers that do not count as groups."""
    os.environ["SYNCBN_TIMEOUT"] = "20"
    backends = groups.backends_of
    groups.backends_of = lambda _: "cuda:nccl"
    try:
        group = sbn.group_of_samples(4 if rank else 9, 8)
        layer = sbn.SyncBatchNorm(CHANNELS, process_group=group)
        layer(draw((3, CHANNELS), 1))
    finally:
        groups.backends_of = backends
    values = torch.ones(1)
    dist.all_reduce(values, group=dist.new_group(list(range(size))))
    assert values == size


def test_groups_that_are_made_later_find_each_other(trio: Ranks) -> None:
    trio.run(run_unnumbered)


def run_first_call_alone(rank: int, size: int, exchange: Any) -> str:
    os.environ["SYNCBN_TIMEOUT"] = str(TIMEOUT)
    group = dist.new_group(list(range(size)))
    layer = sbn.SyncBatchNorm(CHANNELS, name="stem.bn", process_group=group, exchange=exchange)
    if rank == 1:
        return ""
    return failure_of(lambda: layer(draw((3, CHANNELS), 1)), [layer])[0]


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_process_that_does_not_come_to_the_first_exchange_is_named(exchange: str) -> None:
    with Ranks(2) as ranks:
        text = ranks.run(run_first_call_alone, exchange)[0]
    assert "layer 'stem.bn': rank 1 of 2 did not come to the first exchange within 2 s" in text
