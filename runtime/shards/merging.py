"""Puts the parts of a run together in one output."""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO

from ..results.output_file import CSV, JSON_LINES
from ..results.parquet import ParquetWriter
from ..results.writers import CsvWriter, JsonLinesWriter, Writer
from ..storage.folders import Folder, whole_file
from .parts import Summary, part_records, part_summary

PARQUET = ".parquet"
FORMATS = (JSON_LINES, CSV, PARQUET)


def merge(folder: Folder, parts: Iterable[str], target: str, classes: tuple[str, str]) -> Summary:
    """Write the records of parts to one output, in the order of the parts, whole or not at all.

    Args:
        folder: holds the parts.
        parts: their names.
        target: a path or an address that ends in one of :data:`FORMATS`.
        classes: of the bundle.

    Raises:
        InputError: a part is damaged or cannot be read.
        OutputError: the output cannot be written.
    """
    names = list(parts)
    summary = Summary.of(part_summary(folder, name) for name in names)
    with whole_file(target) as path, path.open("wb") as file:
        writer = _writer(target, file, classes)
        for name in names:
            for record in part_records(folder, name):
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


def _writer(target: str, file: BinaryIO, classes: tuple[str, str]) -> Writer:
    """Return what writes records in the format that a name ends in."""
    name = target.lower()
    if name.endswith(PARQUET):
        return ParquetWriter(file)
    return CsvWriter(_Lines(file), classes) if name.endswith(CSV) else JsonLinesWriter(_Lines(file))
