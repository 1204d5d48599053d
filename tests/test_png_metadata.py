"""Metadata never decide whether a PNG's pixels are read: these are the pictures of generators."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from glass_edge.runtime.images.decode import decode
from PIL import Image, PngImagePlugin

from glass_edge import ImageError

WORKFLOW = b'{"nodes": [' + b'{"class_type": "KSampler", "inputs": {}},' * 60_000 + b"{}]}"
"""As long as the graphs that ComfyUI writes into its pictures; Pillow stops at a megabyte."""


def chunk(name: bytes, data: bytes, *, right: bool = True) -> bytes:
    checksum = zlib.crc32(name + data) ^ (not right)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


def behind_the_header(content: bytes, chunks: bytes) -> bytes:
    return content[:33] + chunks + content[33:]


@pytest.fixture(scope="module", params=["RGB", "P", "RGBA", "I;16"])
def png(request: pytest.FixtureRequest, photograph: Image.Image) -> bytes:
    """OpenCV decodes some of them, and Pillow the others."""
    small = photograph.resize((64, 48))
    mode = request.param
    wide = mode == "I;16"
    grey = np.asarray(small.convert("L")).astype(np.uint16) * 2
    image = Image.fromarray(grey) if wide else small.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


COMPRESSED = zlib.compress(WORKFLOW)
METADATA = {
    "compressed text": chunk(b"zTXt", b"workflow\0\0" + COMPRESSED),
    "compressed international text": chunk(b"iTXt", b"parameters\0\1\0\0\0" + COMPRESSED),
    "plain text": chunk(b"tEXt", b"prompt\0" + WORKFLOW),
    "much text": chunk(b"zTXt", b"workflow\0\0" + zlib.compress(WORKFLOW[:900_000])) * 80,
    "a large colour profile": chunk(b"iCCP", b"display\0\0" + zlib.compress(bytes(3_000_000))),
    "a colour profile that is none": chunk(b"iCCP", b"display\0\0no deflate"),
    "text with a wrong checksum": chunk(b"tEXt", b"Comment\0made with", right=False),
    "a profile with a wrong checksum": chunk(b"iCCP", b"a\0\0" + zlib.compress(b"x"), right=False),
    "text that is no Latin-1 key": chunk(b"tEXt", bytes(range(256))),
    "an EXIF that is none": chunk(b"eXIf", b"rubbish"),
    "a physical size of the wrong length": chunk(b"pHYs", b"\0"),
    "private chunks": chunk(b"prVt", b"anything") * 100,
}


@pytest.mark.parametrize("name", METADATA)
def test_pixels_are_read_whatever_the_metadata(name, png, capfd):
    content = behind_the_header(png, METADATA[name])
    assert np.array_equal(decode(content), decode(png))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["compressed text", "a large colour profile"])
def test_pillow_alone_refuses_them(name, png):
    with pytest.raises(ValueError, match=r"too large|MAX_TEXT"), \
            Image.open(io.BytesIO(behind_the_header(png, METADATA[name]))) as image:  # fmt: skip
        image.load()
    assert len(WORKFLOW) > PngImagePlugin.MAX_TEXT_CHUNK


def test_metadata_behind_the_pixels_count_no_more(png):
    content = png[:-12] + METADATA["compressed text"] + png[-12:] + b"appended"
    assert np.array_equal(decode(content), decode(png))


def test_what_the_pixels_need_must_be_right(png):
    """A wrong checksum of a palette, or of the header, is damage."""
    header = png[:16] + b"\xff" + png[17:]
    with pytest.raises(ImageError, match=r"truncated or damaged|too large|more than"):
        decode(header)


def test_a_transparent_colour_is_no_metadata(photograph):
    """It says which pixels are transparent; their colour is kept all the same."""
    palette = photograph.resize((64, 48)).convert("P")
    buffer = io.BytesIO()
    palette.save(buffer, "PNG", transparency=3)
    assert b"tRNS" in buffer.getvalue()
    assert np.array_equal(decode(buffer.getvalue()), np.asarray(palette.convert("RGB")))


def test_an_animation_with_much_text_shows_its_first_frame(photograph):
    small = photograph.resize((64, 48))
    buffer = io.BytesIO()
    small.save(buffer, "PNG", save_all=True, append_images=[small.rotate(90)], duration=50)
    content = behind_the_header(buffer.getvalue(), METADATA["compressed text"])
    assert np.array_equal(decode(content), np.asarray(small))


def test_more_chunks_than_any_encoder_writes_are_refused(photograph):
    buffer = io.BytesIO()
    photograph.resize((64, 48)).save(buffer, "PNG")
    content = behind_the_header(buffer.getvalue(), chunk(b"prVt", b"") * 200_001)
    with pytest.raises(ImageError, match="more than 200000 chunks"):
        decode(content)
