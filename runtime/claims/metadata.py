"""Where each format keeps EXIF, XMP and text; nothing is decoded.

Formats of segments, chunks or directories are walked here, so that no part of a file is copied or
inflated without a bound. Pillow opens the others.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from ..finding.signatures import SIGNATURE_BYTES, file_format
from ..images.jpeg_structure import header_segments
from ..images.pillow import opened
from ..images.png import chunks_beside_pixels
from ..images.tiff_directory import Tag, first_directory
from ..machine.errors import ImageError

_LONGEST_TEXT, _LONGEST_XMP = 1 << 16, 1 << 20  # bytes, inflated
_MOST_TEXTS = 64
_APP1 = 0xE1
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")


class Metadata(NamedTuple):
    """What a file holds beside its pixels.

    Attributes:
        exif: a TIFF without pixels, from its byte order on; of a TIFF, the file itself.
        xmp: an XML document.
        texts: a PNG's keywords and texts.
    """

    exif: bytes = b""
    xmp: bytes = b""
    texts: tuple[tuple[str, bytes], ...] = ()


def read_metadata(content: bytes) -> Metadata:
    """Return what a file holds beside its pixels; nothing if it cannot be read, or has none."""
    found = file_format(content[:SIGNATURE_BYTES])
    reader = _READERS.get(found.name) if found else None
    with suppress(ImageError):
        return reader(content) if reader else Metadata()
    return Metadata()


def _of_jpeg(content: bytes) -> Metadata:
    exif = xmp = b""
    for marker, start, end in header_segments(content):
        if marker != _APP1:
            continue
        if content.startswith(_EXIF, start):
            exif = exif or content[start + len(_EXIF) : end]
        elif content.startswith(_XMP, start):
            xmp = xmp or content[start + len(_XMP) : end]
    return Metadata(exif, xmp)


def _of_png(content: bytes) -> Metadata:
    exif, texts = b"", dict[str, bytes]()  # the first of each keyword
    for name, start, end in chunks_beside_pixels(content):
        if name == b"eXIf":
            exif = exif or content[start:end]
        elif name in _TEXT_CHUNKS and len(texts) < _MOST_TEXTS:
            keyword, _, rest = content[start:end].partition(b"\0")
            texts.setdefault(keyword.decode("latin-1"), _text(name, keyword, rest))
    return Metadata(exif, texts.pop(_XMP_KEYWORD.decode(), b""), tuple(texts.items()))


def _text(name: bytes, keyword: bytes, rest: bytes) -> bytes:
    """Return the beginning of a chunk's text, in UTF-8, from what follows its keyword."""
    most = _LONGEST_XMP if keyword == _XMP_KEYWORD else _LONGEST_TEXT
    if name == b"tEXt":
        return rest[:most].decode("latin-1").encode()
    if name == b"zTXt":
        return _inflated(rest[1:], most).decode("latin-1").encode()
    text = rest[2:].split(b"\0", 2)[-1]  # after language and translated keyword
    return _inflated(text, most) if rest[:1] == b"\1" else text[:most]


def _inflated(data: bytes, most: int) -> bytes:
    with suppress(zlib.error):
        return zlib.decompressobj().decompress(data, most)
    return b""


def _of_tiff(content: bytes) -> Metadata:
    page = first_directory(content)
    return Metadata(content, page.data(Tag.XMP) if page else b"")


def _by_pillow(content: bytes) -> Metadata:
    with opened(content) as image:
        exif, xmp = (_bytes(image.info.get(name)) for name in ("exif", "xmp"))
    while exif.startswith(_EXIF):
        exif = exif[len(_EXIF) :]
    return Metadata(exif, xmp)


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""


_READERS: dict[str, Callable[[bytes], Metadata]] = {
    "JPEG": _of_jpeg,
    "PNG": _of_png,
    "TIFF": _of_tiff,
    "WebP": _by_pillow,
    "AVIF": _by_pillow,
    "HEIC": _by_pillow,
}
