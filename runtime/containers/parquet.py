"""Images in a column of a Parquet table, one row at a time.

What is held at once is a row and what Parquet can only read whole: a page of the column, the page
as it was compressed, and the column's dictionary if it has one. Writers choose how large they are.
pyarrow ends a page at 1 MiB, but looks only every 1,024 rows; Hugging Face's datasets have row
groups of 100 rows, and so no larger pages.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from ..finding.choosing import Skip
from ..finding.stored import HeldImage, LostImage, StoredImage, check_bytes
from ..machine.errors import ImageError, InputError, UnreadableError
from .arrow import DamagedError, load_parquet, reading
from .container import Container, ReadOptions

_USUAL = ("image", "image_data", "image_bytes", "bytes")
_BYTES, _PATH = "bytes", "path"  # the fields of Hugging Face's Image
_READ_BYTES = 1 << 20  # at once, where a page is larger than that it is read whole
_NAMED = 20  # columns, in an error


def parquet_images(container: Container, _: Skip, options: ReadOptions) -> Iterator[StoredImage]:
    """Yield the images in a table; see :data:`.formats.Reader`.

    The column's values are files' bytes, or structs with those and a path, as Hugging Face writes
    them. Without a path, an image is named by its row, from 0. One that is null, too large or not
    in the table becomes an error.
    """
    parquet = load_parquet()
    with container.open() as file:
        with _reading():
            table = parquet.ParquetFile(
                file,
                buffer_size=_READ_BYTES,
                pre_buffer=False,
                page_checksum_verification=True,
            )
            column = _chosen(table.schema_arrow, container.path, options.column)
            batches = table.iter_batches(1, columns=column.leaves, use_threads=False)
        number = 0
        while True:
            with _reading():
                batch = next(batches, None)
                if batch is None:
                    break
                content, name = column.value(batch)
            yield _image(container, number, content, name, options.max_bytes)
            number += 1
        if number != table.metadata.num_rows:
            raise ImageError(
                f"the Parquet file is damaged: it should have {table.metadata.num_rows} rows, and "
                f"has {number}."
            )


@dataclass(frozen=True)
class _Column:
    """A column that can hold images: of bytes, or of structs with bytes and perhaps a path."""

    name: str
    is_struct: bool = False
    has_path: bool = False

    @property
    def leaves(self) -> list[str]:
        """The paths of what is read, in pyarrow's words."""
        if not self.is_struct:
            return [self.name]
        return [f"{self.name}.{field}" for field in (_BYTES, _PATH)[: 1 + self.has_path]]

    def value(self, batch: Any) -> tuple[Any, str | None]:
        """Return the bytes, as a pyarrow buffer or ``None``, and the path in the only row."""
        cell = batch.column(batch.schema.names.index(self.name))
        if not self.is_struct:
            return _buffer(cell), None
        if not cell[0].is_valid:
            return None, None
        path = _buffer(cell.field(_PATH)) if self.has_path else None
        text = None if path is None else path.to_pybytes().decode("utf-8", "backslashreplace")
        return _buffer(cell.field(_BYTES)), text or None


@contextmanager
def _reading() -> Iterator[None]:
    """Say in one sentence why a table cannot be read.

    Raises:
        ImageError: it is damaged, encrypted, or no table.
        UnreadableError: its file could not be read.
    """
    try:
        with reading():
            yield
    except DamagedError as error:
        raise ImageError(f"the Parquet file is damaged or encrypted: {error}.") from None
    except OSError as error:
        raise UnreadableError(f"the Parquet file cannot be read: {error.strerror}.") from None


def _image(
    container: Container, number: int, content: Any, name: str | None, max_bytes: int
) -> StoredImage:
    path = container.path_of(name or str(number))
    if content is None:
        only_named = (
            f"row {number} holds only the name of an image: write the table with the images' "
            "bytes in it."
        )
        reason = only_named if name else f"row {number} has no image."
        return LostImage(path, container.state_of(0), ImageError(reason))
    file = container.state_of(content.size)
    try:
        check_bytes(content.size, max_bytes)
    except ImageError as error:
        return LostImage(path, file, error)
    return HeldImage(path, file, content.to_pybytes())


def _buffer(cell: Any) -> Any:
    """Return the only value of an array of bytes or text as a pyarrow buffer, or ``None``."""
    if hasattr(cell, "dictionary"):
        cell = cell.dictionary_decode()
    return cell[0].as_buffer()


def _chosen(schema: Any, path: str, name: str | None) -> _Column:
    """Return the column that has the images.

    Raises:
        InputError: there is no such column, or several could be it.
    """
    candidates = {each.name: each for field in schema if (each := _as_images(field))}
    if name is not None:
        if name not in schema.names:
            close = get_close_matches(name, schema.names, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise InputError(f"{path} has no column {name}; it has {_listed(schema)}.{hint}")
        if name not in candidates:
            raise InputError(
                f"the column {name} of {path} holds no images, which are binary, but "
                f"{schema.field(schema.names.index(name)).type}."
            )
        return candidates[name]
    if len(candidates) == 1:
        return next(iter(candidates.values()))
    for usual in _USUAL:
        if usual in candidates:
            return candidates[usual]
    if candidates:
        raise InputError(
            f"several columns of {path} could hold the images: name one of {', '.join(candidates)}."
        )
    raise InputError(f"{path} has no column of images, which are binary: it has {_listed(schema)}.")


def _as_images(field: Any) -> _Column | None:
    """Return a column as one of images, or ``None`` if it cannot be one."""
    import pyarrow as pa

    if _is_binary(field.type):
        return _Column(field.name)
    if not pa.types.is_struct(field.type):
        return None
    parts = {part.name: part.type for part in field.type}
    if _BYTES not in parts or not _is_binary(parts[_BYTES]):
        return None
    return _Column(field.name, is_struct=True, has_path=_PATH in parts and _is_text(parts[_PATH]))


def _is_binary(kind: Any) -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return kind in (pa.binary(), pa.large_binary(), pa.binary_view())


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return kind in (pa.string(), pa.large_string(), pa.string_view())


def _listed(schema: Any) -> str:
    named = [f"{field.name} ({field.type})" for field in list(schema)[:_NAMED]]
    more = [f"{len(schema.names) - _NAMED} more"] if len(schema.names) > _NAMED else []
    return ", ".join(named + more) or "no columns"
