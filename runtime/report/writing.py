"""Where a report goes: one file, or one file and a folder of thumbnails beside it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import msgspec

from ..images.thumbnail import Thumbnail
from ..machine.errors import InputError, OutputError
from ..results.records import Record
from .model import Report
from .rendering import render_page
from .rows import Placed, Thumbnails, embedded

HTML = (".html", ".htm")
_THUMBNAIL = re.compile(r"([0-9a-f]{24})-[1-8]\.webp")
FILES_SUFFIX = "_files"
"""Of the folder of thumbnails, as browsers name what they save beside a page."""


def check_page(path: Path, *, force: bool) -> None:
    """Refuse a page that could not be written or would replace something.

    Raises:
        InputError: its name does not end as a page's does; or it exists, and is not to be replaced.
        OutputError: its folder is not there or cannot be written to.
    """
    if path.suffix.lower() not in HTML:
        raise InputError(f"{path} is no name of a page: give one that ends in {HTML[0]}.")
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the page another name.")
    if not force and os.path.lexists(path):
        raise InputError(f"{path} exists already: choose another name, or --force to replace it.")
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"{path} cannot be written: there is no folder {folder}.")
    if not os.access(folder, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise OutputError(f"{path} cannot be written: the folder {folder} is not writable.")


def write_pieces(path: Path, pieces: Iterable[str]) -> None:
    """Write a text to a file, which appears whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    scratch = path.with_name(f".{path.name}.partial")
    try:
        with open(scratch, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(pieces)
        scratch.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from None
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)


class PageFile:
    """A report's file, which appears whole or not at all.

    Attributes:
        thumbnails: where the page has them.
    """

    def __init__(self, path: Path, *, folder: bool) -> None:
        """With ``folder`` thumbnails become files in a folder beside the page."""
        self.path = path
        self.thumbnails: Thumbnails = Embedded()
        if folder:
            self.thumbnails = Beside(path.with_name(path.stem + FILES_SUFFIX))

    def write(self, report: Report) -> None:
        """Write the page.

        Raises:
            OutputError: it cannot be written.
        """
        write_pieces(self.path, render_page(report))
        if isinstance(self.thumbnails, Beside):
            self.thumbnails.remove_unused()


class Embedded:
    """Thumbnails in the page itself."""

    def find(self, record: Record) -> Placed | None:
        """Find nothing: a page is written anew."""
        return None

    def place(self, record: Record, thumbnail: Thumbnail) -> Placed:
        """Put a thumbnail into its URL."""
        return Placed(embedded(thumbnail.webp), thumbnail.orientation)


class Beside:
    """Thumbnails as files, named by the images that they show.

    So those of an earlier page serve a later one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._there: dict[str, str] = {}
        self._used: set[str] = set()
        with suppress(OSError):
            for path in folder.iterdir():
                if found := _THUMBNAIL.fullmatch(path.name):
                    self._there[found[1]] = path.name

    def find(self, record: Record) -> Placed | None:
        """Return the thumbnail of an image in the state that was judged."""
        name = self._there.get(_key(record))
        return None if name is None else self._placed(name)

    def place(self, record: Record, thumbnail: Thumbnail) -> Placed:
        """Write a thumbnail.

        Raises:
            OutputError: it cannot be written.
        """
        name = f"{_key(record)}-{thumbnail.orientation}.webp"
        try:
            self._folder.mkdir(exist_ok=True)
            scratch = self._folder / f"{name}.partial"
            scratch.write_bytes(thumbnail.webp)
            scratch.replace(self._folder / name)
        except OSError as error:
            raise OutputError(
                f"the thumbnails cannot be written to {self._folder}: {error.strerror}."
            ) from None
        return self._placed(name)

    def remove_unused(self) -> None:
        """Remove the thumbnails of images that an earlier page showed."""
        for name in {*self._there.values()} - self._used:
            with suppress(OSError):  # it harms nobody
                (self._folder / name).unlink()

    def _placed(self, name: str) -> Placed:
        self._used.add(name)
        return Placed(f"{quote(self._folder.name)}/{name}", int(name[-len("1.webp")]))


def _key(record: Record) -> str:
    """Name an image in the state that was judged."""
    return hashlib.sha256(msgspec.json.encode((record.path, record.file))).hexdigest()[:24]
