"""Which images the user means, wherever they lie: files, folders, archives, tables and buckets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeAlias

from ..finding.choosing import Skip, container_in, in_silence, is_archive
from ..finding.files import image_file, readable_path
from ..finding.sources import find_images
from ..finding.stored import StoredImage
from ..machine.errors import InputError
from ..storage.ahead import called_ahead
from ..storage.objects import Folder, ObjectImage, images_under, look_at, matching
from ..storage.store import Object, open_object
from ..storage.urls import checked, is_url, is_url_pattern
from .container import Container, ReadOptions
from .formats import images_within

_LookedAt: TypeAlias = Container | StoredImage | Object | Folder | list[str] | None
"""An archive, an image in one, an object, a folder of objects, or what a pattern matches."""
_LOOKING = 16  # addresses that are looked at at once


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
                checked(url)  # refused before anything is judged
            groups.append(urls)
        else:
            groups.append(find_images(list(group), skip))
    paths = list(chain.from_iterable(groups))
    if not any(is_url(path) or is_archive(path) for path in paths):
        return Named(paths, len(paths))
    return Named(images_at_each(paths, skip, options or ReadOptions()), None)


def images_at(path: str, skip: Skip, options: ReadOptions) -> Iterator[str | StoredImage]:
    """Yield the image at a path or an address, or those in the archive, table or folder there.

    Raises:
        InputError: an address cannot be read, or holds no image; or a table has no such column.
    """
    return _images(path, _looked_at(path), skip, options)


def images_at_each(
    paths: Iterable[str], skip: Skip, options: ReadOptions
) -> Iterator[str | StoredImage]:
    """Yield the images at some paths and addresses, which are looked at ahead.

    Raises:
        InputError: see :func:`images_at`.
    """
    for path, found in called_ahead(_looked_at, paths, _LOOKING):
        yield from _images(path, found, skip, options)


def container_at(path: str) -> Container | None:
    """Return the archive or table at a path, or ``None`` if there is no file."""
    file = image_file(path) if Path(path).is_file() else None
    if file is None:
        return None
    return Container(readable_path(path), file, partial(_open, path), near=True)


def stored_at(path: str) -> StoredImage | None:
    """Return the image that a path names in an archive or a table, or ``None``.

    What comes before it in there is passed by.

    Raises:
        InputError: it cannot be told which column of the table has the images.
    """
    name = container_in(path)
    container = None if name is None else container_at(name)
    if container is None:
        return None
    found = images_within(container, in_silence, ReadOptions())
    return next((image for image in found if image.path == readable_path(path)), None)


def _looked_at(path: str) -> _LookedAt:
    """Return what is known of a path or an address: ``None`` for a file, and what is not there."""
    if not is_url(path):
        return container_at(path) if is_archive(path) else stored_at(path)
    found = look_at(path)
    if found is None and is_url_pattern(path):
        return matching(path)
    if isinstance(found, Object) and is_archive(path):
        return Container(path, found.file, partial(open_object, path), near=False)
    return found


def _images(
    path: str,
    found: _LookedAt,
    skip: Skip,
    options: ReadOptions,
) -> Iterator[str | StoredImage]:
    match found:
        case Container():
            yield from images_within(found, skip, options)
        case StoredImage():
            yield found
        case Object():
            yield ObjectImage(path, found.file)
        case Folder():
            yield from _some(images_under(found.url, skip), path)
        case list():
            yield from _some(images_at_each(found, skip, options), path)
        case None if is_url(path):
            yield from _missing(path)
        case None:
            yield path


def _some(images: Iterable[str | StoredImage], url: str) -> Iterator[str | StoredImage]:
    """Pass images on.

    Raises:
        InputError: there are none, so the address is perhaps another.
    """
    images = iter(images)
    first = next(images, None)
    if first is None:
        raise InputError(f"{url} holds no image.")
    yield first
    yield from images


def _missing(url: str) -> Iterator[StoredImage]:
    """Yield an object that is not there, so that its record says so.

    Raises:
        InputError: it was to be a folder.
    """
    if "." not in url.rpartition("/")[2]:
        raise InputError(f"there is nothing at {url}: check the bucket and the prefix.")
    yield ObjectImage(url, None)


def _open(path: str) -> BinaryIO:
    return open(path, "rb")
