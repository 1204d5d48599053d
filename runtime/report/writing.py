"""Where a report goes: one file, or one file and a folder of thumbnails beside it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from ..images.thumbnail import Thumbnail
from ..machine.errors import InputError, OutputError
from .model import Report
from .rendering import render_page
from .rows import PlaceThumbnail, embedded

HTML = (".html", ".htm")
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

    With ``folder`` thumbnails become files in a folder beside it.
    """

    def __init__(self, path: Path, *, folder: bool) -> None:
        self.path = path
        self._files = path.with_name(path.stem + FILES_SUFFIX) if folder else None

    @property
    def place(self) -> PlaceThumbnail:
        """Takes a row's thumbnail and returns its URL; raises OutputError if it cannot be kept."""
        return _embed if self._files is None else self._beside

    def write(self, report: Report) -> None:
        """Write the page.

        Raises:
            OutputError: it cannot be written.
        """
        write_pieces(self.path, render_page(report))
        self._remove_others(report.head.shown)

    def _remove_others(self, rows: int) -> None:
        """Remove thumbnails that a longer report left in the folder."""
        for path in self._files.glob("[0-9]*.webp") if self._files else ():
            if path.stem.isdecimal() and int(path.stem) >= rows:
                with suppress(OSError):  # it harms nobody
                    path.unlink()

    def _beside(self, row: int, thumbnail: Thumbnail) -> str:
        if self._files is None:
            raise ValueError("thumbnails are embedded")
        name = f"{row:06}.webp"
        try:
            self._files.mkdir(exist_ok=True)
            (self._files / name).write_bytes(thumbnail.webp)
        except OSError as error:
            raise OutputError(
                f"the thumbnails cannot be written to {self._files}: {error.strerror}."
            ) from None
        return f"{quote(self._files.name)}/{name}"


def _embed(_: int, thumbnail: Thumbnail) -> str:
    return embedded(thumbnail.webp)
