"""Where records go: JSON lines, CSV, or a table to read."""

from __future__ import annotations

import csv
import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import click
import msgspec

from .console import printable
from .errors import InputError, OutputError
from .records import Failure, Record

STANDARD_OUTPUT = "-"
JSON_LINES, CSV = ".jsonl", ".csv"
_FORMATS = (JSON_LINES, CSV)


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


class StandardOutput:
    """The process's standard output."""

    def append(self, line: bytes) -> None:
        """Write a line.

        Raises:
            BrokenPipeError: nobody reads it any more.
            OutputError: it cannot be written for another reason.
        """
        try:
            click.echo(line, nl=False)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"standard output cannot be written: {error.strerror}.") from None


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


class TableWriter:
    """Aligned lines for people, coloured on a terminal."""

    def __init__(self, sink: Sink, classes: tuple[str, str], fake_class: str) -> None:
        self._sink = sink
        self._width = max(len("verdict"), *map(len, classes))
        self._fake_class = fake_class
        self._line(f"{'verdict':<{self._width}}  {'P(fake)':>7}  {'pixels':>11}  image")

    def write(self, record: Record) -> None:
        if isinstance(record, Failure):
            word = self._coloured("error", "yellow")
            what = printable(f"{record.path}: {record.error.message}")
            self._line(f"{word}  {'-':>7}  {'-':>11}  {what}")
            return
        colour = "red" if record.verdict == self._fake_class else "green"
        word = self._coloured(record.verdict, colour)
        size = f"{record.width}x{record.height}"
        self._line(f"{word}  {record.score:>7.4f}  {size:>11}  {printable(str(record.path))}")

    def _coloured(self, word: str, colour: str) -> str:
        padded = f"{word:<{self._width}}"
        return click.style(padded, fg=colour) if sys.stdout.isatty() else padded

    def _line(self, text: str) -> None:
        self._sink.append(text.encode() + b"\n")


def check_output(target: str | None, *, force: bool, resume: bool) -> None:
    """Refuse an output that could not be written or would destroy something.

    Raises:
        InputError: unknown format; or the file exists and neither ``force`` nor ``resume`` is
            given; or ``resume`` where nothing can be resumed.
        OutputError: there can be no such file.
    """
    path = None if target in (None, STANDARD_OUTPUT) else Path(str(target))
    if resume and (path is None or path.suffix.lower() != JSON_LINES):
        raise InputError(f"--resume needs the {JSON_LINES} file of the run to go on with: -o FILE.")
    if resume and force:
        raise InputError("--resume keeps what --force would replace: give one of them.")
    if path is None:
        return
    if path.suffix.lower() not in _FORMATS:
        raise InputError(
            f"cannot tell the format of {path}: give a name that ends in {' or '.join(_FORMATS)}, "
            "or - for JSON lines on standard output."
        )
    if not (force or resume) and _exists(path):
        raise InputError(
            f"{path} exists already: choose another name, --force to replace it, or --resume to go "
            "on with it."
        )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # above all a name that is too long
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from None


@contextmanager
def open_writer(
    target: str | None, classes: tuple[str, str], fake_class: str, *, keep: bool = False
) -> Iterator[Writer]:
    """Open the writer that ``--output`` names; ``None`` is the table on standard output.

    Raises:
        OutputError: the file cannot be written, or at the end not all of it was.
    """
    if target is None:
        yield TableWriter(StandardOutput(), classes, fake_class)
    elif target == STANDARD_OUTPUT:
        yield JsonLinesWriter(StandardOutput())
    else:
        sink = FileSink(Path(target), keep=keep)
        try:
            is_csv = target.lower().endswith(CSV)
            yield CsvWriter(sink, classes) if is_csv else JsonLinesWriter(sink)
        finally:
            sink.close()
