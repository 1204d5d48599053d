"""Grey values of more than 8 bits: clipped as Pillow does, or scaled.

Pillow's ``convert("RGB")`` clips them at 255 and drops fractions, so most such images become white
or black all over. The model was trained on them, but a verdict on a flat image means nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..machine.errors import ImageError
from .encoded import CHANNELS, Rgb, SixteenBit

WIDE_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
"""Pillow's modes of one channel with more than 8 bits."""

_NOTHING_LEFT = "nothing of the picture is left in 8 bits"
_LOST = 0.999  # share of equal pixels from which nothing of a picture is left
_BITS_PER_SAMPLE = 258  # TIFF tag
_SIXTEEN = 16

_Values = npt.NDArray[Any]
_Scale = Callable[[_Values], _Values]


class GreyConverter:
    """Converts an image stripe by stripe, and notices when nothing of the picture is left."""

    def __init__(self, scale: _Scale | None) -> None:
        """Convert with ``scale``, which gives values of 0 to 255; ``None`` clips as Pillow does."""
        self._scale = scale
        self._pixels = 0
        self._black, self._white = _Extreme((0, 1)), _Extreme((255,))

    def convert(self, stripe: Image.Image) -> Rgb:
        """Return a stripe's pixels, RGB.

        Raises:
            ImageError: some values are no numbers.
        """
        values = np.asarray(stripe)
        _check_finite(values)
        grey: Rgb
        if self._scale is not None:
            grey = np.clip(self._scale(values), 0, 255).astype(np.uint8)
        else:
            grey = np.asarray(stripe.convert("RGB"))[..., 0]
        self._pixels += values.size
        for extreme in (self._black, self._white):
            extreme.count(values, grey)
        return np.broadcast_to(grey[..., None], (*grey.shape, CHANNELS))

    def check(self) -> None:
        """Check the whole image after all stripes were converted.

        Raises:
            ImageError: nearly all pixels are alike now that were not.
        """
        for extreme in (self._black, self._white):
            if extreme.pixels >= _LOST * self._pixels and extreme.lost:
                share = f"{extreme.pixels / self._pixels:.2%} of its values become {extreme.called}"
                raise ImageError(
                    f"{_NOTHING_LEFT}: scaled to 8 bits, {share}; convert it."
                    if self._scale
                    else f"{_NOTHING_LEFT}: clipped at 255 as in training, {share}; judge it with "
                    "--sixteen-bit scale, or convert it."
                )


def check_high_bytes(rgb: Rgb) -> None:
    """Check an image of which only the high bytes were kept.

    Raises:
        ImageError: it is black.
    """
    black = np.count_nonzero(rgb <= 1)
    if black >= _LOST * rgb.size:
        raise ImageError(
            f"{_NOTHING_LEFT}: only the high byte of each value is kept, and "
            f"{black / rgb.size:.2%} become 0 or 1; convert it."
        )


class _Extreme:
    """Counts the pixels that become black, or white, and notes whether they differed before.

    Black is 0 or 1, because the largest of the fractions from 0 to 1 becomes 1.
    """

    def __init__(self, greys: tuple[int, ...]) -> None:
        self._greys = greys
        self.called = " or ".join(map(str, greys))
        self.pixels = 0
        self._least, self._most = np.inf, -np.inf

    def count(self, values: _Values, grey: Rgb) -> None:
        clipped = values[(grey >= self._greys[0]) & (grey <= self._greys[-1])]
        if clipped.size:
            self.pixels += clipped.size
            self._least = min(self._least, clipped.min())
            self._most = max(self._most, clipped.max())

    @property
    def lost(self) -> bool:
        return bool(self._least < self._most)


def wide_grey(image: Image.Image, rule: SixteenBit) -> GreyConverter:
    """Return the converter for a loaded image of one of :data:`WIDE_MODES`.

    Raises:
        ImageError: the rule is ``scale``, and the range of the values is not known.
    """
    return GreyConverter(_scale(image) if rule == "scale" else None)


def _scale(image: Image.Image) -> _Scale | None:
    if image.mode == "F":
        return _fractions(image)
    shift = max(0, _bits(image) - 8)
    return lambda values: values >> shift  # the high byte, as of 16-bit RGB


def _fractions(image: Image.Image) -> _Scale | None:
    """Scale 0..1 to 0..255; leave what has the range of 8 bits as it is."""
    least, most = cast("tuple[float, float]", image.getextrema())
    _check_finite(np.array([least, most]))
    if least >= 0 and most <= 1:
        return lambda values: np.rint(values * 255)
    if least >= 0 and most <= 255:
        return None
    raise ImageError(
        f"its values lie between {least:g} and {most:g}, and neither 0 to 1 nor 0 to 255 holds "
        "them: convert it to 8 bits."
    )


def _check_finite(values: _Values) -> None:
    if not np.isfinite(values).all():
        raise ImageError("some of its values are infinite or no numbers (NaN): convert it.")


def _bits(image: Image.Image) -> int:
    """Return how many bits the values have: Pillow scales them to 16, except in TIFF."""
    if image.format == "TIFF":
        bits: tuple[int, ...] = image.tag_v2.get(_BITS_PER_SAMPLE, (_SIXTEEN,))  # type: ignore[attr-defined]
        return bits[0]
    return _SIXTEEN
