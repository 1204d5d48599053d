"""How an image becomes the views of a stream, as a bundle says it: a small, closed vocabulary.

A stream may resize the image; then it looks at all of it, or at squares cut from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import msgspec

from ..images.thumbnail import THUMBNAIL_SIDE
from .places import Centre, Cover, Five, Guided, Places, Stratified, Ten, Tiles
from .sizes import Side

ResizeRule: TypeAlias = Literal["torch-float-antialias", "pillow-bilinear", "pillow-bicubic"]
Fit: TypeAlias = Literal["stretch", "short-side"]
ElementType: TypeAlias = Literal["uint8", "float32"]
FLOAT: Final = "torch-float-antialias"
_USUAL = 16  # views of 224 pixels of a photograph of 0.8 megapixels


class Resize(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the whole image is resized.

    ``torch-float-antialias`` filters in float and does not round; Pillow's rules are what Pillow
    computes on uint8. ``stretch`` makes a square of ``side`` pixels; ``short-side`` keeps the
    aspect ratio, and makes the shorter side that long.
    """

    rule: ResizeRule
    fit: Fit
    side: Side

    def __str__(self) -> str:
        target = f"{self.side}x{self.side}" if self.fit == "stretch" else f"short side {self.side}"
        return f"resized to {target} by {self.rule}"


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

    def __str__(self) -> str:
        seen = self._seen
        if self.resize is None:
            return seen
        whole = f"the whole image ({self.resize})"
        return whole if self.places is None else f"{seen} of {whole}"

    @property
    def _seen(self) -> str:
        square = f"{self.size}x{self.size}"
        match self.places:
            case Stratified(count=count):
                return f"{count} crops of {square}"
            case Five() | Ten():
                return f"{self.count} crops of {square}, corners and centre"
            case Tiles():
                return f"all tiles of {square}"
            case Cover():
                return f"tiles of {square} that cover the image"
            case Guided(by=by):
                return f"6 crops, seen at {square}, where {by} points to"
            case _:
                return f"the centre {square}"

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
        if isinstance(places, Stratified | Guided) and resize is not None:
            return "places in the image as it is, and a resize"
        floats = isinstance(places, Guided) or (resize is not None and resize.rule == FLOAT)
        if self.dtype != ("float32" if floats else "uint8"):
            return f"views of type {self.dtype}"
        if floats and resize is not None and places is not None:
            return "places in an image that was resized in float"
        return None


@dataclass(frozen=True)
class ViewSpec:
    """How an image becomes the views of every stream, by the streams' names.

    At most one stream has several views.
    """

    streams: Mapping[str, StreamViews]

    def __str__(self) -> str:
        return "; ".join(f"{name}: {views}" for name, views in self.streams.items())

    @property
    def several(self) -> str | None:
        """The stream that may have several views of an image; ``None`` if none has."""
        return next((name for name, views in self.streams.items() if views.several), None)

    @property
    def overview(self) -> str | None:
        """A stream that shows the whole image, large enough for a thumbnail; ``None`` if none."""
        return next(
            (
                name
                for name, views in self.streams.items()
                if views.places is None and views.size >= THUMBNAIL_SIDE
            ),
            None,
        )

    @property
    def singles(self) -> tuple[str, ...]:
        """The streams that have one view of each image."""
        return tuple(name for name, views in self.streams.items() if not views.several)

    @property
    def drawn(self) -> bool:
        """Whether places are drawn at random, so that their number is the user's to choose."""
        return self.stratified is not None

    @property
    def stratified(self) -> Stratified | None:
        """The random places; ``None`` if there are none."""
        places = (views.places for views in self.streams.values())
        return next((each for each in places if isinstance(each, Stratified)), None)

    @property
    def guided(self) -> Guided | None:
        """The places that one stream chooses for another; ``None`` if there are none."""
        places = (views.places for views in self.streams.values())
        return next((each for each in places if isinstance(each, Guided)), None)

    @property
    def crop_size(self) -> int:
        """The side in pixels of the views of which there may be several, or else of the first."""
        return self.streams[self.several or next(iter(self.streams))].size

    @property
    def num_crops(self) -> int:
        """How many views the stream of several has; 0 without one, or if their number varies."""
        return (self.streams[self.several].count or 0) if self.several else 0

    @property
    def varies(self) -> bool:
        """Whether the stream of several views has as many as an image's size asks for."""
        return self.several is not None and self.streams[self.several].count is None

    @property
    def apart(self) -> bool:
        """Whether the views of the stream of several are in no batch with those of other images.

        Their number varies, or another stream chooses their places.
        """
        return self.varies or self.guided is not None

    @property
    def usual(self) -> int:
        """For how many views of an image batches are planned."""
        return _USUAL if self.varies else max(1, self.num_crops)

    @property
    def most(self) -> int:
        """The most views of an image that a stream may have."""
        places = [views.places for views in self.streams.values()]
        bounds = [each.most for each in places if isinstance(each, Tiles | Cover)]
        return max(1, self.num_crops, *bounds)

    def with_crops(self, count: int) -> ViewSpec:
        """Return the same with so many random places."""
        return ViewSpec(
            {
                name: msgspec.structs.replace(
                    views, places=msgspec.structs.replace(views.places, count=count)
                )
                if isinstance(views.places, Stratified)
                else views
                for name, views in self.streams.items()
            }
        )
