"""Decoding with Pillow, which defines the pixels."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..finding.signatures import SIGNATURE_BYTES, FileFormat, file_format
from ..machine.errors import ImageError
from .encoded import CHANNELS, Decoded, DecodeOptions, EncodedImage, Rgb, damage
from .wide_grey import WIDE_MODES, check_high_bytes, wide_grey

Check: TypeAlias = Callable[[], str | None]
"""Returns what is missing in an image and would be filled in, or ``None`` if it is whole."""

# By the signature's name. Pillow opens many more: EPS by running Ghostscript on it, and formats
# that nobody tests.
_FORMATS = {
    "JPEG": ("JPEG",),
    "PNG": ("PNG",),
    "WebP": ("WEBP",),
    "TIFF": ("TIFF",),
    "BMP": ("BMP",),
    "GIF": ("GIF",),
    "AVIF": ("AVIF",),
    "HEIC": ("HEIF", "AVIF"),
    "PPM": ("PPM",),
    "JPEG 2000": ("JPEG2000",),
}
_WITHOUT_SIGNATURE = ("TGA", "DIB")
_STRIPE = 1 << 18  # pixels
# Peak memory over decoded size, resampling included: measured by the growth of resident memory,
# with 12 million pixels (tests/test_memory.py).
_PEAK = 2.5  # its four bytes for each pixel, and our three
_PEAKS = {"WEBP": 6.0, "AVIF": 5.0, "HEIF": 6.0, "JPEG2000": 9.0}


def open_with_pillow(
    content: bytes,
    options: DecodeOptions,
    *,
    frame: int = 0,
    check: Check = lambda: None,
    unknown: str | None = None,
    high_bytes: bool = False,
) -> EncodedImage:
    """Read a header with Pillow, and let it decode the image.

    Args:
        content: the file.
        options: how to decode it.
        frame: index of the picture in the file.
        check: is called before decoding, for formats in which Pillow fills in missing data.
        unknown: the sentence that refuses a file that Pillow cannot identify.
        high_bytes: whether the image is colour of 16 bits, of which Pillow keeps the high bytes.

    Raises:
        ImageError: not an image, a damaged header, or too large for Pillow's own limit.
    """
    with opened(content, frame, unknown) as image:
        return decoded_by_pillow(
            image, content, options, frame=frame, check=check, high_bytes=high_bytes
        )


def decoded_by_pillow(
    image: Image.Image,
    content: bytes,
    options: DecodeOptions,
    *,
    frame: int = 0,
    check: Check = lambda: None,
    high_bytes: bool = False,
) -> EncodedImage:
    """Let Pillow decode a file of which it has read the header, see :func:`open_with_pillow`."""
    (width, height), peak = image.size, _PEAKS.get(image.format or "", _PEAK)

    def decode(buffer: Rgb | None) -> Decoded:
        problem = check()
        if problem and not options.allow_damaged:
            raise ImageError(damage(problem))
        # Opened again, so that no decoder state is held until now and only pixels are kept.
        with opened(content, frame) as image:
            image.load()
            if image.mode in ("P", "PA") and image.palette is None:  # Pillow fails, or gives black
                raise ImageError(damage("its palette is missing"))
            rgb = pixels_of(image, options, buffer)
        if high_bytes:
            check_high_bytes(rgb)
        return Decoded(rgb, bool(problem))

    return EncodedImage(width, height, "pillow", decode, peak)


def open_pillow_image(image: Image.Image, options: DecodeOptions) -> EncodedImage:
    """Take an image that the caller has opened with Pillow.

    Missing data that Pillow fills in are not noticed. Decoding raises :class:`ImageError` if Pillow
    refuses the image, or if nothing of the picture is left in 8 bits.
    """

    def decode(buffer: Rgb | None) -> Decoded:
        with _pillows_errors("the image cannot be read."):
            image.load()
            return Decoded(pixels_of(image, options, buffer))

    return EncodedImage(*image.size, "pillow", decode, _PEAK)


@contextmanager
def opened(content: bytes, frame: int = 0, unknown: str | None = None) -> Iterator[Image.Image]:
    """Open an image with Pillow; what Pillow raises within becomes an :class:`ImageError`.

    Raises:
        ImageError: the image is none of the formats that are read, damaged or too large; or it
            is HEIC, and pillow-heif is missing.
    """
    found = file_format(content[:SIGNATURE_BYTES])
    formats = _FORMATS[found.name] if found else _WITHOUT_SIGNATURE
    if "HEIF" in formats and not teach_pillow_heif():
        raise ImageError(
            "HEIC images need the package pillow-heif: pip install 'glass-edge[heic]'."
        )
    unknown = unknown or _unidentified(found)
    with _pillows_errors(unknown), Image.open(io.BytesIO(content), formats=formats) as image:
        if frame:
            image.seek(frame)
        yield image


@contextmanager
def _pillows_errors(unknown: str) -> Iterator[None]:
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(unknown) from None
    except (Image.DecompressionBombError, MemoryError) as error:
        raise ImageError(f"the image is too large: {error}") from None
    # Plugins raise many types on damaged files, SyntaxError and struct.error among them, and some
    # with messages of several lines.
    except Exception as error:
        raise ImageError(damage(" ".join(str(error).split()))) from None


def _unidentified(found: FileFormat | None) -> str:
    if found:
        return damage(f"it begins as {found.name} does, but its header cannot be read")
    return f"the file is not an image ({', '.join(_FORMATS)} and TGA are read)."


def teach_pillow_heif() -> bool:
    """Let Pillow read HEIC, and return whether it can."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener(decode_threads=1)
    return True


def pixels_of(image: Image.Image, options: DecodeOptions, buffer: Rgb | None = None) -> Rgb:
    """Convert a loaded image a few rows at a time, into ``buffer`` if there is room.

    Pillow converts to images of four bytes for each pixel and copies them once more on export.
    For a whole image at once, both would take more memory than the pixels do.

    Args:
        image: in any mode.
        options: what becomes of grey values of more than 8 bits.
        buffer: flat uint8 array to write into; ``None`` allocates one.

    Raises:
        ImageError: nothing of the picture is left in 8 bits.
    """
    width, height = image.size
    size = width * height * CHANNELS
    rgb = (np.empty(size, np.uint8) if buffer is None else buffer[:size]).reshape(
        height, width, CHANNELS
    )
    wide = wide_grey(image, options.sixteen_bit) if image.mode in WIDE_MODES else None
    rows = max(1, _STRIPE // width)
    for top in range(0, height, rows):
        stripe = image.crop((0, top, width, min(top + rows, height)))
        rgb[top : top + rows] = wide.convert(stripe) if wide else _converted(stripe)
    if wide:
        wide.check()
    return rgb


def _converted(stripe: Image.Image) -> Rgb:
    return np.asarray(stripe if stripe.mode == "RGB" else stripe.convert("RGB"))
