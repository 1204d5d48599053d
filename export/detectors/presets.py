"""One view of an image, in the ways that detectors share."""

from __future__ import annotations

from ...runtime.bundle.manifest import Normalisation
from ...runtime.views.places import Centre
from ...runtime.views.spec import Resize, ResizeRule, StreamViews
from .registry import Preset

STREAM = "global"
"""The name of a detector's only stream."""

IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "ImageNet's")
CLIP = Normalisation(
    (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711), "CLIP's"
)


def centre(size: int) -> StreamViews:
    """Return the views of detectors that look at the middle of the unresized image."""
    return StreamViews(size=size, dtype="uint8", places=Centre())


def short_side(size: int, side: int, rule: ResizeRule = "pillow-bilinear") -> StreamViews:
    """Return the views of detectors that shrink the shorter side, then look at the middle."""
    resize = Resize(rule=rule, fit="short-side", side=side)
    return StreamViews(size=size, dtype="uint8", resize=resize, places=Centre())


def stretched(size: int, rule: ResizeRule = "pillow-bilinear") -> StreamViews:
    """Return the views of detectors that make the whole image a square."""
    resize = Resize(rule=rule, fit="stretch", side=size)
    return StreamViews(size=size, dtype="uint8", resize=resize)


def one_view(views: StreamViews, normalisation: Normalisation, source: str) -> Preset:
    """Return the preset of a detector with one stream, named after what it does."""
    return Preset(_name(views), source, {STREAM: views}, normalisation)


def _name(views: StreamViews) -> str:
    resize = "" if views.resize is None else f"{views.resize.fit}-{views.resize.side}"
    place = "" if views.places is None else f"centre-{views.size}"
    return "-".join(part for part in (resize, place) if part)
