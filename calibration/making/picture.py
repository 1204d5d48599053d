"""Draws error against speed: what lower precisions of a bundle buy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..figures import DPI, new_figure, png
from ..judging.gate import NOISES
from ..judging.yardstick import ERROR_GOOD, ERROR_REFUSED
from ..options import LowPrecision
from .labels import POINTS, Labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .explored import Choice, Exploration

_SIZE = (8.0, 5.5)  # inches
_MARKERS: Mapping[LowPrecision, str] = {"int8": "o", "fp16": "s", "bf16": "D"}
_COLOURS: Mapping[LowPrecision, str] = {"int8": "#08519c", "fp16": "#7a5195", "bf16": "#b35806"}
_FULL_COLOUR = "#333333"
_RING_COLOUR = "#d62728"
_ZONES: tuple[tuple[float, str, str], ...] = (  # from which error on, colour, name
    (0.0, "#eaf4ea", "good"),
    (ERROR_GOOD, "#fdf6e0", f"fair: above {ERROR_GOOD:g}, written with a note"),
    (ERROR_REFUSED, "#fbe9e6", f"refused: above {ERROR_REFUSED:g}"),
)
_MARGIN = 0.08  # of the range of speeds, on either side
_SHARED = 7.0  # points: marks this close share a label
_STEPS = 30  # on the line between two marks


def draw(report: Exploration) -> bytes:
    """Return a PNG."""
    figure = new_figure(*_SIZE)
    ax = figure.subplots()
    _set_axes(ax, report)
    _draw_zones(ax)
    _draw_choices(ax, report)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    figure.draw_without_rendering()  # settles where everything is: labels must find room
    _draw_labels(ax, report)
    return png(figure)


def _set_axes(ax: Axes, report: Exploration) -> None:
    slowest = min(1.0, *(each.speed.low for each in report.choices))
    fastest = max(1.0, *(each.speed.high for each in report.choices))
    room = _MARGIN * max(0.5, fastest - slowest)
    highest = max(ERROR_REFUSED + 0.1, *(each.error for each in report.choices))
    ax.set_xlim(slowest - room, fastest + room)
    ax.set_ylim(-0.07 * highest, 1.1 * highest)
    ax.set_xlabel("speed, times FP32's: median and quartiles", fontsize=9)
    ax.set_ylabel(f"error of the margin, as a share of {NOISES[report.unit]}", fontsize=9)
    ax.tick_params(labelsize=8)
    machine = report.environment
    ax.set_title(
        f"{report.bundle}, {machine.processor}, {machine.cpus} CPUs, {report.choices[-1].engine}\n"
        f"{report.compared_images} images, {report.judgements} judgements by each",
        fontsize=9,
    )


def _draw_zones(ax: Axes) -> None:
    """Colour what the gate makes of errors; names stand on the left, where no choice is."""
    ends = (*(start for start, *_ in _ZONES[1:]), ax.get_ylim()[1])
    for (start, colour, name), end in zip(_ZONES, ends, strict=True):
        ax.axhspan(start or ax.get_ylim()[0], end, color=colour, linewidth=0, zorder=0)
        if start:
            ax.axhline(start, color="#999999", linewidth=0.8, linestyle="--", zorder=1)
        ax.annotate(
            name, (0.0, end), xycoords=ax.get_yaxis_transform(),
            xytext=(5, -4), textcoords="offset points",
            ha="left", va="top", fontsize=8, color="#777777",
        )  # fmt: skip


def _draw_choices(ax: Axes, report: Exploration) -> None:
    int8 = [each for each in report.choices if each.precision == "int8"]
    blue = _COLOURS["int8"]
    ax.plot(*_places(int8), color=blue, linewidth=1.2, alpha=0.5, zorder=2)
    ax.plot(1.0, 0.0, "^", color=_FULL_COLOUR, markersize=8, zorder=4)
    for each in report.choices:
        speed, colour = each.speed, _COLOURS[each.precision]
        ax.hlines(each.error, speed.low, speed.high, colour, alpha=0.4, zorder=2)
        ax.plot(
            *_places([each]), _MARKERS[each.precision], color=colour, markersize=6, zorder=4,
            markerfacecolor=colour if each.outcome == "good" else "white",
        )  # fmt: skip
    ax.plot([], [], "o-", color=blue, markersize=6, label="INT8, and how many layers are kept")
    ax.plot([], [], "o", color=blue, markerfacecolor="white", label="error or shift not good")
    for default in (each for each in int8 if each.default):
        ax.plot(
            *_places([default]), "o", color=_RING_COLOUR, markersize=14, markerfacecolor="none",
            zorder=3, label=f"default of --precision int8: {default.kept}",
        )  # fmt: skip


def _draw_labels(ax: Axes, report: Exploration) -> None:
    """Write beside each mark what it is, where no mark, line or other text is."""
    int8 = [each for each in report.choices if each.precision == "int8"]
    marks = [(1.0, 0.0), *zip(*_places(report.choices), strict=True), *_along(int8)]
    labels = Labels(ax, marks)
    labels.write((1.0, 0.0), "FP32", _FULL_COLOUR)
    for group in _groups(ax, report.choices):
        speeds, errors = _places(group)
        middle = float(np.mean(speeds)), float(np.mean(errors))
        text, colour = ", ".join(map(_name, group)), _COLOURS[group[0].precision]
        labels.write(middle, text, colour)


def _groups(ax: Axes, choices: Sequence[Choice]) -> list[list[Choice]]:
    """Put neighbours on INT8's line together whose marks touch."""
    groups: list[list[Choice]] = []
    places = ax.transData.transform(np.column_stack(_places(choices)))
    steps = np.linalg.norm(np.diff(places, axis=0, prepend=places[:1]), axis=1)
    for choice, step in zip(choices, steps, strict=True):
        touching = step < _SHARED * DPI / POINTS
        if groups and touching and groups[-1][-1].precision == choice.precision:
            groups[-1].append(choice)
        else:
            groups.append([choice])
    return groups


def _name(choice: Choice) -> str:
    if choice.kept is not None:
        return str(choice.kept)
    name = choice.precision.upper()
    if choice.computed == choice.precision:
        return name
    return f"{name}, computed in {choice.computed.upper()}"


def _places(choices: Sequence[Choice]) -> tuple[list[float], list[float]]:
    """Return speeds and errors."""
    return [each.speed.times for each in choices], [each.error for each in choices]


def _along(choices: Sequence[Choice]) -> list[tuple[float, float]]:
    """Return points close to each other on the line through some choices."""
    if not choices:
        return []
    steps = np.linspace(0, len(choices) - 1, _STEPS * len(choices))
    speeds, errors = (np.interp(steps, range(len(choices)), values) for values in _places(choices))
    return list(zip(speeds, errors, strict=True))
