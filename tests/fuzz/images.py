"""Damaged images: decoded as Pillow decodes them, or refused in one sentence."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np
from glass_edge.export.paper import glass_views
from glass_edge.runtime.images.decode import decode, read_header
from glass_edge.runtime.images.encoded import DecodeOptions
from glass_edge.runtime.views.batch import Sampling, ViewBatch, open_image
from PIL import Image, ImageSequence

from glass_edge import ImageError

from .child import resident
from .mutate import PNG, mutated, truncated

TARGET = "fuzz.images:read"
CUT_TARGET = "fuzz.images:read_cut"
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
    with suppress(ImageError):
        read_header(content, DecodeOptions(allow_damaged=True)).decode()
    rgb = decode(content)
    if rgb.size < 1 << 24 and not _is_pillows(rgb, content):
        raise AssertionError("other pixels than Pillow's")
    return "x".join(map(str, rgb.shape))


def paired(whole: bytes, cut: bytes) -> bytes:
    """Join a file and a cut copy of it, as :func:`read_cut` takes them."""
    return struct.pack("<I", len(whole)) + whole + cut


def read_cut(content: bytes) -> str:
    """Decode an image that was cut; what is decoded must be the whole picture.

    JPEG 2000 is excepted: a file that ends between two packets is a whole, coarser picture.

    Raises:
        ImageError: it is refused.
        AssertionError: something else was filled in.
    """
    warnings.simplefilter("ignore")
    (size,) = struct.unpack_from("<I", content)
    whole, cut = content[4 : 4 + size], content[4 + size :]
    rgb = decode(cut)
    coarser = whole.startswith((b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP"))
    if not (coarser or np.array_equal(rgb, decode(whole))):
        raise AssertionError("a part of the picture was filled in")
    return "x".join(map(str, rgb.shape))


def make_views(content: bytes) -> str:
    """Make an image's views, as a worker does.

    Raises:
        ImageError: it is refused.
    """
    spec = glass_views(224, 10)
    image = open_image(content, DecodeOptions())
    rgb, _ = image.decode()
    ViewBatch(1, spec).fill(0, rgb, Sampling(spec))
    return f"{image.height}x{image.width}"


def held(content: bytes) -> str:
    """Decode an image, keep it, and return by how many bytes resident memory has grown."""
    before = resident()
    image = read_header(content)
    pixels = image.decode()
    grown = resident() - before
    del pixels, image
    return str(grown)


def _is_pillows(rgb: np.ndarray, content: bytes) -> bool:
    """Whether Pillow gives these pixels, in a TIFF for any page: the first may be a thumbnail."""
    if np.array_equal(rgb, pillows_pixels(content)):
        return True
    try:
        with Image.open(io.BytesIO(content), formats=["TIFF"]) as image:
            for page in ImageSequence.Iterator(image):
                if np.array_equal(rgb, np.asarray(page.convert("RGB"))):
                    return True
    except Exception:
        return False
    return False


def pillows_pixels(content: bytes) -> np.ndarray | None:
    """Return what Pillow sees, or ``None``.

    Pillow refuses some PNG and JPEG because of metadata, such as text that is too long or a damaged
    profile. So they are also tried without metadata.
    """
    pixels = _decoded(content)
    if pixels is None and content.startswith(PNG):
        return _decoded(PNG + b"".join(_chunks_of_the_picture(content)))
    if pixels is None and content.startswith(b"\xff\xd8\xff"):
        return _decoded(b"\xff\xd8" + b"".join(_segments_of_the_picture(content)))
    return pixels


def _decoded(content: bytes) -> np.ndarray | None:
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(image.convert("RGB"))
    except Exception:
        return None


def _segments_of_the_picture(content: bytes) -> Iterator[bytes]:
    """Leave out applications' segments and comments, and bytes between segments.

    JFIF's and Adobe's segments say what the colours are.
    """
    place = 2
    while (place := content.find(b"\xff", place)) >= 0 and place + 4 <= len(content):
        kind = content[place + 1]
        if kind == 0xDA:
            break
        if kind in (0, 1, 0xFF, *range(0xD0, 0xD9)):
            place += 1
            continue
        end = place + 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        if kind not in (*range(0xE1, 0xEE), 0xEF, 0xFE):
            yield content[place:end]
        place = end
    yield content[place:]


def _chunks_of_the_picture(content: bytes) -> Iterator[bytes]:
    place = len(PNG)
    while place + 12 <= len(content):
        (size,) = struct.unpack_from(">I", content, place)
        name = content[place + 4 : place + 8]
        if name in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"acTL", b"fcTL", b"fdAT", b"IEND"):
            yield content[place : place + 12 + size]
        place += 12 + size
