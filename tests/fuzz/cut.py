"""Files that look whole, though a part of their picture is missing.

Each is cut and ended with the right marker. Lengths and checksums are made to fit what is left.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator

from .mutate import PNG


def cut_short(content: bytes, share: float) -> bytes:
    """Return a file of the same format that holds about this share of the image's data."""
    for signature, cut in _CUTS.items():
        if content.startswith(signature):
            return cut(content, share)
    if content[4:8] == b"ftyp":
        return _with_shorter_items(content, share)
    return content[: int(len(content) * share)]


def _jpeg(content: bytes, share: float) -> bytes:
    """End the first picture anywhere behind its first scan's header, with an end marker."""
    start = content.index(b"\xff\xda") + 14
    end = content.index(b"\xff\xd9", start)
    return content[: start + int((end - start) * share)] + content[end : end + 2]


def _png(content: bytes, share: float) -> bytes:
    """End the rows early: the data left inflate without an error."""
    chunks = list(_png_chunks(content))
    data = zlib.decompress(b"".join(data for name, data in chunks if name == b"IDAT"))
    shorter = zlib.compress(data[: round(len(data) * share)])
    return PNG + b"".join(
        _png_chunk(name, shorter if name == b"IDAT" else data)
        for index, (name, data) in enumerate(chunks)
        if name != b"IDAT" or chunks[index - 1][0] != b"IDAT"
    )


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(PNG)
    while place < len(content):
        size, name = struct.unpack_from(">I4s", content, place)
        yield name, content[place + 8 : place + 8 + size]
        place += 12 + size


def _png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _gif(content: bytes, share: float) -> bytes:
    """Keep the first blocks of the first picture, and end."""
    start = 13 + (3 << (content[10] & 7) + 1 if content[10] & 0x80 else 0)
    while content[start] != 0x2C:  # extensions before the picture
        start = _behind_blocks(content, start + 2)
    flags = content[start + 9]
    data = start + 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    end = data + int((_behind_blocks(content, data) - data) * share)
    kept = data
    while kept + 1 + content[kept] <= end and content[kept]:
        kept += 1 + content[kept]
    return content[:kept] + b"\0;"


def _behind_blocks(content: bytes, place: int) -> int:
    while content[place]:
        place += 1 + content[place]
    return place + 1


def _webp(content: bytes, share: float) -> bytes:
    """Shorten each chunk that holds a picture."""
    body, place = content[8:12], 12
    while place < len(content):
        name, size = struct.unpack_from("<4sI", content, place)
        kept = int(size * share) & ~1 if name in (b"VP8 ", b"VP8L", b"ANMF") else size
        body += name + struct.pack("<I", kept) + content[place + 8 : place + 8 + kept + kept % 2]
        place += 8 + size + size % 2
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _tiff(content: bytes, share: float) -> bytes:
    """Say that the last strip is shorter, and put nothing behind it that could serve for it."""
    changed = bytearray(content)
    (directory,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, directory)
    entries = {}
    for index in range(count):
        place = directory + 2 + 12 * index
        tag, kind, values = struct.unpack_from("<HHI", content, place)
        width = {3: 2, 4: 4}.get(kind, 0)
        inside = width * values <= 4
        start = place + 8 if inside else struct.unpack_from("<I", content, place + 8)[0]
        entries[tag] = (start + width * (values - 1), {2: "<H", 4: "<I"}.get(width, "<I"))
    starts, sizes = entries[273], entries[279]
    (size,) = struct.unpack_from(sizes[1], content, sizes[0])
    (start,) = struct.unpack_from(starts[1], content, starts[0])
    kept = int(size * share)
    struct.pack_into(sizes[1], changed, sizes[0], kept)
    struct.pack_into(starts[1], changed, starts[0], len(content))
    return bytes(changed) + content[start : start + kept]


def _jpeg_2000(content: bytes, share: float) -> bytes:
    """Shorten the tile, say so in its header, and end."""
    start = content.index(b"\xff\x90")
    kept = 14 + int((len(content) - start - 16) * share)
    tile = bytearray(content[start : start + kept])
    struct.pack_into(">I", tile, 6, kept)
    stream = content.index(b"\xff\x4f")
    codestream = content[stream:start] + bytes(tile) + b"\xff\xd9"
    if not stream:
        return codestream
    return content[: stream - 8] + struct.pack(">I", len(codestream) + 8) + b"jp2c" + codestream


def _with_shorter_items(content: bytes, share: float) -> bytes:
    """Shorten the items of an AVIF or HEIC in their list (ISO/IEC 14496-12, ``iloc``)."""
    changed = bytearray(content)
    start = content.index(b"iloc") + 4
    version = content[start]
    sizes = content[start + 4]
    offset, length, base = sizes >> 4, sizes & 15, content[start + 5] >> 4
    index = content[start + 5] & 15 if version else 0
    (count,) = struct.unpack_from(">H", content, start + 6)
    place = start + 8
    for _ in range(count):
        place += (4 if version else 2) + 2 + base
        (extents,) = struct.unpack_from(">H", content, place)
        place += 2
        for _ in range(extents):
            place += index + offset
            size = int.from_bytes(content[place : place + length], "big")
            changed[place : place + length] = int(size * share).to_bytes(length, "big")
            place += length
    return bytes(changed)


_CUTS: dict[bytes, Callable[[bytes, float], bytes]] = {
    b"\xff\xd8\xff": _jpeg,
    PNG: _png,
    b"GIF8": _gif,
    b"RIFF": _webp,
    b"II*\0": _tiff,
    b"\xff\x4f\xff\x51": _jpeg_2000,
    b"\0\0\0\x0cjP  ": _jpeg_2000,
}
