"""Interlaced PNG, which Pillow and OpenCV read and cannot write."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from PIL import Image

# Adam7: the first row and column of each pass, and the steps to the next.
_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
           (1, 0, 2, 1))  # fmt: skip


def interlaced_png(picture: Image.Image) -> bytes:
    """Encode an RGB image of at least 5x5 pixels, its rows not filtered."""
    pixels = np.asarray(picture)
    passes = b"".join(
        b"\0" + row.tobytes()
        for top, left, down, right in _PASSES
        for row in pixels[top::down, left::right]
    )
    header = struct.pack(">IIBBBBB", *picture.size, 8, 2, 0, 0, 1)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(passes)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
