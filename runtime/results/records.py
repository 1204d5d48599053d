"""Results: verdicts, errors, and the records that files hold.

A record is one line of results for one image. Field order is stable; docs/records.md
describes each field, and :func:`record_schema` is the JSON Schema.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ..claims.claims import Provenance
from ..finding.files import ImageFile


class Crop(msgspec.Struct, frozen=True):
    """A crop's place in image pixels and its share of the attention (they sum to one).

    ``attention`` is null where the detector has none. ``influence`` is by how much P(fake) would be
    lower without the crop, if that was asked for; below zero the crop speaks for real. It is null
    where the image has no other crop.
    """

    top: int
    left: int
    height: int
    width: int
    attention: float | None
    influence: float | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The judgement of one image.

    ``score`` is P(fake); ``verdict`` a class name; ``views`` how many views the detector looked at,
    by its streams' names. ``crops`` are those that were cut from the image as it is, and ``seed``
    the seed of the generator that placed them, null where nothing was drawn. ``width`` and
    ``height`` are the image's size in pixels. ``settled`` says whether the crops were as many
    as the verdict needs; it is null where their number was fixed. ``path`` is null for images
    given as bytes, arrays or PIL images, unless they came with a name; ``file`` is null for all of
    them. ``provenance`` is what the file says of its origin, null if it was not asked; it has no
    part in the verdict. ``damaged`` says that a part of the image was missing and filled in.
    """

    path: str | None
    status: Literal["ok"] = "ok"
    verdict: str
    score: float
    probabilities: dict[str, float]
    logits: dict[str, float]
    views: dict[str, int]
    crops: tuple[Crop, ...]
    width: int
    height: int
    seed: int | None
    bundle: str
    engine: str
    precision: str
    file: ImageFile | None = None
    provenance: Provenance | None = None
    damaged: bool = False
    settled: bool | None = None

    def _repr_html_(self) -> str:
        from .notebook import verdict_html

        return verdict_html(self)


class ErrorInfo(msgspec.Struct, frozen=True):
    """Why an image has no verdict: the class of the error and one sentence."""

    type: str
    message: str


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """The record of an image that could not be judged; ``file`` is null if there is none."""

    path: str | None
    status: Literal["error"] = "error"
    error: ErrorInfo
    file: ImageFile | None = None

    def _repr_html_(self) -> str:
        from .notebook import failure_html

        return failure_html(self)


Record = Verdict | Failure


class _Status(msgspec.Struct):
    """What tells which kind of record a line is."""

    status: Literal["ok", "error"]


def decode_record(line: bytes) -> Record:
    """Return the record in a line of JSON.

    Raises:
        msgspec.MsgspecError: it is none of this version.
    """
    try:
        status = msgspec.json.decode(line, type=_Status).status
        kind: type[Record] = Verdict if status == "ok" else Failure
        return msgspec.json.decode(line, type=kind)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from None


def record_schema() -> dict[str, Any]:
    """Return the JSON Schema of a record."""
    alternatives, definitions = msgspec.json.schema_components([Verdict, Failure])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "glass-edge record",
        "oneOf": list(alternatives),
        "$defs": definitions,
    }
