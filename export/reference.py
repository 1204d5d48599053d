"""The reference views of a bundle, which the runtime's self-test judges, and their logits."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import torch
from PIL import Image

from ..calibration.making.reference import logit_rows
from ..calibration.photographs import reference_views
from ..runtime.bundle.bundle import sha256_of
from ..runtime.bundle.manifest import Normalisation, Reference
from ..runtime.images.encoded import Rgb
from ..runtime.views.batch import ViewBatch
from ..runtime.views.spec import ViewSpec
from .model import Glass
from .parity import run_torch

REFERENCE_FILE = "reference.png"
_IMAGES = 2
_MOST_CROPS = 4  # so that the picture stays below a megabyte for 224 pixels


def write_reference(
    folder: Path, spec: ViewSpec, model: Glass, normalisation: Normalisation
) -> Reference:
    """Write the reference views into a bundle's folder; return them with PyTorch's logits."""
    spec = msgspec.structs.replace(spec, num_crops=min(spec.num_crops, _MOST_CROPS))
    views = reference_views(spec, _IMAGES)
    np.rint(views.overviews, out=views.overviews)  # the picture holds whole grey levels
    path = folder / REFERENCE_FILE
    Image.fromarray(_picture(views)).save(path, optimize=True)
    expected = run_torch(model, views, normalisation)
    source = f"PyTorch {torch.__version__.partition('+')[0]}"
    return Reference(
        path.name, sha256_of(path), spec.num_crops, logit_rows(expected.logits), source
    )


def _picture(views: ViewBatch) -> Rgb:
    """Lay out one row for each image: its global view, then its crops."""
    overviews = views.overviews[:, None].astype(np.uint8)
    cells = np.concatenate([overviews, views.crops], axis=1)
    rows, columns, side = cells.shape[:3]
    picture: Rgb = cells.swapaxes(1, 2).reshape(rows * side, columns * side, 3)
    return picture
