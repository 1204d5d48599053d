"""Which writer writes records in which format."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from ..finding.files import readable_path
from ..machine.errors import InputError
from .output_file import CSV, JSON_LINES, PARQUET
from .parquet import ParquetWriter
from .writers import CsvWriter, JsonLinesWriter, Sink, Writer

FORMATS = (JSON_LINES, CSV, PARQUET)
"""What the name of a file of records may end in."""


class _Lines:
    """Takes the lines of a file that is put in place whole."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def append(self, line: bytes) -> None:
        self._file.write(line)


def format_of(name: str, or_else: str = "") -> str:
    """Return which of :data:`FORMATS` a name ends in.

    Args:
        name: of a file, or an address.
        or_else: what may be given instead of such a name, as the end of a sentence.

    Raises:
        InputError: it ends in none.
    """
    suffix = Path(name).suffix.lower()
    if suffix not in FORMATS:
        raise InputError(
            f"cannot tell the format of {readable_path(name)}: give a name that ends in "
            f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}{or_else}."
        )
    return suffix


def writer_of_lines(
    suffix: str, sink: Sink, classes: tuple[str, str], *, bom: bool = False
) -> Writer:
    """Return what writes records line by line: as CSV, else as JSON."""
    return CsvWriter(sink, classes, bom=bom) if suffix == CSV else JsonLinesWriter(sink)


def writer_of_whole(
    suffix: str, file: BinaryIO, classes: tuple[str, str], *, bom: bool = False
) -> Writer:
    """Return what writes records into a file that nobody reads before its end."""
    if suffix == PARQUET:
        return ParquetWriter(file)
    return writer_of_lines(suffix, _Lines(file), classes, bom=bom)


def finish(writer: Writer) -> None:
    """Write what a writer holds back; nothing more comes."""
    if isinstance(writer, ParquetWriter):
        writer.close()
