"""Addresses of object storage: ``s3://bucket/prefix`` and its like."""

from __future__ import annotations

import os
import re

from ..machine.errors import InputError

SCHEMES = {"s3": "s3fs", "gs": "gcsfs", "memory": None}
"""Those that are read, and the library that does so beside fsspec."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")  # a single letter is a drive of Windows
_ALMOST = re.compile(rf"({'|'.join(SCHEMES)}):/(?!/)", re.I)
_WITHOUT_BUCKETS = ("memory",)


def is_url(text: str) -> bool:
    """Whether a text is an address rather than a path."""
    return _SCHEME.match(text) is not None


def check_slashes(path: str) -> None:
    """Check that a path is not meant for an address that lacks a slash.

    Raises:
        InputError: it is, as nothing bears that name here.
    """
    found = _ALMOST.match(path)
    if found and not os.path.lexists(path):
        scheme = found[1].lower()
        raise InputError(f"{path} lacks a slash: addresses begin with {scheme}://.")


def is_url_pattern(url: str) -> bool:
    """Whether an address is a pattern."""
    return is_url(url) and any(each in url for each in "*?")


def scheme_of(url: str) -> str:
    """Return an address's scheme.

    Raises:
        InputError: it is none that is read.
    """
    scheme = url.partition("://")[0].lower()
    if scheme not in SCHEMES:
        known = " or ".join(f"{each}://" for each, library in SCHEMES.items() if library)
        raise InputError(
            f"{scheme}:// is not read: name a path, or an address that begins with {known}; "
            "download what lies elsewhere first."
        )
    return scheme


def checked(url: str) -> str:
    """Return an address as all of this package takes it, with its scheme in lower case.

    Raises:
        InputError: its scheme is none that is read, or it names no bucket.
    """
    scheme = scheme_of(url)
    rest = url.partition("://")[2]
    if scheme not in _WITHOUT_BUCKETS and not rest.partition("/")[0]:
        raise InputError(f"{url} names no bucket: write {scheme}://bucket/folder.")
    return f"{scheme}://{rest}"


def as_folder(url: str) -> str:
    """Return the address of the folder that is meant by one with or without a slash at its end."""
    return url if url.endswith("/") else f"{url}/"


def checked_object(url: str) -> str:
    """Return an address as :func:`checked` does, of something that can be read or written.

    Raises:
        InputError: it is the address of a folder or a bucket.
    """
    url = checked(url)
    if url.endswith("/") or (url.count("/") == 2 and scheme_of(url) not in _WITHOUT_BUCKETS):
        raise InputError(f"{url} names a folder: name an object in it.")
    return url
