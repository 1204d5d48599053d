"""The images at a place: a path, or an address; in an archive, a table or a bucket."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeAlias

from ..finding.choosing import Skip, archive_of, in_silence, is_archive
from ..finding.files import image_file, readable_path
from ..finding.stored import LostImage, StoredImage
from ..machine.errors import ImageError, InputError, UnreadableError
from ..storage.ahead import called_ahead
from ..storage.objects import ObjectImage, Prefix, images_under, look_at, matching
from ..storage.store import Object, open_object
from ..storage.urls import checked, is_url, is_url_pattern
from .container import Container, ReadOptions
from .formats import images_within

LOOKING = 16
"""Addresses that are looked at at once."""

_LookedAt: TypeAlias = Container | StoredImage | Object | Prefix | list[str] | None
"""An archive, an image in one, an object, what begins with a prefix, or what a pattern matches."""
_Images: TypeAlias = Iterator[str | StoredImage]


def images_at(path: str, skip: Skip, options: ReadOptions) -> _Images:
    """Yield the image at a path or an address, or those in the archive, table or bucket there.

    What cannot be read, or holds no image, becomes an image whose reading says so.
    """
    return _images(path, _looked_at(options, path), skip, options)


def images_at_each(paths: Iterable[str], skip: Skip, options: ReadOptions) -> _Images:
    """Yield the images at some places, see :func:`images_at`; addresses are looked at ahead."""
    for path, found in called_ahead(partial(_looked_at, options), paths, LOOKING):
        yield from _images(path, found, skip, options)


def container_at(path: str) -> Container | None:
    """Return the archive or table at a path or an address, or ``None`` if there is none.

    Raises:
        InputError: the address cannot be read.
    """
    if not is_archive(path):
        return None
    if is_url(path):
        found = look_at(path)
        return _remote_container(path, found) if isinstance(found, Object) else None
    file = image_file(path) if Path(path).is_file() else None
    if file is None:
        return None
    return Container(readable_path(path), file, partial(_open, path), near=True)


def stored_at(path: str, options: ReadOptions) -> StoredImage | None:
    """Return the image that a path names in an archive or a table, or ``None``.

    What comes before it in there is passed by.

    Raises:
        InputError: it cannot be told which column of the table has the images.
    """
    name = archive_of(path)
    container = None if name is None else container_at(name)
    if container is None:
        return None
    found = images_within(container, in_silence, options)
    return next((image for image in found if image.path == readable_path(path)), None)


def _looked_at(options: ReadOptions, path: str) -> _LookedAt:
    """Return what is known of a place: ``None`` for a file, and for what is not there."""
    try:
        if not is_url(path):
            return container_at(path) or stored_at(path, options)
        checked(path)
    except InputError as error:
        return _lost(path, ImageError(str(error)))
    try:
        found = look_at(path)
        if found is None and is_url_pattern(path):
            return matching(path)
    except InputError as error:  # the store may answer another time
        return _lost(path, UnreadableError(str(error)))
    if isinstance(found, Object) and is_archive(path):
        return _remote_container(path, found)
    return found


def _remote_container(url: str, found: Object) -> Container:
    """Return what bears the address as it was given, as plans and records have it."""
    return Container(url, found.file, partial(open_object, url), near=False)


def _images(path: str, found: _LookedAt, skip: Skip, options: ReadOptions) -> _Images:
    match found:
        case Container():
            try:
                yield from images_within(found, skip, options)
            except InputError as error:  # of a table, as images_named has checked what it can
                yield _lost(path, ImageError(str(error)))
        case StoredImage():
            yield found
        case Object():
            yield ObjectImage(path, found.file)
        case Prefix():
            yield from _some(_listed(found, skip), path, "there is no image in it.")
        case list():
            yield from _some(images_at_each(found, skip, options), path, "nothing matches it.")
        case None:
            yield ObjectImage(path, None) if is_url(path) else path


def _listed(prefix: Prefix, skip: Skip) -> _Images:
    try:
        yield from images_under(prefix.url, skip)
    except InputError as error:  # there was an answer to the first question
        yield _lost(prefix.url, UnreadableError(str(error)))


def _some(images: _Images, url: str, otherwise: str) -> _Images:
    first = next(images, None)
    yield _lost(url, ImageError(otherwise)) if first is None else first
    yield from images


def _lost(path: str, error: ImageError) -> LostImage:
    return LostImage(readable_path(path), None, error)


def _open(path: str) -> BinaryIO:
    return open(path, "rb")
