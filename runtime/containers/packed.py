"""Compressed archives: they are unpacked in pieces as they are read, and never to disk."""

from __future__ import annotations

import os
from importlib import import_module
from typing import BinaryIO, NamedTuple

from ..machine.errors import ImageError, InputError
from .bounded import PIECE, Readable

MOST_TIMES = 200
"""How many times its size an archive may unpack to when that is more than LARGE_ARCHIVE bytes."""
LARGE_ARCHIVE = 1 << 30


class Packing(NamedTuple):
    """How an archive is compressed.

    Attributes:
        module: of Python, that unpacks it.
        needs: which Python has that module.
        program: unpacks it to a file.
    """

    module: str
    needs: str
    program: str


_GZIP = Packing("gzip", "a Python with zlib", "gzip")
PACKINGS = {
    ".tgz": _GZIP,
    ".tar.gz": _GZIP,
    ".tar.bz2": Packing("bz2", "a Python with bz2", "bzip2"),
    ".tar.xz": Packing("lzma", "a Python with lzma", "xz"),
    ".tar.zst": Packing("compression.zstd", "Python 3.14 or newer", "zstd"),
}
"""By suffix."""


def check_packing(path: str, packing: Packing) -> None:
    """Check that this Python can unpack an archive.

    Raises:
        InputError: it lacks the module.
    """
    try:
        import_module(packing.module)
    except ImportError:
        raise InputError(
            f"{path} needs {packing.needs}; or unpack it first: {packing.program} -d {path}"
        ) from None


class UnpackedFile:
    """What a compressed archive unpacks to, read forwards and only as far as it is no bomb."""

    def __init__(self, file: BinaryIO, packing: Packing, packed: int) -> None:
        """Begin to unpack.

        Args:
            file: the compressed archive.
            packing: how it is compressed.
            packed: its size in bytes.
        """
        self._file: Readable = import_module(packing.module).open(file)
        self._most = max(LARGE_ARCHIVE, MOST_TIMES * packed)

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes.

        Raises:
            ImageError: the archive is a bomb.
        """
        content = self._file.read(size)
        if self._file.tell() > self._most:
            raise ImageError(
                f"the archive is a bomb: it unpacks to more than {MOST_TIMES} times its size."
            )
        return content

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Unpack up to a place, or to the end; what comes before it is lost.

        Raises:
            ImageError: the archive is a bomb.
            ValueError: the place lies behind.
        """
        if whence != os.SEEK_SET or offset < self.tell():
            raise ValueError("what was unpacked is not unpacked again")
        while (left := offset - self.tell()) and self.read(min(PIECE, left)):
            pass
        return self.tell()

    def tell(self) -> int:
        """Return how many bytes were unpacked and read."""
        return self._file.tell()
