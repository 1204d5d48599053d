"""TIFFs that Pillow does not write: thumbnails first, raw files, missing strips."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

THUMBNAIL = {254: (1,)}
"""The entry that marks a page as a reduced copy of another one."""
_SUB_DIRECTORIES, _LONG = 330, 4


@dataclass
class Page:
    """An uncompressed page in one strip, and what its directory says besides.

    ``below`` are pages that lie in sub-directories.
    """

    pixels: np.ndarray
    entries: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    below: Sequence[Page] = ()


def written(*pages: Page) -> bytes:
    """Return a little-endian TIFF of these pages."""
    content, following = bytearray(b"II*\0\0\0\0\0"), 4
    for page in pages:
        start, end = _add(content, page)
        struct.pack_into("<I", content, following, start)
        following = end
    return bytes(content)


def _add(content: bytearray, page: Page) -> tuple[int, int]:
    """Append a page; return where its directory begins, and where it names the next one."""
    below = [_add(content, each)[0] for each in page.below]
    pixels = page.pixels.reshape(*page.pixels.shape[:2], -1)
    height, width, samples = pixels.shape
    entries: dict[int, tuple[int, ...]] = {
        256: (width,),
        257: (height,),
        258: (8 * pixels.itemsize,) * samples,
        259: (1,),
        262: (2 if samples == 3 else 1,),
        273: (len(content),),
        277: (samples,),
        278: (height,),
        279: (pixels.nbytes,),
        339: ({"u": 1, "i": 2, "f": 3}[pixels.dtype.kind],) * samples,
        **({_SUB_DIRECTORIES: tuple(below)} if below else {}),
        **page.entries,
    }
    content += pixels.tobytes()
    places = {}
    for tag, values in entries.items():
        if len(values) > 1:
            places[tag] = len(content)
            content += struct.pack(f"<{len(values)}I", *values)
    start = len(content)
    content += struct.pack("<H", len(entries))
    for tag, values in sorted(entries.items()):
        value = places.get(tag, values[0])
        content += struct.pack("<HHII", tag, _LONG, len(values), value)
    content += bytes(4)
    return start, len(content) - 4
