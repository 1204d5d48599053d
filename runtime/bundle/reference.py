"""The reference views that travel with a bundle, for its self-test."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from ..images.decode import decode
from ..images.encoded import DecodeOptions
from ..machine.errors import BundleError, ImageError
from ..views.batch import Crops, Overviews
from .bundle import Bundle

Views: TypeAlias = tuple[Overviews, Crops]


def stored_views(bundle: Bundle) -> Views:
    """Read the bundle's reference views: global views in whole grey levels, and crops.

    Raises:
        BundleError: the picture cannot be read, or does not hold what the manifest says.
    """
    reference, side = bundle.manifest.reference, bundle.manifest.views.crop_size
    rows, columns = len(reference.logits), 1 + reference.crops
    shape = (rows * side, columns * side, 3)
    try:
        content = (bundle.path / reference.file).read_bytes()
        picture = decode(content, DecodeOptions(max_pixels=shape[0] * shape[1]))
    except (ImageError, OSError) as error:
        raise BundleError(
            f"bundle {bundle.path}: {reference.file} cannot be read: {error}"
        ) from None
    if picture.shape != shape:
        raise BundleError(
            f"bundle {bundle.path}: {reference.file} is a picture of shape {picture.shape}, and "
            f"{rows} rows of {columns} views need {shape}; export it again."
        )
    views = picture.reshape(rows, side, columns, side, 3).swapaxes(1, 2)
    return views[:, 0].astype(np.float32), np.ascontiguousarray(views[:, 1:])
