"""What the model sees of an image: one global view and its crops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ..images.decode import read_header
from ..images.encoded import Decoded, DecodeOptions, EncodedImage, Rgb, check_size
from ..images.pillow import open_pillow_image
from ..images.reading import Content
from ..machine.errors import ImageError
from .later import LaterCrops, cut_crops
from .placement import Placement, ReferenceGenerator, crop_sequence, image_seed, place_crops
from .resample import resample
from .spec import ViewSpec

Overviews: TypeAlias = npt.NDArray[np.float32]
"""Global views, ``(n, p, p, 3)``, RGB in 0..255, not rounded."""
Crops: TypeAlias = npt.NDArray[np.uint8]
"""Crops of some images, ``(n, crops, p, p, 3)``, RGB."""
DrawnCrops: TypeAlias = npt.NDArray[np.uint8]
"""Several draws of the crops of some images, ``(n, draws, crops, p, p, 3)``, RGB."""


class Draw(NamedTuple):
    """One choice of an image's crops: the seed of their generator, and each crop's place."""

    seed: int
    placements: tuple[Placement, ...]


@dataclass(frozen=True)
class Sampling:
    """Which crops are drawn: the seeds' rule and the bundle's view specification.

    Attributes:
        spec: the bundle's view specification.
        seed: the run's seed, or with ``fixed`` every image's generator seed.
        fixed: whether ``seed`` is used as it is, as the golden cases are written. Otherwise each
            image gets a seed of its own, see :func:`.placement.image_seed`.
        key: a secret for that rule; empty for none.
        draws: how many draws of crops each image gets: those of runs with ``seed`` and with the
            seeds that follow it.
        most_crops: a draw's crops are the first so many of its sequence, see
            :func:`.placement.crop_sequence`, instead of the specification's number drawn at once.
            An image may have fewer.
        at_once: how many of a draw's crops are laid into a batch; the others are kept beside it, as
            :attr:`ViewInfo.later`. ``None`` lays all. Of one draw only.
    """

    spec: ViewSpec
    seed: int = 0
    fixed: bool = False
    key: bytes = b""
    draws: int = 1
    most_crops: int | None = None
    at_once: int | None = None

    @property
    def crops(self) -> int:
        """The most crops of a draw."""
        return self.spec.num_crops if self.most_crops is None else self.most_crops

    @property
    def laid(self) -> int:
        """How many crops of each draw a batch has room for."""
        return self.crops if self.at_once is None else self.at_once

    @property
    def image_bytes(self) -> int:
        """What all views of an image take in memory."""
        pixels = self.spec.crop_size**2 * 3
        return pixels * (np.dtype(np.float32).itemsize + self.draws * self.crops)

    def generator_seed(self, rgb: Rgb) -> int:
        """Return the 32-bit generator seed of the first draw for an image with these pixels."""
        return self.seed & 0xFFFFFFFF if self.fixed else image_seed(self.seed, rgb, self.key)

    def draw(self, rgb: Rgb) -> tuple[Draw, ...]:
        """Draw the crops of an image with these pixels."""
        height, width = rgb.shape[:2]
        seeds = [
            replace(self, seed=seed).generator_seed(rgb)
            for seed in range(self.seed, self.seed + self.draws)
        ]
        return tuple(Draw(seed, tuple(self._place(height, width, seed))) for seed in seeds)

    def _place(self, height: int, width: int, seed: int) -> list[Placement]:
        if self.most_crops is None:
            return plan(height, width, seed, self.spec)
        return crop_sequence(
            height,
            width,
            most=self.most_crops,
            crop_size=self.spec.crop_size,
            max_grid=self.spec.max_grid,
            generator=ReferenceGenerator(seed),
        )


@dataclass(frozen=True)
class ViewInfo:
    """Where an image's views come from: its size in pixels, and the draws of its crops.

    ``damaged`` tells whether a part of the image was missing and filled in. ``later`` has the crops
    that are in no batch, if there are any.
    """

    width: int
    height: int
    draws: tuple[Draw, ...]
    damaged: bool = False
    later: LaterCrops | None = None


class ViewBatch:
    """Room for the views of ``capacity`` images, in the layout that engines read.

    Attributes:
        overviews: global views, float32 ``(capacity, p, p, 3)``, RGB in 0..255.
        crops: uint8 ``(capacity, n, p, p, 3)``, RGB, one draw after the other; beyond the image's
            edge zero, as are those that an image has no place for.
    """

    def __init__(self, capacity: int, spec: ViewSpec, crops: int | None = None) -> None:
        """Make room for so many crops of each image; ``None`` is the specification's number."""
        side, count = spec.crop_size, spec.num_crops if crops is None else crops
        self.overviews: Overviews = np.zeros((capacity, side, side, 3), np.float32)
        self.crops: Crops = np.zeros((capacity, count, side, side, 3), np.uint8)

    def fill(self, slot: int, rgb: Rgb, sampling: Sampling) -> ViewInfo:
        """Write the views of one image into a slot; crops are copied once, here."""
        height, width = rgb.shape[:2]
        draws = sampling.draw(rgb)
        for number, draw in enumerate(draws):
            laid = draw.placements[: sampling.laid]
            first, end = number * sampling.laid, (number + 1) * sampling.laid
            self.write_crops(slot, rgb, laid, first)
            self.crops[slot, first + len(laid) : end] = 0
        self.write_overview(slot, rgb)
        others = draws[0].placements[sampling.laid :]
        later = LaterCrops(rgb, others, sampling.spec.crop_size) if others else None
        return ViewInfo(width, height, draws, later=later)

    def write_overview(self, slot: int, rgb: Rgb) -> None:
        """Write the global view of an image into a slot."""
        self.overviews[slot] = resample(rgb, self.overviews.shape[1])

    def write_crops(
        self, slot: int, rgb: Rgb, placements: Sequence[Placement], first: int = 0
    ) -> None:
        """Write crops of an image into a slot, zeros where they stick out of the image.

        ``first`` is where the first of them goes.
        """
        cut_crops(self.crops[slot, first : first + len(placements)], rgb, placements)


def plan(height: int, width: int, seed: int, spec: ViewSpec) -> list[Placement]:
    """Place the crops of an image of this size; no pixel is needed."""
    return place_crops(
        height,
        width,
        num_crops=spec.num_crops,
        crop_size=spec.crop_size,
        max_grid=spec.max_grid,
        generator=ReferenceGenerator(seed),
    )


class HeaderReader(Protocol):
    """Reads an image file's header, see :func:`.decode.read_header`."""

    def __call__(self, content: bytes, options: DecodeOptions) -> EncodedImage: ...


def open_image(
    content: Content, options: DecodeOptions, look: HeaderReader = read_header
) -> EncodedImage:
    """Read an image's header; nothing is decoded yet.

    Args:
        content: a file's bytes, an RGB array (uint8, ``(height, width, 3)``) or a PIL image.
        options: which images are decoded, and how.
        look: reads the header of a file.

    Raises:
        ImageError: it is no image or no RGB array, or is too large.
    """
    if isinstance(content, bytes):
        return look(content, options)
    if isinstance(content, np.ndarray):
        rgb = _checked_array(content)
        height, width = rgb.shape[:2]
        image = EncodedImage(width, height, "array", lambda _: Decoded(rgb), peak=1.0)
    else:
        image = open_pillow_image(content, options)
    check_size(image.width, image.height, options.max_pixels)
    return image


def _checked_array(array: npt.NDArray[np.generic]) -> Rgb:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise ImageError(
            f"an array of shape {array.shape} and type {array.dtype} is not an RGB image: "
            "uint8 of shape (height, width, 3) is needed."
        )
    return np.ascontiguousarray(array, np.uint8)
