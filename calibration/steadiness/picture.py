"""Draws crops spent against verdicts unlike the settled ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..figures import new_figure, png
from .curve import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ALONE = (7.2, 4.8)  # inches
_WIDTH, _HEIGHT = 4.0, 3.8  # of several panels
_FIXED, _RULE, _CHOSEN = "#b35806", "#08519c", "#d62728"


@dataclass(frozen=True)
class Panel:
    """What a panel shows.

    Attributes:
        title: what was measured.
        fixed: fixed numbers of crops.
        rules: rules of every scale.
        chosen: the rule of the bundle.
        asked: the risk that it shall keep.
    """

    title: str
    fixed: Mapping[int, Point]
    rules: Sequence[Point]
    chosen: Point
    asked: float | None = None


def draw(panels: Sequence[Panel]) -> bytes:
    """Return a PNG with panels side by side."""
    figure = new_figure(*_ALONE if len(panels) == 1 else (_WIDTH * len(panels), _HEIGHT))
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, panel in zip(axes, panels, strict=True):
        _draw_panel(ax, panel)
    axes[0].set_ylabel("verdicts unlike the settled one, %", fontsize=9)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return png(figure)


def _draw_panel(ax: Axes, panel: Panel) -> None:
    _draw_points(ax, panel)
    if panel.asked is not None:
        ax.axhline(100 * panel.asked, color="#999999", linewidth=0.8, linestyle="--")
        ax.annotate(
            f"risk asked for: {panel.asked:.2%}", (1.0, 100 * panel.asked),
            xycoords=ax.get_yaxis_transform(), xytext=(-4, 3), textcoords="offset points",
            ha="right", fontsize=8, color="#777777",
        )  # fmt: skip
    ticks = [1 << power for power in range(max(panel.fixed).bit_length())]
    ax.set_xscale("log", base=2)
    ax.set_xticks(ticks, list(map(str, ticks)))
    ax.minorticks_off()
    ax.set_ylim(bottom=0)
    ax.set_xlabel("crops of an image, on average", fontsize=9)
    ax.tick_params(labelsize=8)
    ax.set_title(panel.title, fontsize=9)


def _draw_points(ax: Axes, panel: Panel) -> None:
    numbers = [number for number in panel.fixed if number & (number - 1) == 0]
    ax.plot(*_places([panel.fixed[number] for number in numbers]), "o-", color=_FIXED,
            markersize=5, label="the same number for every image")  # fmt: skip
    ax.plot(*_places(panel.rules), "-", color=_RULE, label="as many as each image needs")
    for number in numbers:
        ax.annotate(
            str(number), (panel.fixed[number].crops, 100 * panel.fixed[number].unlike),
            xytext=(5, 4), textcoords="offset points", fontsize=8, color=_FIXED,
        )  # fmt: skip
    ax.plot(*_places([panel.chosen]), "o", color=_CHOSEN, markersize=9, markerfacecolor="none",
            markeredgewidth=1.5, label="the bundle's rule")  # fmt: skip


def _places(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [point.crops for point in points], [100 * point.unlike for point in points]
