"""An image that lies in an archive, a table or a bucket rather than in a file of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from ..machine.errors import ImageError
from .files import ImageFile

DEFAULT_MAX_BYTES = 1 << 30
"""Of an image's file; the largest images allowed have 0.6 GB of pixels."""


@dataclass(frozen=True)
class StoredImage(ABC):
    """An image that is known by name and not read yet.

    Attributes:
        path: as records name it: ``photos.tar/a/b.jpg`` or ``s3://bucket/a/b.jpg``. Any file can
            hold it, see :func:`.files.readable_path`.
        file: its size, and when what it lies in was last changed; ``None`` if it is not there.
    """

    path: str
    file: ImageFile | None

    @abstractmethod
    def read(self, max_bytes: int) -> bytes:
        """Return the image's file. Any thread may call this, once.

        Raises:
            ImageError: it has more than ``max_bytes``, or something is wrong with it.
            UnreadableError: it is not there, or cannot be read.
        """


@dataclass(frozen=True)
class HeldImage(StoredImage):
    """An image that was read already, because what it lies in can only be read in order."""

    content: bytes = field(repr=False)

    def read(self, max_bytes: int) -> bytes:
        check_bytes(len(self.content), max_bytes)
        return self.content


@dataclass(frozen=True)
class LostImage(StoredImage):
    """An image, or all that follows in what it lies in, that cannot be read."""

    error: ImageError

    def read(self, max_bytes: int) -> bytes:
        raise self.error


def check_bytes(size: int, most: int) -> None:
    """Check that a file is not too large to be read.

    Raises:
        ImageError: it is.
    """
    if size > most:
        raise ImageError(
            f"the file has {size} bytes, more than the limit of {most}; scale it down."
        )
