"""The rows of a report: an image's record, its pictures, and how to repeat its verdict."""

from __future__ import annotations

import os
import shlex
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import quote

from ..bundle.bundle import Bundle
from ..containers.container import ReadOptions
from ..engines.registry import engine_names
from ..finding.files import readable_path
from ..images.encoded import DecodeOptions
from ..images.thumbnail import Thumbnail
from ..judging.options import AUTO_CROPS
from ..machine.printable import printable
from ..results.records import Record, Verdict
from .model import Row
from .pictures import Pictures
from .selection import Chosen


@dataclass(frozen=True)
class Setting:
    """What is known of the run beside its records.

    Attributes:
        title: what was judged.
        page: where the report will be.
        root: the folder that relative paths in records begin at.
        bundle: that the images were judged with, if it is at hand.
        seed: the run's seed in words, if it is known.
        notes: what the reader must know of the records.
        reading: how archives and tables were read.
        decode: how images were decoded.
        repeat: options that repeat the run, beside those that follow from a record.
        advice: what to do where image files are not found; continues a sentence.
    """

    title: str
    page: Path
    root: Path
    bundle: Bundle | None = None
    seed: str | None = None
    notes: tuple[str, ...] = ()
    reading: ReadOptions = field(default_factory=ReadOptions)
    decode: DecodeOptions = field(default_factory=DecodeOptions)
    repeat: tuple[str, ...] = ()
    advice: str = ""


class Placed(NamedTuple):
    """A thumbnail where the page finds it: its URL, and the orientation that it was turned by."""

    url: str
    orientation: int


class Thumbnails(Protocol):
    """Where a page has its thumbnails."""

    def find(self, record: Record) -> Placed | None:
        """Return the one of an image that is there already."""

    def place(self, record: Record, thumbnail: Thumbnail) -> Placed:
        """Put one there.

        Raises:
            OutputError: it cannot be written.
        """


def embedded(webp: bytes) -> str:
    """Return the URL of a WebP picture that is in the URL."""
    return f"data:image/webp;base64,{b64encode(webp).decode()}"


def row_of(chosen: Chosen, pictures: Pictures, setting: Setting, thumbnails: Thumbnails) -> Row:
    """Return the row of an image.

    Args:
        chosen: the image.
        pictures: that were made of it for the report.
        setting: what is known of the run.
        thumbnails: takes the image's.
    """
    (_, record, _), choice = chosen
    thumbnail = pictures.thumbnail
    placed = thumbnails.place(record, thumbnail) if thumbnail else thumbnails.find(record)
    return Row(
        record=record,
        choice=choice,
        thumbnail=placed.url if placed else None,
        orientation=placed.orientation if placed else 1,
        original=_original(pictures, setting),
        previews=tuple(map(embedded, pictures.previews)),
        command=_command(record, setting) if isinstance(record, Verdict) else None,
        note=pictures.problem,
    )


def _original(pictures: Pictures, setting: Setting) -> str | None:
    """Return the URL of an image's file, relative to the page."""
    if pictures.file is None:
        return None
    try:
        relative = os.path.relpath(pictures.file, setting.page.parent)
    except ValueError:  # on another drive
        return pictures.file.resolve().as_uri()
    return quote(os.fsencode(Path(relative).as_posix()))  # of any bytes


def _command(verdict: Verdict, setting: Setting) -> str | None:
    """Return a command line that repeats a verdict."""
    if verdict.path is None:
        return None
    path = f"./{verdict.path}" if verdict.path.startswith("-") else verdict.path
    words = ["glass-run", path, "--bundle", _bundle_of(verdict, setting.bundle)]
    engine = verdict.engine.partition(" ")[0]
    if engine in engine_names():
        words += ["--engine", engine]
    if verdict.seed is not None:
        crops = AUTO_CROPS if verdict.settled is not None else len(verdict.crops)
        words += ["--crops", str(crops), "--fixed-seed", str(verdict.seed)]
    if verdict.damaged:
        words.append("--allow-damaged")
    return " ".join(map(_quoted, [*words, *setting.repeat, "-o", "-"]))


def _bundle_of(verdict: Verdict, at_hand: Bundle | None) -> str:
    """Return the bundle's place if it is at hand, else its name."""
    name, _, digest = verdict.bundle.rpartition("@")
    if at_hand is not None and at_hand.digest.startswith(digest):
        return readable_path(at_hand.path)
    return name or digest


def _quoted(word: str) -> str:
    """Quote a word for a shell, also one that would drive the terminal it is pasted into."""
    if printable(word) == word:
        return shlex.quote(word)
    escaped = "".join(map(_escaped, word))
    return f"$'{escaped}'"


def _escaped(sign: str) -> str:
    if sign in ("\\", "'"):
        return f"\\{sign}"
    return sign if printable(sign) == sign else f"\\U{ord(sign):08x}"
