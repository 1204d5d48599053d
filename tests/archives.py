"""What tests of archives share: containers, what is found in them, and files that fail."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from glass_edge.runtime.containers.container import Container, ReadOptions
from glass_edge.runtime.containers.formats import images_within
from glass_edge.runtime.finding.choosing import Reason, in_silence
from glass_edge.runtime.finding.files import image_file
from glass_edge.runtime.finding.stored import StoredImage

from glass_edge import ImageError

MOST = ReadOptions().max_bytes
NO_IMAGE = "it holds no image."
JPEG = b"\xff\xd8\xff\xe0 as a JPEG begins"


def container(path: Path, near: bool = True, opened: Callable[[], BinaryIO] | None = None):
    file = image_file(path)
    assert file is not None
    return Container(str(path), file, opened or (lambda: path.open("rb")), near)


@dataclass
class Found:
    """What an archive holds: content or refusals by names, in its order, and what is no image."""

    images: list[tuple[str, bytes | str]] = field(default_factory=list)
    skipped: list[tuple[str, Reason]] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.images]


def found_in(path: Path, near: bool = True, max_bytes: int = MOST, opened=None) -> Found:
    """Read an archive and each image when it comes."""
    found = Found()

    def skip(at: str, reason: Reason) -> None:
        found.skipped.append((at.removeprefix(f"{path}/"), reason))

    archive = container(path, near, opened)
    for image in images_within(archive, skip, ReadOptions(max_bytes=max_bytes)):
        found.images.append((image.path.removeprefix(f"{path}/"), content_of(image, max_bytes)))
    return found


def images_in(path: Path, near: bool = True, opened=None) -> Iterator[StoredImage]:
    return images_within(container(path, near, opened), in_silence, ReadOptions())


def content_of(image: StoredImage, max_bytes: int = MOST) -> bytes | str:
    """Return an image's file, or the sentence that refuses it."""
    try:
        return image.read(max_bytes)
    except ImageError as error:
        sentence = str(error)
        assert sentence.endswith(".")
        assert "\n" not in sentence
        return sentence


class Opened:
    """Opens a file and remembers what was opened, and how many bytes were read of it."""

    def __init__(self, path: Path, fails_at: int | None = None) -> None:
        self.files: list[BinaryIO] = []
        self.read = 0
        self._path = path
        self._fails_at = fails_at

    def __call__(self) -> BinaryIO:
        opener = self

        class Counting(io.FileIO):
            def read(self, size: int = -1, /) -> bytes:
                if opener._fails_at is not None and self.tell() >= opener._fails_at:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                content = super().read(size)
                opener.read += len(content)
                return content

        self.files.append(Counting(self._path))  # type: ignore[arg-type]
        return self.files[-1]

    @property
    def all_closed(self) -> bool:
        return bool(self.files) and all(file.closed for file in self.files)


@contextmanager
def nothing_written(*folders: Path) -> Iterator[None]:
    """Check that folders are as they were."""

    def state() -> list[tuple[str, int, int]]:
        paths = [path for folder in folders for path in (folder, *folder.rglob("*"))]
        return sorted((str(p), p.lstat().st_size, p.lstat().st_mtime_ns) for p in paths)

    before = state()
    yield
    assert state() == before
