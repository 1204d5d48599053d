"""Archives are made by strangers: how much of one is read at a time, and what damage becomes."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from ..machine.errors import GlassError, ImageError, UnreadableError

PIECE = 1 << 16
"""Bytes that are read or unpacked at a time."""
MOST_TIMES = 100
"""How many times its packed size a member may have when it is larger than LARGE_MEMBER bytes."""
LARGE_MEMBER = 32 << 20


class Readable(Protocol):
    """What is read here and there."""

    def read(self, size: int = -1, /) -> bytes: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def tell(self) -> int: ...


class BoundedFile:
    """A file of which only as many bytes are read as were allowed.

    tarfile and zipfile read what a header claims to be there in one go, and so would take gigabytes
    on the word of a few bytes.

    Attributes:
        last: what was read last.
    """

    def __init__(self, file: Readable, refusal: str) -> None:
        self._file = file
        self._refusal = refusal
        self._left = 0
        self.last = b""

    def allow(self, size: int) -> None:
        """Let so many bytes be read from now on."""
        self._left = size

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes; fewer than ``size`` at the end, all to the end if it is negative.

        Raises:
            ImageError: these are more than was allowed.
        """
        if size > self._left:
            raise ImageError(self._refusal)
        self.last = self._file.read(self._left + 1 if size < 0 else size)
        self._left -= len(self.last)
        if self._left < 0:
            raise ImageError(self._refusal)
        return self.last

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place and return it."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the place that is read next."""
        return self._file.tell()

    def seekable(self) -> bool:
        """Whether one can go to a place; always."""
        return True


def read_whole(file: Readable, size: int) -> bytes:
    """Return what a file has, and no more than ``size`` bytes.

    Memory is taken as the bytes come: a damaged file has fewer than it claims.
    """
    whole = io.BytesIO()
    while piece := file.read(min(PIECE, size - whole.tell())):
        whole.write(piece)
    return whole.getvalue()


def check_expansion(size: int, packed: int) -> None:
    """Check that a member is no bomb.

    Raises:
        ImageError: it is much larger than what is stored of it.
    """
    if size > max(LARGE_MEMBER, MOST_TIMES * packed):
        raise ImageError(
            f"the file is a bomb: it unpacks to {size} bytes, more than {MOST_TIMES} times its "
            "packed size."
        )


@contextmanager
def reading(damaged: str) -> Iterator[None]:
    """Say in one sentence what is wrong with what is read in the block.

    Args:
        damaged: how the sentence begins if the content is at fault.

    Raises:
        UnreadableError: the system cannot read it.
        ImageError: anything else went wrong.
    """
    try:
        yield
    except GlassError:
        raise
    except Exception as error:  # tarfile and zipfile let pass what struct, zlib and int() raise
        if _is_of_the_system(error):
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise UnreadableError(f"the archive cannot be read: {why}.") from None
        why = str(error).rstrip(".") or type(error).__name__
        raise ImageError(f"{damaged}: {why}.") from None


def _is_of_the_system(error: Exception) -> bool:
    """Tell what the system raises from what gzip and bz2 raise about content."""
    if not isinstance(error, OSError) or isinstance(error, gzip.BadGzipFile):
        return False
    return error.errno is not None or type(error) is not OSError
