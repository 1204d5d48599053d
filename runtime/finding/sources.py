"""Which images the user means: files, folders, patterns, or a list on standard input."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import AnyStr

from ..machine.errors import InputError
from .choosing import Reason, Skip, in_silence
from .folders import Identity, Search, identity, in_order
from .patterns import is_pattern, matching

STANDARD_INPUT = "-"


def find_images(arguments: Sequence[str], skip: Skip = in_silence) -> list[str]:
    """Expand files, folders and patterns to a list of paths.

    Folders are searched recursively, in sorted order, for files with an image's suffix or, where
    the suffix says nothing, an image's first bytes. Links are followed, and each real folder is
    searched once; see :class:`.folders.Search`. Hidden files and folders are passed over. A path
    that is not there is kept, so that it becomes an error record; a pattern or a folder without
    a single image is an error.

    Args:
        arguments: as the user gave them.
        skip: is told what is passed over in folders.

    Raises:
        InputError: a folder or pattern holds no image, a folder cannot be read, or a name is
            empty.
    """
    found: list[str] = []
    once = _once(skip)
    for argument in arguments:
        if not argument:
            raise InputError("a path is empty, perhaps a variable that is not set: name an image.")
        if os.path.isdir(argument):
            images = Search([argument], once).images
            found += _some(images, f"the folder {argument} holds no image")
        elif is_pattern(argument):
            found += _some(_expand(argument, once), f"the pattern {argument} matches no image")
        else:
            found.append(argument)
    return found


def listed_images(chunks: Iterable[bytes], *, null: bool = False) -> Iterator[str]:
    """Yield the paths of a list as soon as each is complete; empty ones are passed over.

    Any bytes can be a name. A byte-order mark at the start is dropped; one of UTF-16, as Windows
    PowerShell writes it, makes the list UTF-16.

    Args:
        chunks: the list in pieces of any size.
        null: whether paths end with NULs, as ``find -print0`` writes them, instead of lines.

    Raises:
        InputError: a path holds a NUL, or UTF-16 is damaged.
    """
    if null:
        for number, path in enumerate(_split(chunks, b"\0")):
            name = path if number else _without_mark(path)
            if name:
                yield _file_name(name)
        return
    for number, line in enumerate(_lines(iter(chunks)), 1):
        if "\0" in line:
            raise InputError(
                f"line {number} of the list holds a NUL: give -0 if NULs end the paths, as "
                "find -print0 writes them, or write the list in UTF-8."
            )
        if line:
            yield line


def lies_among(path: Path, arguments: Sequence[str]) -> bool:
    """Whether a file or folder comes from the same place as the images that arguments name.

    It does if it lies in a folder that is searched, at any depth, or beside an image that is named;
    links count as well. It does not if only folders beside it are searched.
    """
    folder = path.parent.resolve()
    searched: list[str] = []
    parents: set[str] = set()
    for named in _named(arguments):
        if os.path.isdir(named):
            searched.append(named)
        else:
            parents.add(os.path.dirname(named))
            if os.path.islink(named):
                parents.add(os.path.dirname(os.path.realpath(named)))
    searched += Search(searched, files=False).followed
    beside = _identities([path, folder])
    around = beside | _identities(folder.parents)
    return not (
        around.isdisjoint(_identities(searched)) and beside.isdisjoint(_identities(parents))
    )


def _identities(paths: Iterable[str | Path]) -> set[Identity]:
    return {found for path in paths if (found := identity(path))}


def _named(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the files and folders that arguments name, or that their patterns match."""
    for argument in arguments:
        yield from matching(argument) if is_pattern(argument) else [argument]


def _some(images: list[str], otherwise: str) -> list[str]:
    if not images:
        raise InputError(f"{otherwise}.")
    return images


def _expand(pattern: str, skip: Skip) -> list[str]:
    """Return each path that a pattern matches, or that lies in a folder that it matches, once."""
    matches = matching(pattern, skip)
    folders = [match for match in matches if os.path.isdir(match)]
    return in_order({*matches, *Search(folders, skip).images}.difference(folders))


def _once(skip: Skip) -> Skip:
    """Report each folder once: a ``**`` and the search of its matches meet the same ones."""
    told: set[str] = set()

    def tell(path: str, reason: Reason) -> None:
        if reason in (Reason.HIDDEN_FOLDER, Reason.SEARCHED, Reason.ABOVE):
            if path in told:
                return
            told.add(path)
        skip(path, reason)

    return tell


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    """Yield the lines of a list without their ends, decoded as its byte-order mark says."""
    start = b""
    while _begins_with_part_of_a_mark(start) and (chunk := next(chunks, b"")):
        start += chunk
    whole = chain([start], chunks)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        texts = codecs.iterdecode(whole, "utf-16")
        try:
            yield from (line.removesuffix("\r") for line in _split(texts, "\n"))
        except UnicodeError:
            message = "the list begins as UTF-16 and goes on as something else: write it in UTF-8."
            raise InputError(message) from None
        return
    for number, line in enumerate(_split(whole, b"\n")):
        name = line.rstrip(b"\r")
        yield _file_name(name if number else name.removeprefix(codecs.BOM_UTF8))


def _without_mark(first: bytes) -> bytes:
    """Drop the byte-order mark of a list whose paths end with NULs.

    Raises:
        InputError: it is one of UTF-16, where NULs are parts of characters.
    """
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError("the list is UTF-16, in which NULs end no paths: leave -0 out.")
    return first.removeprefix(codecs.BOM_UTF8)


def _begins_with_part_of_a_mark(start: bytes) -> bool:
    marks = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return any(mark != start and mark.startswith(start) for mark in marks)


def _split(pieces: Iterable[AnyStr], end: AnyStr) -> Iterator[AnyStr]:
    """Yield the pieces between ``end`` markers as soon as each is complete, and the rest."""
    rest = end[:0]
    for piece in pieces:
        complete = (rest + piece).split(end)
        rest = complete.pop()
        yield from complete
    if rest:
        yield rest


def _file_name(name: bytes) -> str:
    """Decode like os.fsdecode, but keep bytes that are not UTF-8 on Windows, too."""
    return name.decode(sys.getfilesystemencoding(), "surrogateescape")
