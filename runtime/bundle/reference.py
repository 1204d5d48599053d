"""The reference views that travel with a bundle, for its self-test: one picture of them all.

It has a row for each image, with the views of one stream after the other, in the manifest's order.
A row is as high as the largest views.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..images.decode import decode
from ..images.encoded import DecodeOptions, Rgb
from ..machine.errors import BundleError, ImageError
from ..views.batch import Views
from ..views.spec import ViewSpec
from .bundle import Bundle


def stored_views(bundle: Bundle) -> Views:
    """Read the bundle's reference views, in whole grey levels.

    Raises:
        BundleError: the picture cannot be read, or does not hold what the manifest says.
    """
    manifest, reference = bundle.manifest, bundle.manifest.reference
    rows = len(reference.logits)
    shape = _shape(manifest.views, rows, reference.crops)
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
            f"the views of {rows} images need {shape}; export it again."
        )
    cells = picture.reshape(rows, shape[0] // rows, *shape[1:])
    views = {}
    for name, left, count in _places(manifest.views, reference.crops):
        own = manifest.views.streams[name]
        strip = cells[:, : own.size, left : left + count * own.size]
        pixels = strip.reshape(rows, own.size, count, own.size, 3).swapaxes(1, 2)
        pixels = pixels if own.several else pixels[:, 0]
        views[name] = np.ascontiguousarray(pixels, own.dtype)
    return views


def picture_of(views: Views, spec: ViewSpec) -> Rgb:
    """Lay out views of whole grey levels, as :func:`stored_views` reads them."""
    several = spec.several
    crops = 0 if several is None else views[several].shape[1]
    rows = len(next(iter(views.values())))
    height, width, _ = _shape(spec, rows, crops)
    picture: Rgb = np.zeros((rows, height // rows, width, 3), np.uint8)
    for name, left, count in _places(spec, crops):
        size = spec.streams[name].size
        cells = views[name].reshape(rows, count, size, size, 3).swapaxes(1, 2)
        picture[:, :size, left : left + count * size] = cells.reshape(rows, size, count * size, 3)
    return picture.reshape(height, width, 3)


def _places(spec: ViewSpec, crops: int) -> Iterator[tuple[str, int, int]]:
    """Yield each stream, where its views begin in a row, and how many they are."""
    left = 0
    for name, views in spec.streams.items():
        count = crops if views.several else 1
        yield name, left, count
        left += count * views.size


def _shape(spec: ViewSpec, rows: int, crops: int) -> tuple[int, int, int]:
    height = max(views.size for views in spec.streams.values())
    width = sum(count * spec.streams[name].size for name, _, count in _places(spec, crops))
    return rows * height, width, 3
