"""Damaged images: decoded as Pillow decodes them, or refused in one sentence."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from glass_edge.runtime.images.decode import DEFAULT_MAX_PIXELS, decode, read_header
from glass_edge.runtime.views.batch import Sampling, ViewBatch, open_image
from glass_edge.runtime.views.spec import ViewSpec
from PIL import Image

from .child import resident
from .mutate import mutated, truncated

TARGET = "fuzz.images:read"
VIEWS = "fuzz.images:make_views"
SECONDS = 60.0  # the largest images allowed take up to 20, and machines are shared
MEMORY = 4 << 30  # bytes of address space; an image of the default limit's pixels needs 3 GB


def damaged(name: str, seeds: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Yield every seed cut at many places, then ``count`` mutations."""
    for content in seeds:
        yield from truncated(content)
    yield from (mutated(seeds, f"{seed} {name} {index}") for index in range(count))


def read(content: bytes) -> str:
    """Decode one image; what can be decoded must be what Pillow gives.

    Raises:
        ImageError: it is refused.
        AssertionError: Pillow sees something else.
    """
    warnings.simplefilter("ignore")
    rgb = decode(content)
    if rgb.size < 1 << 24 and not np.array_equal(rgb, _pillows(content)):
        raise AssertionError("other pixels than Pillow's")
    return "x".join(map(str, rgb.shape))


def make_views(content: bytes) -> str:
    """Make an image's views, as a worker does.

    Raises:
        ImageError: it is refused.
    """
    spec = ViewSpec(crop_size=224, num_crops=10, max_grid=8)
    image, seed = open_image(content, Sampling(spec), max_pixels=DEFAULT_MAX_PIXELS)
    ViewBatch(1, spec).fill(0, image.decode(), seed, spec)
    return f"{image.height}x{image.width}"


def held(content: bytes) -> str:
    """Decode an image, keep it, and return by how many bytes resident memory has grown."""
    before = resident()
    image = read_header(content)
    pixels = image.decode()
    grown = resident() - before
    del pixels, image
    return str(grown)


def _pillows(content: bytes) -> np.ndarray | None:
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(image.convert("RGB"))
    except Exception:
        return None
