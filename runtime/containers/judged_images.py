"""Images that were judged before, found by the paths in their records."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from threading import Lock

from ..finding.choosing import archive_of, in_silence
from ..finding.files import ImageFile, image_file
from ..finding.stored import HeldImage, StoredImage
from ..machine.errors import GlassError
from ..storage.objects import ObjectImage, look_at
from ..storage.store import Object
from ..storage.urls import is_url
from .container import ReadOptions
from .formats import images_within
from .places import container_at

_HELD = 256 << 20  # bytes, of images that cannot be read again one by one


class JudgedImages:
    """Images by the paths in their records; any thread may ask for one.

    Each archive is gone through once, when the first of its images is asked for.
    """

    def __init__(self, paths: Iterable[str], root: Path, options: ReadOptions) -> None:
        """Find images again.

        Args:
            paths: as records have them, of all images that will be asked for.
            root: the folder that relative paths begin at.
            options: how archives and tables were read.
        """
        self._root, self._options = root, options
        self._lock = Lock()
        self._wanted: dict[str, set[str]] = {}
        self._found: dict[str, dict[str, StoredImage]] = {}
        self._held = 0
        for path in paths:
            if name := self._archive(path):
                self._wanted.setdefault(name, set()).add(path[len(name) :])

    def find(self, path: str) -> Path | StoredImage | None:
        """Return a file's path, or what lies elsewhere; ``None`` if that is not there any more.

        Of archives that are read in order, what exceeds 256 MiB in all counts as not there.
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
        return None if is_url(path) else archive_of(path, self._root)

    def _within(self, name: str) -> dict[str, StoredImage]:
        """Return the images in an archive that are wanted, by what follows its name."""
        found: dict[str, StoredImage] = {}
        container = container_at(os.path.join(self._root, name))  # noqa: PTH118  # as it was given
        if container is None:
            return found
        wanted, start = self._wanted.get(name, set()), len(container.path)
        try:
            for image in images_within(container, in_silence, self._options):
                path = image.path[start:]
                if path in wanted and path not in found and self._has_room(image):
                    found[path] = image
        except GlassError:  # a table of whose columns several could be meant, above all
            pass
        return found

    def _has_room(self, image: StoredImage) -> bool:
        size = len(image.content) if isinstance(image, HeldImage) else 0
        if self._held + size > _HELD:
            return False
        self._held += size
        return True


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
