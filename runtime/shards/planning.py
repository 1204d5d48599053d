"""Planning: which images a collection has, and which of them make a shard."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from ..finding.choosing import Reason, Skip, is_archive
from ..finding.files import did_you_mean, readable_path
from ..finding.folders import Search, in_order
from ..finding.patterns import is_pattern, matching
from ..machine.errors import InputError
from ..storage.objects import images_under, look_at
from ..storage.objects import matching as urls_matching
from ..storage.store import Object
from ..storage.urls import is_url, is_url_pattern
from .inventories import read_inventory
from .plan import End, PlanWriter, added

DEFAULT_IMAGES = 10_000
DEFAULT_BYTES = 4_000_000_000


class Item(NamedTuple):
    """An image, or a container of images: an archive or a table.

    Attributes:
        path: where it lies: a path or an address.
        size: in bytes, ``None`` if it is not known.
        container: whether it may hold several images.
    """

    path: str
    size: int | None
    container: bool


@dataclass(frozen=True)
class Limits:
    """What a shard holds at most; one image or container is a shard however large it is."""

    images: int = DEFAULT_IMAGES
    bytes: int = DEFAULT_BYTES


def write_plan(items: Iterable[Item], limits: Limits, writer: PlanWriter) -> End:
    """Divide a collection into shards, in bounded memory, and return the plan's totals.

    Raises:
        InputError: there is nothing in it, or a name cannot be in a plan.
    """
    shard = _Open()
    for item in items:
        path = _planned(item.path)
        if item.container:  # a shard of its own; the images before it and after it stay together
            writer.add(None, item.size, [path])
            continue
        if shard.would_exceed(limits, item.size):
            shard.close(writer)
            shard = _Open()
        shard.add(path, item.size)
    shard.close(writer)
    end = writer.finish()
    if not end.shards:
        raise InputError(
            "the collection is empty: name folders, archives or lists that hold images."
        )
    return end


@dataclass
class _Open:
    """The shard that images are put in."""

    paths: list[str] = field(default_factory=list)
    size: int | None = 0
    known: int = 0

    def would_exceed(self, limits: Limits, size: int | None) -> bool:
        """Whether another image of this size is too much; one of unknown size counts as nothing."""
        full = len(self.paths) >= limits.images or self.known + (size or 0) > limits.bytes
        return full and bool(self.paths)

    def add(self, path: str, size: int | None) -> None:
        self.paths.append(path)
        self.size = added(self.size, size)
        self.known += size or 0

    def close(self, writer: PlanWriter) -> None:
        if self.paths:
            writer.add(len(self.paths), self.size, self.paths)


def _planned(path: str) -> str:
    """Return a path that means the same in every folder.

    Raises:
        InputError: it is not UTF-8.
    """
    whole = path if is_url(path) else os.path.abspath(path)  # noqa: PTH100  # links are kept
    try:
        whole.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{readable_path(path)} has a name that is not UTF-8, which no plan can hold: rename "
            "it."
        ) from None
    return whole


def listed(source: str, skip: Skip) -> Iterator[Item]:
    """Yield what a source holds: a folder, a pattern, a file, or an address of object storage.

    Folders are searched for images. One that holds none, but archives or tables, stands for those.

    Args:
        source: as the user named it.
        skip: is told what is passed over.

    Raises:
        InputError: it is not there, cannot be read, or holds nothing to judge.
    """
    if is_url(source):
        yield from _listed_objects(source, skip)
        return
    if not source:
        raise InputError("a source is empty, perhaps a variable that is not set: name a folder.")
    if not is_pattern(source) and not os.path.lexists(source):
        raise InputError(f"there is no {readable_path(source)}.{did_you_mean(source)}")
    found = _found(source, skip)
    if not found:
        raise InputError(f"{readable_path(source)} holds no image, no archive and no table.")
    yield from map(item_at, found)


def listed_in(inventory: str, skip: Skip) -> Iterator[Item]:
    """Yield what an inventory lists, see :func:`.inventories.read_inventory`."""
    for path, size in read_inventory(inventory, skip):
        yield item_at(path) if size is None else Item(path, size, is_archive(path))


def item_at(path: str) -> Item:
    """Return what lies at a path or an address; nothing is asked of object storage."""
    size = None
    if not is_url(path):
        with suppress(OSError, ValueError):  # its record will say why it cannot be read
            size = os.stat(path).st_size  # noqa: PTH116  # millions of names stay as they are
    return Item(path, size, is_archive(path))


def _found(source: str, skip: Skip) -> list[str]:
    """Return the images that a path or a pattern means or, where there are none, the archives."""
    told: set[str] = set()
    archives: list[str] = []

    def by_pattern(path: str, reason: Reason) -> None:
        told.add(path)
        skip(path, reason)

    def by_search(path: str, reason: Reason) -> None:
        if reason is Reason.ARCHIVE:
            archives.append(path)
        elif path not in told:  # a ** passes over the same folders as the search of its matches
            skip(path, reason)

    named = matching(source, by_pattern) if is_pattern(source) else [source]
    folders = [path for path in named if os.path.isdir(path)]  # noqa: PTH112
    images = Search(folders, by_search).images
    found = in_order({*named, *images}.difference(folders))
    if not found:
        return in_order(archives)
    for path in archives:
        skip(path, Reason.ARCHIVE)
    return found


def _listed_objects(source: str, skip: Skip) -> Iterator[Item]:
    """Yield what lies at an address of object storage, as it is listed.

    Raises:
        InputError: it is not there, cannot be read, or holds nothing to judge.
    """
    empty = True
    expands = is_url_pattern(source) and look_at(source) is None
    for url in urls_matching(source) if expands else [source]:
        for item in _objects_at(url, skip):
            empty = False
            yield item
    if empty:
        raise InputError(f"{source} holds no image, no archive and no table.")


def _objects_at(url: str, skip: Skip) -> Iterator[Item]:
    """Yield an object, or the images in a folder; one that holds none stands for its archives."""
    found = look_at(url)
    if found is None:
        raise InputError(f"there is nothing at {url}: check the bucket and the prefix.")
    if isinstance(found, Object):
        yield Item(found.url, found.file.bytes, is_archive(found.url))
        return
    archives: list[str] = []

    def note(path: str, reason: Reason) -> None:
        if reason is Reason.ARCHIVE:
            archives.append(path)
        else:
            skip(path, reason)

    images = False
    for image in images_under(found.url, note):
        images = True
        yield Item(image.path, image.file.bytes if image.file else None, False)
    for archive in archives:
        if images:
            skip(archive, Reason.ARCHIVE)
        else:
            yield from _objects_at(archive, skip)
