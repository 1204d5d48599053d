"""The histogram of scores as shapes: what a template draws, in percent and pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .model import Bar

HEIGHT = 132
"""Of the drawing, in pixels, without the labels below."""
_LEAST_HEIGHT = 2.0  # pixels, so that a single image is seen beside thousands
_GAP = 0.12  # of a bar's width
_MIDDLE = 0.5


@dataclass(frozen=True)
class Block:
    """A rectangle: the images of one class whose scores lie in one bar.

    ``left`` and ``width`` are percent of the drawing's width; ``top`` and ``height`` are pixels.
    """

    kind: str
    left: float
    width: float
    top: float
    height: float
    label: str


@dataclass(frozen=True)
class Histogram:
    """All shapes; ``threshold`` in percent of the width, its label left or right of the line."""

    height: int
    highest: int
    blocks: tuple[Block, ...]
    threshold: float | None
    label_is_left: bool


def histogram(bars: Sequence[Bar], threshold: float | None) -> Histogram:
    """Lay bars out; heights are proportional to counts, but none is too small to see."""
    highest = max((bar.fake + bar.real for bar in bars), default=0)
    return Histogram(
        height=HEIGHT,
        highest=highest,
        blocks=tuple(block for bar in bars for block in _blocks(bar, highest)),
        threshold=None if threshold is None else round(100 * threshold, 3),
        label_is_left=threshold is not None and threshold > _MIDDLE,
    )


def _blocks(bar: Bar, highest: int) -> Iterator[Block]:
    """Yield a bar's blocks, the real ones below the fake ones."""
    width = 100 * (bar.high - bar.low)
    bottom = float(HEIGHT)
    for kind, count in (("real", bar.real), ("fake", bar.fake)):
        if count == 0:
            continue
        height = max(_LEAST_HEIGHT, HEIGHT * count / highest)
        bottom = max(0.0, bottom - height)
        yield Block(
            kind=kind,
            left=round(100 * bar.low + _GAP * width / 2, 3),
            width=round((1 - _GAP) * width, 3),
            top=round(bottom, 2),
            height=round(height, 2),
            label=f"{bar.low:.4g} to {bar.high:.4g}: {count:,}",
        )
