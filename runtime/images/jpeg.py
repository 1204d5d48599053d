"""JPEG: libjpeg-turbo decodes it, and its warnings decide whether it is whole.

Where data are missing, libjpeg fills in grey and warns. simplejpeg raises these warnings and Pillow
drops them, so simplejpeg also checks the JPEGs that Pillow decodes.
"""

from __future__ import annotations

import re
from contextlib import suppress

import simplejpeg

from ..machine.errors import ImageError
from .encoded import Decoded, DecodeOptions, EncodedImage, Rgb, damage
from .jpeg_structure import JpegStructure, read_structure, without_metadata
from .pillow import open_with_pillow

# Times the decoded size, measured as in .pillow.
_PEAK = 1.3
_COEFFICIENTS_PEAK = 2.0  # besides, in several scans: two bytes for each of 3 channels
_FOUR_CHANNELS = ("CMYK", "YCCK")  # simplejpeg converts them to RGB unlike Pillow
_USUAL_SAMPLING = re.compile(r"1x1|(1x1|1x2|2x1|2x2|4x1), 1x1, 1x1|.*, .*, .*, .*")
"""Of one, three or four components: libjpeg-turbo's wrapper, and so simplejpeg, knows these."""
_SCANS_MISSING = "scans are missing, so that it would be blurred"
_SURPLUS = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_MOST_CUTS = 4
_MOST_SURPLUS = 4096  # bytes


def open_jpeg(content: bytes, options: DecodeOptions) -> EncodedImage:
    """Read a JPEG's header.

    Raises:
        ImageError: it is damaged, of a kind that is not read, or has a part missing.
    """
    structure = read_structure(content)
    if not structure.begun:
        raise ImageError(damage("it ends before its picture begins"))
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content, strict=False)
    except (ValueError, KeyError) as error:  # KeyError: a subsampling that it has no name for
        raise ImageError(_refusal(error, structure)) from None
    incomplete = None if structure.complete else _SCANS_MISSING
    if incomplete and not options.allow_damaged:
        raise ImageError(damage(incomplete))
    peak = _COEFFICIENTS_PEAK if structure.in_scans else 0.0
    if colours in _FOUR_CHANNELS:
        image = open_with_pillow(
            content, options, check=lambda: incomplete or _problem(content, "CMYK")
        )
        return EncodedImage(width, height, "pillow", image.decode, image.peak + peak)

    def decode(buffer: Rgb | None) -> Decoded:
        try:
            return Decoded(_strictly(content, "RGB", buffer), incomplete is not None)
        except ValueError as error:
            if not options.allow_damaged:
                raise ImageError(damage(_warning(error))) from None
        return Decoded(_what_is_there(content, buffer), damaged=True)

    return EncodedImage(width, height, "simplejpeg", decode, _PEAK + peak)


def missing(content: bytes) -> str | None:
    """Return what is missing in a JPEG, or ``None`` if it is whole; it is decoded at 1/8 size.

    Raises:
        ImageError: it is of a kind that is not read.
    """
    if not read_structure(content).complete:
        return _SCANS_MISSING
    try:
        _, _, colours, _ = simplejpeg.decode_jpeg_header(content, strict=False)
    except (ValueError, KeyError) as error:
        return _warning(error)
    return _problem(content, "CMYK" if colours in _FOUR_CHANNELS else "GRAY")


def _problem(content: bytes, colours: str) -> str | None:
    """Return what libjpeg says against a JPEG's data; it is decoded at 1/8 size and thrown away."""
    try:
        _strictly(content, colours, scale=8)
    except ValueError as error:
        return _warning(error)
    return None


def _strictly(content: bytes, colours: str, buffer: Rgb | None = None, scale: int = 1) -> Rgb:
    """Decode a whole JPEG, reduced by the factor ``scale``.

    Raises:
        ValueError: libjpeg failed, or warned about the image data.
    """

    def decoded(content: bytes) -> Rgb:
        rgb: Rgb = simplejpeg.decode_jpeg(content, colours, buffer=buffer, min_factor=scale)
        return rgb

    with suppress(ValueError):
        return decoded(content)
    # Perhaps the warning was only about metadata, or about surplus bytes that some cameras leave.
    essence = without_metadata(content)
    for _ in range(_MOST_CUTS):
        try:
            return decoded(essence)
        except ValueError as error:
            surplus = _SURPLUS.search(str(error))
            if not surplus:
                raise
            kept = len(essence) - 2 - int(surplus[1])
            _check_surplus(essence[kept:-2])
            essence = essence[:kept] + essence[-2:]
    return decoded(essence)


def _check_surplus(surplus: bytes) -> None:
    """Take padding of any length, and a little of anything else.

    Raises:
        ValueError: it is more than encoders leave: rows of the picture, whose height is wrong.
    """
    if len(surplus) > _MOST_SURPLUS and len(set(surplus)) > 1:
        raise ValueError(f"{len(surplus)} bytes of image data are left over")


def _what_is_there(content: bytes, buffer: Rgb | None) -> Rgb:
    """Decode a damaged JPEG; libjpeg fills in what is missing."""
    try:
        essence = without_metadata(content)  # of which it takes warnings for errors
        rgb: Rgb = simplejpeg.decode_jpeg(essence, "RGB", buffer=buffer, strict=False)
    except ValueError as error:
        raise ImageError(damage(_warning(error))) from None
    return rgb


def _refusal(error: Exception, structure: JpegStructure) -> str:
    if not _USUAL_SAMPLING.fullmatch(structure.sampling):
        return (
            f"a JPEG with the sampling {structure.sampling} is not read, because its decoders do "
            "not tell whether it is whole; save it again with 4:4:4."
        )
    return damage(_warning(error))


def _warning(error: Exception) -> str:
    return str(error).removeprefix("Corrupt JPEG data: ")
