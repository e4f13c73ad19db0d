# SPDX-License-Identifier: Apache-2.0
"""The twelve rules of Hoefler & Belli, Scientific Benchmarking of Parallel Computing Systems (SC15), and
whether this page keeps them."""

from __future__ import annotations

from dataclasses import dataclass

from ..numbers import amount, count, percent, seconds
from ..page import render
from ..section import Section
from .layer_sets import largest_set, network_of, sets_of_layers
from .measurements import LayerCell, NoiseCell, PingCell, Scale, StepCell


@dataclass(frozen=True)
class Rule:
    number: int
    text: str
    answer: str  # "yes", "no" or "partly"
    where: str


def rules_of(scale: Scale) -> list[Rule]:
    base = any(one.group.ranks == 1 for one in sets_of_layers(scale)) or any(
        cell.group.ranks == 1 for cell in scale.of(StepCell)
    )
    whole = largest_set(scale)
    network = network_of(whole.cells) if whole else ""
    repeated = [cell for cell in scale.cells if not isinstance(cell, NoiseCell)]
    short = [cell for cell in repeated if not cell.enough]
    enough = len(repeated) - len(short)
    silent = [
        words
        for words, known in (
            ("governor", all(host.governor for host in scale.machine.hosts)),
            ("load", all(host.load is not None for host in scale.machine.hosts)),
            ("binding", bool(scale.machine.binding)),
        )
        if not known
    ]
    clock = scale.method.clock_uncertainty
    layers = bool(scale.of(LayerCell))
    bound = ["copying memory under the price" if layers else ""]
    bound += ["rounds × one-way time under the exchange" if scale.of(PingCell) else ""]
    bounds = " and ".join(one for one in bound if one)
    return [
        Rule(
            1, "Speed-up names its base case and gives its absolute time",
            "partly" if base else "no",
            "one rank, and local layers of the same ranks: tables of Price and Training step; other "
            "libraries' layers are timed by `syncbn bench --compare onednn`"
            if base else "no group of one rank was measured",
        ),
        Rule(
            2, "The subset of benchmarks is explained", "yes" if network else "partly",
            f"the batch norm layers of {network}, all of them" if network
            else "the shapes of the command under Reproduce",
        ),
        Rule(
            3, "Arithmetic means only of costs", "yes",
            "only times are added up; the expected maximum under Noise is a mean of times",
        ),
        Rule(
            4, "Ratios are not averaged", "yes",
            "the price of the whole set is a ratio of sums, not a mean of prices",
        ),
        Rule(
            5, "Whether results vary is said, with intervals of those that do",
            "yes" if not short else "partly",
            f"all {count(len(repeated))} measurements reached ±{percent(scale.method.wanted)} of the median"
            if not short
            else f"{count(enough)} of {amount(len(repeated), 'measurement')} reached "
            f"±{percent(scale.method.wanted)} of the median; the others ended by their time, and their "
            "intervals are drawn as wide as they are",
        ),
        Rule(
            6, "Normality is not assumed", "yes",
            "medians with intervals by order statistics, of batches where these are wider; quantiles; "
            "bootstrap",
        ),
        Rule(
            7, "Differences are tested", "partly",
            "Guidelines: a difference is one where intervals do not overlap; they allow for repetitions "
            "that are alike, not for a load that comes after the cell was measured; Skew: binomial test",
        ),
        Rule(
            8, "Percentiles where the tail matters", "yes",
            "p50, p99 and maximum of each exchange; each rank under Skew and Noise",
        ),
        Rule(
            9, "All factors and levels are documented", "yes" if not silent else "partly",
            "The machine, Reproduce" if not silent
            else f"The machine, Reproduce; the system does not tell: {', '.join(silent)}",
        ),
        Rule(
            10, "How time was taken, synchronized and summarized is said", "yes",
            "ranks begin at a common moment; "
            + ("one kernel's clock" if clock == 0 else f"clocks agree to {seconds(clock)}")
            + "; cells in random order; two runs to warm up, then nothing is discarded",
        ),
        Rule(
            11, "Upper bounds are shown", "yes" if bounds else "no",
            bounds or "neither layers nor pings were measured",
        ),
        Rule(
            12, "Lines only where values between them mean something", "partly",
            "lines by length and by time mean something; between numbers of ranks they only lead the eye",
        ),
    ]  # fmt: skip


def section(scale: Scale) -> Section:
    body = render("scale/rules.html.j2", rules=rules_of(scale))
    return Section("rules", "Twelve rules of honest reports", body)
