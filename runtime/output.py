"""Where records go: JSON lines, CSV, or a table to read."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

import click
import msgspec

from .errors import InputError, OutputError
from .records import Failure, Record

STANDARD_OUTPUT = "-"
_FORMATS = (".jsonl", ".csv")


class Writer(Protocol):
    """Takes records one by one; nothing is held back."""

    def write(self, record: Record) -> None: ...


class JsonLinesWriter:
    """One JSON object per line."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, record: Record) -> None:
        self._file.write(msgspec.json.encode(record).decode() + "\n")
        self._file.flush()


class CsvWriter:
    """One row per record; crops are a JSON cell, classes have columns of their own."""

    def __init__(self, file: IO[str], classes: tuple[str, str]) -> None:
        self._file = file
        self._classes = classes
        columns = ["path", "status", "verdict", "score"]
        columns += [f"probability_{name}" for name in classes]
        columns += [f"logit_{name}" for name in classes]
        columns += ["crops", "width", "height", "seed", "bundle", "engine", "precision"]
        columns += ["error_type", "error_message"]
        self._rows = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        self._rows.writeheader()

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
        self._rows.writerow(row)
        self._file.flush()


class TableWriter:
    """Aligned lines for people, coloured on a terminal."""

    def __init__(self, classes: tuple[str, str], fake_class: str) -> None:
        self._width = max(len("verdict"), *map(len, classes))
        self._fake_class = fake_class
        click.echo(f"{'verdict':<{self._width}}  {'P(fake)':>7}  {'pixels':>11}  image")

    def write(self, record: Record) -> None:
        if isinstance(record, Failure):
            word = click.style(f"{'error':<{self._width}}", fg="yellow")
            click.echo(f"{word}  {'-':>7}  {'-':>11}  {record.path}: {record.error.message}")
            return
        colour = "red" if record.verdict == self._fake_class else "green"
        word = click.style(f"{record.verdict:<{self._width}}", fg=colour)
        size = f"{record.width}x{record.height}"
        click.echo(f"{word}  {record.score:>7.4f}  {size:>11}  {record.path}")


def check_output(target: str | None, *, force: bool) -> None:
    """Refuse an output that could not be written or would destroy something.

    Raises:
        InputError: unknown format, or the file exists and ``force`` is not given.
    """
    if target in (None, STANDARD_OUTPUT):
        return
    path = Path(str(target))
    if path.suffix.lower() not in _FORMATS:
        raise InputError(
            f"cannot tell the format of {path}: give a name that ends in {' or '.join(_FORMATS)}, "
            "or - for JSON lines on standard output."
        )
    if path.exists() and not force:
        raise InputError(f"{path} exists already: choose another name, or --force to replace it.")


@contextmanager
def open_writer(target: str | None, classes: tuple[str, str], fake_class: str) -> Iterator[Writer]:
    """Open the writer that ``--output`` names; ``None`` is the table on standard output.

    Raises:
        OutputError: the file cannot be written.
    """
    if target is None:
        yield TableWriter(classes, fake_class)
    elif target == STANDARD_OUTPUT:
        yield JsonLinesWriter(sys.stdout)
    else:
        try:
            with open(target, "w", encoding="utf-8", newline="") as file:
                is_csv = target.lower().endswith(".csv")
                yield CsvWriter(file, classes) if is_csv else JsonLinesWriter(file)
        except OSError as error:
            raise OutputError(f"{target} cannot be written: {error.strerror}.") from None
