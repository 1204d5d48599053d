"""What a model sees of an image: the views of each stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ..claims.claims import Provenance
from ..images.decode import read_header
from ..images.encoded import Decoded, DecodeOptions, EncodedImage, Rgb, check_size
from ..images.pillow import open_pillow_image
from ..images.reading import Content
from ..images.thumbnail import Thumbnail
from ..machine.errors import ImageError
from .later import LaterCrops, cut_crops
from .placement import Placement, ReferenceGenerator, crop_sequence, image_seed, place_crops
from .places import Guided, Stratified
from .resizing import resized_size
from .spec import FLOAT, StreamViews, ViewSpec
from .streams import count_views, write_views

Pixels: TypeAlias = npt.NDArray[Any]
"""Views of one stream, RGB in 0..255, of the stream's type; ``(..., p, p, 3)``."""
Views: TypeAlias = Mapping[str, Pixels]
"""The views of some images by the streams' names: ``(n, p, p, 3)`` of a stream that has one,
``(n, views, p, p, 3)`` of the stream that may have several."""
DrawnViews: TypeAlias = Mapping[str, Pixels]
"""The same of several draws: ``(n, draws, views, p, p, 3)`` of the stream of several views."""


_RESIZED_BYTES = 10  # for each pixel: Pillow's rows, its picture and ours


class Draw(NamedTuple):
    """One choice of an image's crops: the seed of their generator, and each crop's place.

    ``seed`` is ``None`` where nothing is drawn, and there are no places in an image that was
    resized.
    """

    seed: int | None
    placements: tuple[Placement, ...]


@dataclass(frozen=True)
class Sampling:
    """Which views are made: the bundle's view specification, and the seeds' rule for random places.

    Attributes:
        spec: the bundle's view specification.
        seed: the run's seed, or with ``fixed`` every image's generator seed.
        fixed: whether ``seed`` is used as it is, as the golden cases are written. Otherwise each
            image gets a seed of its own, see :func:`.placement.image_seed`.
        key: a secret for that rule; empty for none.
        draws: how many draws of crops each image gets: those of runs with ``seed`` and with the
            seeds that follow it. One if nothing is drawn.
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
        """The most views of the stream that may have several, of one draw; 0 if they vary."""
        return self.spec.num_crops if self.most_crops is None else self.most_crops

    @property
    def laid(self) -> int:
        """How many of these a batch has room for, of each draw."""
        return self.crops if self.at_once is None else self.at_once

    @property
    def image_bytes(self) -> int:
        """What all views of an image take in memory, if their number does not vary."""
        size = 0
        for views in self.spec.streams.values():
            count = self.draws * self.crops if views.several else 1
            size += count * views.size**2 * 3 * np.dtype(views.dtype).itemsize
        return size

    def resizing_bytes(self, height: int, width: int) -> int:
        """Return what Pillow's resizes of an image of this size take in memory, at most.

        Raises:
            ImageError: a resized image would be too large.
        """
        sizes = [
            resized_size(height, width, views.resize)
            for views in self.spec.streams.values()
            if views.resize is not None and views.resize.rule != FLOAT
        ]
        return sum(_RESIZED_BYTES * tall * wide for tall, wide in sizes)

    def generator_seed(self, rgb: Rgb) -> int:
        """Return the 32-bit generator seed of the first draw for an image with these pixels."""
        return self.seed & 0xFFFFFFFF if self.fixed else image_seed(self.seed, rgb, self.key)

    def draw(self, rgb: Rgb) -> tuple[Draw, ...]:
        """Draw the crops of an image with these pixels; for places that are drawn."""
        height, width = rgb.shape[:2]
        seeds = [
            replace(self, seed=seed).generator_seed(rgb)
            for seed in range(self.seed, self.seed + self.draws)
        ]
        return tuple(Draw(seed, tuple(self._place(height, width, seed))) for seed in seeds)

    def _place(self, height: int, width: int, seed: int) -> list[Placement]:
        if self.most_crops is None or self.spec.stratified is None:
            return plan(height, width, seed, self.spec)
        return crop_sequence(
            height,
            width,
            most=self.most_crops,
            crop_size=self.spec.crop_size,
            max_grid=self.spec.stratified.max_grid,
            generator=ReferenceGenerator(seed),
        )


@dataclass(frozen=True)
class ViewInfo:
    """Where an image's views come from: its size in pixels, and the draws of its crops.

    ``damaged`` tells whether a part of the image was missing and filled in. ``later`` has the crops
    that are in no batch, if there are any. ``own`` are the views of which the number depends on the
    image, ``(views, p, p, 3)``, which are in no batch either; ``image`` is kept where places are
    known only later. ``thumbnail`` and ``provenance`` are for people, and nothing looks at them.
    """

    width: int
    height: int
    draws: tuple[Draw, ...]
    damaged: bool = False
    later: LaterCrops | None = None
    own: Pixels | None = field(default=None, repr=False)
    image: Rgb | None = field(default=None, repr=False)
    thumbnail: Thumbnail | None = field(default=None, repr=False)
    provenance: Provenance | None = None


class ViewBatch:
    """Room for the views of ``capacity`` images, in the layout that engines read.

    Attributes:
        views: ``(capacity, p, p, 3)`` of each stream that has one view, and of the one that has
            several ``(capacity, views, p, p, 3)``, one draw after the other, unless their number
            depends on the image. Zero beyond an image's edge, and where an image has no place for
            a crop.
    """

    def __init__(self, capacity: int, spec: ViewSpec, crops: int | None = None) -> None:
        """Make room for so many crops of each image; ``None`` is the specification's number."""
        several = spec.num_crops if crops is None else crops
        self.views: dict[str, Pixels] = {}
        for name, views in spec.streams.items():
            if in_batches(views):
                counts = (several,) if views.several else ()
                shape = (capacity, *counts, views.size, views.size, 3)
                self.views[name] = np.zeros(shape, views.dtype)

    def fill(self, slot: int, rgb: Rgb, sampling: Sampling) -> ViewInfo:
        """Write the views of one image into a slot; crops are copied once, here.

        Raises:
            ImageError: the image is too small for the places of a stream.
        """
        height, width = rgb.shape[:2]
        info = ViewInfo(width, height, (Draw(None, ()),))
        for name, views in sampling.spec.streams.items():
            match views.places:
                case Stratified():
                    draws, later = self._fill_drawn(name, slot, rgb, sampling)
                    info = replace(info, draws=draws, later=later)
                case Guided():
                    info = replace(info, image=rgb.copy())  # the buffer is used again
                case _ if views.several:
                    info = self._fill_several(name, slot, rgb, views, info)
                case _:
                    placements = write_views(self.views[name][slot][np.newaxis], rgb, views)
                    if sampling.spec.several is None and placements:
                        info = replace(info, draws=(Draw(None, placements),))
        return info

    def _fill_drawn(
        self, name: str, slot: int, rgb: Rgb, sampling: Sampling
    ) -> tuple[tuple[Draw, ...], LaterCrops | None]:
        draws, crops = sampling.draw(rgb), self.views[name][slot]
        for number, draw in enumerate(draws):
            laid = draw.placements[: sampling.laid]
            first, end = number * sampling.laid, (number + 1) * sampling.laid
            cut_crops(crops[first : first + len(laid)], rgb, laid)
            crops[first + len(laid) : end] = 0
        others = draws[0].placements[sampling.laid :]
        later = LaterCrops(rgb, others, sampling.spec.crop_size) if others else None
        return draws, later

    def _fill_several(
        self, name: str, slot: int, rgb: Rgb, views: StreamViews, info: ViewInfo
    ) -> ViewInfo:
        """Write views whose places follow from the image's size."""
        if name in self.views:
            placements = write_views(self.views[name][slot], rgb, views)
            return replace(info, draws=(Draw(None, placements),))
        count = count_views(info.height, info.width, views)
        own = np.empty((count, views.size, views.size, 3), views.dtype)
        placements = write_views(own, rgb, views)
        return replace(info, draws=(Draw(None, placements),), own=own)


def in_batches(views: StreamViews) -> bool:
    """Whether the views of all images can lie in one array: there are as many of each."""
    return views.count is not None and not isinstance(views.places, Guided)


def plan(height: int, width: int, seed: int, spec: ViewSpec) -> list[Placement]:
    """Draw the crops of an image of this size; no pixel is needed. For places that are drawn."""
    if spec.stratified is None:
        raise ValueError("no places of this specification are drawn")
    return place_crops(
        height,
        width,
        num_crops=spec.num_crops,
        crop_size=spec.crop_size,
        max_grid=spec.stratified.max_grid,
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
