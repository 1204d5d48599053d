"""Records as JSON lines or CSV, in a file whose every line is whole."""

from __future__ import annotations

import csv
import errno
import io
import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec

from ..machine.errors import OutputError
from .records import Failure, Record

JSON_LINES, CSV = ".jsonl", ".csv"


class Sink(Protocol):
    """Takes lines, each whole or not at all."""

    def append(self, line: bytes) -> None: ...


class Writer(Protocol):
    """Takes records one by one; nothing is held back."""

    def write(self, record: Record) -> None: ...


class FileSink:
    """A file whose every line is whole, even where the disk is full in the middle of one."""

    def __init__(self, path: Path, *, keep: bool) -> None:
        """Open a file to write; ``keep`` what is in it already.

        Raises:
            OutputError: it cannot be written.
        """
        self._path = path
        flags = os.O_WRONLY | os.O_CREAT | (0 if keep else os.O_TRUNC)
        try:
            self._descriptor = os.open(path, flags, 0o666)
            self._size = os.lseek(self._descriptor, 0, os.SEEK_END) if keep else 0
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror}.") from None

    def append(self, line: bytes) -> None:
        """Write a line, or nothing of it.

        Raises:
            OutputError: the disk is full or gone.
        """
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            with suppress(OSError):  # a device or pipe has no end to cut off
                os.ftruncate(self._descriptor, self._size)
            raise self._stopped(error, "What it holds is valid") from None
        self._size += len(line)

    def close(self) -> None:
        """Have the system write what it holds back.

        Raises:
            OutputError: it could not; some of the last lines are lost.
        """
        try:
            self._synchronise()
        except OSError as error:
            raise self._stopped(error, "Its last records may be lost") from None

    def _synchronise(self) -> None:
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # what a pipe or a terminal says: it holds nothing back
                raise
        finally:
            os.close(self._descriptor)

    def _stopped(self, error: OSError, state: str) -> OutputError:
        resumable = self._path.suffix.lower() == JSON_LINES
        advice = "go on with --resume" if resumable else "run again with --force"
        return OutputError(
            f"{self._path} cannot be written any more: {error.strerror}. {state}: make room, and "
            f"{advice}."
        )


class JsonLinesWriter:
    """One JSON object per line."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, record: Record) -> None:
        self._sink.append(msgspec.json.encode(record) + b"\n")


class CsvWriter:
    """One row per record; crops are a JSON cell, classes have columns of their own."""

    def __init__(self, sink: Sink, classes: tuple[str, str]) -> None:
        self._sink = sink
        self._classes = classes
        columns = ["path", "status", "verdict", "score"]
        columns += [f"probability_{name}" for name in classes]
        columns += [f"logit_{name}" for name in classes]
        columns += ["crops", "width", "height", "seed", "bundle", "engine", "precision"]
        columns += ["error_type", "error_message", "file_bytes", "file_modified"]
        self._text = io.StringIO()
        self._rows = csv.DictWriter(self._text, columns, restval="", lineterminator="\n")
        self._rows.writeheader()
        self._flush()

    def write(self, record: Record) -> None:
        row = msgspec.structs.asdict(record)
        if isinstance(record, Failure):
            del row["error"]
            row |= {"error_type": record.error.type, "error_message": record.error.message}
        else:
            row["crops"] = msgspec.json.encode(record.crops).decode()
            for name in self._classes:
                row[f"probability_{name}"] = record.probabilities[name]
                row[f"logit_{name}"] = record.logits[name]
            del row["probabilities"], row["logits"]
        if (file := row.pop("file")) is not None:
            row |= {"file_bytes": file.bytes, "file_modified": file.modified}
        self._rows.writerow(row)
        self._flush()

    def _flush(self) -> None:
        self._sink.append(self._text.getvalue().encode())
        self._text.seek(0)
        self._text.truncate()
