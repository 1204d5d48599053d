"""Content credentials (C2PA), read by c2pa-python, which never asks the network here.

What a manifest says is true only as far as one believes who signed it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import msgspec

from ..finding.signatures import SIGNATURE_BYTES, file_format
from .claims import Credentials, State
from .marks import may_hold_credentials
from .texts import shortened

MOST_ACTIONS = MOST_CODES = 16
_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WebP": "image/webp",
    "TIFF": "image/tiff",
    "GIF": "image/gif",
    "AVIF": "image/avif",
    "HEIC": "image/heic",
}
_UNSUPPORTED = ("JPEG 2000",)  # could hold a manifest, which c2pa-python does not read
_STATES: dict[object, State] = {"Trusted": "trusted", "Valid": "valid", "Invalid": "invalid"}
_REMOTE = ("Remote:", "RemoteManifest:")  # how the library's errors about remote manifests begin
_INSTALL = "c2pa-python is not installed: pip install 'glass-edge[provenance]'"
# Without these, opening an image would call an address that the image names. That would tell its
# sender who looks at it, and let strangers reach servers inside the network.
_OFFLINE = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    "core": {"allowed_network_hosts": [], "decode_identity_assertions": False},
}
_UNTRUSTED = "signingCredential.untrusted"
_NO_CREDENTIALS = Credentials("none")


def read_credentials(content: bytes, trust_list: str = "") -> Credentials:
    """Return what a file's active manifest says; never raises.

    Args:
        content: the file.
        trust_list: certificates (PEM) that signers must lead to, so that they are trusted.
    """
    found = file_format(content[:SIGNATURE_BYTES])
    name = found.name if found else ""
    try:
        if name not in (*_TYPES, *_UNSUPPORTED) or not may_hold_credentials(content, name):
            return _NO_CREDENTIALS
        if name in _UNSUPPORTED:
            return _unread(f"c2pa-python does not read {name}")
        return _read(content, _TYPES[name], trust_list)
    except ModuleNotFoundError as error:
        return _unread(_INSTALL if error.name == "c2pa" else f"c2pa-python: {error}")
    except Exception as error:  # the library's own, and what ctypes or JSON make of damage
        return _unread(str(error) or type(error).__name__)


def _read(content: bytes, media_type: str, trust_list: str) -> Credentials:
    import c2pa

    try:
        context = _context(trust_list, os.getpid())
        reader = c2pa.Reader.try_create(media_type, io.BytesIO(content), context=context)
    except c2pa.C2paError as error:
        if str(error).startswith(_REMOTE):
            return Credentials("remote", codes=(shortened(str(error)),))
        raise
    if reader is None:
        return _NO_CREDENTIALS
    with reader:
        store = msgspec.json.decode(reader.json())
    return _credentials(_mapping(store), trusting=bool(trust_list))


@lru_cache(maxsize=4)
def _context(trust_list: str, process: int) -> Any:
    """Return settings that all threads of a process share; a fork's child may not use them."""
    import c2pa

    trust = {"trust": {"trust_anchors": trust_list}} if trust_list else {}
    return c2pa.Context.from_dict({"version": 1, **_OFFLINE, **trust})


def _credentials(store: dict[str, Any], *, trusting: bool) -> Credentials:
    manifest = _mapping(_mapping(store.get("manifests")).get(str(store.get("active_manifest"))))
    actions = list(_actions(manifest))
    names = (_text(each.get("action")) for each in actions)
    codes = tuple(_distinct(_codes(_mapping(store.get("validation_results"))), MOST_CODES))
    state = _STATES.get(store.get("validation_state"))
    return Credentials(
        state=("valid" if state == "trusted" and not trusting else state) or "unread",
        issuer=_text(_mapping(manifest.get("signature_info")).get("issuer")),
        generator=_generator(manifest),
        source_type=_source_type(actions),
        actions=tuple(_distinct(names, MOST_ACTIONS)),
        codes=codes,
    )


def _generator(manifest: dict[str, Any]) -> str | None:
    """Return the program's name and version; claims before version 2 have one text for both."""
    for info in map(_mapping, _list(manifest.get("claim_generator_info"))):
        parts = (_text(info.get("name")), _text(info.get("version")))
        if parts[0]:
            return shortened(" ".join(filter(None, parts)))
    return _text(manifest.get("claim_generator"))


def _actions(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for assertion in map(_mapping, _list(manifest.get("assertions"))):
        if str(assertion.get("label")).startswith("c2pa.actions"):
            yield from map(_mapping, _list(_mapping(assertion.get("data")).get("actions")))


def _source_type(actions: Iterable[dict[str, Any]]) -> str | None:
    """Return how the picture came about or, if that is left out, what it was changed with."""
    begun = ("c2pa.created", "c2pa.opened")
    for action in sorted(actions, key=lambda action: action.get("action") not in begun):
        address = action.get("digitalSourceType")
        if isinstance(address, str) and address:
            return _text(address.rstrip("/").rpartition("/")[2])
    return None


def _codes(results: dict[str, Any]) -> Iterator[str | None]:
    """Yield the codes of what failed, of the ingredients' failures, and of the rest."""
    active = _mapping(results.get("activeManifest"))
    deltas = map(_mapping, _list(results.get("ingredientDeltas")))
    ingredients = [_mapping(delta.get("validationDeltas")) for delta in deltas]
    # That nobody vouches for the signer is a failure that makes no claim invalid.
    yield from sorted(_codes_of(active, "failure"), key=lambda code: code == _UNTRUSTED)
    for part in ingredients:
        yield from _codes_of(part, "failure")
    for kind in ("informational", "success"):
        yield from _codes_of(active, kind)


def _codes_of(results: dict[str, Any], kind: str) -> Iterator[str | None]:
    return (_text(_mapping(each).get("code")) for each in _list(results.get(kind)))


def _distinct(values: Iterable[str | None], most: int) -> list[str]:
    return list(dict.fromkeys(value for value in values if value))[:most]


def _unread(reason: str) -> Credentials:
    return Credentials("unread", codes=(shortened(" ".join(reason.split())),))


# A manifest is JSON by a stranger: any value may be of any type.
def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str | None:
    return shortened(value) or None if isinstance(value, str) else None
