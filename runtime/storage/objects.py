"""What lies in object storage, and the images there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import Any, Protocol

from ..finding.choosing import Reason, Skip, in_silence, reason_to_skip_stored
from ..finding.files import ImageFile
from ..finding.signatures import SIGNATURE_BYTES
from ..finding.stored import StoredImage, check_bytes
from ..machine.errors import InputError, UnreadableError
from .s3_listing import S3Listing
from .store import Object, Store, asking, store_of
from .urls import as_folder, checked

_TIMES = ("LastModified", "mtime", "created")
"""Where filesystems say when an object was last changed."""


@dataclass(frozen=True)
class Prefix:
    """Something that objects lie in.

    Attributes:
        url: its address, with a slash at the end.
    """

    url: str


class Listing(Protocol):
    """How a store is listed. Addresses of folders end with a slash.

    All raise InputError if the bucket is not there, or cannot be read.
    """

    def object_at(self, url: str) -> Object | None:
        """Return the object at an address, if there is one."""
        ...

    def is_folder(self, url: str) -> bool:
        """Whether there is a folder at an address. A bucket is one, even if it is empty."""
        ...

    def below(self, url: str) -> Iterator[Object]:
        """Yield all objects in a folder and its folders, in the order of their keys."""
        ...

    def directly_in(self, url: str) -> Iterator[Object]:
        """Yield the objects in a folder, but not in its folders, in the order of their keys."""
        ...


def look_at(url: str) -> Object | Prefix | None:
    """Return what lies at an address, if anything. An address with a slash at its end is a folder.

    It costs one request or two.

    Raises:
        InputError: the bucket is not there, cannot be read, or a library is missing.
    """
    url, listing = _listing(url)
    found = None if url.endswith("/") else listing.object_at(url)
    if found is not None:
        return found
    folder = as_folder(url)
    return Prefix(folder) if listing.is_folder(folder) else None


def objects_under(url: str) -> Iterator[Object]:
    """Yield all objects in a folder and its folders, in the order of their keys.

    ``s3://bucket/a`` means what lies below ``a/``, not what lies below ``ab/``. Of a listing no
    more is held than one page, or one folder.

    Raises:
        InputError: the bucket is not there, or cannot be listed.
    """
    url, listing = _listing(url)
    return _without_markers(listing.below(as_folder(url)))


def objects_in(url: str) -> Iterator[Object]:
    """Yield the objects in a folder, but not in its folders; see :func:`objects_under`."""
    url, listing = _listing(url)
    return _without_markers(listing.directly_in(as_folder(url)))


def images_under(url: str, skip: Skip = in_silence) -> Iterator[StoredImage]:
    """Yield the images in a folder and its folders, in the order of their keys.

    The first bytes of an object are read only where its suffix says nothing. One whose first bytes
    cannot be read counts as an image: its error record says that it cannot be read.

    Args:
        url: the folder's address.
        skip: is told what is passed over; of a hidden folder only its own address.

    Raises:
        InputError: the bucket is not there, or cannot be listed.
    """
    folder = as_folder(checked(url))
    hidden = None
    for found in objects_under(folder):
        path = found.url.removeprefix(folder)
        if hidden is not None and path.startswith(hidden):
            continue
        reason = _reason_to_skip(path, found)
        if reason is None:
            yield ObjectImage(found.url, found.file)
        elif reason is Reason.HIDDEN_FOLDER:
            hidden = _hidden_folder(path)
            skip(folder + hidden.removesuffix("/"), reason)
        else:
            skip(found.url, reason)


def matching(pattern: str) -> list[str]:
    """Return the addresses that a pattern with ``*`` or ``?`` matches, sorted.

    Those of folders end with a slash.

    Raises:
        InputError: the bucket is a pattern, is not there, or cannot be listed.
    """
    store, pattern = store_of(pattern), checked(pattern)
    bucket = "/".join(pattern.split("/")[:3])
    if any(each in bucket for each in "*?["):
        raise InputError(f"{pattern} names no bucket: a pattern may begin after the bucket.")
    found = asking(pattern, partial(store.files.glob, pattern.rstrip("/"), detail=True))
    if not found:
        look_at(f"{bucket}/")  # because no error reaches us while a pattern is expanded
    return sorted(_address(store, name, info["type"]) for name, info in found.items())


@dataclass(frozen=True)
class ObjectImage(StoredImage):
    """An image that is an object of its own; reading it costs one request."""

    def read(self, max_bytes: int) -> bytes:
        if self.file is not None:
            check_bytes(self.file.bytes, max_bytes)
            if not self.file.bytes:
                return b""
        content = _first_bytes(self.path, max_bytes + 1)
        check_bytes(len(content), max_bytes)
        return content


def _first_bytes(url: str, most: int) -> bytes:
    # With a range, s3fs does not ask for the size first.
    read = partial(store_of(url).files.cat_file, url, start=0, end=most)
    content: bytes = asking(url, read, UnreadableError)
    return content


def _reason_to_skip(path: str, found: Object) -> Reason | None:
    def first_bytes() -> bytes:
        return _first_bytes(found.url, SIGNATURE_BYTES) if found.file.bytes else b""

    try:
        return reason_to_skip_stored(path, first_bytes)
    except UnreadableError:
        return None


def _hidden_folder(path: str) -> str:
    """Return the first part of a path, slash included, that is a hidden folder."""
    ends = [place + 1 for place, letter in enumerate(path) if letter == "/"]
    folders = (path[:end] for end in ends)
    return next(each for each in folders if _is_hidden(each))


def _is_hidden(folder: str) -> bool:
    return reason_to_skip_stored(f"{folder}a.jpg", bytes) is Reason.HIDDEN_FOLDER


def _without_markers(found: Iterator[Object]) -> Iterator[Object]:
    """Leave out the empty objects by which some programs mark folders."""
    return (each for each in found if each.file.bytes or not each.url.endswith("/"))


class _WalkedListing:
    """Lists any store that fsspec knows, folder by folder."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def object_at(self, url: str) -> Object | None:
        info = asking(url, partial(self._info, url))
        return None if info is None or info["type"] == "directory" else self._object(info)

    def is_folder(self, url: str) -> bool:
        info = asking(url, partial(self._info, url))
        return info is not None and info["type"] == "directory"

    def below(self, url: str) -> Iterator[Object]:
        for info in self._entries(url):
            if info["type"] == "directory":
                yield from self.below(_address(self._store, info["name"], "directory"))
            else:
                yield self._object(info)

    def directly_in(self, url: str) -> Iterator[Object]:
        found = self._entries(url)
        return (self._object(info) for info in found if info["type"] != "directory")

    def _info(self, url: str) -> dict[str, Any] | None:
        try:
            info: dict[str, Any] = self._store.files.info(url)
        except FileNotFoundError:
            return None
        return info

    def _entries(self, folder: str) -> list[dict[str, Any]]:
        """Return what lies in a folder, in the order in which all keys below it would be."""

        def listed() -> list[dict[str, Any]]:
            try:
                return list(self._store.files.ls(folder, detail=True))
            except FileNotFoundError:
                return []

        # Some stores list a folder's marker in the folder itself.
        entries = [info for info in asking(folder, listed) if self._url(info) != folder]
        return sorted(entries, key=self._url)

    def _url(self, info: dict[str, Any]) -> str:
        return _address(self._store, info["name"], info["type"])

    def _object(self, info: dict[str, Any]) -> Object:
        moment = next((info[each] for each in _TIMES if info.get(each) is not None), 0)
        if not isinstance(moment, datetime):
            moment = datetime.fromtimestamp(moment, timezone.utc)
        modified = moment.astimezone(timezone.utc).isoformat(timespec="microseconds")
        return Object(self._url(info), ImageFile(info["size"], modified))


_LISTINGS: dict[str, Callable[[Store], Listing]] = {"s3": S3Listing}
"""Those that know more of a store than fsspec tells, by scheme."""


def _listing(url: str) -> tuple[str, Listing]:
    """Return a checked address, and what lists it."""
    store = store_of(url)
    return checked(url), _LISTINGS.get(store.scheme, _WalkedListing)(store)


def _address(store: Store, name: str, kind: str) -> str:
    """Return the address of what a filesystem calls by a name."""
    url = f"{store.scheme}://{name.removeprefix('/')}"
    return as_folder(url) if kind == "directory" else url
