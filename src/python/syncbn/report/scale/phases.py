# SPDX-License-Identifier: Apache-2.0
"""What a pass through synchronized layers consists of, by number of ranks."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from ..axes import group_axis
from ..distribution import Distribution
from ..numbers import percent, seconds
from ..page import render
from ..section import Section
from ..style import BLUE, GREEN, INK, RED, SURFACE, Canvas, EndLabel, label_ends, paint
from .axes import group_heads, linear_seconds
from .layer_sets import COPIES_OF_A_LAYER, SetOfLayers, largest_set, sets_of_layers, whole_name
from .measurements import LayerCell, Scale
from .section import has_several_hosts, short_name, warning_of

MOST_GROUPS = 8  # beyond which those that are spread over hosts are left out
# In the order of a step: the phase, its words, its colour and how strong it is.
_STACK = (
    ("sums", "sums", BLUE, 0.9),
    ("exchange", "exchange", RED, 0.95),
    ("normalize", "normalize", BLUE, 0.55),
    ("backward_sums", "backward sums", BLUE, 0.75),
    ("exchange", "exchange", RED, 0.95),
    ("input_gradient", "input gradient", BLUE, 0.35),
)


def _only(whole: SetOfLayers, shape: str | None) -> SetOfLayers:
    """Returns one shape of a set, as a single layer, or the whole set."""
    if shape is None:
        return whole
    cells = [cell for cell in whole.cells if cell.shape == shape]
    return SetOfLayers(whole.group, cells)


def _stack(axes: Axes, sets: list[SetOfLayers], title: str, several_hosts: bool) -> None:
    tops = np.zeros(len(sets))
    centres: list[EndLabel] = []
    places = np.arange(len(sets))
    for name, words, colour, strength in _STACK:
        heights = np.array([one.phase(name) for one in sets])
        axes.bar(
            places, heights, 0.62, tops, color=colour, alpha=strength, edgecolor=SURFACE,
            linewidth=0.8,
        )  # fmt: skip
        if heights[-1] > 0:
            centres.append(EndLabel(tops[-1] + heights[-1] / 2, words, colour))
        tops = tops + heights
    for place, one in zip(places, sets, strict=True):
        medians = _whole_pass(one)
        axes.errorbar(
            place, medians[0],
            [[max(0, medians[0] - medians[1])], [max(0, medians[2] - medians[0])]],
            color=INK, marker="D", capsize=4, markersize=6, markerfacecolor=SURFACE,
        )  # fmt: skip
        if one.copy:
            axes.plot([place - 0.4, place + 0.4], [one.copy] * 2, color=GREEN, linestyle=":")
    group_axis(axes, [short_name(one.group, several_hosts) for one in sets])
    linear_seconds(axes)
    highest = max(float(tops.max()), max(_whole_pass(one)[2] for one in sets))
    axes.set_ylim(0, 1.06 * highest)
    group_heads(axes, title, "forward and backward", several_hosts)
    label_ends(axes, centres)


def _whole_pass(one: SetOfLayers) -> tuple[float, float, float]:
    """Returns the median of the passes and the ends of its interval, each summed over the layers."""

    def total(of: str) -> float:
        both: list[tuple[int, Distribution]] = [
            (cell.layers, part)
            for cell in one.cells
            for part in (cell.sync_forward, cell.sync_backward)
        ]
        return sum(layers * float(getattr(part, of)) for layers, part in both)

    return total("median"), total("low"), total("high")


def _paint(
    canvas: Canvas, scale: Scale, sets: list[SetOfLayers], dearest: LayerCell | None
) -> None:
    several_hosts = has_several_hosts(scale)
    shapes = [None] if dearest is None else [None, dearest.shape]
    right = 112
    panels = (
        canvas.panels(len(shapes), 1, right=right)
        if canvas.narrow
        else canvas.panels(1, len(shapes), right=right, across=right + 62)
    )
    for axes, shape in zip(panels, shapes, strict=True):
        words = "All layers" if shape is None else f"Layers {shape.replace('x', '×')}"
        _stack(axes, [_only(one, shape) for one in sets], words, several_hosts)


def section(scale: Scale) -> Section:
    anchor, title = "phases", "What a layer's time consists of"
    sets = sets_of_layers(scale)
    whole = largest_set(scale)
    if whole is None:
        return Section(
            anchor, title, missing="No layers were measured: `--measure layer` adds them."
        )
    if len(sets) > MOST_GROUPS:
        sets = [one for one in sets if one.group.placement == "packed"]
    dearest = max(whole.cells, key=lambda cell: cell.price.value)
    shown = dearest if len(whole.cells) > 1 else None
    share = 2 * whole.phase("exchange") / whole.sync
    figure = paint(
        "phases",
        f"Phases of the layers by number of ranks. With {whole.group.ranks} ranks a pass through all "
        f"takes {seconds(whole.sync)}, {percent(share)} of it as long as its exchanges alone.",
        lambda canvas: _paint(canvas, scale, sets, shown),
        (720, 400), (350, 330 * (2 if shown else 1)), warning_of(scale),
    )  # fmt: skip
    body = render(
        "scale/phases.html.j2", figure=figure, whole=whole, dearest=shown, share=share,
        whole_name=whole_name(whole.cells), copies=COPIES_OF_A_LAYER,
        total=sum(
            whole.phase(name) for name, *_ in _STACK
        ),
    )  # fmt: skip
    return Section(anchor, title, body)
