"""The reference views of a bundle, which the runtime's self-test judges, and their logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..calibration.making.reference import logit_rows
from ..calibration.photographs import reference_views
from ..runtime.bundle.bundle import sha256_of
from ..runtime.bundle.manifest import Normalisation, Reference
from ..runtime.bundle.reference import picture_of
from ..runtime.views.spec import ViewSpec
from .detectors.registry import Detector
from .parity import run_torch

REFERENCE_FILE = "reference.png"
_IMAGES = 2
_MOST_CROPS = 4  # so that the picture stays below a megabyte for 224 pixels


def write_reference(
    folder: Path, spec: ViewSpec, detector: Detector, normalisation: Normalisation
) -> Reference:
    """Write the reference views into a bundle's folder; return them with PyTorch's logits."""
    views = dict(reference_views(spec, _IMAGES))
    crops = 0
    for name, pixels in views.items():
        whole = np.rint(pixels).astype(pixels.dtype)  # the picture holds whole grey levels
        if name == spec.several:
            whole = whole[:, :_MOST_CROPS]
            crops = whole.shape[1]
        views[name] = whole
    path = folder / REFERENCE_FILE
    Image.fromarray(picture_of(views, spec)).save(path, optimize=True)
    expected = run_torch(detector, views, normalisation)
    source = f"PyTorch {torch.__version__.partition('+')[0]}"
    return Reference(path.name, sha256_of(path), crops, logit_rows(expected.logits), source)
