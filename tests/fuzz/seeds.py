"""Real files of every format, small, to be damaged."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
from glass_edge.benchmarks.views.interlaced import interlaced_png
from PIL import Image
from pillow_heif import register_heif_opener

PHOTOGRAPH = Path(__file__).parents[2] / "examples" / "images" / "real" / "cat.jpg"
_SIZE = (67, 45)


def seeds() -> dict[str, list[bytes]]:
    """Return files by format; each format has a few that differ in how they were written."""
    register_heif_opener()
    with Image.open(PHOTOGRAPH) as image:
        picture = image.convert("RGB").resize(_SIZE)
    return {name: [make(picture) for make in makers] for name, makers in _MAKERS.items()}


def _saved(kind: str, mode: str = "RGB", **options: object) -> Callable[[Image.Image], bytes]:
    def make(picture: Image.Image) -> bytes:
        buffer = io.BytesIO()
        changed = picture.convert(mode)
        if mode in ("RGBA", "LA"):
            changed.putalpha(Image.linear_gradient("L").resize(picture.size))
        changed.save(buffer, kind, **options)
        return buffer.getvalue()

    return make


def _animated(kind: str, **options: object) -> Callable[[Image.Image], bytes]:
    def make(picture: Image.Image) -> bytes:
        buffer = io.BytesIO()
        others = [picture.rotate(angle) for angle in (90, 180)]
        picture.save(buffer, kind, save_all=True, append_images=others, duration=50, **options)
        return buffer.getvalue()

    return make


def _sixteen_bits(
    suffix: str, mode: str = "RGB", factor: int = 257
) -> Callable[[Image.Image], bytes]:
    def make(picture: Image.Image) -> bytes:
        pixels = np.asarray(picture.convert(mode)).astype(np.uint16) * factor
        return bytes(cv2.imencode(suffix, pixels)[1])

    return make


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "a photograph", 6
    return exif


_MAKERS: Mapping[str, list[Callable[[Image.Image], bytes]]] = {
    "jpeg": [
        _saved("JPEG", quality=90),
        _saved("JPEG", quality=95, subsampling=0, exif=_exif(), icc_profile=b"\1" * 300),
        _saved("JPEG", mode="L", restart_marker_blocks=4),
    ],
    "jpeg progressive": [_saved("JPEG", progressive=True), _saved("JPEG", "L", progressive=True)],
    "jpeg cmyk": [_saved("JPEG", "CMYK"), _saved("JPEG", "CMYK", progressive=True)],
    "mpo": [_animated("MPO")],
    "png": [_saved("PNG"), _saved("PNG", "RGBA", exif=_exif()), _saved("PNG", "L"),
            _saved("PNG", "LA")],
    "png 16 bit": [_sixteen_bits(".png"), _sixteen_bits(".png", "L", 2)],
    "png palette": [_saved("PNG", "P", transparency=3), _saved("PNG", "1")],
    "png interlaced": [interlaced_png],
    "png animated": [_animated("PNG")],
    "webp": [_saved("WEBP"), _saved("WEBP", "RGBA", exif=_exif())],
    "webp lossless": [_saved("WEBP", lossless=True), _saved("WEBP", "RGBA", lossless=True)],
    "webp animated": [_animated("WEBP")],
    "tiff": [
        *(_saved("TIFF", compression=way) for way in (None, "tiff_lzw", "tiff_adobe_deflate",
                                                      "packbits", "jpeg", "zstd")),
        _saved("TIFF", "CMYK"), _saved("TIFF", "P"),
        _sixteen_bits(".tiff"), _animated("TIFF"), _saved("TIFF", exif=_exif()),
    ],
    "bmp": [_saved("BMP"), _saved("BMP", "P"), _saved("BMP", "1"), _saved("DIB")],
    "gif": [_saved("GIF"), _animated("GIF"), _saved("GIF", "P", interlace=0)],
    "avif": [_saved("AVIF"), _saved("AVIF", "RGBA"), _animated("AVIF")],
    "heic": [_saved("HEIF"), _saved("HEIF", "RGBA"), _saved("HEIF", "L")],
    "ppm": [_saved("PPM"), _saved("PPM", "L"), _saved("PPM", "1"),
            lambda _: b"P3 2 2 255 " + b"9 " * 12],
    "jpeg 2000": [_saved("JPEG2000"), _saved("JPEG2000", "RGBA", irreversible=True),
                  _saved("JPEG2000", no_jp2=True)],
    "tga": [_saved("TGA"), _saved("TGA", "RGBA", compression="tga_rle"), _saved("TGA", "P")],
}  # fmt: skip
