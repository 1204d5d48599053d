"""Files made to exhaust, to mislead or to run something are refused at once."""

from __future__ import annotations

import io
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest
from conftest import DATA
from fuzz import images
from fuzz.harness import FINDINGS, Child
from glass_edge.runtime.images.decode import decode
from glass_edge.runtime.images.reading import read_image
from PIL import Image
from pillow_heif import register_heif_opener

from glass_edge import ImageError

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


def avif(kind: str = "AVIF") -> bytes:
    """The size is a property of the image: ispe, its version and flags, width and height."""
    content = small(kind)
    place = content.index(b"ispe") + 8
    assert struct.unpack_from(">II", content, place) in ((16, 16), (64, 64))
    struct.pack_into(">II", content, place, 1_000_000, 1_000_000)
    return bytes(content)


def heic() -> bytes:
    register_heif_opener()
    return avif("HEIF")


def ppm() -> bytes:
    return b"P6 1000000 1000000 255\n" + b"\0" * 1000


def jpeg_2000() -> bytes:
    """Both the container and the stream in it say the size."""
    content = small("JPEG2000")
    header, stream = content.index(b"ihdr") + 4, content.index(b"\xff\x51") + 6
    struct.pack_into(">II", content, header, 1_000_000, 1_000_000)
    struct.pack_into(">II", content, stream, 1_000_000, 1_000_000)
    return bytes(content)


def tga() -> bytes:
    content = small("TGA")
    content[12:16] = struct.pack("<HH", 65_535, 65_535)
    return bytes(content)


BOMBS = (png, jpeg, gif, bmp, webp, tiff, avif, heic, ppm, jpeg_2000, tga)


@pytest.mark.parametrize("make", BOMBS)
def test_bombs_are_refused_quickly_and_cheaply(make: Callable[[], bytes]):
    content = make()
    assert len(content) < 10_000
    with Child(images.TARGET, seconds=SECONDS, memory=images.MEMORY) as child:
        child.run(grey_png(3, 3))  # what libraries need once
        result = child.run(content)
    assert result.outcome == "refused", result
    assert re.search(r"too large|more than the limit|damaged|not an image", result.what)
    assert result.memory < MEMORY


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


# --- what was found by damaging files (make fuzz), and must stay found --------------------


@pytest.mark.parametrize("path", sorted((DATA / "crashes").iterdir()), ids=lambda path: path.name)
def test_what_once_crashed_hung_or_differed(path):
    with Child(images.TARGET, seconds=images.SECONDS, memory=images.MEMORY) as child:
        assert child.run(path.read_bytes()).outcome not in FINDINGS


@pytest.mark.parametrize("transparency", [{}, {"transparency": 0}], ids=["opaque", "transparent"])
def test_an_image_without_its_palette_is_refused_and_not_black(transparency, photograph):
    """Pillow gives black for it, or fails if a colour of the palette is transparent."""
    written = io.BytesIO()
    photograph.resize((64, 48)).quantize(16).save(written, "PNG", **transparency)
    content = written.getvalue()
    start = content.index(b"PLTE") - 4
    (size,) = struct.unpack_from(">I", content, start)
    with pytest.raises(ImageError, match="its palette is missing"):
        decode(content[:start] + content[start + 12 + size :])


# --- small files that keep decoders busy --------------------------------------------------


def progressive(scans: int, side: int = 64) -> bytes:
    """A progressive JPEG of one colour, its last scan repeated."""
    content = small("JPEG", progressive=True)
    frame = content.index(b"\xff\xc2")
    content[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    last = content[content.rindex(b"\xff\xda") : -2]
    return bytes(content[:-2] + last * scans + content[-2:])


def test_a_jpeg_of_ten_kilobytes_that_would_take_minutes():
    content = progressive(1000, 13_000)
    assert len(content) < 20_000
    started = time.process_time()
    with pytest.raises(ImageError, match="more than 100 scans"):
        decode(content)
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize("disguise", [b"", b"\xff\xfe\0\x06\xff\xd9\xff\xd9", b"\xff\xff\xff"])
def test_scans_are_counted_behind_anything(disguise):
    """An end of image within a comment ends nothing."""
    content = progressive(200)
    with pytest.raises(ImageError, match="more than 100 scans"):
        decode(content[:2] + disguise + content[2:])


@pytest.mark.parametrize(
    "addition",
    [
        b"\xff\xda" * 500,
        bytes(small("JPEG")) * 200,
    ],
    ids=["bytes like scans", "more pictures"],
)
def test_what_follows_the_picture_is_not_counted(addition):
    """Phones append videos and further pictures to a JPEG."""
    assert decode(bytes(small("JPEG")) + addition).shape == (16, 16, 3)


def test_scans_named_in_a_comment_are_none():
    content = bytes(small("JPEG"))
    comment = b"\xff\xfe" + struct.pack(">H", 1002) + b"\xff\xda" * 500
    assert decode(content[:2] + comment + content[2:]).shape == (16, 16, 3)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@pytest.mark.parametrize(
    "bomb",
    [
        chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 10**8)) * 3,
        chunk(b"iCCP", b"a\0\0" + zlib.compress(b"\0" * 10**8)),
        chunk(b"prVt", b"") * 50_000,
    ],
    ids=["text", "profile", "many chunks"],
)
def test_png_chunks_made_to_exhaust(bomb):
    content = bytes(small("PNG"))
    with Child(images.TARGET, seconds=SECONDS, memory=images.MEMORY) as child:
        result = child.run(content[:33] + bomb + content[33:])
    assert result.outcome in ("read", "refused")
    assert result.memory < MEMORY


def grey_png(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x55" * width) * height)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.fixture
def viewer():
    """A process that makes views, and has made some."""
    with Child(images.VIEWS, seconds=images.SECONDS, memory=images.MEMORY) as child:
        assert child.run(grey_png(3, 3)).outcome == "read"
        yield child


@pytest.mark.parametrize(("width", "height"), [(5_000_000, 1), (1, 5_000_000), (100_001, 2)])
def test_a_longer_side_than_any_camera_writes_is_refused(width, height, viewer):
    """Resampling needs memory for each column and row: 0.5 GB for a file of 5 kB."""
    result = viewer.run(grey_png(width, height))
    assert result.outcome == "refused"
    assert f"{width}x{height} pixels, and no side may be longer than 100000" in result.what
    assert result.memory < 5e6


@pytest.mark.parametrize(("width", "height"), [(100_000, 1), (1, 100_000), (100_000, 20)])
def test_the_longest_sides_allowed_take_little(width, height, viewer):
    result = viewer.run(grey_png(width, height))
    assert result.outcome == "read"
    assert result.memory < 50e6


def gif_without_end(frames: int) -> bytes:
    content = bytes(small("GIF"))
    frame = content[content.index(b"\x2c", 13) : -1]
    return content[:-1] + frame * frames


def exif_absurd() -> bytes:
    """Five thousand entries that each say they have two thousand million values."""
    entry = b"\x0f\x01\x02\0\xff\xff\xff\x7f\x08\0\0\0"
    return bytes(small("JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x88\x13" + entry * 5000))


@pytest.mark.parametrize("make", [lambda: gif_without_end(100_000), exif_absurd])
def test_what_is_not_needed_is_not_read(make):
    with Child(images.TARGET, seconds=SECONDS, memory=images.MEMORY) as child:
        result = child.run(make())
    assert result.outcome == "read", result
    assert result.memory < MEMORY


# --- files that are no images, or no files ------------------------------------------------


def test_postscript_is_not_run(tmp_path, monkeypatch):
    """Pillow would give an EPS to the gs of the PATH."""
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path}/executed\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    content = bytes(small("EPS"))
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "EPS"
    with pytest.raises(ImageError, match="EPS is not read; render it first"):
        decode(content)
    assert not (tmp_path / "executed").exists()


@pytest.fixture
def pipe(tmp_path) -> Path:
    os.mkfifo(tmp_path / "photo.jpg")
    return tmp_path / "photo.jpg"


@pytest.fixture
def bound_socket(tmp_path) -> Path:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "photo.jpg"))
        return tmp_path / "photo.jpg"


@pytest.mark.skipif(os.name != "posix", reason="has none of them")
@pytest.mark.parametrize("kind", ["pipe", "bound_socket", "/dev/zero"])
def test_only_files_are_read(kind, request):
    """Reading these would never end."""
    path = kind if kind.startswith("/") else request.getfixturevalue(kind)
    with pytest.raises(ImageError, match="a pipe, socket or device, not a file"):
        read_image(path)


def test_a_file_larger_than_any_image_is_not_read(tmp_path):
    path = tmp_path / "sparse.jpg"
    with open(path, "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ImageError, match="1099511627776 bytes, more than the limit of 1073741824"):
        read_image(path)
    path.write_bytes(bytes(small("PNG")))
    size = path.stat().st_size
    assert read_image(path, max_bytes=size) == path.read_bytes()
    with pytest.raises(ImageError, match="more than the limit"):
        read_image(path, max_bytes=size - 1)


EXCHANGE = """
import os, sys
path = sys.argv[1]
while True:
    os.mkfifo("pipe")
    os.replace("pipe", path)
    with open("file", "wb") as file:
        file.write(b"content")
    os.replace("file", path)
"""
GROW = """
import os, sys
descriptor = os.open(sys.argv[1], os.O_WRONLY)
while True:
    os.ftruncate(descriptor, 7)
    os.ftruncate(descriptor, 1 << 16)
"""


@pytest.mark.skipif(os.name != "posix", reason="has no pipes")
@pytest.mark.parametrize("program", [EXCHANGE, GROW])
def test_a_file_that_changes_while_it_is_opened(program, tmp_path):
    """Now and then between the look at it and the reading: it neither blocks nor is too large."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"content")

    def read() -> set[str]:
        seen, count = set(), 0
        while count < 20_000 or len(seen) < 2:
            count += 1
            try:
                seen.add(f"{len(read_image(path, max_bytes=7))} bytes")
            except ImageError as error:
                seen.add(str(error))
        return seen

    changing = subprocess.Popen([sys.executable, "-c", program, path], cwd=tmp_path)
    reading = Future()
    threading.Thread(target=lambda: reading.set_result(read()), daemon=True).start()
    try:
        seen = reading.result(60)
    finally:
        changing.kill()
        changing.wait()
    refusal = "it is a pipe" if program is EXCHANGE else "the file has 65536 bytes"
    assert "7 bytes" in seen
    assert any(message.startswith(refusal) for message in seen)
    assert len(seen) == 2
