"""Files that promise more than they hold are refused at once."""

from __future__ import annotations

import io
import resource
import struct
import time
import zlib
from collections.abc import Callable

import pytest
from glass_edge.runtime import ImageError
from glass_edge.runtime.decode import decode
from PIL import Image

SECONDS = 5.0
MEMORY = 200e6  # bytes


def small(kind: str, **options: object) -> bytearray:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), "teal").save(buffer, kind, **options)
    return bytearray(buffer.getvalue())


def png() -> bytes:
    """100,000 x 100,000 pixels in a header with a right checksum."""
    content = small("PNG")
    header = b"IHDR" + struct.pack(">II", 100_000, 100_000) + content[24:29]
    return bytes(content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:])


def jpeg() -> bytes:
    content = small("JPEG")
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", 65_500, 65_500)
    return bytes(content)


def gif() -> bytes:
    content = small("GIF")
    content[6:10] = struct.pack("<HH", 65_535, 65_535)
    return bytes(content)


def bmp() -> bytes:
    content = small("BMP")
    content[18:26] = struct.pack("<ii", 1_000_000, 1_000_000)
    return bytes(content)


def webp() -> bytes:
    """An extended header whose canvas is the largest that the format can say."""
    content = small("WEBP", exif=b"Exif\0\0" + b"\0" * 32)
    assert content[12:16] == b"VP8X"
    content[24:30] = b"\xff\xff\xff\xff\xff\xff"
    return bytes(content)


def tiff() -> bytes:
    content = small("TIFF")
    (entries,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, entries)
    for index in range(count):
        entry = entries + 2 + 12 * index
        (tag,) = struct.unpack_from("<H", content, entry)
        if tag in (256, 257):  # width, height
            struct.pack_into("<HII", content, entry + 2, 4, 1, 1_000_000)
    return bytes(content)


@pytest.mark.parametrize("make", [png, jpeg, gif, bmp, webp, tiff])
def test_bombs_are_refused_quickly_and_cheaply(make: Callable[[], bytes]):
    content = make()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    with pytest.raises(ImageError, match=r"too large|more than the limit|damaged|not an image"):
        decode(content)
    assert time.perf_counter() - started < SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MEMORY


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xd8\xff" * 1000,
        b"\x89PNG\r\n\x1a\n" + b"\xff" * 1000,
        b"GIF89a" + b"\xff" * 1000,
        b"RIFF\xff\xff\xff\xffWEBPVP8X" + b"\xff" * 1000,
        b"BM" + b"\xff" * 1000,
        b"II*\0" + b"\xff" * 1000,
        b"\0\0\0\x18ftypheic" + b"\xff" * 1000,
        b"\0\0\0\x20ftypavif" + b"\xff" * 1000,
    ],
    ids=["jpeg", "png", "gif", "webp", "bmp", "tiff", "heic", "avif"],
)
def test_a_signature_followed_by_rubbish(content):
    with pytest.raises(ImageError):
        decode(content)


def test_a_tiff_whose_directories_go_in_circles():
    content = small("TIFF")
    (first,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * count, first)
    assert decode(bytes(content)).shape == (16, 16, 3)
