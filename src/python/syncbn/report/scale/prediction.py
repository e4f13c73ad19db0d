# SPDX-License-Identifier: Apache-2.0
"""The model of the exchange, drawn, and told with its errors."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from ..axes import log_counts
from ..model import FEWEST_SIZES, Model, Point
from ..numbers import amount, listed, percent, seconds
from ..page import render
from ..section import Section
from ..style import INK, MUTED, SERIES, SURFACE, Canvas, EndLabel, Mark, head, label_ends, paint
from .axes import log_seconds
from .exchanges import BUILTIN
from .measurements import Scale
from .models import Curve, ModelOf, curves_of, far_predictions
from .section import has_several_hosts, warning_of
from .simulation import SimulatedPoint, Simulation


def simulated_checks(model: Model, simulation: Simulation) -> list[tuple[Point, SimulatedPoint]]:
    """Returns simulated points with the times that were measured in the same setting."""
    return [
        (point, simulated)
        for simulated in simulation.points
        for point in model.points
        if point.setting.hosts == simulated.hosts
        and point.setting.doubles == simulated.doubles
        and point.setting.most_on_a_host == simulated.ranks_per_host
        and point.setting.ranks == simulated.hosts * simulated.ranks_per_host
    ]


def three_of(lengths: list[int]) -> list[int]:
    """Returns the shortest, a middle and the longest length."""
    return sorted({lengths[0], lengths[len(lengths) // 2], lengths[-1]})


def _draw(
    canvas: Canvas, scale: Scale, model: Model, curves: list[Curve], simulation: Simulation | None
) -> None:
    if canvas.narrow:
        panels = canvas.panels(len(curves), 1, right=96)
    else:
        panels = canvas.panels(1, len(curves), right=100, across=164)
    for axes, curve in zip(panels, curves, strict=True):
        _draw_curve(axes, scale, model, curve, simulation)


def _draw_curve(
    axes: Axes, scale: Scale, model: Model, curve: Curve, simulation: Simulation | None
) -> None:
    lengths = three_of(sorted({point.setting.doubles for point in model.points}))
    own = [one for one in model.points if curve.has(one.setting) and one.setting.doubles in lengths]
    measured = sorted({curve.x(one.setting) for one in own}) or [1]
    beyond = [x for x in _powers(curve) if x > measured[-1]]
    ends, labels = [], []
    for mark, doubles in zip(SERIES, lengths, strict=False):
        points = [one for one in own if one.setting.doubles == doubles]
        within = sorted((one.setting for one in points), key=curve.x)
        after = [curve.setting(scale, x, doubles) for x in beyond]
        parts = [within, after] if any(at.waits for at in within) else [[*within, *after]]
        for settings in filter(None, parts):
            xs = [curve.x(at) for at in settings]
            bands = np.array([model.band(at) for at in settings])
            middle = [model.fit.predict(at) for at in settings]
            axes.fill_between(xs, *bands.T, color=mark.colour, alpha=0.14, linewidth=0)
            axes.plot(xs, middle, color=mark.colour, linestyle=mark.dash, linewidth=1.4)
            ends += bands.ravel().tolist()
        labels.append(EndLabel(middle[-1], amount(doubles, "double"), mark.colour))
        ends += _draw_measured(axes, curve, model, points, mark)
        if simulation and curve.per_host:
            ends += _draw_simulated(axes, curve, simulation, doubles, mark)
    ticks = [x for x in (1, 2, 3, 4, 8, 16, 64, 256, 1024) if measured[0] <= x <= curve.upto]
    log_counts(axes, ticks if curve.per_host else [*measured, curve.upto], 5)
    axes.set_xlim(measured[0] / 1.25, curve.upto * 1.25)
    log_seconds(axes, min(ends), max(ends))
    if curve.upto > measured[-1]:
        axes.axvline(measured[-1] * 1.12, color=MUTED, linewidth=0.9)
        axes.annotate(
            "MODEL →", (measured[-1] * 1.16, 1), (4, -4), xycoords=("data", "axes fraction"),
            textcoords="offset points", va="top", color=INK, fontweight="bold",
        )  # fmt: skip
    where = f"{amount(curve.per_host, 'rank')} a host" if curve.per_host else "one host"
    head(axes, f"MODEL, {where}", "time of an exchange", "hosts" if curve.per_host else "ranks", 62)
    label_ends(axes, labels)


def _draw_measured(
    axes: Axes, curve: Curve, model: Model, points: list[Point], mark: Mark
) -> list[float]:
    """Draws measured times, those that were held out as stars, and returns the ends of their intervals."""
    held_out = {id(one.point) for one in model.held_out}
    for point in points:
        is_out = id(point) in held_out
        at = curve.x(point.setting)
        axes.plot([at, at], [point.time.low, point.time.high], color=mark.colour)
        axes.plot(
            at, point.time.median, "*" if is_out else mark.marker, color=mark.colour,
            markersize=14 if is_out else 6, markeredgecolor=SURFACE, zorder=4,
        )  # fmt: skip
    return [end for point in points for end in (point.time.low, point.time.high)]


def _draw_simulated(
    axes: Axes, curve: Curve, simulation: Simulation, doubles: int, mark: Mark
) -> list[float]:
    """Draws simulated times and returns them."""
    own = [
        one
        for one in simulation.points
        if one.doubles == doubles and one.ranks_per_host == curve.per_host
    ]
    axes.plot(
        [one.hosts for one in own], [one.seconds for one in own], mark.marker, color=mark.colour,
        markersize=8, markerfacecolor=SURFACE, markeredgewidth=1.6,
    )  # fmt: skip
    return [one.seconds for one in own]


def _powers(curve: Curve) -> list[int]:
    """Returns the powers of two on a curve, and its end."""
    return sorted({*(2**i for i in range(curve.upto.bit_length())), curve.upto})


def section(scale: Scale, models: list[ModelOf], simulation: Simulation | None) -> Section:
    anchor, title = "model", "Model, and what it says of more ranks"
    ours = next((one for one in models if one.by == BUILTIN), None)
    if ours is None:
        return Section(
            anchor,
            title,
            missing="There are no exchanges to model: `--measure exchange` and `mpirun -n 2` add them.",
        )
    curves = curves_of(scale, ours.model)
    lengths = three_of(sorted({point.setting.doubles for point in ours.model.points}))
    far = [
        one
        for curve in curves
        for one in far_predictions(scale, ours.model, curve, [lengths[0], lengths[-1]])
    ]
    checks = simulated_checks(ours.model, simulation) if simulation else []
    figure = curves and paint(
        "model",
        "MODEL of the time of an exchange with its band, over the measured times, for "
        f"{listed([str(one) for one in lengths])} doubles",
        lambda canvas: _draw(canvas, scale, ours.model, curves, simulation),
        (720, 360), (350, 340 * len(curves)), warning_of(scale),
    )  # fmt: skip
    simulated_error = [
        abs(simulated.seconds / point.time.median - 1) for point, simulated in checks
    ]  # fmt: skip
    body = render(
        "scale/model.html.j2", figure=figure, ours=ours, models=models,
        of_hosts=bool(curves and curves[0].per_host), far=far,
        simulation=simulation, checks=checks,
        shared=any(len(hosts) > 1 for hosts in scale.machine.computers),
        simulated_median=float(np.median(simulated_error)) if checks else None,
        simulated_worst=max(simulated_error, default=None), fewest=FEWEST_SIZES,
        several_hosts=has_several_hosts(scale), percent=percent, seconds=seconds,

    )  # fmt: skip
    return Section(anchor, title, body)
