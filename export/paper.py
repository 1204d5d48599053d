"""What the paper's GLASS looks at: the defaults where nothing else is said."""

from __future__ import annotations

from collections.abc import Mapping

from ..runtime.bundle.manifest import Normalisation
from ..runtime.views.places import Stratified
from ..runtime.views.spec import FLOAT, Resize, StreamViews, ViewSpec

CROP_SIZE = 224  # pixels
MAX_GRID = 8  # cells on a side
NORMALISATION = Normalisation(
    mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), source="the paper's"
)
CLASSES = ("fake", "real")
SOURCE = "arXiv 2601.00141"
GLOBAL, LOCAL = "global", "local"


def glass_views(size: int, crops: int, max_grid: int = MAX_GRID) -> ViewSpec:
    """Return what a GLASS looks at: the whole image, and so many random crops of one size."""
    whole = StreamViews(size, "float32", resize=Resize(FLOAT, "stretch", size))
    streams: Mapping[str, StreamViews] = {
        GLOBAL: whole,
        LOCAL: StreamViews(size, "uint8", places=Stratified(crops, max_grid)),
    }
    return ViewSpec(streams)
