"""Where a report goes: one file, or one file and a folder of thumbnails beside it."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import msgspec

from ..images.thumbnail import Thumbnail
from ..machine.errors import InputError, OutputError
from ..results.records import Record
from .model import Report
from .rendering import render_page
from .rows import Placed, Thumbnails, embedded

HTML = ".html"
PARTIAL = ".partial"
_MADE_BY = b'<meta name="generator" content="glass-edge">'
_BEGINNING = 1 << 10  # bytes of a page, among which that stands
_THUMBNAIL = re.compile(r"([0-9a-f]{24})-[1-8]\.webp")
FILES_SUFFIX = "_files"
"""Of the folder of thumbnails, as browsers name what they save beside a page."""


def files_of(page: Path) -> Path:
    """Return the folder in which thumbnails lie beside a page."""
    return page.with_name(page.stem + FILES_SUFFIX)


def is_report(path: Path) -> bool:
    """Whether a file is a page that glass-edge has written."""
    try:
        with open(path, "rb") as file:
            return _MADE_BY in file.read(_BEGINNING)
    except OSError:
        return False


def check_page(path: Path, *, force: bool, folder: bool = False) -> None:
    """Refuse a page that could not be written or would replace something.

    Args:
        path: the page.
        force: whether it may be replaced.
        folder: whether thumbnails shall lie beside it.

    Raises:
        InputError: its name does not end as a page's does, or it is there and must not be replaced.
        OutputError: it, or the folder of its thumbnails, cannot be written.
    """
    if path.suffix.lower() != HTML:
        raise InputError(f"{path} is not the name of a page: give one that ends in {HTML}.")
    check_new(path, force=force)
    files = files_of(path)
    if folder and files.exists() and not (files.is_dir() and os.access(files, os.W_OK)):
        raise OutputError(f"the thumbnails cannot be written to {files}: remove it.")


def check_new(path: Path, *, force: bool) -> None:
    """Refuse a file that could not be written, or would replace something.

    Raises:
        InputError: it is there, and is not to be replaced or is no file.
        OutputError: it cannot be written.
    """
    try:
        with suppress(FileNotFoundError):
            path.lstat()  # a link that leads nowhere is there, too
            if not force:
                raise InputError(
                    f"{path} exists already: choose another name, or --force to replace it."
                )
            if not stat.S_ISREG(path.stat().st_mode):
                raise InputError(f"{path} is not a file: choose another name.")
        with _scratch(path) as scratch:
            scratch.touch(exist_ok=False)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from None


def write_pieces(path: Path, pieces: Iterable[str]) -> None:
    """Write a text to a file, which appears whole or not at all; a link to a file stays one.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        with _scratch(path) as scratch:
            with open(scratch, "x", encoding="utf-8", newline="\n") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(os.path.realpath(path))
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from None


@contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    """Name a file beside another one, and remove it if it is still there at the end."""
    scratch = Path(os.path.realpath(path)).with_name(f".{secrets.token_hex(8)}{PARTIAL}")
    try:
        yield scratch
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
            self.thumbnails = Beside(files_of(path))

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
        return Placed(embedded(thumbnail.content), thumbnail.orientation)


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
            scratch = self._folder / f"{name}{PARTIAL}"
            scratch.write_bytes(thumbnail.content)
            scratch.replace(self._folder / name)
        except OSError as error:
            raise OutputError(
                f"the thumbnails cannot be written to {self._folder}: {error.strerror}."
            ) from None
        return self._placed(name)

    def remove_unused(self) -> None:
        """Remove the thumbnails of images that an earlier page showed."""
        left = [path.name for path in self._folder.glob(f"*.webp{PARTIAL}")]
        for name in {*self._there.values(), *left} - self._used:
            with suppress(OSError):  # it harms nobody
                (self._folder / name).unlink()

    def _placed(self, name: str) -> Placed:
        self._used.add(name)
        return Placed(f"{quote(os.fsencode(self._folder.name))}/{name}", int(name[-len("1.webp")]))


def _key(record: Record) -> str:
    """Name an image in the state that was judged."""
    return hashlib.sha256(msgspec.json.encode((record.path, record.file))).hexdigest()[:24]
