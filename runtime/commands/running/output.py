"""Where ``--output`` sends records: a file, standard output, or a table to read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

import click

from ...machine.errors import InputError, OutputError
from ...machine.printable import printable
from ...results import formats
from ...results.formats import format_of, writer_of_lines, writer_of_whole
from ...results.output_file import CSV, JSON_LINES, PARQUET, Opening, OutputFile, exists_already
from ...results.records import Failure, Record
from ...results.whole_file import is_there
from ...results.writers import Sink, Writer
from ...storage.urls import is_url
from ..console import check_libraries
from .whole_output import WholeOutput, is_whole, whole_output

STANDARD_OUTPUT = "-"


def on_terminal() -> bool:
    """Whether standard output is a terminal, that is, whether a person reads it."""
    return sys.stdout is not None and sys.stdout.isatty()


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
        image = printable(str(record.path)) + (" (damaged)" if record.damaged else "")
        image += " (not settled)" if record.settled is False else ""
        self._line(f"{word}  {record.score:>7.4f}  {size:>11}  {image}")

    def _coloured(self, word: str, colour: str) -> str:
        padded = f"{word:<{self._width}}"
        return click.style(padded, fg=colour) if on_terminal() else padded

    def _line(self, text: str) -> None:
        self._sink.append(text.encode() + b"\n")


Output: TypeAlias = StandardOutput | OutputFile | WholeOutput
"""Where records go: as they come, or into what is put in place whole at the end."""


def check_output(target: str | None, *, force: bool, resume: bool, bom: bool = False) -> None:
    """Refuse an output that could not be written or would destroy something.

    Raises:
        InputError: unknown format; or the file exists and neither ``force`` nor ``resume`` is
            given; or ``resume`` where nothing can be resumed; or ``bom`` without a CSV file; or
            a library is missing.
        OutputError: there can be no such file.
    """
    suffix = _suffix(target)
    if resume:
        _check_resume(target, suffix, force=force)
    if bom and suffix != CSV:
        raise InputError(f"--add-bom is for spreadsheets: give it with -o FILE{CSV}.")
    if target in (None, STANDARD_OUTPUT):
        if sys.stdout is None:
            raise InputError("standard output is closed: give -o FILE.")
        return
    if format_of(str(target), ", or - for JSON lines on standard output") == PARQUET:
        check_libraries(f"a {PARQUET} file", ["pyarrow"], extra="parquet", reports=())
    if not (force or resume) and is_there(str(target)):
        raise exists_already(str(target))


def _check_resume(target: str | None, suffix: str, *, force: bool) -> None:
    if suffix == PARQUET or (suffix and is_url(str(target))):
        raise InputError(
            f"--resume needs the {JSON_LINES} file of the run to go on with: {target} is written "
            f"whole at the end of a run, or not at all. Give -o FILE{JSON_LINES}, or use "
            "glass-batch, which can go on."
        )
    if suffix != JSON_LINES:
        raise InputError(f"--resume needs the {JSON_LINES} file of the run to go on with: -o FILE.")
    if force:
        raise InputError("--resume keeps what --force would replace: give one of them.")


def _suffix(target: str | None) -> str:
    """Return what a file's name ends in, which is its format; nothing for standard output."""
    return "" if target in (None, STANDARD_OUTPUT) else Path(str(target)).suffix.lower()


@contextmanager
def open_output(target: str | None, opening: Opening = "new") -> Iterator[Output]:
    """Open what ``--output`` names; nothing and ``-`` are standard output.

    A Parquet table, and anything in object storage, is not there unless :func:`finish` is called.

    Raises:
        InputError: the file exists, and must be new.
        OutputError: it cannot be written, or at the end not all of it was.
    """
    if target is None or target == STANDARD_OUTPUT:
        yield StandardOutput()
        return
    if is_whole(target):
        with whole_output(target, opening) as whole:
            yield whole
        return
    output = OutputFile(Path(target), opening)
    try:
        yield output
    finally:
        output.close()


def record_writer(
    target: str | None,
    output: Output,
    classes: tuple[str, str],
    fake_class: str,
    *,
    bom: bool = False,
) -> Writer:
    """Return what writes records in the format that ``--output`` asks for; nothing is a table."""
    if isinstance(output, WholeOutput):
        return writer_of_whole(_suffix(target), cast(BinaryIO, output), classes, bom=bom)
    if target is None:
        return TableWriter(output, classes, fake_class)
    return writer_of_lines(_suffix(target), output, classes, bom=bom)


def finish(writer: Writer, output: Output) -> None:
    """Write what was held back, and put in place what is there only when it is whole.

    Raises:
        OutputError: it cannot be written.
    """
    formats.finish(writer)
    if isinstance(output, WholeOutput):
        output.finish()
