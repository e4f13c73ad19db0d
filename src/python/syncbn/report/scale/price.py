# SPDX-License-Identifier: Apache-2.0
"""The price of synchronization: the time of synchronized layers over that of local ones."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ..axes import rank_axis
from ..numbers import times
from ..page import render
from ..section import Section
from ..style import GREEN, INK, SERIES, Canvas, EndLabel, head, label_ends, paint
from .layer_sets import COPIES_OF_A_LAYER, SetOfLayers, largest_set, sets_of_layers, whole_name
from .measurements import LayerCell, Scale
from .section import has_several_hosts, name_of, warning_of


def _by_ranks(scale: Scale, sets: list[SetOfLayers], canvas: Canvas) -> None:
    (axes,) = canvas.panels(1, 1, right=120 if canvas.narrow else 150)
    labels = []
    for mark, placement in zip(SERIES, ("packed", "spread"), strict=False):
        own = [one for one in sets if one.group.placement == placement]
        if not own:
            continue
        prices = [one.price for one in own]
        values = np.array([price.value for price in prices])
        axes.errorbar(
            [one.group.ranks for one in own], values,
            np.maximum(0, [values - [one.low for one in prices], [one.high for one in prices] - values]),
            color=mark.colour, marker=mark.marker, linestyle=mark.dash, capsize=3, elinewidth=1.2,
        )  # fmt: skip
        one_kind = len({each.group.placement for each in sets}) == 1
        last = times(values[-1])
        labels.append(
            EndLabel(values[-1], last if one_kind else f"{placement} {last}", mark.colour)
        )
    axes.axhline(1, color=INK, linewidth=1)
    labels.append(EndLabel(1, "local layers", INK))
    packed = [one for one in sets if one.group.placement == "packed" and one.copy]
    if packed:
        bound = [(one.copy or 0) / one.local for one in packed]
        axes.plot([one.group.ranks for one in packed], bound, color=GREEN, linestyle=(0, (1, 1.6)))
        labels.append(EndLabel(bound[-1], "copying memory", GREEN))
    rank_axis(axes, [one.group.ranks for one in sets])
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.9) if low > 0 else 0, high + 0.05 * (high - low))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    head(axes, "Price by number of ranks", "T sync / T local", "ranks", 62)
    label_ends(axes, labels)


def _by_shape(scale: Scale, whole: SetOfLayers, canvas: Canvas) -> None:
    left = 104 if canvas.narrow else 150
    (axes,) = canvas.panels(1, 1, left=left, right=64, top=44)
    axes.grid(visible=False)
    axes.grid(axis="x")
    axes.axvline(1, color=INK, linewidth=1)
    mark = SERIES[0]
    for place, cell in enumerate(whole.cells):
        axes.plot([cell.price.low, cell.price.high], [place, place], color=mark.colour)
        axes.plot(cell.price.value, place, mark.marker, color=mark.colour)
        axes.annotate(
            times(cell.price.value), (1, place), (10, 0), xycoords=("axes fraction", "data"),
            textcoords="offset points", va="center", color=INK, annotation_clip=False,
        )  # fmt: skip
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.98), high + 0.04 * (high - low))
    axes.set_ylim(len(whole.cells) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(4 if canvas.narrow else 7, steps=(1, 2, 5, 10)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    axes.set_yticks(range(len(whole.cells)), [_shape_text(cell) for cell in whole.cells])
    head(
        axes, f"Price by shape, {name_of(whole.group)}", "", "T sync / T local",
        left,
    )  # fmt: skip


def _shape_text(cell: LayerCell) -> str:
    return cell.shape.replace("x", "×")


def section(scale: Scale) -> Section:
    anchor, title = "price", "The price, by number of ranks and by shape"
    sets = sets_of_layers(scale)
    whole = largest_set(scale)
    if whole is None:
        return Section(
            anchor,
            title,
            missing="No group measured layers of all shapes: `--measure layer` adds them.",
        )
    by_ranks = paint(
        "price",
        "Price of synchronization by number of ranks: "
        + "; ".join(f"{name_of(one.group)} {times(one.price.value)}" for one in sets),
        lambda canvas: _by_ranks(scale, sets, canvas),
        (720, 320), (350, 300), warning_of(scale),
    )  # fmt: skip
    height = 92 + 26 * len(whole.cells)
    by_shape = paint(
        "price-shapes",
        f"Price of synchronization of {name_of(whole.group)} by shape of the layer",
        lambda canvas: _by_shape(scale, whole, canvas),
        (720, height), (350, height), warning_of(scale),
    )  # fmt: skip
    body = render(
        "scale/price.html.j2", by_ranks=by_ranks, by_shape=by_shape, sets=sets, whole=whole,
        name_of=name_of, several_hosts=has_several_hosts(scale),
        whole_name=whole_name(whole.cells), copies=COPIES_OF_A_LAYER,
        beaten=any(one.copy and one.copy > one.sync for one in sets),
    )  # fmt: skip
    return Section(anchor, title, body)
