"""Whether a file can hold content credentials at all, without a library.

Nearly every file has none, and reading on would take many times as long.
"""

from __future__ import annotations

from contextlib import suppress

from ..images.jpeg_structure import header_segments
from ..images.png import chunks_beside_pixels
from ..images.tiff_directory import Tag, read_directories
from ..machine.errors import ImageError

_STORE = b"jumdc2pa"
"""In every manifest store: its description box, and how the box's UUID begins (C2PA, 11.1.4)."""
_REMOTE = b"dcterms:provenance"
"""In XMP, names a store that lies elsewhere; c2pa-python knows it by this prefix only."""
_APPLICATIONS = (0xE1, 0xEB)  # XMP and JUMBF
_XMP_IN_GIF = b"XMP DataXMP"  # c2pa-python cuts it into blocks, and so perhaps the name


def may_hold_credentials(content: bytes, name: str) -> bool:
    """Return whether a file of the format ``name`` may hold or name a manifest store."""
    match name:
        case "JPEG":
            return _jpeg_may(content)
        case "PNG":
            return _png_may(content)
        case "TIFF":
            return _tiff_may(content)
        case "GIF" if _XMP_IN_GIF in content:
            return True
    return _STORE in content or _REMOTE in content


def _jpeg_may(content: bytes) -> bool:
    """Look before the first scan; c2pa-python reads nothing after it."""
    return any(
        content.find(mark, start, end) >= 0
        for marker, start, end in header_segments(content)
        if marker in _APPLICATIONS
        for mark in (_STORE, _REMOTE)
    )


def _png_may(content: bytes) -> bool:
    """Look beside the image data, which are nearly all of a PNG."""
    return any(
        name == b"caBX" or content.find(_REMOTE, start, end) >= 0
        for name, start, end in chunks_beside_pixels(content)
    )


def _tiff_may(content: bytes) -> bool:
    """Look where the directories point to: pixels are often neither compressed nor few."""
    with suppress(ImageError):
        return any(
            Tag.C2PA in page or _REMOTE in page.data(Tag.XMP) for page in read_directories(content)
        )
    return False
