"""What images lie in: an archive or a table, wherever that lies itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from ..finding.files import ImageFile, readable_path
from ..finding.stored import DEFAULT_MAX_BYTES


@dataclass(frozen=True)
class Container:
    """An archive or a table that holds images.

    Attributes:
        path: as records begin with it: ``photos.tar``, ``s3://bucket/photos.tar``.
        file: its size, and when it was last changed.
        open: opens it for reading; seeking works.
        near: whether reading here and there is as good as reading in order.
    """

    path: str
    file: ImageFile
    open: Callable[[], BinaryIO]
    near: bool

    def path_of(self, name: str) -> str:
        """Return the path of something in it, as text that any file can hold.

        Args:
            name: UTF-8 in any locale; other bytes are escaped as Python does (surrogateescape).
        """
        content = name.encode("utf-8", "surrogateescape")
        return f"{self.path}/{readable_path(os.fsdecode(content))}"

    def state_of(self, size: int) -> ImageFile:
        """Return the state of something in it that has so many bytes.

        It counts as changed whenever the container has changed, so that this can be told without
        looking into it.
        """
        return ImageFile(size, self.file.modified)


@dataclass(frozen=True)
class ReadOptions:
    """How containers are read.

    Attributes:
        column: of a table, which has the images; ``None`` if it has to be found out.
        max_bytes: larger images are refused before they are read.
    """

    column: str | None = None
    max_bytes: int = DEFAULT_MAX_BYTES
