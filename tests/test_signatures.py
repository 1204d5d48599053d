"""What a file is, by its first bytes."""

from __future__ import annotations

import io
import struct
import subprocess
import sys

import numpy as np
import pillow_heif
import pytest
from glass_edge.runtime.finding.signatures import SIGNATURE_BYTES, Kind, file_format
from PIL import Image

WRITTEN = {
    "JPEG": "JPEG", "MPO": "JPEG", "PNG": "PNG", "WEBP": "WebP", "GIF": "GIF", "BMP": "BMP",
    "TIFF": "TIFF", "PPM": "PPM", "JPEG2000": "JPEG 2000", "AVIF": "AVIF", "ICO": "ICO",
    "PDF": "a PDF file", "EPS": "EPS", "QOI": "QOI", "DDS": "DDS",
}  # fmt: skip
"""Formats that Pillow writes, and what each must be found to be."""


def start(picture: Image.Image, written_as: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, written_as, **options)
    return file.getvalue()[:SIGNATURE_BYTES]


def boxes(brand: bytes, *others: bytes) -> bytes:
    content = b"ftyp" + brand + bytes(4) + b"".join(others)
    return struct.pack(">I", len(content) + 4) + content + b"\0\0\0\x10mdat"


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.fromarray(np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3))


@pytest.mark.parametrize("written_as", WRITTEN)
def test_what_pillow_writes_is_found_to_be_that(written_as, picture):
    found = file_format(start(picture, written_as))
    assert found is not None
    assert found.name == WRITTEN[written_as]


@pytest.mark.parametrize("options", [{"big_tiff": True}, {"compression": "tiff_lzw"}])
def test_tiffs_of_both_sizes_are_one_format(options, picture):
    found = file_format(start(picture, "TIFF", **options))
    assert found is not None
    assert found.name == "TIFF"


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_portable_maps_of_all_kinds_are_one_format(mode, picture):
    found = file_format(start(picture.convert(mode), "PPM"))
    assert found is not None
    assert found.name == "PPM"


def test_what_pillow_heif_writes_is_heic(picture):
    file = io.BytesIO()
    pillow_heif.from_pillow(picture).save(file)
    found = file_format(file.getvalue()[:SIGNATURE_BYTES])
    assert found is not None
    assert (found.name, found.kind) == ("HEIC", Kind.READ)


@pytest.mark.parametrize(
    ("first", "name", "kind"),
    [
        *((boxes(brand), "HEIC", Kind.READ) for brand in
          (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")),
        (boxes(b"mif1", b"mif1", b"heic"), "HEIC", Kind.READ),
        (boxes(b"msf1", b"hevc"), "HEIC", Kind.READ),
        (boxes(b"mif1", b"mif1", b"avif"), "AVIF", Kind.READ),
        (boxes(b"avis"), "AVIF", Kind.READ),
        (boxes(b"crx "), "Canon's CR3", Kind.RAW),
        (boxes(b"isom", b"mp42"), "a video", Kind.OTHER),
        (boxes(b"qt  "), "a video", Kind.OTHER),
        (b"\xff\x4f\xff\x51\0\x2f", "JPEG 2000", Kind.READ),
        (b"P2\n# made by hand\n3 4\n255\n", "PPM", Kind.READ),
        (b"II*\0\x10\0\0\0CR\2\0", "Canon's CR2", Kind.RAW),
        (b"FUJIFILMCCD-RAW 0201", "Fujifilm's RAF", Kind.RAW),
        (b"IIRO\x08\0\0\0", "Olympus' ORF", Kind.RAW),
        (b"IIU\0\x18\0\0\0", "Panasonic's RW2", Kind.RAW),
        (b"FOVb\0\0\2\0", "Sigma's X3F", Kind.RAW),
        (b"\xff\x0a\xfa\x7f", "JPEG XL", Kind.UNREAD),
        (b"\0\0\0\x0cJXL \r\n\x87\n\0\0", "JPEG XL", Kind.UNREAD),
        (b"8BPS\0\1\0\0", "PSD", Kind.UNREAD),
        (b'<?xml version="1.0"?>\n<svg width="9">', "SVG", Kind.UNREAD),
        (b"\n<!doctype HTML><title>Log in</title>", "a web page", Kind.OTHER),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer", Kind.OTHER),
        (b"PK\3\4\x14\0", "an archive", Kind.OTHER),
        (b"\0\5\x16\7\0\2\0\0Mac OS X", "macOS' notes on another file (AppleDouble)", Kind.OTHER),
    ],
)  # fmt: skip
def test_first_bytes_tell_the_format(first, name, kind):
    found = file_format(first)
    assert found is not None
    assert (found.name, found.kind) == (name, kind)


@pytest.mark.parametrize(
    "first",
    [
        b"", b"\0", bytes(SIGNATURE_BYTES), b"BM is short for many things, and this is a text",
        b"P1 is the first priority", b"P5.js\n", b"GIF files are small", b"II. Of raw files",
        b'{"P2": 3}', b"MMXXVI", b"RIFF", b"ftyp", b"\xff\xfeh\0i\0",
    ],
)  # fmt: skip
def test_texts_and_nothing_are_no_format(first):
    assert file_format(first) is None


@pytest.mark.parametrize(
    ("first", "sentence"),
    [
        (b"\xff\x0a", "JPEG XL is not read; convert it with djxl."),
        (b"%PDF-1.7", "the file is a PDF file, not an image; take its images out with pdfimages."),
        (
            boxes(b"crx "),
            "Canon's CR3 is a raw format, which is not read; develop it first, for example to "
            "TIFF or JPEG.",
        ),
    ],
)
def test_what_is_not_read_says_what_to_do(first, sentence):
    found = file_format(first)
    assert found is not None
    assert found.refusal == sentence


def test_nothing_heavy_is_needed_to_ask():
    code = "import sys, glass_edge.runtime.finding.signatures; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "PIL", "cv2", "msgspec"} & set(done.stdout.split())
