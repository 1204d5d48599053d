"""What a file is, by its first bytes: an image that is read, one that is not, or something else.

The one place that knows formats by content. Nothing is decoded and nothing heavy is imported.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

SIGNATURE_BYTES = 128
"""How many of a file's first bytes tell what it is."""


class Kind(Enum):
    """What can be done with a file of a format."""

    READ = "image"
    UNREAD = "image of a format that is not read"
    RAW = "raw file"
    OTHER = "not an image"


class FileFormat(NamedTuple):
    """A format that files are recognised by.

    Attributes:
        name: as in a sentence: ``JPEG XL``, ``Canon's CR3``, ``a PDF file``.
        kind: whether it is read.
        advice: what to do with a file that is not read, as an order; may be empty.
    """

    name: str
    kind: Kind = Kind.READ
    advice: str = ""

    @property
    def refusal(self) -> str:
        """One sentence on why such a file is not judged, and what to do."""
        match self.kind:
            case Kind.RAW:
                said = f"{self.name} is a raw format, which is not read"
            case Kind.OTHER:
                said = f"the file is {self.name}, not an image"
            case _:
                said = f"{self.name} is not read"
        return f"{said}; {self.advice}." if self.advice else f"{said}."


DEVELOP = "develop it first, for example to TIFF or JPEG"
"""What to do with a raw file."""
CONVERT = "convert it, for example to PNG"
"""What to do with an image of a kind that is not read."""


def file_format(first: bytes) -> FileFormat | None:
    """Return the format that a file's first bytes name, or ``None`` if they name none.

    TGA has no signature. Some raw files (DNG, NEF, ARW and others) begin like any TIFF.

    Args:
        first: :data:`SIGNATURE_BYTES` bytes from the file's start, or all of a shorter one.
    """
    if first[4:8] == b"ftyp":
        return _by_brand(first)
    for pattern, found in _SIGNATURES:
        if pattern.match(first):
            return found
    return None


def _unread(name: str, advice: str = CONVERT) -> FileFormat:
    return FileFormat(name, Kind.UNREAD, advice)


def _raw(name: str) -> FileFormat:
    return FileFormat(name, Kind.RAW, DEVELOP)


def _other(name: str, advice: str = "") -> FileFormat:
    return FileFormat(name, Kind.OTHER, advice)


_VIDEO = _other("a video", "take its frames out first")
# The first match decides, so special patterns stand before general ones.
_SIGNATURES = tuple(
    (re.compile(pattern, re.DOTALL), found)
    for pattern, found in (
        (rb"\xff\xd8\xff", FileFormat("JPEG")),
        (rb"\x89PNG\r\n\x1a\n", FileFormat("PNG")),
        (rb"RIFF.{4}WEBP", FileFormat("WebP")),
        (rb"GIF8[79]a", FileFormat("GIF")),
        # The size of its second header tells a BMP from a text that begins with these letters.
        (rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0", FileFormat("BMP")),
        (rb"P[1-6](?:\s+|#[^\n]*\n)+(?:#|\d+\s+(?:#|\d))", FileFormat("PPM")),
        (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", FileFormat("JPEG 2000")),
        (rb"II\*\0.{4}CR", _raw("Canon's CR2")),
        (rb"II\*\0.{4}II", _raw("Phase One's IIQ")),
        (rb"II\*\0|MM\0\*|II\+\0\x08\0|MM\0\+\0\x08", FileFormat("TIFF")),
        (rb"II.{4}HEAPCCDR", _raw("Canon's CRW")),
        (rb"FUJIFILMCCD-RAW", _raw("Fujifilm's RAF")),
        (rb"IIR[OS]|MMOR", _raw("Olympus' ORF")),
        (rb"IIU\0", _raw("Panasonic's RW2")),
        (rb"FOVb", _raw("Sigma's X3F")),
        (rb"\0MRM", _raw("Minolta's MRW")),
        (rb"\0\0\0\x0cJXL \r\n\x87\n|\xff\x0a", _unread("JPEG XL", "convert it with djxl")),
        (rb"II\xbc\x01", _unread("JPEG XR")),
        (rb"\0\0[\x01\x02]\0[\x01-\xff]\0..[\x00-\xff]\0", _unread("ICO")),
        (rb"8BPS", _unread("PSD", "export it from the program that made it")),
        (rb"gimp xcf", _unread("XCF", "export it from GIMP")),
        (rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!DOCTYPE svg|<svg)", _unread("SVG", "render it first")),
        (rb"%!PS|\xc5\xd0\xd3\xc6", _unread("EPS", "render it first")),
        (rb"\x76\x2f\x31\x01", _unread("OpenEXR")),
        (rb"#\?R(?:ADIANCE|GBE)", _unread("Radiance HDR")),
        (rb"DDS ", _unread("DDS")),
        (rb"qoif", _unread("QOI")),
        (rb"P7\n", _unread("PAM")),
        (rb"BPG\xfb", _unread("BPG")),
        (rb"FLIF", _unread("FLIF")),
        (rb"[\x8a\x8b][MJ]NG", _unread("MNG")),
        (rb"AT&TFORM", _unread("DjVu")),
        (rb"%PDF-", _other("a PDF file", "take its images out with pdfimages")),
        (rb"\s*<(?i:!DOCTYPE html|html)", _other("a web page", "download the image itself")),
        (rb"version https://git-lfs", _other("a Git LFS pointer", "run git lfs pull")),
        (rb"\0\x05\x16\x07", _other("macOS' notes on another file (AppleDouble)")),
        (rb"PK\x03\x04|Rar!|7z\xbc\xaf|\x1f\x8b|\xfd7zXZ|BZh|\x28\xb5\x2f\xfd",
         _other("an archive", "unpack it first")),
        (rb"RIFF.{4}AVI |\x1aE\xdf\xa3|FLV\x01|OggS|\0\0\x01[\xb3\xba]", _VIDEO),
    )
)  # fmt: skip
_AVIF, _HEIC = FileFormat("AVIF"), FileFormat("HEIC")
_HEIC_BRANDS = frozenset({
    b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs",
})  # fmt: skip
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_GENERAL_BRANDS = frozenset({b"mif1", b"msf1", b"mif2"})  # compatible brands name the codec


def _by_brand(first: bytes) -> FileFormat:
    """Return the format of a file of ISO boxes: AVIF, HEIC, Canon's CR3, or a video."""
    size = int.from_bytes(first[:4], "big")
    brand = first[8:12]
    if brand == b"crx ":
        return _raw("Canon's CR3")
    if brand in _GENERAL_BRANDS:
        others = {first[start : start + 4] for start in range(16, min(size, len(first)), 4)}
        return _AVIF if others & _AVIF_BRANDS and not others & _HEIC_BRANDS else _HEIC
    if brand in _AVIF_BRANDS:
        return _AVIF
    return _HEIC if brand in _HEIC_BRANDS else _VIDEO
