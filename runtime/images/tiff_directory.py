"""A TIFF's directories, read without their metadata (TIFF 6.0, and BigTIFF).

Pillow copies whatever each entry of a directory points to, so that a file of a megabyte can take
all memory. Here nothing is read but the entries that are asked for.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..machine.errors import ImageError
from .encoded import damage

MOST_DIRECTORIES = 64
_MOST_ENTRIES = 4096  # of a directory; the specification and its extensions have some hundreds
_MOST_DESCRIBED = 4  # times the file's size, of one directory's entries together
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8,
          13: 4, 16: 8, 17: 8, 18: 8}  # fmt: skip
_INTEGERS = {1: "u1", 3: "u2", 4: "u4", 6: "i1", 8: "i2", 9: "i4", 13: "u4", 16: "u8", 17: "i8",
             18: "u8"}  # fmt: skip


class Tag(IntEnum):
    """The entries that are read."""

    SUBFILE = 254
    OLD_SUBFILE = 255
    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    MAKE = 271
    MODEL = 272
    STRIPS = 273
    ORIENTATION = 274
    SAMPLES = 277
    ROWS_PER_STRIP = 278
    STRIP_BYTES = 279
    PLANAR = 284
    SOFTWARE = 305
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILES = 324
    TILE_BYTES = 325
    SUB_DIRECTORIES = 330
    SAMPLE_FORMAT = 339
    JPEG_TABLES = 347
    XMP = 700
    EXIF = 34665
    USER_COMMENT = 37510
    DNG_VERSION = 50706
    C2PA = 52545


_TAGS = frozenset(Tag)


class _Layout(NamedTuple):
    """How a directory is stored: the number of its entries, an entry, and an offset."""

    order: str
    length: struct.Struct
    entry: struct.Struct
    offset: struct.Struct

    @property
    def inside(self) -> int:
        """How many bytes a value may have to stand in its entry: as many as an offset."""
        return self.offset.size


@dataclass(frozen=True)
class Directory:
    """One page's description.

    Attributes:
        following: where the next directory begins; 0 after the last.
    """

    following: int
    _content: bytes
    _order: str
    _entries: Mapping[int, tuple[int, int, int]]
    """By tag: type, number of values, and where they begin."""

    def __contains__(self, tag: int) -> bool:
        return tag in self._entries

    def numbers(self, tag: int) -> npt.NDArray[Any]:
        """Return an entry's integers; none if it is missing, or holds something else.

        They are a view of the file and no copy: many entries may point to the same bytes.
        """
        kind, count, start = self._entries.get(tag, (1, 0, 0))
        dtype = np.dtype(self._order + _INTEGERS.get(kind, "u1"))
        return np.frombuffer(self._content, dtype, count if kind in _INTEGERS else 0, start)

    def number(self, tag: int, default: int = 0) -> int:
        """Return an entry's first integer."""
        numbers = self.numbers(tag)
        return int(numbers[0]) if numbers.size else default

    def data(self, tag: int) -> bytes:
        """Return an entry's bytes; none if it is missing."""
        kind, count, start = self._entries.get(tag, (1, 0, 0))
        return self._content[start : start + _SIZES[kind] * count]


def read_directories(content: bytes) -> list[Directory]:
    """Return the pages' directories, up to the first that is damaged.

    Raises:
        ImageError: a directory is absurdly long.
    """
    return list(islice(_chain(content), MOST_DIRECTORIES))


def first_directory(content: bytes) -> Directory | None:
    """Return the first page's directory, or EXIF's main one; ``None`` if it cannot be read.

    Raises:
        ImageError: it is absurdly long.
    """
    return next(_chain(content), None)


def directory_at(content: bytes, start: int) -> Directory | None:
    """Return the directory at an offset, or ``None`` if there is none that can be read.

    Entries that lie outside the file are left out.

    Raises:
        ImageError: it has absurdly many entries, or they describe more than the file can hold.
    """
    layout = _layout(content)
    try:
        (length,) = layout.length.unpack_from(content, start)
        place = start + layout.length.size
        end = place + length * layout.entry.size
        (following,) = layout.offset.unpack_from(content, end)
    except (struct.error, OverflowError):  # BigTIFF's offsets may exceed those of memory
        return None
    entries, described = {}, 0
    if length > _MOST_ENTRIES:
        raise ImageError(damage(f"a directory has more than {_MOST_ENTRIES} entries"))
    for entry in range(place, end, layout.entry.size):
        tag, kind, count = layout.entry.unpack_from(content, entry)
        size = _SIZES.get(kind, 0) * count
        value = entry + layout.entry.size - layout.inside
        if size > layout.inside:
            (value,) = layout.offset.unpack_from(content, value)
        if size and value + size <= len(content):
            described += size
            if tag in _TAGS:
                entries[tag] = (kind, count, value)
    if described > _MOST_DESCRIBED * len(content):
        raise ImageError(damage("its entries describe more than the file can hold"))
    return Directory(following, content, layout.order, entries)


def _chain(content: bytes) -> Iterator[Directory]:
    layout = _layout(content)
    try:
        (start,) = layout.offset.unpack_from(content, layout.inside)
    except struct.error:
        return
    seen = set[int]()
    while start and start not in seen and (found := directory_at(content, start)) is not None:
        seen.add(start)
        yield found
        start = found.following


def _layout(content: bytes) -> _Layout:
    order = ">" if content.startswith(b"MM") else "<"
    formats = ("Q", "HHQ8x", "Q") if b"+" in content[2:4] else ("H", "HHI4x", "I")
    return _Layout(order, *(struct.Struct(order + each) for each in formats))
