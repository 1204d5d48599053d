"""Puts the parts of a run together in one output."""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO

from ..results.output_file import CSV, JSON_LINES, PARQUET
from ..results.parquet import ParquetWriter
from ..results.writers import CsvWriter, JsonLinesWriter, Writer
from ..storage.folders import Folder
from .parts import Summary, part_records, part_summary

FORMATS = (JSON_LINES, CSV, PARQUET)


def merge(
    folder: Folder, parts: Iterable[str], file: BinaryIO, name: str, classes: tuple[str, str]
) -> Summary:
    """Write the records of parts to one file, in the order of the parts.

    Args:
        folder: holds the parts.
        parts: their names.
        file: takes the records.
        name: of the file, which ends in one of :data:`FORMATS`.
        classes: of the bundle.

    Raises:
        InputError: a part is damaged or cannot be read.
        OSError: the file cannot be written.
    """
    names = list(parts)
    summary = Summary.of(part_summary(folder, part) for part in names)
    writer = _writer(name, file, classes)
    for part in names:
        for record in part_records(folder, part):
            writer.write(record)
    if isinstance(writer, ParquetWriter):
        writer.close()
    return summary


class _Lines:
    """Takes the lines of a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def append(self, line: bytes) -> None:
        self._file.write(line)


def _writer(name: str, file: BinaryIO, classes: tuple[str, str]) -> Writer:
    """Return what writes records in the format that a name ends in."""
    kind = name.lower()
    if kind.endswith(PARQUET):
        return ParquetWriter(file)
    return CsvWriter(_Lines(file), classes) if kind.endswith(CSV) else JsonLinesWriter(_Lines(file))
