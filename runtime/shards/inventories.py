"""Inventories: lists of what a collection holds, so that nothing has to be searched."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, BinaryIO, NamedTuple, cast
from urllib.parse import unquote_plus

from ..containers.arrow import load_parquet, reading
from ..finding.choosing import Reason, Skip, reason_to_skip_stored
from ..finding.files import readable_path
from ..finding.sources import listed_images
from ..machine.errors import InputError
from ..storage.folders import folder_and_name

SUFFIXES = (".txt", ".csv", ".csv.gz", ".parquet")
_CHUNK = 1 << 16  # bytes
_NAMES = ("bucket", "key", "size", "path")
_JPEG = b"\xff\xd8\xff\xe0"  # what is taken for the start of objects that nobody has looked at


class Listed(NamedTuple):
    """A path or an address, and its size in bytes if the inventory has it."""

    path: str
    size: int | None


def read_inventory(address: str, skip: Skip) -> Iterator[Listed]:
    """Yield what an inventory lists, in its order.

    ``.txt`` has a path or an address on each line. ``.csv`` and ``.csv.gz`` are as S3 Inventory
    writes them: bucket, URL-encoded key and size, without a header. With a header that names
    ``bucket`` and ``key``, or ``path``, and perhaps ``size``, keys are taken as they are. The same
    columns are read from ``.parquet``.

    Of a bucket's keys, what is no image by its suffix is passed over, as in a search. Paths were
    chosen by whoever listed them: none is passed over.

    Args:
        address: the inventory's path, or its address on object storage.
        skip: is told what is passed over.

    Raises:
        InputError: it cannot be read, or is none of these.
    """
    folder, name = folder_and_name(address)
    kind = name.lower()
    if not kind.endswith(SUFFIXES):
        raise InputError(
            f"cannot tell the format of the inventory {readable_path(address)}: give a name that "
            f"ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}."
        )
    with _told(address), folder.open(name) as file:
        if kind.endswith(".txt"):
            chunks = iter(partial(file.read, _CHUNK), b"")
            yield from (Listed(path, None) for path in listed_images(chunks))
            return
        rows = _parquet_rows(file) if kind.endswith(".parquet") else _csv_rows(file, kind)
        for number, row in enumerate(rows, 1):
            try:
                found = _listed(row, skip)
            except ValueError as error:
                raise ValueError(f"row {number} {error}") from None
            if found is not None:
                yield found


def _csv_rows(file: BinaryIO, name: str) -> Iterator[Mapping[str, str]]:
    """Yield rows by the names of their columns; only those of S3 Inventory have no header."""
    content = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if name.endswith(".gz") else file
    with io.TextIOWrapper(content, encoding="utf-8-sig", newline="") as text:
        rows = (row for row in csv.reader(text) if row)
        first = next(rows, [])
        header = [cell.strip().lower() for cell in first]
        if _is_header(header):
            yield from (dict(zip(header, row, strict=False)) for row in rows)
            return
        yield from map(_of_s3, [first] if first else [])
        yield from map(_of_s3, rows)


def _of_s3(row: list[str]) -> Mapping[str, str]:
    """Name the cells of a row as S3 Inventory writes it, in which keys are URL-encoded."""
    bucket, key, size, *_ = [*row, "", "", ""]
    return {"bucket": bucket, "key": unquote_plus(key, errors="strict"), "size": size}


def _parquet_rows(file: BinaryIO) -> Iterator[Mapping[str, Any]]:
    """Yield rows by the names of their columns.

    Raises:
        InputError: pyarrow is not installed.
        ValueError: it is damaged, or its columns are others.
    """
    with reading():
        table = load_parquet().ParquetFile(file, pre_buffer=False)
        columns = {name.lower(): name for name in table.schema_arrow.names}
        if not _is_header(columns):
            raise ValueError("it has no columns bucket and key, and none called path")
        chosen = {name: columns[name] for name in _NAMES if name in columns}
        for batch in table.iter_batches(columns=list(chosen.values())):
            for row in batch.to_pylist():
                yield {name: row[column] for name, column in chosen.items()}


def _is_header(names: Collection[str]) -> bool:
    return "path" in names or {"bucket", "key"} <= set(names)


def _listed(row: Mapping[str, Any], skip: Skip) -> Listed | None:
    """Return what a row lists, or ``None`` if it is passed over.

    Raises:
        ValueError: the row makes no sense.
    """
    size = _size(row.get("size"))
    if path := row.get("path"):
        return Listed(str(path), size)
    bucket, key = row.get("bucket"), row.get("key")
    if not bucket or not key:
        raise ValueError("has no bucket and key, and no path")
    address = f"s3://{bucket}/{key}"
    if key.endswith("/"):  # what some programs make a folder of
        return None
    reason = reason_to_skip_stored(key, lambda: _JPEG)
    if reason in (None, Reason.ARCHIVE):
        return Listed(address, size)
    skip(address, reason)
    return None


def _size(cell: Any) -> int | None:
    try:
        size = None if cell in (None, "") else int(cell)
    except (TypeError, ValueError):
        size = -1
    if size is not None and size < 0:
        raise ValueError(
            f"has the size {cell!r}, which is no number of bytes: write a header that names "
            "bucket, key and size"
        )
    return size


@contextmanager
def _told(address: str) -> Iterator[None]:
    """Turn what is wrong with an inventory into one sentence.

    Raises:
        InputError: something is.
    """
    name = f"the inventory {readable_path(address)}"
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{name} cannot be read: {error}.") from None
    except UnicodeDecodeError:
        raise InputError(f"{name} is not UTF-8: write it in UTF-8.") from None
    except (csv.Error, ValueError) as error:
        raise InputError(f"{name} cannot be used: {error}.") from None
