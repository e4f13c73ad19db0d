# SPDX-License-Identifier: Apache-2.0
"""The page of what `syncbn check --json` wrote: errors against their tolerances."""

from __future__ import annotations

import math
from dataclasses import dataclass

from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from .documents import DocumentError, Member
from .numbers import amount, count, digits
from .page import Page, render
from .style import INK, RED, SERIES, Canvas, head, key, paint


@dataclass(frozen=True)
class Result:
    dtype: str
    quantity: str
    error: float
    tolerance: float  # 0: must be equal
    passed: bool
    case: str

    @property
    def used(self) -> float:
        """The error as a part of the tolerance."""
        return self.error / self.tolerance if self.tolerance > 0 else 0.0


def recognizes(document: Member) -> bool:
    return isinstance(document.value, dict) and "results" in document.value


def _result(member: Member) -> Result:
    return Result(
        member["dtype"].text(),
        member["quantity"].text(),
        member["error"].number() if member.has("error") else math.inf,  # JSON has no infinity
        member["tolerance"].number(),
        member["pass"].truth(),
        member["case"].text(),
    )


def _draw(canvas: Canvas, results: list[Result], control: float | None) -> None:
    quantities = list(dict.fromkeys(one.quantity for one in results))
    dtypes = list(dict.fromkeys(one.dtype for one in results))
    left = 112
    (axes,) = canvas.panels(1, 1, left=left, right=28, top=50)
    least = min((one.used for one in results if one.used > 0), default=0.1)
    finite = [one.used for one in results if math.isfinite(one.used)]
    most = max(20.0, *(4 * used for used in finite), 4 * (control or 0))
    for i, dtype in enumerate(dtypes):
        mark = SERIES[i % len(SERIES)]
        shift = (i - (len(dtypes) - 1) / 2) * 0.18
        for one in results:
            if one.dtype == dtype:
                place = quantities.index(one.quantity) + shift
                used = min(max(one.used, least / 2), most / 1.5)
                axes.plot(used, place, mark.marker, color=mark.colour if one.passed else RED)
    axes.axvline(1, color=INK, linewidth=1.2)
    if control:
        axes.axvline(control, color=RED, linewidth=1.2, linestyle="--")
    axes.set_xscale("log")
    axes.set_xlim(least / 4, most)
    axes.xaxis.set_major_locator(LogLocator(10, numticks=4 if canvas.narrow else 9))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: digits(value, 1)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(visible=False)
    axes.grid(axis="x")
    axes.set_ylim(len(quantities) - 0.4, -0.6)
    axes.set_yticks(range(len(quantities)), quantities)
    signs = [
        (SERIES[i % len(SERIES)].sign, dtype, SERIES[i % len(SERIES)].colour)
        for i, dtype in enumerate(dtypes)
    ]
    head(axes, "Largest error, as a part of its tolerance", " ", "error / tolerance", left)
    key(axes, signs, left)


def build(document: Member) -> Page:
    results = [_result(one) for one in document["results"]]
    if not results:
        raise DocumentError(f"{document.file}: results is empty (a check compares something).")
    control = document["local_control"] if document.has("local_control") else None
    exact = document["exact"] if document.has("exact") else None
    passed = document["pass"].truth()
    ranks = document["ranks"].integer()
    control_used = (
        control["error"].number() / control["tolerance"].number()
        if control and control["tolerance"].number() > 0
        else None
    )
    worst = max(results, key=lambda one: one.used)
    quantities = len({one.quantity for one in results})
    figure = paint(
        "check",
        f"Largest error of each quantity as a part of its tolerance. Worst: {worst.quantity} in "
        f"{worst.dtype}, {digits(worst.used, 2)}",
        lambda canvas: _draw(canvas, results, control_used),
        (720, 104 + 34 * quantities), (350, 104 + 34 * quantities),
    )  # fmt: skip
    missed = [one for one in results if not one.passed]
    html = render(
        "check.html.j2", document=document, results=results, figure=figure, control=control,
        control_used=control_used, exact=exact, passed=passed, ranks=ranks, worst=worst,
        missed=missed, device=document["device"] if document.has("device") else None,
    )  # fmt: skip
    summary = [
        f"{'PASS' if passed else 'FAIL'}: {amount(ranks, 'rank')}, {count(len(results))} comparisons, "
        f"{len(missed)} off",
        f"nearest to its tolerance: {worst.quantity} in {worst.dtype}, {digits(worst.used, 2)} of it",
    ]
    return Page(html, summary)
