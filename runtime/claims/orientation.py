"""Which way is up, as a file says (EXIF 3.0, tag 274)."""

from __future__ import annotations

from ..images.tiff_directory import Tag, first_directory
from ..machine.errors import ImageError
from .metadata import Metadata

AS_STORED = 1


def orientation_of(metadata: Metadata) -> int:
    """Return an orientation of 1 to 8; 1 if there is none, or one that does not exist."""
    try:
        directory = first_directory(metadata.exif)
    except ImageError:
        return AS_STORED
    value = directory.number(Tag.ORIENTATION, AS_STORED) if directory else AS_STORED
    return value if value in range(1, 9) else AS_STORED
