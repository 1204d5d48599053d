"""An image's file: its state when it was read, and its path as text."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import msgspec

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


_MICROSECOND = timedelta(microseconds=1)


_FIRST = (datetime.min.replace(tzinfo=timezone.utc) - _EPOCH) // _MICROSECOND


_LAST = (datetime.max.replace(tzinfo=timezone.utc) - _EPOCH) // _MICROSECOND


class ImageFile(msgspec.Struct, frozen=True):
    """An image's file when it was read: its size in bytes, and when it was last changed.

    ``modified`` is in UTC, ISO 8601. By both a later run tells whether the file has changed.
    """

    bytes: int
    modified: str


def image_file(path: str | os.PathLike[str]) -> ImageFile | None:
    """Describe a file as it is now, or ``None`` if it cannot be looked at.

    A time of change before year 1 or after year 9999, which some file systems can hold, becomes
    the first or the last moment of those.
    """
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return None
    modified = _EPOCH + min(max(found.st_mtime_ns // 1000, _FIRST), _LAST) * _MICROSECOND
    return ImageFile(found.st_size, modified.isoformat(timespec="microseconds"))


def readable_path(path: str | os.PathLike[str]) -> str:
    """Return a path as text that any file can hold: bytes that are no UTF-8 become ``\\xff``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
