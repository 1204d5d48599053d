"""Objects that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, BinaryIO, cast

from ..machine.errors import OutputError
from .store import Store, asking, store_of
from .urls import checked_object

_PART_BYTES = 16 << 20  # S3 takes 10,000 parts, so an object has at most 160 GB
_PIECE_BYTES = 1 << 20
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


@contextmanager
def whole_object(url: str) -> Iterator[BinaryIO]:
    """Give a file to fill, whose content appears at an address when the block ends well.

    If the block raises, nothing appears. The content lies in a temporary file until the end, so
    that a process which is killed meanwhile leaves nothing in the bucket.

    Raises:
        OutputError: it cannot be written, or the temporary file does not fit on the disk.
        InputError: the address is none of an object, or a library is missing.
    """
    url = checked_object(url)
    store_of(url)  # says before the work if a library is missing
    try:
        with tempfile.TemporaryFile(prefix="glass-") as scratch:
            file = cast(BinaryIO, scratch)  # on Windows it is a wrapper that does the same
            yield file
            upload(url, file)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise OutputError(
            f"{url} cannot be written: what it will hold does not fit into "
            f"{tempfile.gettempdir()}: make room there, or set TMPDIR to another folder."
        ) from error


def upload(url: str, file: BinaryIO) -> None:
    """Let the content of a file that can be sought in appear at an address, whole.

    What was there is replaced. An upload that fails or is interrupted leaves no parts behind.

    Raises:
        OutputError: it cannot be written.
        InputError: the address is none of an object, or a library is missing.
    """
    url, store = checked_object(url), store_of(url)
    asking(url, partial(_send, store, url, file), OutputError)


def _send(store: Store, url: str, file: BinaryIO) -> None:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size <= _PART_BYTES or store.scheme == "memory":  # which has no parts
        store.files.pipe_file(url, file.read())
    else:
        _send_in_parts(store.files.open(url, "wb", block_size=_PART_BYTES), file)


def _send_in_parts(target: Any, file: BinaryIO) -> None:
    try:
        shutil.copyfileobj(file, target, _PIECE_BYTES)
        target.close()
    except BaseException:  # an interrupt, too: S3 charges for parts until they are removed
        with suppress(Exception):
            target.discard()
        target.closed = True  # or the garbage collector closes it, and completes it by that
        raise
