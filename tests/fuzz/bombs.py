"""Real files with metadata made to exhaust a reader: huge, deflated, or with absurd counts."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping

import numpy as np
from PIL import Image
from tiffs import Page, written

_DEFLATED = zlib.compress(bytes(10_000_000))
_TEXT = b"a graph of nodes " * 8_000


def bombs(picture: Image.Image) -> Mapping[str, list[bytes]]:
    """Return files by format; without their metadata each is a small picture."""
    return {
        "png metadata": _png(picture),
        "jpeg metadata": _jpeg(picture),
        "webp metadata": _webp(picture),
        "gif metadata": _gif(picture),
        "tiff metadata": _tiff(np.asarray(picture)),
    }


def _saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _png(picture: Image.Image) -> list[bytes]:
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    plain = _saved(picture, "PNG")
    palette = _saved(picture.convert("P"), "PNG")
    additions = (
        chunk(b"zTXt", b"workflow\0\0" + _DEFLATED) * 3,
        chunk(b"iTXt", b"parameters\0\1\0\0\0" + _DEFLATED),
        chunk(b"tEXt", b"prompt\0" + _TEXT),
        chunk(b"iCCP", b"display\0\0" + _DEFLATED),
        chunk(b"prVt", b"") * 5_000,
        chunk(b"eXIf", _exif()),
    )
    return [
        content[:33] + addition + content[33:]
        for content in (plain, palette)
        for addition in additions
    ]


def _jpeg(picture: Image.Image) -> list[bytes]:
    def segment(marker: int, data: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data

    contents = (_saved(picture, "JPEG"), _saved(picture, "JPEG", progressive=True))
    profile = b"ICC_PROFILE\0"
    additions = (
        segment(0xFE, _TEXT[:60_000]) * 3,
        segment(0xFE, b"") * 5_000,
        segment(0xE1, b"Exif\0\0" + _exif()),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + _TEXT[:60_000]) * 2,
        b"".join(segment(0xE2, profile + bytes([n, 255]) + b"\1" * 900) for n in range(1, 200)),
        segment(0xED, b"Photoshop 3.0\x008BIM\4\4\0\0" + struct.pack(">I", 0xFFFFFFFF)),
        segment(0xE2, b"MPF\0II*\0\x08\0\0\0\xff\xff" + b"\x01\xb0\7\0\4\0\0\0" * 900),
    )
    return [content[:2] + addition + content[2:] for content in contents for addition in additions]


def _webp(picture: Image.Image) -> list[bytes]:
    return [
        _saved(picture, "WEBP", exif=_exif()),
        _saved(picture, "WEBP", xmp=_TEXT),
        _saved(picture, "WEBP", icc_profile=_TEXT, lossless=True),
    ]


def _gif(picture: Image.Image) -> list[bytes]:
    content = _saved(picture, "GIF")
    start = 13 + (3 << (content[10] & 7) + 1)
    comment = b"\x21\xfe" + (b"\xff" + _TEXT[:255]) * 100 + b"\0"
    application = b"\x21\xff\x0bNETSCAPE2.0\3\1\0\0\0"
    return [
        content[:start] + addition + content[start:]
        for addition in (comment * 5, b"\x21\xfe\0" * 5_000, application * 2_000)
    ]


def _tiff(pixels: np.ndarray) -> list[bytes]:
    many = tuple(range(30_000))
    return [
        written(Page(pixels, {33723: many, 34377: many, 65000: many})),
        written(Page(pixels, {10_000 + index: (index,) for index in range(1_000)})),
        written(Page(pixels, {330: many})),
        written(*[Page(pixels[:2, :2])] * 300),
    ]


def _exif() -> bytes:
    """Five thousand entries that each claim two thousand million values."""
    entry = b"\x0f\x01\x02\0\xff\xff\xff\x7f\x08\0\0\0"
    return b"II*\0\x08\0\0\0\x88\x13" + entry * 5_000
