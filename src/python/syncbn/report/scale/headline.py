# SPDX-License-Identifier: Apache-2.0
"""The first lines of the page: the price, and what else was found."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from ..distribution import Interval
from ..numbers import amount, error, listed, percent, seconds, times, times_range
from ..page import render
from .exchange import rows_of
from .layer_sets import SetOfLayers, largest_set, sets_of_layers, whole_name
from .measurements import Scale
from .models import ModelOf
from .noise import noise_cell
from .noise import verdict_of as noise_verdict
from .section import largest_of, name_of, warning_of
from .stragglers import arrivals_of


@dataclass(frozen=True)
class Headline:
    whole: SetOfLayers | None
    price: Interval | None
    sentence: str  # for who knows nothing of batch norm
    findings: list[str]


def _sentence(whole: SetOfLayers, price: Interval) -> str:
    where = f"With {name_of(whole.group)}, a pass through {whole_name(whole.cells)}"
    extra = price.value - 1
    change = f"{percent(abs(extra))} {'longer' if extra > 0 else 'shorter'}"
    if price.low <= 1 <= price.high:
        return (
            f"{where} takes as long when all ranks share their statistics as when each keeps to its own, "
            f"as far as this run can tell (measured: {change})."
        )
    return (
        f"{where} takes {change} when all ranks share their statistics than when each keeps to its own: "
        f"{seconds(abs(whole.sync - whole.local))} in each training step."
    )


def _faster_than_mpi(scale: Scale) -> str | None:
    rows = [row for row in rows_of(scale) if row.ratio]
    if not rows:
        return None
    largest = largest_of([row.group for row in rows])
    own = [row for row in rows if row.group == largest]
    faster = [row for row in own if row.ratio and row.ratio.high < 1]
    slower = [row for row in own if row.ratio and row.ratio.low > 1]
    ratios = [row.ratio.value for row in own if row.ratio]
    return (
        f"On {name_of(largest)}, an exchange takes {times(min(ratios))} to {times(max(ratios))} as long as "
        f"MPI_Allreduce: clearly less in {len(faster)} of {amount(len(own), 'length')}, clearly more in "
        f"{len(slower)}."
    )


def _model(models: list[ModelOf]) -> str | None:
    ours = models[0] if models else None
    if ours is None or ours.held_out is None:
        return None
    return (
        f"The model, which has not seen the largest size, is off there by {error(ours.held_out.median)} "
        f"(median) and {error(ours.held_out.worst)} (worst)."
    )


def _ranks(scale: Scale) -> str | None:
    groups = [group for group in scale.groups if group.ranks > 1]
    found = arrivals_of(scale, largest_of(groups)) if groups else None
    cell = noise_cell(scale)
    parts = []
    if found:
        names = [f"rank {one.rank}" for one in found.stragglers]
        parts.append(f"Others wait for {listed(names)}." if names else "No rank straggles.")
    if cell:
        parts.append(noise_verdict(cell))
    return " ".join(parts) or None


def headline_of(scale: Scale, models: list[ModelOf]) -> Headline:
    whole = largest_set(scale)
    price = whole.price if whole else None
    sentence = _sentence(whole, price) if whole and price else ""
    findings = [_faster_than_mpi(scale), _model(models), _ranks(scale)]
    return Headline(whole, price, sentence, [one for one in findings if one])


def body_of(scale: Scale, headline: Headline) -> Markup:
    return render(
        "scale/headline.html.j2", headline=headline, scale=scale, warning=warning_of(scale),
        name_of=name_of,
    )  # fmt: skip


def price_lines(scale: Scale) -> list[str]:
    """Returns the price of each group, as the command prints it."""
    return [f"  {name_of(one.group):<32} {times_range(one.price)}" for one in sets_of_layers(scale)]
