"""What an ONNX file may hold, checked before any engine reads it.

An ONNX file can ask an engine for more than a bundle promises: weights in any file or, for one
engine, at any memory address; operators that anybody wrote; loops that never end. So the file is
walked in protobuf's wire format (https://protobuf.dev/programming-guides/encoding),
down to each node and tensor, and whatever glass-export never writes is refused.
"""

from __future__ import annotations

import mmap
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

from ..machine.errors import BundleError

DOMAINS: Final = frozenset({"", "ai.onnx"})  # of the operators that the ONNX standard defines
_MOST_FIELDS = 1_000_000  # a ViT-B/16 has about 4,500
_EXTERNAL_KEYS = frozenset({"location", "offset", "length"})

# From field numbers to parts, as in onnx.proto; other fields cannot hold any of this.
_PARTS: Mapping[str, Mapping[int, str]] = {
    "model": {
        **dict.fromkeys((2, 3, 4, 6), "text"),
        7: "graph",
        20: "training steps",
        25: "functions of its own",
    },
    "graph": {
        **dict.fromkeys((2, 10), "text"),
        1: "node",
        5: "tensor",
        **dict.fromkeys((11, 12, 13), "value"),
        15: "sparse tensor",
    },
    "node": {**dict.fromkeys((1, 2, 3, 4, 6, 8), "text"), 5: "attribute", 7: "domain"},
    "attribute": {
        **dict.fromkeys((1, 13, 21), "text"),
        5: "tensor",
        6: "loops or branches",
        10: "tensor",
        11: "loops or branches",
        22: "sparse tensor",
        23: "sparse tensor",
    },
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {**dict.fromkeys((8, 12), "text"), 13: "external data"},
    "value": {**dict.fromkeys((1, 3), "text"), 2: "type"},
    "type": {1: "tensor type", 6: "text"},
    "tensor type": {2: "shape"},
    "shape": {1: "dimension"},
    "dimension": {**dict.fromkeys((2, 3), "text")},
}
_REFUSED = frozenset({"training steps", "functions of its own", "loops or branches"})
_LARGEST_NUMBER = (1 << 29) - 1  # of a field
_VARINT, _LENGTH = 0, 2  # wire types
_FIXED = {1: 8, 5: 4}  # wire types and their bytes
_KEY, _VALUE = 1, 2  # fields of an entry of a tensor's external data


class _DamagedError(Exception):
    """The bytes are no protobuf message."""


def check_graph(path: Path, weights: Collection[str]) -> None:
    """Refuse a graph that holds more than standard operators on the bundle's own weights.

    Args:
        path: an ONNX file.
        weights: names of the files beside it that may hold its weights.

    Raises:
        BundleError: it is damaged, or refers to another file, to an operator that ONNX does not
            define, or holds loops, branches, functions or training steps.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                view = memoryview(content)
                try:
                    _Walk(path.name, frozenset(weights)).walk("model", view)
                finally:
                    view.release()
        except (_DamagedError, ValueError) as error:  # an empty file cannot be mapped
            raise BundleError(
                f"{path.name} is no ONNX graph ({error}); export the bundle again."
            ) from None


class _Walk:
    """Visits every part of one file once."""

    def __init__(self, name: str, weights: frozenset[str]) -> None:
        self._name = name
        self._weights = weights
        self._left = _MOST_FIELDS

    def walk(self, part: str, message: memoryview) -> None:
        inner = _PARTS[part]
        for number, content in self._fields(message):
            kind = inner.get(number)
            if kind in _REFUSED:
                raise BundleError(f"{self._name} holds {kind}, which no GLASS has.")
            if kind == "text":
                _text(content)
            elif kind == "domain":
                self._check_domain(_text(content))
            elif kind == "external data":
                self._check_external(content)
            elif kind is not None:
                self.walk(kind, content)

    def _check_domain(self, domain: str) -> None:
        if domain not in DOMAINS:
            raise BundleError(
                f"{self._name} has an operator of {domain!r}: only those that the ONNX standard "
                "defines are run."
            )

    def _check_external(self, entry: memoryview) -> None:
        texts: dict[int, set[str]] = {_KEY: set(), _VALUE: set()}
        for number, content in self._fields(entry):
            texts.setdefault(number, set()).add(_text(content))
        if not texts[_KEY] <= _EXTERNAL_KEYS:
            raise BundleError(
                f"{self._name} describes its weights by {', '.join(map(repr, sorted(texts[_KEY])))}"
                f": only {', '.join(sorted(_EXTERNAL_KEYS))} are known."
            )
        if "location" in texts[_KEY] and not texts[_VALUE] <= self._weights:
            places = ", ".join(map(repr, sorted(texts[_VALUE])))
            raise BundleError(
                f"{self._name} keeps weights in {places}, which the manifest does not list: "
                "export the bundle again."
            )

    def _fields(self, message: memoryview) -> Iterator[tuple[int, memoryview]]:
        """Yield number and content of each field that has a length; pass over numbers."""
        position, end = 0, len(message)
        while position < end:
            self._left -= 1
            if self._left < 0:
                raise _DamagedError(f"it has more than {_MOST_FIELDS} fields")
            number, kind, position = _tag(message, position)
            if kind == _VARINT:
                _, position = _varint(message, position)
            elif kind in _FIXED:
                position += _FIXED[kind]
            elif kind == _LENGTH:
                size, start = _shortest(message, position)
                position = start + size
                if position <= end:
                    with message[start:position] as content:
                        yield number, content
            else:
                raise _DamagedError("it has a field of no known type")
        if position != end:
            raise _DamagedError("it ends within a field")


def _tag(message: memoryview, position: int) -> tuple[int, int, int]:
    """Return a field's number, its wire type and the position after them.

    Engines ignore bits above the 32nd, so they could read a larger number as that of a graph.
    """
    tag, position = _shortest(message, position)
    if not 0 < tag >> 3 <= _LARGEST_NUMBER:
        raise _DamagedError("it has a field of no possible number")
    return tag >> 3, tag & 7, position


def _shortest(message: memoryview, position: int) -> tuple[int, int]:
    """Return a number and the position after it; padded ones are refused, as some engines do."""
    value, end = _varint(message, position)
    if end - position > 1 and message[end - 1] == 0:
        raise _DamagedError("it has a number written longer than it need be")
    return value, end


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return a number of at most 64 bits and the position after it."""
    value = 0
    for index, byte in enumerate(message[position : position + 10]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise _DamagedError("it ends within a number")


def _text(content: memoryview) -> str:
    try:
        return bytes(content).decode()
    except UnicodeDecodeError:
        raise _DamagedError("it has a name that is not UTF-8") from None
