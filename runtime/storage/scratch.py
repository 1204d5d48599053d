"""Files for what is made here before it is put where it belongs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

_OPEN_FILES = Path("/proc/self/fd")


@contextmanager
def scratch_file() -> Iterator[tuple[BinaryIO, Path]]:
    """Give an empty file to write, and the path at which this process can read it.

    On Linux it has no name of its own, so nothing is left of it however its process ends: Ray ends
    actors by SIGKILL. Elsewhere it is removed at the end of the block.
    """
    if _OPEN_FILES.is_dir():
        with tempfile.TemporaryFile() as file:
            yield cast(BinaryIO, file), _OPEN_FILES / str(file.fileno())
        return
    with tempfile.TemporaryDirectory(prefix="glass-") as folder:
        path = Path(folder, "scratch")
        with path.open("wb") as file:
            yield file, path
