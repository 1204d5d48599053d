"""Which images the user means: files, folders, patterns, or a list on standard input."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta, timezone

from .errors import InputError
from .records import ImageFile

IMAGE_SUFFIXES = frozenset({
    ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg",
    ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp",
})  # fmt: skip
STANDARD_INPUT = "-"
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_FIRST = (datetime.min.replace(tzinfo=timezone.utc) - _EPOCH) // _MICROSECOND
_LAST = (datetime.max.replace(tzinfo=timezone.utc) - _EPOCH) // _MICROSECOND


def find_images(arguments: Sequence[str]) -> list[str]:
    """Expand files, folders and patterns to a list of paths.

    Folders are searched recursively, in sorted order, for files with an image's suffix;
    hidden files and folders are passed over and links to folders are not followed. A
    path that is not there is kept, so that it becomes an error record; a pattern or a
    folder without a single image is an error.

    Raises:
        InputError: a folder or pattern holds no image.
    """
    found: list[str] = []
    for argument in arguments:
        if os.path.isdir(argument):
            found += _some(_walk(argument), f"the folder {argument} holds no image")
        elif not os.path.lexists(argument) and glob.has_magic(argument):
            matches = sorted(glob.glob(argument, recursive=True))
            images = (path for match in matches for path in _expand_match(match))
            found += _some(images, f"the pattern {argument} matches no image")
        else:
            found.append(argument)
    return found


def listed_images(lines: Iterable[bytes]) -> Iterator[str]:
    """Yield one path per line, lazily; empty lines are passed over, any bytes can be a name."""
    for line in lines:
        if path := line.rstrip(b"\r\n"):
            yield os.fsdecode(path)


def image_file(path: str | os.PathLike[str]) -> ImageFile | None:
    """Describe a file as it is now, or ``None`` if it cannot be looked at.

    A time of change before year 1 or after year 9999, which some file systems can hold, becomes
    the first or the last moment of those.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    modified = _EPOCH + min(max(found.st_mtime_ns // 1000, _FIRST), _LAST) * _MICROSECOND
    return ImageFile(found.st_size, modified.isoformat(timespec="microseconds"))


def readable_path(path: str | os.PathLike[str]) -> str:
    """Return a path as text that any file can hold: bytes that are no UTF-8 become ``\\xff``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _some(images: Iterable[str], otherwise: str) -> list[str]:
    found = list(images)
    if not found:
        raise InputError(f"{otherwise} (looked for {' '.join(sorted(IMAGE_SUFFIXES))}).")
    return found


def _expand_match(match: str) -> Iterable[str]:
    return _walk(match) if os.path.isdir(match) else [match]


def _refuse(error: OSError) -> None:
    """Pass over what vanishes while it is searched; what cannot be read must not be missed."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise InputError(
            f"the folder {error.filename} cannot be read ({error.strerror}), so its images would "
            "be missing: give yourself the right to read it, or name the others one by one."
        )


def _walk(folder: str) -> Iterator[str]:
    for parent, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
                yield os.path.join(parent, name)
