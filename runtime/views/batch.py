"""What the model sees of an image: one global view and its crops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ..images.decode import EncodedImage, Rgb, check_size, read_header
from ..machine.errors import ImageError
from .placement import Placement, ReferenceGenerator, array_content, image_seed, place_crops
from .resample import resample
from .spec import ViewSpec

Overviews: TypeAlias = npt.NDArray[np.float32]
"""Global views, ``(n, p, p, 3)``, RGB in 0..255, not rounded."""
Crops: TypeAlias = npt.NDArray[np.uint8]
"""Crops of some images, ``(n, crops, p, p, 3)``, RGB."""


@dataclass(frozen=True)
class Sampling:
    """Which crops are drawn: the seeds' rule and the bundle's view specification.

    With ``fixed`` the seed is every image's generator seed, as the golden cases are
    written; without it each image gets a seed of its own from ``seed`` and its content.
    """

    spec: ViewSpec
    seed: int = 0
    fixed: bool = False

    def generator_seed(self, content: bytes | memoryview) -> int:
        """Return the 32-bit generator seed for an image with this content."""
        return self.seed & 0xFFFFFFFF if self.fixed else image_seed(self.seed, content)


@dataclass(frozen=True)
class ViewInfo:
    """Where an image's views come from: sizes in pixels, seed, and each crop's place."""

    width: int
    height: int
    seed: int
    placements: tuple[Placement, ...]


class ViewBatch:
    """Room for the views of ``capacity`` images, in the layout that engines read.

    Attributes:
        overviews: global views, float32 ``(capacity, p, p, 3)``, RGB in 0..255.
        crops: uint8 ``(capacity, n, p, p, 3)``, RGB; beyond the image's edge zero.
    """

    def __init__(self, capacity: int, spec: ViewSpec) -> None:
        side = spec.crop_size
        self.overviews: Overviews = np.zeros((capacity, side, side, 3), np.float32)
        self.crops: Crops = np.zeros((capacity, spec.num_crops, side, side, 3), np.uint8)

    def fill(self, slot: int, rgb: Rgb, seed: int, spec: ViewSpec) -> ViewInfo:
        """Write the views of one image into a slot; crops are copied once, here."""
        height, width = rgb.shape[:2]
        placements = plan(height, width, seed, spec)
        self.write_crops(slot, rgb, placements)
        self.write_overview(slot, rgb)
        return ViewInfo(width, height, seed, tuple(placements))

    def write_overview(self, slot: int, rgb: Rgb) -> None:
        """Write the global view of an image into a slot."""
        self.overviews[slot] = resample(rgb, self.overviews.shape[1])

    def write_crops(self, slot: int, rgb: Rgb, placements: Sequence[Placement]) -> None:
        """Write an image's crops into a slot, zeros where they stick out of the image."""
        for crop, place in zip(self.crops[slot], placements, strict=True):
            bottom, right = place.top + place.height, place.left + place.width
            crop[: place.height, : place.width] = rgb[place.top : bottom, place.left : right]
            crop[place.height :] = 0
            crop[:, place.width :] = 0


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
    """Looks at an image's file, see :func:`.decode.read_header`."""

    def __call__(self, content: bytes, *, max_pixels: int) -> EncodedImage: ...


def open_image(
    content: bytes | Rgb, sampling: Sampling, *, max_pixels: int, look: HeaderReader = read_header
) -> tuple[EncodedImage, int]:
    """Look at an image, not decoding it yet; return it and its generator seed.

    Raises:
        ImageError: it is no image or no RGB array, or is too large.
    """
    if isinstance(content, np.ndarray):
        rgb = _checked_array(content, max_pixels)
        image = EncodedImage(rgb.shape[1], rgb.shape[0], "array", lambda _: rgb, peak=1.0)
        return image, sampling.generator_seed(array_content(rgb))
    return look(content, max_pixels=max_pixels), sampling.generator_seed(content)


def _checked_array(array: npt.NDArray[np.generic], max_pixels: int) -> Rgb:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise ImageError(
            f"an array of shape {array.shape} and type {array.dtype} is not an RGB image: "
            "uint8 of shape (height, width, 3) is needed."
        )
    check_size(array.shape[1], array.shape[0], max_pixels)
    return np.ascontiguousarray(array, np.uint8)
