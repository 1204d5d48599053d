"""Records as a Parquet table, whose columns are the fields in docs/records.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from functools import cache
from typing import IO, Any, BinaryIO

import msgspec

from ..containers.arrow import DamagedError, load_parquet, reading
from ..machine.errors import InputError
from .records import Failure, Record, Verdict

GROUP_ROWS, GROUP_CROPS = 4096, 65_536
"""A row group ends with the record that makes it have so many rows, or so many crops."""

_READ_ROWS = 1024  # at once, so that large row groups of others need no more memory
_ARROWS = b"ARROW:schema"  # pyarrow's own entry among the metadata
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_KEY, _CROP = "key_value.key", "list.element"  # how Parquet names what maps and lists hold
_REPEATED = [
    *("status", "verdict", "bundle", "engine", "precision", "error.type", "error.message"),
    *(f"probabilities.{_KEY}", f"logits.{_KEY}", f"views.{_KEY}", "views.key_value.value"),
    *(f"crops.{_CROP}.height", f"crops.{_CROP}.width", "width", "height"),
]
_MAPS = ("probabilities", "logits", "views")


@cache
def parquet_schema() -> Any:
    """Return the columns of a table of records: a ``pyarrow.Schema``, always the same.

    Fields that a record does not have are null: an error has no score, a verdict no error.

    Raises:
        InputError: pyarrow is not installed.
    """
    load_parquet()
    import pyarrow as pa

    text, double, integer = pa.string(), pa.float64(), pa.int32()
    crop = dict.fromkeys(("top", "left", "height", "width"), integer)
    crop |= {"attention": double, "influence": double}
    columns = {
        "path": text,
        "status": text,
        "verdict": text,
        "score": double,
        "probabilities": pa.map_(text, double),
        "logits": pa.map_(text, double),
        "views": pa.map_(text, integer),
        "crops": pa.list_(pa.struct(list(crop.items()))),
        "width": integer,
        "height": integer,
        "seed": pa.int64(),
        "bundle": text,
        "engine": text,
        "precision": text,
        "error": pa.struct([("type", text), ("message", text)]),
        "file": pa.struct([("bytes", pa.int64()), ("modified", pa.timestamp("us", "UTC"))]),
        "provenance": text,
        "damaged": pa.bool_(),
        "settled": pa.bool_(),
    }
    return pa.schema(list(columns.items()))


class ParquetWriter:
    """One row per record. Rows are held back until they fill a row group.

    A file is a table once the writer is closed; before, nobody can read it.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Write to a file, which stays open and is never read or sought in.

        Raises:
            InputError: pyarrow is not installed.
        """
        self._held: list[Record] = []
        self._crops = 0
        self._table: Any = load_parquet().ParquetWriter(
            file,
            parquet_schema(),
            compression="zstd",
            use_dictionary=_REPEATED,
            write_page_checksum=True,
        )

    def write(self, record: Record) -> None:
        """Take a record.

        Raises:
            OSError: the file cannot be written.
        """
        self._held.append(record)
        self._crops += len(record.crops) if isinstance(record, Verdict) else 0
        if len(self._held) >= GROUP_ROWS or self._crops >= GROUP_CROPS:
            self._write_group()

    def close(self, about: Mapping[str, str] | None = None) -> None:
        """Write what is held back, and the footer with ``about``, which makes the file a table.

        Raises:
            OSError: the file cannot be written.
        """
        if self._held:
            self._write_group()
        if about:
            self._table.add_key_value_metadata(dict(about))
        self._table.close()

    def __del__(self) -> None:
        """Keep pyarrow from finishing a table that was given up, whose file may be closed."""
        if hasattr(self, "_table"):  # else pyarrow is not installed
            self._table.is_open = False

    def _write_group(self) -> None:
        import pyarrow as pa

        rows = [_row(record) for record in self._held]
        self._table.write_table(pa.Table.from_pylist(rows, parquet_schema()))
        self._held.clear()
        self._crops = 0


def records_in(file: IO[bytes]) -> Iterator[Record]:
    """Yield the records in a table, equal to what was written, a part of a row group at a time.

    Columns of other names are passed over.

    Raises:
        InputError: it is no table of records, or damaged; or pyarrow is not installed.
        OSError: it cannot be read.
    """
    parquet = load_parquet()
    import pyarrow as pa

    as_number = pa.struct([("bytes", pa.int64()), ("modified", pa.int64())])
    with _reading_records():
        table = parquet.ParquetFile(file, pre_buffer=False, page_checksum_verification=True)
        _check_columns(table.schema_arrow)
        batches = table.iter_batches(_READ_ROWS, columns=parquet_schema().names)
    while True:
        with _reading_records():
            batch = next(batches, None)
            if batch is None:
                return
            columns = {name: batch.column(name) for name in batch.schema.names}
            columns["file"] = columns["file"].cast(as_number)  # pyarrow may know no time zones
            rows = pa.RecordBatch.from_pydict(columns).to_pylist()
            records = [_record(row) for row in rows]
        yield from records


def footer_of(file: IO[bytes]) -> tuple[int, dict[str, str]]:
    """Return how many rows a table has, and what its writer was closed with, from its footer alone.

    Raises:
        InputError: it is no table, or its footer is damaged; or pyarrow is not installed.
        OSError: it cannot be read.
    """
    parquet = load_parquet()
    with _reading_records():
        footer = parquet.read_metadata(file)
        about = {
            key.decode(): value.decode()
            for key, value in (footer.metadata or {}).items()
            if key != _ARROWS
        }
    return footer.num_rows, about


@contextmanager
def _reading_records() -> Iterator[None]:
    """Say in one sentence what is wrong with a table.

    Raises:
        InputError: it is damaged, or was not written by glass-edge.
        OSError: it cannot be read.
    """
    try:
        with reading():
            yield
    except DamagedError as error:
        raise InputError(f"the table of records is damaged or no Parquet file: {error}.") from None
    except (msgspec.MsgspecError, OverflowError) as error:
        raise InputError(f"a row of the table is no record of this version: {error}.") from None


def _check_columns(found: Any) -> None:
    """Check that a table has all columns of a record.

    Raises:
        InputError: it has not.
    """
    for column in parquet_schema():
        index = found.get_field_index(column.name)
        if index < 0 or found.field(index).type != column.type:
            raise InputError(
                f"this is no table of records: it has no column {column.name} of type "
                f"{column.type}."
            )


def _row(record: Record) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(record)
    if (file := row["file"]) is not None:
        since = msgspec.convert(file["modified"], datetime) - _EPOCH
        file["modified"] = since // _MICROSECOND
    if isinstance(record, Verdict):
        for name in _MAPS:
            row[name] = list(row[name].items())
        if record.provenance is not None:
            row["provenance"] = msgspec.json.encode(record.provenance).decode()
    return row


def _record(row: dict[str, Any]) -> Record:
    """Return the record in a row.

    Raises:
        msgspec.MsgspecError: there is none.
        OverflowError: its file is from a year after 9999.
    """
    kind: type[Record] = Failure if row["status"] == "error" else Verdict
    fields = {name: row[name] for name in kind.__struct_fields__}
    if (file := fields["file"]) is not None and file["modified"] is not None:
        modified = _EPOCH + file["modified"] * _MICROSECOND
        file["modified"] = modified.isoformat(timespec="microseconds")
    if kind is Verdict:
        for name in _MAPS:
            fields[name] = dict(fields[name] or ())
        if fields["provenance"] is not None:
            fields["provenance"] = msgspec.json.decode(fields["provenance"])
    return msgspec.convert(fields, type=kind)
