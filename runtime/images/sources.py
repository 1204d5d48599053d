"""Which images the user means: files, folders, patterns, or a list on standard input."""

from __future__ import annotations

import errno
import fnmatch
import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from ..machine.errors import InputError

IMAGE_SUFFIXES = frozenset({
    ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg",
    ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp",
})  # fmt: skip
STANDARD_INPUT = "-"


def find_images(arguments: Sequence[str]) -> list[str]:
    """Expand files, folders and patterns to a list of paths.

    Folders are searched recursively, in sorted order, for files with an image's suffix;
    hidden files and folders are passed over and links to folders are not followed, nor
    behind a ``**``. A path that is not there is kept, so that it becomes an error record; a
    pattern or a folder without a single image is an error.

    Raises:
        InputError: a folder or pattern holds no image, or a folder cannot be read.
    """
    found: list[str] = []
    for argument in arguments:
        if os.path.isdir(argument):
            found += _some(_walk(argument), f"the folder {argument} holds no image")
        elif _is_pattern(argument):
            found += _some(_expand(argument), f"the pattern {argument} matches no image")
        else:
            found.append(argument)
    return found


def listed_images(lines: Iterable[bytes]) -> Iterator[str]:
    """Yield one path per line, lazily; empty lines are passed over, any bytes can be a name."""
    for line in lines:
        if path := line.rstrip(b"\r\n"):
            # As os.fsdecode, except on Windows, where that refuses what is no UTF-8.
            yield path.decode(sys.getfilesystemencoding(), "surrogateescape")


def lies_among(path: Path, arguments: Sequence[str]) -> bool:
    """Whether a file or folder comes from the same place as the images that arguments name.

    That is so if it lies in a folder that is searched, at any depth, or beside an image that is
    named, also by a link. Where only folders beside it are searched, it is not.
    """
    folder = path.parent.resolve()
    searched: set[str] = set()
    parents: set[str] = set()
    for named in _named(arguments):
        if os.path.isdir(named):
            searched.add(named)
        else:
            parents.add(os.path.dirname(named))
            if os.path.islink(named):
                parents.add(os.path.dirname(os.path.realpath(named)))
    beside = _identities([path, folder])
    around = beside | _identities(folder.parents)
    return not (
        around.isdisjoint(_identities(searched)) and beside.isdisjoint(_identities(parents))
    )


def _identities(paths: Iterable[str | Path]) -> set[tuple[int, int]]:
    """Return what stays the same whatever a file or folder is called; missing ones have nothing."""
    found = set()
    for path in paths:
        with suppress(OSError):
            state = os.stat(path or os.curdir)
            found.add((state.st_dev, state.st_ino))
    return found


def _named(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the files and folders that arguments name; of a pattern those that it matches."""
    for argument in arguments:
        yield from _matching(argument) if _is_pattern(argument) else [argument]


def _is_pattern(argument: str) -> bool:
    return not os.path.lexists(argument) and glob.has_magic(argument)


def _some(images: Iterable[str], otherwise: str) -> list[str]:
    found = list(images)
    if not found:
        raise InputError(f"{otherwise} (looked for {' '.join(sorted(IMAGE_SUFFIXES))}).")
    return found


def _expand(pattern: str) -> Iterable[str]:
    """Return each path that a pattern matches, or that lies in a folder that it matches, once."""
    images: dict[str, None] = {}
    for match in _matching(pattern):
        if os.path.isdir(match):
            images |= dict.fromkeys(_walk(match))
        elif _is_there(match):
            images[match] = None
    return images


def _matching(pattern: str) -> list[str]:
    """Return what a pattern matches, once and sorted, and perhaps what is not there."""
    if os.path.basename(pattern) == "**":
        pattern = os.path.join(pattern, "*")
    return sorted(set(_matches(pattern)))


def _matches(pattern: str) -> Iterator[str]:
    """Yield what a pattern matches, some of it twice, and perhaps what is not there.

    Unlike :mod:`glob`, which follows links behind ``**`` and leaves out what it cannot read.
    """
    if not glob.has_magic(pattern):
        yield pattern
        return
    folder, name = os.path.split(pattern)
    for parent in _matches(folder):
        if name == "**":
            yield from _folders(parent)
        elif glob.has_magic(name):
            paths = [os.path.join(parent, found) for found in _names(parent, name)]
            yield from (p for p in paths if "**" not in folder or not _is_link_to_folder(p))
        else:
            yield os.path.join(parent, name)


def _names(folder: str, pattern: str) -> list[str]:
    """Return the matching names in a folder; hidden ones only if the pattern says the dot."""
    try:
        names = fnmatch.filter(os.listdir(folder or os.curdir), pattern)
    except OSError as error:
        _refuse(error)
        return []
    return [name for name in names if pattern.startswith(".") or not name.startswith(".")]


def _is_there(path: str) -> bool:
    try:
        os.lstat(path)
    except OSError as error:
        _refuse(error)
        return False
    return True


def _is_link_to_folder(path: str) -> bool:
    return os.path.islink(path) and os.path.isdir(path)


def _refuse(error: OSError) -> None:
    """Pass over what vanishes while it is searched; what cannot be read must not be missed."""
    if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
        raise InputError(
            f"{error.filename} cannot be read ({error.strerror}), so images would "
            "be missing: give yourself the right to read it, or name the others one by one."
        )


def _walk(folder: str) -> Iterator[str]:
    for parent, files in _tree(folder):
        for name in files:
            if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
                yield os.path.join(parent, name)


def _folders(folder: str) -> Iterator[str]:
    """Yield a folder, or the current one if it is empty, and all folders below it."""
    for parent, _ in _tree(folder or os.curdir):
        yield parent if folder else parent[len("./") :]


def _tree(folder: str) -> Iterator[tuple[str, list[str]]]:
    """Yield a folder, each below it in sorted order, and the names of its files.

    Links are not followed, hidden folders and files are passed over.
    """
    for parent, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield parent, sorted(name for name in files if not name.startswith("."))
