"""Images that were judged before, found again by the paths in their records."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from threading import Lock

from ..finding.choosing import container_in, in_silence
from ..finding.files import ImageFile, image_file
from ..finding.stored import HeldImage, StoredImage
from ..machine.errors import GlassError
from ..storage.objects import ObjectImage, look_at
from ..storage.store import Object
from ..storage.urls import is_url
from .arguments import container_at
from .container import ReadOptions
from .formats import images_within

_HELD = 256 << 20  # bytes of images that are not read again one by one


class JudgedImages:
    """Images by the paths in their records; any thread may ask for one.

    Each archive is gone through once, when the first of its images is asked for.
    """

    def __init__(self, paths: Iterable[str], root: Path = Path()) -> None:
        """Find images again.

        Args:
            paths: as records have them, of all images that will be asked for.
            root: the folder that relative paths begin at.
        """
        self._root = root
        self._lock = Lock()
        self._wanted: dict[str, set[str]] = {}
        self._found: dict[str, dict[str, StoredImage]] = {}
        for path in paths:
            if name := self._archive(path):
                self._wanted.setdefault(name, set()).add(path[len(name) :])

    def find(self, path: str) -> Path | StoredImage | None:
        """Return a file's path, or what lies elsewhere; ``None`` if that is not there any more.

        Of archives that are read in order, what exceeds 256 MiB counts as not there.
        """
        if is_url(path):
            return _object(path)
        name = self._archive(path)
        if name is None:
            return self._root / path
        with self._lock:
            if name not in self._found:
                self._found[name] = self._within(name)
            return self._found[name].get(path[len(name) :])

    def _archive(self, path: str) -> str | None:
        """Return the archive that a path begins with, if it is one."""
        name = None if is_url(path) else container_in(path)
        return name if name is not None and (self._root / name).is_file() else None

    def _within(self, name: str) -> dict[str, StoredImage]:
        container = container_at(os.path.join(self._root, name))  # noqa: PTH118  # as it was given
        found: dict[str, StoredImage] = {}
        held = 0
        try:
            for image in images_within(container, in_silence, ReadOptions()) if container else ():
                path = image.path[len(container.path) :] if container else ""
                if path not in self._wanted.get(name, ()):
                    continue
                held += len(image.content) if isinstance(image, HeldImage) else 0
                if held <= _HELD:
                    found.setdefault(path, image)
        except GlassError:  # a table of whose columns several could be meant, above all
            pass
        return found


def state_of(image: Path | StoredImage | None) -> ImageFile | None:
    """Return the state of an image's file, or ``None`` if it is not there."""
    if image is None:
        return None
    return image_file(image) if isinstance(image, Path) else image.file


def _object(url: str) -> StoredImage | None:
    try:
        found = look_at(url)
    except GlassError:
        return None
    return ObjectImage(url, found.file) if isinstance(found, Object) else None
