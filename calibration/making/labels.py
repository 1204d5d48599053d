"""Labels of a plot's marks, where they cover no mark, no line and no other text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

POINTS = 72  # of an inch
_MARK = 7.0  # points: labels keep off a square of this size
_OFFSETS = (
    *((0, 10), (0, -10), (10, 6), (-10, 6), (10, -6), (-10, -6), (12, 0), (-12, 0)),
    *((12, 16), (-12, 16), (12, -16), (-12, -16), (0, 22), (0, -22), (24, 20), (-24, 20)),
    *((0, 36), (0, -36), (36, 30), (-36, 30), (0, 50)),
)
"""Where the nearest point of a label may stand, in points from its mark: the first that is free."""
_NEAR = 14  # points: a label further off has a line to its mark


class Labels:
    """What is written beside the marks of a plot whose layout is settled."""

    def __init__(self, ax: Axes, marks: Sequence[tuple[float, float]], size: int = 8) -> None:
        """Keep off the texts that are there, and off marks, given by their data.

        Args:
            size: of the letters, in points.
        """
        from matplotlib.transforms import Bbox

        self._ax, self._size = ax, size
        reach = _MARK / 2 * ax.figure.dpi / POINTS
        self._taken = [text.get_window_extent() for text in ax.texts]
        for x, y in ax.transData.transform(marks):
            self._taken.append(Bbox.from_extents(x - reach, y - reach, x + reach, y + reach))

    def write(self, mark: tuple[float, float], text: str, colour: str) -> Bbox:
        """Write a label where nothing else is, as near to its mark as that is; return where."""
        written = [self._annotated(mark, text, colour, offset) for offset in _OFFSETS]
        places = [label.get_window_extent() for label in written]
        inside = self._ax.get_window_extent()
        free = (
            number
            for number, place in enumerate(places)
            if inside.contains(*place.min) and inside.contains(*place.max)
            if not place.count_overlaps(self._taken)
        )
        chosen = next(free, 0)
        for number, label in enumerate(written):
            if number != chosen:
                label.remove()
        self._taken.append(places[chosen])
        return places[chosen]

    def _annotated(
        self, mark: tuple[float, float], text: str, colour: str, offset: tuple[int, int]
    ) -> Annotation:
        right, up = offset
        line = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4}
        label = self._ax.annotate(
            text, mark, offset, textcoords="offset points", fontsize=self._size, color=colour,
            arrowprops=line if max(abs(right), abs(up)) >= _NEAR else None, zorder=5,
            ha=("center", "left", "right")[np.sign(right)],
            va=("center", "bottom", "top")[np.sign(up)],
        )  # fmt: skip
        label.set_in_layout(False)
        return label
