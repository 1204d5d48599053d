"""Encoded images to RGB pixels, exactly as the reference's Pillow gives them.

Pillow's ``Image.open(...).convert("RGB")`` defines the pixels: the order stored in the
file (EXIF orientation is not applied), alpha dropped and not blended, palettes expanded.
A faster decoder takes a file only if it gives the same pixels and reports no problem. Every
other file goes to Pillow, which has the last word. A file's format is told by its content, never
by its name.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import AvifImagePlugin, Image, UnidentifiedImageError

from ..machine.errors import ImageError

Rgb: TypeAlias = npt.NDArray[np.uint8]
"""Pixels ``(height, width, 3)``, uint8, RGB."""

DEFAULT_MAX_PIXELS = 200_000_000
MAX_SIDE = 100_000  # JPEG ends at 65,535; resampling needs memory for each column and row
CHANNELS = 3
_HEIF_BRANDS = {b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"mif1")}
# Pillow opens many more: EPS by running Ghostscript on it, and formats that nobody tests.
_FORMATS = (
    "JPEG", "PNG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "AVIF", "PPM", "JPEG2000", "TGA",
)  # fmt: skip
_MOST_SCANS = 100
_STRIPE = 1 << 18  # pixels
_SCAN, _END = b"\xff\xda", b"\xff\xd9"
_SEQUENTIAL = (b"\xff\xc0", b"\xff\xc1", b"\xff\xc9")
_PROGRESSIVE = (b"\xff\xc2", b"\xff\xca")
# All but those without a length: restarts, fillers, stuffed bytes and the start.
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")
# Peak memory over decoded size, resampling included: measured by the growth of resident memory,
# with 12 million pixels (tests/test_memory.py). If a damaged file falls back
# to Pillow, Pillow's factor applies.
_JPEG_PEAK = 1.3
_COEFFICIENTS_PEAK = 2.0  # besides, for a JPEG in several scans: two bytes for each of 3 channels
_OPENCV_PEAK = 3.0
_PILLOW_PEAK = 2.5  # its four bytes for each pixel, and our three
_PILLOW_PEAKS = {"WEBP": 6.0, "AVIF": 5.0, "HEIF": 6.0, "JPEG2000": 9.0}
_OPENCV_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION


@dataclass(frozen=True)
class EncodedImage:
    """An image whose header was read and found acceptable, not yet decoded.

    Attributes:
        width, height: in pixels, as stored.
        decoder: which library will decode it.
        peak: how many times its decoded size it takes at most, from decoding to views.
    """

    width: int
    height: int
    decoder: str
    _decode: Callable[[Rgb | None], Rgb]
    peak: float

    @property
    def decoded_bytes(self) -> int:
        """Size of the decoded pixels."""
        return self.width * self.height * CHANNELS

    @property
    def peak_bytes(self) -> int:
        """Most memory that the image takes, from decoding to views, its file not counted."""
        return int(self.decoded_bytes * self.peak)

    def decode(self, buffer: Rgb | None = None) -> Rgb:
        """Return the pixels.

        Args:
            buffer: flat uint8 array of at least ``decoded_bytes`` that a decoder may write
                into instead of allocating; the result is then a view of it.

        Raises:
            ImageError: truncated or damaged.
        """
        return self._decode(buffer)


def decode(content: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Rgb:
    """Decode an image file's bytes to RGB pixels.

    Raises:
        ImageError: empty, not an image, truncated, damaged or too large.
    """
    return read_header(content, max_pixels=max_pixels).decode()


def read_header(content: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> EncodedImage:
    """Read an image's size and choose its decoder; nothing is decoded yet.

    Images of more than ``max_pixels`` pixels or with a side above ``MAX_SIDE`` are refused.
    For the formats that Pillow opens, its own limit, ``PIL.Image.MAX_IMAGE_PIXELS``, holds as
    well.

    Raises:
        ImageError: empty, not an image, a damaged header, or too large.
    """
    if not content:
        raise ImageError("the file is empty.")
    _check_scans(content)
    image = _jpeg(content) or _pillow(content)
    check_size(image.width, image.height, max_pixels)
    return image


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Check that an image of this size can be judged.

    Raises:
        ImageError: it is empty, too large or too long.
    """
    size = f"{width}x{height} pixels"
    if width < 1 or height < 1:
        raise ImageError(f"the image has no pixels ({width}x{height}).")
    if width * height > max_pixels:
        raise ImageError(
            f"the image has {size}, more than the limit of {max_pixels}; "
            "raise the limit or scale it down."
        )
    if max(width, height) > MAX_SIDE:
        raise ImageError(
            f"the image has {size}, and no side may be longer than {MAX_SIDE}; cut it in pieces."
        )


# --- simplejpeg: JPEG in RGB or greyscale ------------------------------------------------


def _check_scans(content: bytes) -> None:
    """Refuse a JPEG that comes in absurdly many scans.

    Each scan of a progressive JPEG may visit every pixel and needs a few bytes only: a file of
    10 kB can keep any decoder busy for minutes. Encoders write about ten; libtiff, too, stops at
    a hundred.
    """
    if not _comes_in_scans(content) or content.count(_SCAN) <= _MOST_SCANS:
        return  # at the first scan of nearly all files; decoders, too, read no other of these
    scans, position = 0, 2
    while (marker := _MARKER.search(content, position)) and marker[0] != _END:
        scans += marker[0] == _SCAN
        if scans > _MOST_SCANS:
            raise ImageError(f"the JPEG has more than {_MOST_SCANS} scans, which no camera writes.")
        position = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2], "big")


def _comes_in_scans(content: bytes) -> bool:
    """Whether a JPEG's pixels come in several scans: all coefficients are then held until the last.

    A progressive JPEG is one, and so is a sequential one whose first scan has not all components.
    """
    if not content.startswith(b"\xff\xd8\xff"):
        return False
    position, components = 2, 0
    while marker := _MARKER.search(content, position):
        kind, start = marker[0], marker.end()
        if kind in _PROGRESSIVE:
            return True
        if kind in _SEQUENTIAL:
            components = int.from_bytes(content[start + 7 : start + 8], "big")
        if kind == _SCAN:
            return int.from_bytes(content[start + 2 : start + 3], "big") < components
        position = start + int.from_bytes(content[start : start + 2], "big")
    return False


def _jpeg(content: bytes) -> EncodedImage | None:
    """Take a JPEG for libjpeg-turbo, but for CMYK, where Pillow's conversion differs."""
    if not content.startswith(b"\xff\xd8\xff"):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return None
    if colours not in ("YCbCr", "Gray", "RGB"):
        return None

    def with_simplejpeg(buffer: Rgb | None) -> Rgb:
        try:
            rgb: Rgb = simplejpeg.decode_jpeg(content, "RGB", buffer=buffer)
        except ValueError:  # any warning of libjpeg's; Pillow knows which can be passed over
            return _pillow(content).decode(buffer)
        return rgb

    peak = _JPEG_PEAK + (_COEFFICIENTS_PEAK if _comes_in_scans(content) else 0.0)
    return EncodedImage(width, height, "simplejpeg", with_simplejpeg, peak)


# --- OpenCV: still WebP without alpha, still 8-bit PNG -----------------------------------


def _opencv_agrees(image: Image.Image, content: bytes) -> bool:
    """Whether OpenCV gives Pillow's pixels of this file, and refuses it where Pillow does.

    OpenCV passes over damage in the alpha channel of WebP, and over what follows its picture.
    """
    if image.format == "WEBP":
        (size,) = struct.unpack_from("<I", content, 4)
        still = not getattr(image, "is_animated", False)
        return still and image.mode == "RGB" and size + 8 == len(content)
    if image.format == "PNG":
        eight_bit = content[24] == 8
        return eight_bit and image.mode in ("L", "RGB", "RGBA") and _is_whole_still_png(content)
    return False


def _is_whole_still_png(content: bytes) -> bool:
    """Whether chunks fill the file to its end and none belongs to an animation.

    OpenCV reads for ever where a chunk is longer than the file, and takes damaged animations.
    """
    position, name = 8, b""
    while position + 12 <= len(content):
        size, name = struct.unpack_from(">I4s", content, position)
        if name in (b"acTL", b"fcTL", b"fdAT"):
            return False
        position += 12 + size
    return name == b"IEND" and position == len(content)


def _with_opencv(content: bytes) -> Rgb | None:
    try:
        rgb = cv2.imdecode(np.frombuffer(content, np.uint8), _OPENCV_FLAGS)
    except cv2.error:
        return None
    return None if rgb is None else rgb.astype(np.uint8, copy=False)


# --- Pillow: everything else, and the last word ------------------------------------------


def _pillow(content: bytes) -> EncodedImage:
    with _PillowErrors(), _opened(content) as image:
        by_opencv = _opencv_agrees(image, content)
        (width, height), peak = image.size, _pillow_peak(image, content)

    def with_pillow(buffer: Rgb | None) -> Rgb:
        if by_opencv and (rgb := _with_opencv(content)) is not None:
            return rgb
        # Opened anew, so that nothing is held before and nothing but the pixels after.
        with _PillowErrors(), _opened(content) as image:
            image.load()
            if image.mode in ("P", "PA") and image.palette is None:  # Pillow fails, or gives black
                raise ImageError("the image is damaged: its palette is missing.")
            return _pixels(image, buffer)

    if by_opencv:
        return EncodedImage(width, height, "opencv", with_pillow, _OPENCV_PEAK)
    return EncodedImage(width, height, "pillow", with_pillow, peak)


def _pillow_peak(image: Image.Image, content: bytes) -> float:
    peak = _PILLOW_PEAKS.get(image.format or "", _PILLOW_PEAK)
    return peak + (_COEFFICIENTS_PEAK if _comes_in_scans(content) else 0.0)


def _opened(content: bytes) -> Image.Image:
    """Open an image with Pillow.

    Raises:
        ImageError: it is HEIC, and pillow-heif is missing.
        UnidentifiedImageError: it is none of the formats that are read.
    """
    heif = content[4:12] in _HEIF_BRANDS and teach_pillow_heif()
    try:
        return Image.open(io.BytesIO(content), formats=(*_FORMATS, "HEIF") if heif else _FORMATS)
    except UnidentifiedImageError:
        if heif or content[4:12] not in _HEIF_BRANDS:
            raise
        message = "HEIC images need the package pillow-heif: pip install 'glass-edge[heic]'."
        raise ImageError(message) from None


def teach_pillow_heif() -> bool:
    """Let Pillow read HEIC, and return whether it can."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener(decode_threads=1)
    return True


def _pixels(image: Image.Image, buffer: Rgb | None) -> Rgb:
    """Convert a loaded image a few rows at a time, into ``buffer`` if there is room.

    Pillow converts to images of four bytes for each pixel, and gives their bytes in pieces that
    must be joined: for all of an image at once both would take more than the pixels do.
    """
    width, height = image.size
    size = width * height * CHANNELS
    rgb = (np.empty(size, np.uint8) if buffer is None else buffer[:size]).reshape(
        height, width, CHANNELS
    )
    rows = max(1, _STRIPE // width)
    for top in range(0, height, rows):
        stripe = image.crop((0, top, width, min(top + rows, height)))
        rgb[top : top + rows] = np.asarray(
            stripe if stripe.mode == "RGB" else stripe.convert("RGB")
        )
    return rgb


class _PillowErrors:
    """Turns what Pillow and its format plugins raise into :class:`ImageError`."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        match error:
            case ImageError():
                pass
            case UnidentifiedImageError():
                known = ", ".join((*_FORMATS, "HEIC"))
                raise ImageError(f"the file is not an image ({known} are read).") from None
            case Image.DecompressionBombError() | MemoryError():
                raise ImageError(f"the image is too large: {error}") from None
            # Plugins raise many types on damaged files, SyntaxError and struct.error among them.
            case Exception():
                raise ImageError(f"the image is truncated or damaged: {error}") from None


def settle_pillow(max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
    """Let our limit rule, and keep notes on damaged metadata off the screen.

    These settings are the whole process's: a command makes them, a library must not.
    """
    # By default each AVIF image takes a thread for each CPU; here images are decoded side by side.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    Image.MAX_IMAGE_PIXELS = max_pixels
    warnings.filterwarnings("ignore", module="PIL")
