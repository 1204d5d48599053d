"""What a file can say of itself, and which of it is asked for."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Literal, TypeAlias

import msgspec

State: TypeAlias = Literal["trusted", "valid", "invalid", "remote", "none", "unread"]
"""What is known of a file's content credentials (C2PA).

``trusted``: the signature is right, and its certificate leads to one on the trust list. ``valid``:
the signature is right; who signed may be anybody. ``invalid``: the file or the signature was
changed, or breaks a rule of the specification, or its certificate has expired. ``remote``: they lie
at an address that the file names, which is never asked. ``none``: there are none. ``unread``: they
could not be read, for the reason in ``codes``.
"""
LONGEST_VALUE = 200
"""Characters; what a file says is cut there."""


class Declared(msgspec.Struct, frozen=True):
    """An unsigned statement: where in the file it stands, and what it says."""

    where: str
    value: str


class Credentials(msgspec.Struct, frozen=True):
    """Content credentials: what the active manifest of a C2PA store says.

    ``issuer`` is the organisation in the signer's certificate, ``generator`` the program that made
    the claim, ``source_type`` the last part of its IPTC digital source type, ``actions`` what was
    done to the image, ``codes`` why the state is what it is, as the specification names it.
    """

    state: State
    issuer: str | None = None
    generator: str | None = None
    source_type: str | None = None
    actions: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()


class Provenance(msgspec.Struct, frozen=True):
    """What a file says of its origin. Claims: they never change a verdict.

    ``trust_list`` is the SHA-256 of the list of certificates that were trusted, if one was given.
    """

    declared: tuple[Declared, ...]
    c2pa: Credentials
    trust_list: str | None = None


class ClaimOptions(msgspec.Struct, frozen=True):
    """Which claims are read.

    ``orientation`` asks which way is up; ``provenance`` where the image says to come from;
    ``trust_list`` holds certificates (PEM) to trust, a character for each byte of their file; empty
    for none.
    """

    orientation: bool = False
    provenance: bool = False
    trust_list: str = ""

    @property
    def any(self) -> bool:
        """Whether a file is asked anything."""
        return self.orientation or self.provenance

    @property
    def trust_digest(self) -> str | None:
        """SHA-256 of the trust list's text; ``None`` without one."""
        return _digest(self.trust_list) if self.trust_list else None


class Claims(msgspec.Struct, frozen=True):
    """What a file said: its EXIF orientation, 1 to 8 (1 if it has none), and its provenance."""

    orientation: int = 1
    provenance: Provenance | None = None


@lru_cache(1)
def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("latin-1")).hexdigest()
