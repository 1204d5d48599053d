"""An image before decoding, the options of decoding, and the decoded image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from ..machine.errors import ImageError

Rgb: TypeAlias = npt.NDArray[np.uint8]
"""Pixels ``(height, width, 3)``, uint8, RGB."""
SixteenBit: TypeAlias = Literal["clip", "scale"]
"""What becomes of grey values of more than 8 bits, see :class:`DecodeOptions`."""
SIXTEEN_BIT: tuple[SixteenBit, ...] = get_args(SixteenBit)

CHANNELS = 3
DEFAULT_MAX_PIXELS = 200_000_000
MAX_SIDE = 100_000  # JPEG ends at 65,535; resampling needs memory for each column and row


@dataclass(frozen=True)
class DecodeOptions:
    """Which images are decoded, and how.

    Attributes:
        max_pixels: images with more pixels are refused.
        allow_damaged: decode images of which a part is missing, instead of refusing them.
        sixteen_bit: what becomes of grey values of more than 8 bits: ``clip`` them at 255, as
            Pillow does, or ``scale`` them to 0..255.
    """

    max_pixels: int = DEFAULT_MAX_PIXELS
    allow_damaged: bool = False
    sixteen_bit: SixteenBit = "clip"


class Decoded(NamedTuple):
    """An image's pixels, and whether a part of them is missing and was filled in."""

    rgb: Rgb
    damaged: bool = False


@dataclass(frozen=True)
class EncodedImage:
    """An image whose header was read and found acceptable, not yet decoded.

    Attributes:
        width, height: in pixels, as stored.
        decoder: which library will decode it.
        peak: how many times its decoded size it takes at most, from decoding to views.
    """

    width: int
    height: int
    decoder: str
    _decode: Callable[[Rgb | None], Decoded]
    peak: float

    @property
    def decoded_bytes(self) -> int:
        """Size of the decoded pixels."""
        return self.width * self.height * CHANNELS

    @property
    def peak_bytes(self) -> int:
        """Most memory that the image takes, from decoding to views, its file not counted."""
        return int(self.decoded_bytes * self.peak)

    def decode(self, buffer: Rgb | None = None) -> Decoded:
        """Return the pixels.

        Args:
            buffer: flat uint8 array of at least ``decoded_bytes`` that a decoder may write
                into instead of allocating; the pixels are then a view of it.

        Raises:
            ImageError: truncated or damaged, or nothing of the picture is left in 8 bits.
        """
        return self._decode(buffer)


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Check that an image of this size can be judged.

    Raises:
        ImageError: it is empty, too large or too long.
    """
    size = f"{width}x{height} pixels"
    if width < 1 or height < 1:
        raise ImageError(f"the image has no pixels ({width}x{height}).")
    if width * height > max_pixels:
        raise ImageError(
            f"the image has {size}, more than the limit of {max_pixels}; "
            "raise the limit or scale it down."
        )
    if max(width, height) > MAX_SIDE:
        raise ImageError(
            f"the image has {size}, and no side may be longer than {MAX_SIDE}; cut it in pieces."
        )


def damage(problem: str) -> str:
    """Return the sentence that refuses an image, with what a decoder says is wrong."""
    return f"the image is truncated or damaged: {problem.rstrip('.')}."
