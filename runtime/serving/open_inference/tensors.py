"""The model's tensors in the Open Inference Protocol, and BYTES among other bytes.

An element of a BYTES tensor is its length in 4 bytes, little-endian, and what it holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ...machine.errors import InputError

IMAGE: Final = "IMAGE"
SCORE: Final = "SCORE"
RECORD: Final = "RECORD"
OUTPUTS: Final = (SCORE, RECORD)
DATATYPES: Final = {IMAGE: "BYTES", SCORE: "FP32", RECORD: "BYTES"}
_LENGTH_BYTES = 4


def split_elements(body: bytes, start: int, count: int) -> tuple[bytes, ...]:
    """Return the elements of :data:`IMAGE`, which fill the body from ``start`` on.

    Raises:
        InputError: they end earlier, or are longer than the body.
    """
    elements, end = [], start
    for index in range(count):
        begin = end + _LENGTH_BYTES
        end = begin + int.from_bytes(body[end:begin], "little")
        if end > len(body):
            raise InputError(f"{IMAGE}'s data end inside element {index} of {count}.")
        elements.append(body[begin:end])
    if end != len(body):
        raise InputError(f"{len(body) - end} bytes are left behind the {count} images.")
    return tuple(elements)


def join_elements(elements: Iterable[bytes]) -> bytes:
    """Return a BYTES tensor."""
    return b"".join(len(each).to_bytes(_LENGTH_BYTES, "little") + each for each in elements)
