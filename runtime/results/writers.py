"""Records as JSON lines or CSV."""

from __future__ import annotations

import csv
import io
from typing import Protocol

import msgspec

from .records import Failure, Record

_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")  # CWE-1236
_MARK = "'"
_BYTE_ORDER_MARK = "\ufeff"


class Sink(Protocol):
    """Takes lines, each whole or not at all."""

    def append(self, line: bytes) -> None: ...


class Writer(Protocol):
    """Takes records one by one."""

    def write(self, record: Record) -> None: ...


class JsonLinesWriter:
    """One JSON object per line."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, record: Record) -> None:
        self._sink.append(msgspec.json.encode(record) + b"\n")


class CsvWriter:
    """One row per record; crops are a JSON cell, classes have columns of their own.

    Files come from strangers, and a spreadsheet takes for a formula what begins like one, also a
    file's name: see :func:`_as_text`. Text is quoted, because some take a semicolon in it for the
    end of a cell.
    """

    def __init__(self, sink: Sink, classes: tuple[str, str], *, bom: bool = False) -> None:
        """Write the header; with ``bom`` behind a byte-order mark, by which Excel knows UTF-8."""
        self._sink = sink
        self._classes = classes
        columns = ["path", "status", "verdict", "score"]
        columns += [f"probability_{name}" for name in classes]
        columns += [f"logit_{name}" for name in classes]
        columns += ["crops", "width", "height", "seed", "bundle", "engine", "precision"]
        columns += ["error_type", "error_message", "file_bytes", "file_modified"]
        columns += ["damaged", "settled", "views", "provenance"]
        self._text = io.StringIO()
        self._text.write(_BYTE_ORDER_MARK if bom else "")
        self._rows = csv.DictWriter(
            self._text, columns, restval="", lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC
        )
        self._rows.writeheader()
        self._flush()

    def write(self, record: Record) -> None:
        row = msgspec.structs.asdict(record)
        if isinstance(record, Failure):
            del row["error"]
            row |= {"error_type": record.error.type, "error_message": record.error.message}
        else:
            for name in ("views", "crops"):
                row[name] = _json_cell(row[name])
            row["provenance"] = "" if record.provenance is None else _json_cell(record.provenance)
            for name in self._classes:
                row[f"probability_{name}"] = record.probabilities[name]
                row[f"logit_{name}"] = record.logits[name]
            del row["probabilities"], row["logits"]
            row["damaged"] = str(record.damaged).lower()  # as in JSON
            row["settled"] = "" if record.settled is None else str(record.settled).lower()
        if (file := row.pop("file")) is not None:
            row |= {"file_bytes": file.bytes, "file_modified": file.modified}
        self._rows.writerow(
            {
                column: _as_text(cell) if isinstance(cell, str) else cell
                for column, cell in row.items()
            }
        )
        self._flush()

    def _flush(self) -> None:
        self._sink.append(self._text.getvalue().encode())
        self._text.seek(0)
        self._text.truncate()


def _json_cell(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _as_text(cell: str) -> str:
    """Put ``'`` before a cell that a spreadsheet would compute, as OWASP advises.

    Also before one that begins with ``'`` itself, so that one can always be taken off again.
    """
    return f"{_MARK}{cell}" if cell.startswith((*_FORMULAS, _MARK)) else cell
