"""Where the views of a stream lie: each kind of place is one class here.

Squares are cut from the image, or from what a resize made of it. Kinds differ in where they put
them, in how many there are, and in what fills those that stick out.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from .sizes import Count

Rounding: TypeAlias = Literal["half-even", "floor"]
"""How half a pixel is rounded: as torchvision's centre crop does, or as albumentations' does."""


class _Kind(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """A kind of place."""


class Centre(_Kind, frozen=True, tag="centre"):
    """One square in the middle; a smaller image is centred in zeros."""

    rounding: Rounding = "half-even"


class Five(_Kind, frozen=True, tag="five"):
    """Four corners and the centre.

    ``snap`` above 1 cuts the image down to multiples of it, puts the squares on that grid, and
    wraps an image that is smaller than a square (B-Free's rule, and its order: centre, top left,
    bottom left, bottom right, top right). Otherwise they are torchvision's, in torchvision's
    order: top left, top right, bottom left, bottom right, centre.
    """

    snap: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1


class Ten(_Kind, frozen=True, tag="ten"):
    """Torchvision's five, then the same of the image mirrored left to right."""


class Stratified(_Kind, frozen=True, tag="stratified"):
    """GLASS's random places: ``count`` of them over a grid of at most ``max_grid`` cells a side."""

    count: Count
    max_grid: Count


class Tiles(_Kind, frozen=True, tag="tiles"):
    """All whole squares side by side from the top left; what remains is dropped (SPAI's rule).

    An image smaller than a square is mirrored up to it. With fewer than ``at_least`` tiles the
    places are torchvision's five instead. ``most`` bounds the tiles: of more, as many are taken,
    spread evenly.
    """

    at_least: Count = 4
    most: Count = 1024


class Cover(_Kind, frozen=True, tag="cover"):
    """As few squares as cover the image, spread evenly (HiDA-Net's rule); zeros at the end."""

    most: Count = 1024


class Guided(_Kind, frozen=True, tag="guided"):
    """Six squares where the score maps of another stream peak (Fusing's and GLFF's rule).

    ``by`` names that stream.
    """

    by: str


Places: TypeAlias = Centre | Five | Ten | Stratified | Tiles | Cover | Guided
