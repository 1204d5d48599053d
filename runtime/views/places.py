"""Where the views of a stream lie: each kind of place is one class here.

Squares are cut from the image, or from what a resize made of it. Kinds differ in where they put
them, in how many there are, and in what fills those that stick out. ``windows`` of a kind says all
of this for an image of a given height and width; no pixel is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

import msgspec

from ..machine.errors import ImageError
from .sizes import Count
from .windows import Window, Windows

Rounding: TypeAlias = Literal["half-even", "floor"]
"""How half a pixel is rounded: as torchvision's centre crop does, or as albumentations' does."""


class _Kind(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """A kind of place."""


class Centre(_Kind, frozen=True, tag="centre"):
    """One square in the middle; a smaller image is centred in zeros."""

    rounding: Rounding = "half-even"

    def windows(self, height: int, width: int, size: int) -> Windows:
        """Place the square of ``size`` pixels a side."""
        top, left = (_middle(side, size, self.rounding) for side in (height, width))
        return Windows((Window(top, left),), size, height, width)


class Five(_Kind, frozen=True, tag="five"):
    """Four corners and the centre.

    ``snap`` above 1 cuts the image down to multiples of it, and puts the squares on that grid
    (B-Free's rule, and its order: centre, top left, bottom left, bottom right, top right). If a
    side is then shorter than a square, all five are the square at the top left, wrapped. Without
    ``snap`` they are torchvision's, in torchvision's order: top left, top right, bottom left,
    bottom right, centre.
    """

    snap: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1

    def windows(self, height: int, width: int, size: int) -> Windows:
        """Place the squares of ``size`` pixels a side.

        Raises:
            ImageError: the image is smaller than a square, or with ``snap`` than that.
        """
        if self.snap > 1:
            return self._snapped(height, width, size)
        _check_holds(height, width, size, 5)
        return Windows(_five(height, width, size), size, height, width)

    def _snapped(self, height: int, width: int, size: int) -> Windows:
        snap = self.snap
        if min(height, width) < snap:
            raise ImageError(
                f"an image of {width}x{height} pixels is smaller than the grid of {snap}x{snap} "
                "on which its views lie; judge a larger one."
            )
        height, width = height // snap * snap, width // snap * snap
        if min(height, width) < size:
            return Windows((Window(0, 0),) * 5, size, height, width, "wrap")
        bottom, right = height - size, width - size
        centre = Window(bottom // (2 * snap) * snap, right // (2 * snap) * snap)
        corners = (Window(0, 0), Window(bottom, 0), Window(bottom, right), Window(0, right))
        return Windows((centre, *corners), size, height, width)


class Ten(_Kind, frozen=True, tag="ten"):
    """Torchvision's five, then the same of the image mirrored left to right."""

    def windows(self, height: int, width: int, size: int) -> Windows:
        """Place the squares of ``size`` pixels a side.

        Raises:
            ImageError: the image is smaller than a square.
        """
        _check_holds(height, width, size, 10)
        five = _five(height, width, size)
        mirrored = (Window(top, width - size - left, True) for top, left, _ in five)
        return Windows((*five, *mirrored), size, height, width)


class Stratified(_Kind, frozen=True, tag="stratified"):
    """GLASS's random places: ``count`` of them over a grid of at most ``max_grid`` cells a side."""

    count: Count
    max_grid: Count


class Tiles(_Kind, frozen=True, tag="tiles"):
    """All whole squares side by side from the top left; what remains is dropped (SPAI's rule).

    An image smaller than a square is mirrored up to it. With fewer than ``at_least`` tiles the
    places are torchvision's five instead. ``most`` bounds the tiles: if there are more, ``n`` row
    by row, tiles ``i * n // most`` are taken, spread evenly.
    """

    at_least: Count = 4
    most: Count = 1024

    def windows(self, height: int, width: int, size: int) -> Windows:
        """Place the squares of ``size`` pixels a side."""
        tall, wide = max(height, size), max(width, size)
        rows, columns = tall // size, wide // size
        if rows * columns < self.at_least:
            tiles = _five(tall, wide, size)
        else:
            tops, lefts = range(0, rows * size, size), range(0, columns * size, size)
            tiles = _grid(tops, lefts, self.most)
        above, before = (tall - height) // 2, (wide - width) // 2
        at = tuple(Window(top - above, left - before) for top, left, _ in tiles)
        return Windows(at, size, height, width, "reflect")


class Cover(_Kind, frozen=True, tag="cover"):
    """As few squares as cover the image, spread evenly (HiDA-Net's rule); zeros at the end.

    ``most`` bounds them: if there are more, ``n`` row by row, squares ``i * n // most`` are taken,
    which no longer cover all of it.
    """

    most: Count = 1024

    def windows(self, height: int, width: int, size: int) -> Windows:
        """Place the squares of ``size`` pixels a side."""
        at = _grid(_spread(height, size), _spread(width, size), self.most)
        return Windows(at, size, height, width)


class Guided(_Kind, frozen=True, tag="guided"):
    """Six squares where the score maps of another stream peak (Fusing's and GLFF's rule).

    ``by`` names that stream.
    """

    by: str


Places: TypeAlias = Centre | Five | Ten | Stratified | Tiles | Cover | Guided


def _middle(side: int, size: int, rounding: Rounding = "half-even") -> int:
    """Return where a centred square begins; a side shorter than it has more zeros at the end."""
    slack = side - size
    if slack < 0:
        return -(-slack // 2)
    return round(slack / 2) if rounding == "half-even" else slack // 2


def _five(height: int, width: int, size: int) -> tuple[Window, ...]:
    """Return torchvision's five crops of an image that holds them."""
    bottom, right = height - size, width - size
    corners = (Window(0, 0), Window(0, right), Window(bottom, 0), Window(bottom, right))
    return (*corners, Window(_middle(height, size), _middle(width, size)))


def _check_holds(height: int, width: int, size: int, count: int) -> None:
    if min(height, width) < size:
        raise ImageError(
            f"an image of {width}x{height} pixels is smaller than its {count} views of "
            f"{size}x{size}, and this detector has no rule to fill them; judge a larger one."
        )


def _spread(side: int, size: int) -> list[int]:
    """Return where as few squares as cover a side begin, the last one at its end."""
    last = -(-side // size) - 1
    return [round(i * (side - size) / last) for i in range(last + 1)] if last > 0 else [0]


def _grid(tops: Sequence[int], lefts: Sequence[int], most: int) -> tuple[Window, ...]:
    """Return the windows at all tops and lefts row by row, or ``most`` of them, spread evenly."""
    count = len(tops) * len(lefts)
    taken = min(count, most)
    numbers = (divmod(i * count // taken, len(lefts)) for i in range(taken))
    return tuple(Window(tops[row], lefts[column]) for row, column in numbers)
