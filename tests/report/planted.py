# SPDX-License-Identifier: Apache-2.0
"""Runs of `syncbn scale` as it would write them, made of times whose truth is known."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

PROBABILITIES = [0, 0.01, 0.05, *(i / 10 for i in range(1, 10)), 0.95, 0.99, 1]
# Rounds between h hosts, and messages of a host in them (src/comm/mpi/schedule.hpp), by hand.
ROUNDS = {1: (0, 0), 2: (1, 1), 3: (1, 2), 4: (2, 2), 6: (2, 3), 8: (3, 3), 9: (2, 4), 12: (3, 4)}
RESNET_50 = [
    (64, 112, 1), (64, 56, 6), (256, 56, 4), (128, 56, 1), (128, 28, 7), (512, 28, 5),
    (256, 28, 1), (256, 14, 11), (1024, 14, 7), (512, 14, 1), (512, 7, 5), (2048, 7, 4),
]  # fmt: skip
LENGTHS = (130, 514, 1026, 4098)


@dataclass
class Truth:
    """What is planted. Times in seconds."""

    hosts: int = 4
    per_host: int = 2
    processors: int = 4
    call: float = 2e-6
    arrivals: float = 1e-6  # a rank of a host
    reading: float = 0.5e-9  # a double of a rank of a host
    latency: float = 50e-6  # a round
    inverse_speed: float = 8e-9  # a double between hosts
    mpi_over_ours: float = 1.4
    exchange_in_layers: float = 1.0  # how much of an exchange a layer takes longer by
    jitter: float = 0.05  # of each repetition
    straggler: int | None = None
    straggler_lag: float = 200e-6
    noisy: int | None = None
    layers: bool = True
    train: bool = True
    noise: bool = True
    mpi: bool = True
    simulated: bool = False
    serial: float = 0.1  # of the strong scaling
    one_computer: bool = False  # whose processors all hosts share
    waiting: float = 0.0  # for each other thread that waits for a processor
    seed: int = 1
    random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def exchange(self, hosts: int, per_host: int, doubles: int) -> float:
        rounds, messages = ROUNDS[hosts]
        sharing = per_host if per_host > 1 else 0
        waits = max(0.0, per_host * (hosts if self.one_computer else 1) / self.processors - 1)
        return (
            self.call
            + self.waiting * waits
            + self.arrivals * sharing
            + self.reading * sharing * doubles
            + self.latency * rounds
            + self.inverse_speed * messages * doubles
        )


def distribution(truth: Truth, middle: float, count: int = 60, jitter: float | None = None) -> Any:
    """Returns what is kept of repetitions about a median."""
    width = truth.jitter if jitter is None else jitter
    samples = np.sort(middle * np.exp(width * truth.random.standard_normal(count)))
    half = 0.98 * np.sqrt(count)
    low, high = (samples[int(np.clip(count / 2 + side, 0, count - 1))] for side in (-half, half))
    return {
        "count": count,
        "median": float(np.median(samples)),
        "low": float(low),
        "high": float(high),
        "quantiles": [float(value) for value in np.quantile(samples, PROBABILITIES)],
    }


def groups(truth: Truth) -> list[dict[str, Any]]:
    """Returns one rank, then hosts filled one after another, and spread over hosts."""
    found: list[dict[str, Any]] = []

    def add(hosts: int, per_host: int, placement: str) -> None:
        ranks = hosts * per_host
        members = [host * truth.per_host + i for host in range(hosts) for i in range(per_host)]
        group = {
            "ranks": ranks, "hosts": hosts, "most_on_a_host": per_host, "placement": placement,
            "members": sorted(members),
        }  # fmt: skip
        if group["members"] not in [one["members"] for one in found]:
            found.append(group)

    counts = [per for per in (1, 2, 4, 8, 16) if per <= truth.per_host]
    for per_host in counts:
        add(1, per_host, "packed")
    for hosts in (one for one in ROUNDS if 1 < one <= truth.hosts):
        add(hosts, truth.per_host, "packed")
        if truth.per_host > 1:
            add(hosts, 1, "spread")
    return sorted(found, key=lambda group: (group["ranks"], group["hosts"]))


def _shares(truth: Truth, members: list[int]) -> dict[str, Any]:
    """Returns of a cell who came when. A straggler comes late in every fifth exchange only, so it is
    last as often as the others are."""
    shares = []
    straggles = truth.straggler in members
    for rank in members:
        if straggles:
            last = 0.9 if rank == truth.straggler else 0.1 / max(1, len(members) - 1)
        else:
            last = 1 / len(members)
        middle = truth.straggler_lag if rank == truth.straggler else 1e-6
        shares.append(
            {
                "rank": rank, "lag": distribution(truth, middle, jitter=0.3),
                "last": 1 / len(members), "last_in_long_waits": last,
            }
        )  # fmt: skip
    return {"long_waits": 40, "ranks": shares}


def _common(cells: list[Any], kind: str) -> dict[str, Any]:
    return {"kind": kind, "order": len(cells), "seconds": 0.2, "enough": True}


def _exchanges(truth: Truth, made: list[Any], number: int, group: dict[str, Any]) -> None:
    for doubles in LENGTHS:
        time = truth.exchange(group["hosts"], group["most_on_a_host"], doubles)
        for by, factor in (("builtin", 1.0), ("MPI_Allreduce", truth.mpi_over_ours)):
            if by == "builtin" or truth.mpi:
                shares = _shares(truth, group["members"])
                for share in shares["ranks"]:
                    share["time"] = distribution(truth, factor * time)
                made.append(
                    {
                        **_common(made, "exchange"), "group": number, "by": by,
                        "doubles": doubles, "time": distribution(truth, factor * time),
                        "spread": distribution(truth, 3e-6), "late": 0, **shares,
                    }
                )  # fmt: skip


def _layers(truth: Truth, made: list[Any], number: int, group: dict[str, Any]) -> None:
    for channels, side, layers in RESNET_50:
        size = 8 * channels * side * side * 4
        local = {"forward": 3 * size / 8e9, "backward": 5 * size / 8e9}
        exchange = (
            truth.exchange(group["hosts"], group["most_on_a_host"], 2 * channels + 2)
            if group["ranks"] > 1
            else 0.0
        )
        cell = {
            **_common(made, "layer"), "group": number, "shape": f"8x{channels}x{side}x{side}",
            "layers": layers, "channels": channels, "doubles": 2 * channels + 2, "bytes": size,
            "sums": distribution(truth, size / 8e9),
            "normalize": distribution(truth, 2 * size / 8e9),
            "backward_sums": distribution(truth, 2 * size / 8e9),
            "input_gradient": distribution(truth, 3 * size / 8e9),
            "copy": distribution(truth, 2 * size / 9e9),
        }  # fmt: skip
        for direction, time in local.items():
            cell[f"local_{direction}"] = distribution(truth, time)
            extra = truth.exchange_in_layers * exchange
            cell[f"sync_{direction}"] = distribution(truth, time + extra)
        price = (cell["sync_forward"]["median"] + cell["sync_backward"]["median"]) / (
            cell["local_forward"]["median"] + cell["local_backward"]["median"]
        )
        cell["price"] = {"value": price, "low": 0.98 * price, "high": 1.02 * price}
        if group["ranks"] > 1:
            cell["exchange"] = distribution(truth, exchange)
            cell["transfer"] = distribution(truth, exchange)
            cell["spread"] = distribution(truth, 20e-6)
            cell |= _shares(truth, group["members"])
        made.append(cell)


def _steps(truth: Truth, made: list[Any], number: int, group: dict[str, Any]) -> None:
    for scaling in ("strong", "weak"):
        for norm in ("sync", "local"):
            ranks = group["ranks"]
            if ranks == 1 and scaling == "weak":
                continue  # which is the same as strong scaling's
            work = truth.serial + (1 - truth.serial) / ranks if scaling == "strong" else 1.0
            time = 0.1 * work
            exchange = 0.0 if ranks == 1 else 0.01 * (1 if norm == "sync" else 0.5)
            cell = {
                **_common(made, "step"), "group": number, "scaling": scaling, "norm": norm,
                "batch": 64 * (ranks if scaling == "weak" else 1),
                "samples": 64 if scaling == "weak" else -(-64 // ranks),
                "step": distribution(truth, time + (exchange if scaling == "weak" else 0), jitter=0.01),
                "parts": {
                    "layers": 0.7 * time, "batch_norm": 0.2 * time,
                    "batch_norm_exchange": exchange / 2, "gradient_exchange": exchange / 2,
                    "update": 0.1 * time,
                },
            }  # fmt: skip
            if ranks > 1:
                cell |= _shares(truth, group["members"])
                if norm == "sync":
                    cell["transfer"] = distribution(truth, 1e-4)
                    cell["spread"] = distribution(truth, 2e-5)
            made.append(cell)


def _noise(truth: Truth, made: list[Any], number: int, group: dict[str, Any]) -> None:
    ranks = []
    for rank in group["members"]:
        lost = 0.2 if rank == truth.noisy else 0.01
        time = distribution(truth, 5e-5 * (1 + lost), 10000, 0.002)
        time["quantiles"][-1] *= 30 if rank == truth.noisy else 3
        trace = 5e-5 * (1 + lost * truth.random.exponential(2, 200))
        ranks.append({"rank": rank, "time": time, "lost": lost, "trace": trace.tolist()})
    expected = [
        {"ranks": count, "time": 5.1e-5 * count**0.1} for count in (1, 4, 16, 64, 256, 1024)
    ]
    made.append(
        {
            **_common(made, "noise"), "group": number, "quantum": 5e-5, "expected_longest": expected,
            "ranks": ranks,
        }
    )  # fmt: skip


def scale(truth: Truth) -> dict[str, Any]:
    """Returns a scale.json with what is planted."""
    all_groups = groups(truth)
    made: list[Any] = []
    for number, group in enumerate(all_groups):
        if group["ranks"] > 1:
            _exchanges(truth, made, number, group)
        if truth.layers:
            _layers(truth, made, number, group)
        if truth.train:
            _steps(truth, made, number, group)
    if truth.noise:
        _noise(truth, made, len(all_groups) - 1, all_groups[-1])
    for size in (8, 64, 1024, 8192, 65536) if truth.hosts > 1 else ():
        made.append(
            {
                **_common(made, "ping"), "between": [0, truth.per_host], "bytes": size,
                "one_way": distribution(truth, 0.8 * truth.latency + size / 8 * truth.inverse_speed),
            }
        )  # fmt: skip
    ranks = truth.hosts * truth.per_host
    hosts = [
        {
            "name": f"host{i + 1}", "ranks": list(range(i * truth.per_host, (i + 1) * truth.per_host)),
            "processor": "Intel(R) Xeon(R) Platinum 8488C", "processors": truth.processors,
            "quota": None, "kernel": "Linux 6.1.0-30-amd64", "governor": None,
            "memory_bytes": 25200000000, "huge_pages": "madvise",
            "load": 0.41 if truth.one_computer else 0.41 + 0.01 * i,
        }
        for i in range(truth.hosts)
    ]  # fmt: skip
    return {
        "format": "syncbn scale 1", "version": "0.1.0",
        "command": f"mpirun -n {ranks} syncbn scale --budget quick --output DIR",
        "started": "2026-11-29T14:30:00Z", "seconds": 212.3, "sittings": 1, "seed": 1,
        "budget": "quick",
        "machine": {
            "transport": "builtin over Open MPI 4.1.4 (MPI 3.1, thread level funneled)",
            "instruction_set": "AVX3_SPR", "compiler": "GNU 12.2.0", "build_type": "Release",
            "ranks": ranks, "threads": 1, "oversubscribed": truth.per_host > truth.processors,
            "hosts": hosts, "binding": [f"0-{truth.processors - 1}"] * ranks,
        },
        "method": {
            "probabilities": PROBABILITIES, "wanted": 0.02, "cell_seconds": 0.4,
            "clock_uncertainty": 2e-6 if truth.hosts > 1 else 0.0,
        },
        "groups": all_groups, "cells": made,
    }  # fmt: skip


def simulation(truth: Truth) -> dict[str, Any]:
    """Returns a simulated.json: measured host counts a tenth too high, and far ones."""
    points = [
        {
            "hosts": hosts, "ranks_per_host": 1, "doubles": doubles,
            "seconds": 1.1 * truth.exchange(hosts, 1, doubles),
        }
        for hosts in ROUNDS if 1 < hosts <= truth.hosts
        for doubles in LENGTHS
    ]  # fmt: skip
    for hosts, rounds in ((64, 6), (256, 8), (1024, 10)):
        for doubles in LENGTHS:
            time = 1.1 * (truth.call + rounds * (truth.latency + truth.inverse_speed * doubles))
            points.append(
                {"hosts": hosts, "ranks_per_host": 1, "doubles": doubles, "seconds": time}
            )
    return {
        "format": "syncbn simulation 1", "simulator": "SimGrid 3.32",
        "calibration": {
            "source": "ping cells between ranks 0 and 2", "latency": truth.latency,
            "bytes": [8, 64], "one_way": [truth.latency, truth.latency],
        },
        "options": ["--cfg=smpi/host-speed:1Gf"], "points": points,
    }  # fmt: skip


def write(directory: Path, truth: Truth) -> Path:
    """Writes a run's directory and returns it."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "scale.json").write_text(json.dumps(scale(truth)))
    if truth.simulated:
        (directory / "simulated.json").write_text(json.dumps(simulation(truth)))
    return directory
