"""Is a detector as sure as it is right? The plot of confidence and accuracy.

The diagram is that of Guo et al., *On Calibration of Modern Neural Networks*, ICML 2017
(section 2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...calibration.figures import new_figure, png
from ...calibration.steadiness.reliability import Bin, expected_calibration_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 3  # panels side by side
_PANEL = (4.0, 4.4)  # width and height in inches
_COUNTS_AT, _TOP = 1.06, 1.12  # above an accuracy of 1


def plot_reliability(panels: Sequence[tuple[str, Sequence[Bin]]]) -> bytes:
    """Draw a reliability diagram for each title and its bins; return a PNG file.

    Bars are the accuracy of a bin, with its number of judgements at the top; points stand at
    the bin's mean confidence, and lie on the diagonal where confidence is deserved.
    """
    columns = min(len(panels), _COLUMNS)
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(columns * _PANEL[0], rows * _PANEL[1])
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    # Below 1/2 only where a threshold other than 1/2 calls the less likely class.
    lowest = min(0.5, *(bins[0].lower for _, bins in panels))
    for ax, (title, bins) in zip(axes, panels, strict=False):
        _draw(ax, title, bins, lowest)
    for ax in axes[len(panels) :]:
        ax.remove()
    return png(figure)


def _draw(ax: Axes, title: str, bins: Sequence[Bin], lowest: float) -> None:
    heights = [each.accuracy for each in bins]
    lefts, widths = [each.lower for each in bins], [each.upper - each.lower for each in bins]
    ax.bar(lefts, heights, widths, align="edge", color="#a6c8e4", edgecolor="white")
    ax.plot([0, 1], [0, 1], "--", color="0.4", label="as sure as right")
    error = expected_calibration_error(bins)
    points = [each.confidence for each in bins]
    ax.plot(
        points,
        heights,
        "o",
        color="#08519c",
        markersize=4,
        clip_on=False,  # an accuracy of 0 lies on the axis
        label=f"bins (judgements in each: above), ECE {error:.3f}",
    )
    for each in bins:
        middle = (each.lower + each.upper) / 2
        ax.text(middle, _COUNTS_AT, str(each.count), ha="center", va="center", fontsize=7)
    ax.set_xlim(lowest, 1.0)
    ax.set_ylim(0.0, _TOP)
    ax.set_xlabel("confidence: probability of the class called")
    ax.set_ylabel("accuracy: share that is right")
    ax.set_title(title, fontsize=9)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), fontsize=8, frameon=False)
