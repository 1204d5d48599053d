"""Which images the user means, wherever they lie: files, folders, archives, tables and buckets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, groupby
from typing import NamedTuple

from ..finding.choosing import Skip, archive_of, in_silence, is_archive
from ..finding.sources import find_images
from ..finding.stored import StoredImage
from ..machine.errors import InputError
from ..storage.ahead import called_ahead
from ..storage.objects import look_at
from ..storage.urls import check_slashes, checked, is_url, is_url_pattern
from .container import ReadOptions
from .formats import TABLE, check, suffix_of
from .places import LOOKING, container_at, images_at_each


class Named(NamedTuple):
    """Images that arguments name, and how many there are if that is known without a look inside."""

    images: Iterable[str | StoredImage]
    total: int | None


def images_named(
    arguments: Sequence[str], skip: Skip = in_silence, options: ReadOptions | None = None
) -> Named:
    """Expand files, folders, patterns, archives, tables and addresses to images, in order.

    Folders are searched now, see :func:`..finding.sources.find_images`. Archives, tables and
    buckets are looked into when it is their turn, and none is held in memory. But whether that can
    be done is checked now: of each kind of archive with the first one.

    Args:
        arguments: as the user gave them.
        skip: is told what is passed over.
        options: how archives and tables are read.

    Raises:
        InputError: see :func:`..finding.sources.find_images`; or an address cannot be read; or a
            library is missing; or a table has no such column.
    """
    options = options or ReadOptions()
    groups = [(at_url, list(group)) for at_url, group in groupby(arguments, is_url)]
    paths = list(
        chain.from_iterable(
            _checked(group) if at_url else _found(group, skip) for at_url, group in groups
        )
    )
    _check_containers(paths, options)
    if not any(is_url(path) or is_archive(path) or archive_of(path) for path in paths):
        return Named(paths, len(paths))
    return Named(images_at_each(paths, skip, options), None)


def _found(arguments: list[str], skip: Skip) -> list[str]:
    """Return the images that paths name.

    Raises:
        InputError: see :func:`..finding.sources.find_images`; or one is almost an address.
    """
    for argument in arguments:
        check_slashes(argument)
    return find_images(arguments, skip)


def _checked(urls: list[str]) -> list[str]:
    """Return addresses, of which those of folders have something in them.

    One whose last part has a suffix is taken for an object's: if it is not there, its record says
    so. The first is looked at in any case, for what is wrong with all of them.

    Raises:
        InputError: an address cannot be read, or there is nothing with that prefix.
    """
    for url in urls:
        checked(url)
    folders = dict.fromkeys(url for url in urls if "." not in url.rpartition("/")[2])
    for url, found in called_ahead(look_at, {urls[0]: None} | folders, LOOKING):
        if found is None and url in folders and not is_url_pattern(url):
            raise InputError(f"there is nothing at {url}: check the bucket and the prefix.")
    return urls


def _check_containers(paths: Sequence[str], options: ReadOptions) -> None:
    first: dict[str, str] = {}
    for path in paths:
        if (suffix := suffix_of(path)) is not None:
            first.setdefault(suffix, path)
    if options.column is not None and TABLE not in first and not any(map(archive_of, paths)):
        raise InputError("--column is for .parquet tables, and none is named: leave it out.")
    for path in first.values():
        if container := container_at(path):
            check(container, options)
