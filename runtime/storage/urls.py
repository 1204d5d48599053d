"""Addresses of object storage: ``s3://bucket/prefix`` and its like."""

from __future__ import annotations

from ..machine.errors import InputError

SCHEMES = {"s3": "s3fs", "gs": "gcsfs", "memory": None}
"""Those that are read, and the library that does so beside fsspec."""


def is_url(text: str) -> bool:
    """Whether a text is an address rather than a path."""
    scheme, found, _ = text.partition("://")
    return bool(found) and scheme.isalnum()


def scheme_of(url: str) -> str:
    """Return an address's scheme.

    Raises:
        InputError: it is none that is read.
    """
    scheme = url.partition("://")[0].lower()
    if scheme not in SCHEMES:
        raise InputError(
            f"{scheme}:// is not read: name a path, or an address that begins with "
            f"{', '.join(f'{each}://' for each in SCHEMES)}; download what lies elsewhere first."
        )
    return scheme
