"""Which module reads which archives and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TypeAlias

from ..finding.choosing import Skip, in_silence
from ..finding.stored import LostImage, StoredImage
from ..machine.errors import ImageError, InputError
from .container import Container, ReadOptions
from .packed import PACKINGS
from .parquet import parquet_images
from .tar import images_in_tar
from .zip import images_in_zip

Reader: TypeAlias = Callable[[Container, Skip, ReadOptions], Iterator[StoredImage]]
"""Yields the images in a container as they come, in its order, in bounded memory.

What is no image is told to ``Skip`` by its path. Raises ImageError where the container is damaged,
UnreadableError where it cannot be read, and InputError where what it is asked for is not in it."""

TABLE = ".parquet"
_READERS: dict[str, Reader] = {
    ".tar": images_in_tar,
    **{suffix: partial(images_in_tar, packing=packing) for suffix, packing in PACKINGS.items()},
    ".zip": images_in_zip,
    TABLE: parquet_images,
}
"""By suffix."""


def images_within(container: Container, skip: Skip, options: ReadOptions) -> Iterator[StoredImage]:
    """Yield the images in a container; if it has none or not all can be read, a last one says so.

    Raises:
        InputError: what is asked for is not in it.
    """
    empty = True
    try:
        for image in _reader(container.path)(container, skip, options):
            empty = False
            yield image
    except ImageError as error:
        yield LostImage(container.path, container.file, error)
    else:
        if empty:
            yield LostImage(container.path, container.file, ImageError("it holds no image."))


def check(container: Container, options: ReadOptions) -> None:
    """Check that a container of its kind can be read here, and has what is asked for.

    Raises:
        InputError: it cannot, or has not.
    """
    with suppress(ImageError):  # of this one; its record says so
        next(_reader(container.path)(container, in_silence, options), None)


def suffix_of(path: str) -> str | None:
    """Return by which suffix a container is read, or ``None`` if it is none."""
    return max((each for each in _READERS if path.lower().endswith(each)), key=len, default=None)


def _reader(path: str) -> Reader:
    suffix = suffix_of(path)
    if suffix is None:
        raise InputError(f"{path} is no archive or table that is read.")
    return _READERS[suffix]
