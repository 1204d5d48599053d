"""Which images the user means, wherever they lie: files, folders, archives, tables and buckets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..finding.choosing import Skip, container_in, in_silence, is_archive
from ..finding.files import image_file, readable_path
from ..finding.sources import find_images
from ..finding.stored import StoredImage
from ..machine.errors import InputError
from ..storage.urls import is_url, scheme_of
from .container import Container, ReadOptions
from .formats import images_within


class Named(NamedTuple):
    """Images that arguments name, and how many there are if that is known without a look inside."""

    images: Iterable[str | StoredImage]
    total: int | None


def images_named(
    arguments: Sequence[str], skip: Skip = in_silence, options: ReadOptions | None = None
) -> Named:
    """Expand files, folders, patterns, archives, tables and addresses to images, in order.

    Folders are searched now, see :func:`..finding.sources.find_images`. Archives, tables and
    buckets are looked into when it is their turn, and none is held in memory.

    Args:
        arguments: as the user gave them.
        skip: is told what is passed over.
        options: how archives and tables are read.

    Raises:
        InputError: see :func:`..finding.sources.find_images`; or an address cannot be read.
    """
    groups: list[list[str]] = []
    for at_url, group in groupby(arguments, is_url):
        if at_url:
            urls = list(group)
            for url in urls:
                scheme_of(url)  # refused before anything is judged
            groups.append(urls)
        else:
            groups.append(find_images(list(group), skip))
    paths = list(chain.from_iterable(groups))
    if not any(is_url(path) or is_archive(path) for path in paths):
        return Named(paths, len(paths))
    return Named(_each(paths, skip, options or ReadOptions()), None)


def images_at(path: str, skip: Skip, options: ReadOptions) -> Iterator[str | StoredImage]:
    """Yield the image at a path or an address, or those in the archive, table or prefix there.

    Raises:
        InputError: an address cannot be read, or holds no image; or a table has no such column.
    """
    if is_url(path):
        yield from _at_url(path, skip, options)
    elif is_archive(path) and (container := _container(path)):
        yield from images_within(container, skip, options)
    else:
        yield path


def stored_at(path: str) -> StoredImage | None:
    """Return the image that a record's path names in an archive, or ``None``.

    What comes before it in there is passed by.
    """
    name = container_in(path)
    container = None if name is None else _container(name)
    if container is None:
        return None
    found = images_within(container, in_silence, ReadOptions())
    return next((image for image in found if image.path == path), None)


def _each(paths: Iterable[str], skip: Skip, options: ReadOptions) -> Iterator[str | StoredImage]:
    return chain.from_iterable(images_at(path, skip, options) for path in paths)


def _container(path: str) -> Container | None:
    """Return the archive or table at a path, or ``None`` if that is no file."""
    file = image_file(path) if Path(path).is_file() else None
    if file is None:
        return None
    return Container(readable_path(path), file, partial(_open, path), near=True)


def _open(path: str) -> BinaryIO:
    return open(path, "rb")


def _at_url(url: str, skip: Skip, options: ReadOptions) -> Iterator[StoredImage]:
    raise InputError(f"{url} cannot be read yet.")
    yield
