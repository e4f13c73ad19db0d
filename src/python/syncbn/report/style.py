# SPDX-License-Identifier: Apache-2.0
"""The one style of all figures, which are SVG with real text.

Colours have the names of variables in templates/style.css: Okabe & Ito's hues, set apart further by
markers and dashes.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from .svg import STAND_INS, inline

INK, MUTED, GRID, SURFACE = (STAND_INS[name] for name in ("ink", "muted", "grid", "surface"))
BLUE, RED, GREEN, PURPLE, YELLOW = (STAND_INS[f"c{i}"] for i in range(1, 6))


@dataclass(frozen=True)
class Mark:
    """How one thing looks in all figures."""

    colour: str
    marker: str
    dash: str = "-"

    @property
    def sign(self) -> str:
        """The marker as a character, for texts."""
        return {"o": "●", "s": "■", "D": "◆", "^": "▲", "v": "▼"}[self.marker]


SERIES = (
    Mark(BLUE, "o"),
    Mark(RED, "s", "--"),
    Mark(GREEN, "D", "-."),
    Mark(PURPLE, "^", ":"),
    Mark(YELLOW, "v", "-"),
)

_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "syncbn",
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "path.simplify": True,
    "path.simplify_threshold": 0.3,
}


class Canvas:
    """A figure being painted, measured in the pixels of the page that it is made for."""

    def __init__(self, width: int, height: int, narrow: bool, warning: str) -> None:
        self.width = width
        self.narrow = narrow
        self._above = 24 if warning else 0  # what the warning takes, not of the painter's height
        self._height = height
        self.figure = Figure(figsize=(width / 72, (height + self._above) / 72), dpi=72)
        FigureCanvasSVG(self.figure)
        if warning:
            top = 1 - 14 / (height + self._above)
            self.figure.text(0, top, warning, color=RED, fontweight="bold")

    def panel(self, left: float, top: float, width: float, height: float) -> Axes:
        """Returns axes whose frame lies there, from the upper left corner."""
        axes = self.figure.add_axes(
            (
                left / self.width,
                1 - (self._above + top + height) / (self._height + self._above),
                width / self.width,
                height / (self._height + self._above),
            )
        )
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.grid(axis="y")
        axes.tick_params(axis="y", which="both", length=0)
        axes.tick_params(axis="x", which="minor", length=0)
        return axes

    def panels(
        self, rows: int, columns: int, *, left: float = 62, right: float = 16, top: float = 48,
        bottom: float = 44, across: float = 30, down: float = 86,
    ) -> list[Axes]:  # fmt: skip
        """Returns a table of panels, row by row."""
        width = (self.width - left - right - (columns - 1) * across) / columns
        height = (self._height - top - bottom - (rows - 1) * down) / rows
        return [
            self.panel(left + column * (width + across), top + row * (height + down), width, height)
            for row in range(rows)
            for column in range(columns)
        ]


def head(axes: Axes, title: str = "", unit: str = "", x: str = "", back: float = 0) -> None:
    """Writes a panel's title, below it what its y axis shows, and what its x axis shows.

    `back` is how far, in pixels, title and unit begin to the left of the frame.
    """
    if title:
        axes.annotate(
            title, (0, 1), (-back, 24 if unit else 10), xycoords="axes fraction",
            textcoords="offset points", fontweight="bold", va="bottom", annotation_clip=False,
        )  # fmt: skip
    if unit:
        axes.annotate(
            unit, (0, 1), (-back, 8), xycoords="axes fraction", textcoords="offset points",
            color=MUTED, va="bottom", annotation_clip=False,
        )  # fmt: skip
    if x:
        axes.annotate(
            x, (1, 0), (0, -24), xycoords="axes fraction", textcoords="offset points",
            color=MUTED, va="top", ha="right", annotation_clip=False,
        )  # fmt: skip


def key(axes: Axes, entries: list[tuple[str, str, str]], back: float = 0, up: float = 8) -> None:
    """Writes what markers mean, each in its colour, in a line above a panel: (sign, words, colour)."""
    at = -back
    for sign, words, colour in entries:
        text = f"{sign} {words}"
        axes.annotate(
            text, (0, 1), (at, up), xycoords="axes fraction", textcoords="offset points",
            color=colour, va="bottom", annotation_clip=False,
        )  # fmt: skip
        at += 7.4 * len(text) + 12


@dataclass(frozen=True)
class EndLabel:
    y: float  # in data
    text: str
    colour: str


def label_ends(axes: Axes, labels: list[EndLabel], gap: float = 15, away: float = 8) -> None:
    """Writes labels to the right of the frame, each at its height, spread so that they do not touch.

    The limits and scales of the axes must be set before.
    """
    if not labels:
        return
    frame = axes.get_window_extent()
    placed = sorted(labels, key=lambda label: label.y)
    wanted = [float(axes.transData.transform((1, label.y))[1]) - frame.y0 for label in placed]
    wanted = [min(max(height, 0.0), frame.height) for height in wanted]
    heights = list(wanted)
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + gap)
    over = heights[-1] - max(frame.height, wanted[-1])
    if over > 0:
        heights[-1] -= over
        for i in range(len(heights) - 2, -1, -1):
            heights[i] = min(heights[i], heights[i + 1] - gap)
    for label, height in zip(placed, heights, strict=True):
        axes.annotate(
            label.text, (1, 0), (away, height), xycoords="axes fraction",
            textcoords="offset points", color=label.colour, va="center", annotation_clip=False,
        )  # fmt: skip


def paint(
    key: str,
    label: str,
    painter: Callable[[Canvas], None],
    wide: tuple[int, int],
    narrow: tuple[int, int],
    warning: str = "",
) -> Markup:
    """Returns a figure in two versions, for wide and for narrow pages.

    The painter is called once for each, with the sizes in pixels. `key` names the figure in the page,
    `label` says in words what it shows, and a warning stands above it.
    """
    parts = []
    label = f"{warning}. {label}" if warning else label
    for kind, (width, height) in (("wide", wide), ("narrow", narrow)):
        with matplotlib.rc_context(_SETTINGS):
            canvas = Canvas(width, height, kind == "narrow", warning)
            painter(canvas)
            file = io.StringIO()
            nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
            canvas.figure.savefig(file, format="svg", metadata=nothing)
        svg = inline(file.getvalue(), f"{key}-{kind}", label)
        parts.append(f'<div class="{kind}" data-figure="{key}">{svg}</div>')
    return Markup("".join(parts))
