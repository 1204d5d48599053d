"""PNG: read without its metadata, and only if its image data are all there.

Metadata never decide whether pixels are read: text of any size and damaged profiles are removed
before a decoder sees the file. OpenCV decodes still pictures of 8 bits, Pillow the others. Pillow
leaves rows black for which there are no data, so the data are counted first.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from ..machine.errors import ImageError
from .encoded import DecodeOptions, EncodedImage, damage
from .opencv import open_with_opencv
from .pillow import open_with_pillow

_SIGNATURE = 8  # bytes
_MOST_CHUNKS = 200_000  # 200 million pixels in pieces of 8 kB need fewer
_AROUND = 12  # bytes of a chunk besides its data: length, name, checksum
_END = b"\0\0\0\0IEND\xaeB\x60\x82"
_ANIMATION = (b"acTL", b"fcTL", b"fdAT")
_PIXELS = (b"IDAT", b"fdAT")
_NEEDED = (*_ANIMATION, b"tRNS")  # of the ancillary chunks, whose first letter is lower case
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_COLOUR = (2, 6)
_DECODED_BY_OPENCV = (0, 2, 6)  # grey, RGB, RGBA
_PIECE = 1 << 20  # bytes inflated at once
# Columns and rows of the seven passes of an interlaced PNG: first and step of each.
_PASSES = (
    (0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2),
    (0, 1, 1, 2),
)  # fmt: skip


class _CutOffError(Exception):
    """A file ends within or between its chunks."""


class Chunk(NamedTuple):
    """A chunk's name, and where its data begin and end."""

    name: bytes
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """The fields of IHDR: size in pixels, bits per value, colour type, whether interlaced."""

    width: int
    height: int
    bits: int
    colours: int
    interlaced: bool

    @property
    def inflated_bytes(self) -> int:
        """Size of the inflated image data: rows, each with its filter byte."""
        passes = _PASSES if self.interlaced else ((0, 1, 0, 1),)
        sizes = [
            (len(range(x, self.width, across)), len(range(y, self.height, down)))
            for x, across, y, down in passes
        ]
        bits = self.bits * _CHANNELS.get(self.colours, 0)
        return sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sizes if columns)


def open_png(content: bytes, options: DecodeOptions) -> EncodedImage:
    """Read a PNG's header and the list of its chunks.

    Raises:
        ImageError: it is damaged, or too large for Pillow's own limit.
    """
    chunks: list[Chunk] = []
    cut_off = None
    try:
        chunks.extend(_chunks(content))
    except _CutOffError as error:
        cut_off = str(error)
        if not options.allow_damaged:
            raise ImageError(damage(cut_off)) from None
    header = _header(content, chunks)
    essence = _without_metadata(content, chunks) + (_END if cut_off else b"")

    def missing() -> str | None:
        return cut_off or _missing(content, chunks, header)

    pillows = open_with_pillow(
        essence, options, check=missing, high_bytes=header.bits == 16 and header.colours in _COLOUR
    )
    still = all(chunk.name not in _ANIMATION for chunk in chunks)
    if still and not cut_off and header.bits == 8 and header.colours in _DECODED_BY_OPENCV:
        return open_with_opencv(essence, pillows)
    return pillows


def chunks_beside_pixels(content: bytes) -> list[Chunk]:
    """Return the chunks that hold no image data, as far as the file is whole."""
    found: list[Chunk] = []
    with suppress(_CutOffError, ImageError):
        found.extend(chunk for chunk in _chunks(content) if chunk.name not in _PIXELS)
    return found


def _chunks(content: bytes) -> Iterator[Chunk]:
    """Yield the chunks up to the end of the image.

    Raises:
        _CutOffError: the file ends earlier; some decoders would wait for the rest forever.
        ImageError: there are too many chunks.
    """
    position = _SIGNATURE
    for _ in range(_MOST_CHUNKS):
        if position + _AROUND > len(content):
            raise _CutOffError("the file ends before its image does")
        size, name = struct.unpack_from(">I4s", content, position)
        start = position + 8
        position += _AROUND + size
        if position > len(content):
            raise _CutOffError("the file ends within a chunk")
        yield Chunk(name, start, start + size)
        if name == b"IEND":
            return
    raise ImageError(f"the PNG has more than {_MOST_CHUNKS} chunks.")


def _header(content: bytes, chunks: Sequence[Chunk]) -> Header:
    name, start, end = chunks[0] if chunks else (b"", 0, 0)
    if name != b"IHDR" or end - start != 13:
        raise ImageError(damage("the header is not where it belongs"))
    width, height, bits, colours, _, _, interlaced = struct.unpack(">IIBBBBB", content[start:end])
    return Header(width, height, bits, colours, interlaced == 1)


def _without_metadata(content: bytes, chunks: Sequence[Chunk]) -> bytes:
    """Return the PNG with only the chunks that its pixels depend on."""
    needed = [c for c in chunks if c.name[:1].isupper() or c.name in _NEEDED]
    if len(needed) == len(chunks) and chunks[-1].end + 4 == len(content):
        return content
    pieces = [content[chunk.start - 8 : chunk.end + 4] for chunk in needed]
    return b"".join([content[:_SIGNATURE], *pieces])


def _missing(content: bytes, chunks: Sequence[Chunk], header: Header) -> str | None:
    """Return what is wrong with the image data, or ``None``; they are inflated and not kept."""
    expected, inflated = header.inflated_bytes, 0
    inflate = zlib.decompressobj()
    try:
        for name, start, end in chunks:
            data = content[start:end] if name == b"IDAT" else b""
            while data and inflated < expected:
                inflated += len(inflate.decompress(data, _PIECE))
                data = inflate.unconsumed_tail
    except zlib.error:
        return "its image data are damaged"
    share = inflated / max(expected, 1)
    return None if share >= 1 else f"its image data end after {share:.1%} of the picture"
