"""What a server allows, and what a request may ask of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, TypeVar

import msgspec

from ..judging.options import AUTO_CROPS, DetectorOptions
from ..machine.errors import InputError
from ..machine.printable import printable

ASKED = ("crops", "seed", "threshold", "provenance", "influence")
"""What a request may ask."""
_Number = TypeVar("_Number", int, float)
_DECIMAL = re.compile(r"[-+.\dEe]+", re.ASCII)  # Python reads 1_000 and other scripts' digits, too
_LONGEST_NAME = 40  # characters of a client's text that an error repeats and compares
_YES_OR_NO = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class ServingOptions:
    """How much a server takes on, and how it ends.

    Attributes:
        max_bytes: the largest body of a request.
        max_queue: the most images that wait or are being judged.
        max_queue_bytes: the most bytes of bodies held at once.
        max_crops: the most crops that a request may ask for.
        timeout: seconds from a request's last byte to its answer.
        drain_delay: seconds from SIGTERM, when readiness fails, until no connection is accepted.
        grace: seconds that what is then in flight has to end.
        page: whether people get a page at ``/``.
    """

    max_bytes: int = 64 << 20
    max_queue: int = 64
    max_queue_bytes: int = 512 << 20
    max_crops: int = 64
    timeout: float = 30.0
    drain_delay: float = 5.0
    grace: int = 30
    page: bool = True

    def __post_init__(self) -> None:
        if self.max_queue_bytes < self.max_bytes:
            raise InputError(
                f"the queue may hold {self.max_queue_bytes >> 20} MiB, and one request as much as "
                f"{self.max_bytes >> 20}: raise --max-queue-bytes, or lower --max-bytes."
            )


def asked_of(
    usual: DetectorOptions, given: Iterable[tuple[str, str]], max_crops: int
) -> DetectorOptions:
    """Return how the images of a request are judged.

    Args:
        usual: how they are judged if it asks for nothing else.
        given: names and values in words: of a URL's query, or of a message's parameters.
        max_crops: the most crops that may be asked for.

    Raises:
        InputError: an option is unknown, given twice, or has a value that it cannot have.
    """
    changes: dict[str, Any] = {}
    for name, value in given:
        if name not in ASKED:
            raise unknown("option", name, ASKED)
        if name in changes:
            raise InputError(f"{name} is given twice: give it once.")
        changes[name] = _value_of(name, value, max_crops)
    if "seed" in changes and usual.fixed_seed is not None:
        raise InputError("this server has one seed for all images: leave the seed out.")
    provenance = changes.pop("provenance", usual.claims.provenance)
    claims = msgspec.structs.replace(usual.claims, provenance=provenance)
    return replace(usual, **changes, claims=claims)


def _value_of(name: str, value: str, max_crops: int) -> Any:
    """Return an option's value; how far numbers reach is for :class:`DetectorOptions` to say."""
    if name in ("provenance", "influence"):
        return _yes_or_no(name, value)
    if name == "threshold":
        return _number(float, name, value, "a number from 0 to 1")
    if name == "seed":
        return _number(int, name, value, "a whole number")
    if value == AUTO_CROPS:
        return value
    crops = _number(int, name, value, f"a whole number or {AUTO_CROPS}")
    if crops > max_crops:
        raise InputError(f"{crops} crops are more than the {max_crops} that this server allows.")
    return crops


def _yes_or_no(name: str, value: str) -> bool:
    answer = _YES_OR_NO.get(value.lower())
    if answer is None:
        raise InputError(f"{name} must be true or false, not {quoted(value)}.")
    return answer


def _number(kind: Callable[[str], _Number], name: str, value: str, what: str) -> _Number:
    with suppress(ValueError):
        if _DECIMAL.fullmatch(value):
            return kind(value)
    raise InputError(f"{name} must be {what}, not {quoted(value)}.")


def quoted(text: str) -> str:
    """Quote a client's text: its beginning, made safe to show."""
    return repr(printable(text[:_LONGEST_NAME]))


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Return what is raised of a client's name for what there is not, with advice."""
    *others, last = known
    close = get_close_matches(name[:_LONGEST_NAME], [*others, last], n=1)
    usable = f"{', '.join(others)} or {last}" if others else last
    advice = f"did you mean {close[0]}?" if close else f"use {usable}."
    return InputError(f"there is no {kind} {quoted(name)}: {advice}")
