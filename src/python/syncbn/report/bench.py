# SPDX-License-Identifier: Apache-2.0
"""The page of what `syncbn bench --json` wrote: times of layers, and what of memory's speed they reach."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from .documents import DocumentError, Member
from .numbers import amount, seconds, short_seconds, times
from .page import Page, render
from .style import INK, SERIES, Canvas, head, key, paint

# Passes and what they are compared with, as they are drawn: the phases that are added up, if all of
# them were measured.
_PASSES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("synchronized", ("forward", "backward")),
    ("local", ("local_forward", "local_backward")),
    ("oneDNN", ("onednn_forward", "onednn_backward")),
    ("exact", ("exact_forward", "exact_backward")),
)
_SPEEDS = ("copy", "forward", "backward")


@dataclass(frozen=True)
class Phase:
    """Repetitions of a phase, in seconds."""

    repetitions: int
    median: float
    lower_quartile: float
    upper_quartile: float
    least: float
    most: float
    speed: float | None  # GB/s


@dataclass(frozen=True)
class Layer:
    shape: str
    layers: int
    phases: dict[str, Phase]

    def total(self, phases: tuple[str, ...], of: str = "median") -> float | None:
        """Returns phases added up, None if one was not measured."""
        if not all(name in self.phases for name in phases):
            return None
        return sum(float(getattr(self.phases[name], of)) for name in phases)


def recognizes(document: Member) -> bool:
    return isinstance(document.value, dict) and "layers" in document.value


def _phase(member: Member) -> Phase:
    return Phase(
        member["repetitions"].integer(),
        member["median"].number(),
        member["lower_quartile"].number(),
        member["upper_quartile"].number(),
        member["min"].number(),
        member["max"].number(),
        member["gb_per_s"].number() if member.has("gb_per_s") else None,
    )


def _layer(member: Member) -> Layer:
    phases = member["phases"]
    return Layer(
        member["shape"].text(),
        member["layers"].integer(),
        {name: _phase(phases[name]) for name in phases.names()},
    )


def _shape_axis(axes: Axes, layers: list[Layer]) -> None:
    axes.grid(visible=False)
    axes.grid(axis="x")
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.set_yticks(range(len(layers)), [layer.shape.replace("x", "×") for layer in layers])
    axes.xaxis.set_minor_locator(NullLocator())


def _times(canvas: Canvas, layers: list[Layer], kinds: list[tuple[str, tuple[str, ...]]]) -> None:
    left = 112 if canvas.narrow else 150
    (axes,) = canvas.panels(1, 1, left=left, right=24, top=50)
    shifts = np.linspace(-0.2, 0.2, len(kinds)) if len(kinds) > 1 else np.zeros(1)
    signs = []
    for mark, shift, (name, phases) in zip(SERIES, shifts, kinds, strict=False):
        signs.append((mark.sign, name, mark.colour))
        for place, layer in enumerate(layers):
            middle = layer.total(phases)
            if middle is not None:
                ends = [layer.total(phases, f"{end}_quartile") or 0.0 for end in ("lower", "upper")]
                axes.plot(ends, [place + shift] * 2, color=mark.colour, linewidth=1.4)
                axes.plot(middle, place + shift, mark.marker, color=mark.colour)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(10, (1.0,) if canvas.narrow else (1.0, 3.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_seconds(value)))
    _shape_axis(axes, layers)
    head(axes, "Forward and backward of a layer", " ", "medians; bars: quartiles", left)
    key(axes, signs, left)


def _speeds(canvas: Canvas, layers: list[Layer]) -> None:
    left = 112 if canvas.narrow else 150
    (axes,) = canvas.panels(1, 1, left=left, right=24, top=50)
    signs = []
    for mark, name in zip((SERIES[2], SERIES[0], SERIES[1]), _SPEEDS, strict=True):
        own = [(place, layer.phases.get(name)) for place, layer in enumerate(layers)]
        drawn = [(place, phase.speed) for place, phase in own if phase and phase.speed]
        if drawn:
            signs.append((mark.sign, name, mark.colour))
            axes.plot(
                [speed for _, speed in drawn], [place for place, _ in drawn], mark.marker,
                color=mark.colour,
            )  # fmt: skip
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.axvline(0, color=INK, linewidth=1)
    _shape_axis(axes, layers)
    head(axes, "Speed through memory", " ", "GB/s, of the median", left)
    key(axes, signs, left)


def build(document: Member) -> Page:
    layers = [_layer(one) for one in document["layers"]]
    if not layers:
        raise DocumentError(f"{document.file}: layers is empty (a bench times some).")
    kinds = [
        (name, phases)
        for name, phases in _PASSES
        if all(layer.total(phases) is not None for layer in layers)
    ]
    totals = {
        name: sum(layer.layers * (layer.total(phases) or 0.0) for layer in layers)
        for name, phases in kinds
    }
    height = 104 + 30 * len(layers)
    words = "; ".join(f"{name} {seconds(total)}" for name, total in totals.items())
    passes = kinds and paint(
        "bench",
        f"Time of forward and backward by shape. All layers: {words}",
        lambda canvas: _times(canvas, layers, kinds),
        (720, height), (350, height),
    )  # fmt: skip
    speeds = any(phase.speed for layer in layers for phase in layer.phases.values()) and paint(
        "bench-speeds",
        "Speed through memory by shape, of a copy and of the passes",
        lambda canvas: _speeds(canvas, layers),
        (720, height), (350, height),
    )  # fmt: skip
    ratio = (
        totals["synchronized"] / totals["local"]
        if "synchronized" in totals and totals.get("local")
        else None
    )
    html = render(
        "bench.html.j2", document=document, layers=layers, passes=passes, speeds=speeds,
        totals=totals, ratio=ratio, ranks=document["ranks"].integer(),
        device=document["device"] if document.has("device") else None,
    )  # fmt: skip
    summary = [
        f"{amount(document['ranks'].integer(), 'rank')}, "
        f"{amount(sum(layer.layers for layer in layers), 'layer')} of {amount(len(layers), 'shape')}"
    ]
    summary += [f"  {name:<14} {seconds(total)}" for name, total in totals.items()]
    if ratio:
        summary.append(f"  synchronized / local: {times(ratio)}")
    return Page(html, summary)
