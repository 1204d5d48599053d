"""How an image becomes the views of a stream, as a bundle says it: a small, closed vocabulary.

A stream may resize the image; then it looks at all of it, or at squares cut from it.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from .places import Centre, Cover, Five, Guided, Places, Stratified, Ten, Tiles
from .sizes import Count, Side

ResizeRule: TypeAlias = Literal["torch-float-antialias", "pillow-bilinear", "pillow-bicubic"]
Fit: TypeAlias = Literal["stretch", "short-side"]
ElementType: TypeAlias = Literal["uint8", "float32"]
FLOAT: Final = "torch-float-antialias"


class Resize(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the whole image is resized.

    ``torch-float-antialias`` filters in float and does not round; Pillow's rules are what Pillow
    computes on uint8. ``stretch`` makes a square of ``side`` pixels; ``short-side`` keeps the
    aspect ratio, and makes the shorter side that long.
    """

    rule: ResizeRule
    fit: Fit
    side: Side


class StreamViews(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an image becomes the views of one stream.

    ``size`` is a view's side in pixels. Without ``places`` there is one view: the resized image.
    """

    size: Side
    dtype: ElementType
    resize: Resize | None = None
    places: Places | None = None

    @property
    def several(self) -> bool:
        """Whether an image may have several of these views, so that an aggregator joins them."""
        return self.places is not None and not isinstance(self.places, Centre)

    @property
    def count(self) -> int | None:
        """How many of these views each image has; ``None`` if that depends on its size."""
        match self.places:
            case None | Centre():
                return 1
            case Stratified(count=count):
                return count
            case Five():
                return 5
            case Ten():
                return 10
            case Guided():
                return 6
            case Tiles() | Cover():
                return None

    @property
    def fault(self) -> str | None:
        """Say what contradicts itself here, if anything."""
        resize, places = self.resize, self.places
        if resize is None and places is None:
            return "neither a resize nor places"
        if (
            places is None
            and resize is not None
            and (resize.fit, resize.side)
            != (
                "stretch",
                self.size,
            )
        ):
            return f"no places, and a resize that does not end at {self.size}x{self.size}"
        floats = isinstance(places, Guided) or (resize is not None and resize.rule == FLOAT)
        if self.dtype != ("float32" if floats else "uint8"):
            return f"views of type {self.dtype}"
        if floats and resize is not None and places is not None:
            return "places in an image that was resized in float"
        return None


RESAMPLING: Final = "triangle-antialias-float"
LARGEST_CROP_SIZE: Final = 2048
MOST_CROPS: Final = 1024


class ViewSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an image becomes views."""

    crop_size: Side
    num_crops: Count
    max_grid: Count
    resampling: Literal["triangle-antialias-float"] = RESAMPLING
