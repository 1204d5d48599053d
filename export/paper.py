"""What the paper's GLASS looks at: the defaults where nothing else is said."""

from __future__ import annotations

from ..runtime.bundle.manifest import Normalisation

CROP_SIZE = 224  # pixels
MAX_GRID = 8  # cells on a side
NORMALISATION = Normalisation(
    mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), source="the paper's"
)
CLASSES = ("fake", "real")
