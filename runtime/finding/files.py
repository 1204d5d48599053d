"""An image's file: its state when it was read, and its path as text."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

import msgspec

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_FIRST = (datetime.min.replace(tzinfo=timezone.utc) - _EPOCH) // _MICROSECOND
_LAST = (datetime.max.replace(tzinfo=timezone.utc) - _EPOCH) // _MICROSECOND
_MOST_COMPARED = 10_000  # names in a folder; a tenth of a second


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


def without_waiting(path: str, flags: int) -> int:
    """Open a path without blocking on a pipe; an ``opener`` for :func:`open`."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def readable_path(path: str | os.PathLike[str]) -> str:
    """Return a path as text that any file can hold: bytes that are no UTF-8 become ``\\xff``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def did_you_mean(path: str | os.PathLike[str], suffix: str = "") -> str:
    """Return `` Did you mean …?`` with the name beside a missing path that is most like it.

    Only names that end in ``suffix`` are considered; if none is alike, the text is empty.
    """
    missing = Path(path)
    close = get_close_matches(missing.name, _names_beside(missing, suffix), n=1)
    return f" Did you mean {readable_path(missing.parent / close[0])}?" if close else ""


def _names_beside(path: Path, suffix: str) -> Iterator[str]:
    try:
        with os.scandir(path.parent) as entries:
            yield from (e.name for e in islice(entries, _MOST_COMPARED) if e.name.endswith(suffix))
    except OSError:
        return
