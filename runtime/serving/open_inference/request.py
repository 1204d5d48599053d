"""Requests of the Open Inference Protocol (KServe's V2, Triton's), as far as images need it.

The model has one input, ``IMAGE``: BYTES, shape ``[images]``, each element an image file. Images
come as the binary tensor data extension has them: a JSON header, whose length the HTTP header
``Inference-Header-Content-Length`` gives, and behind it each element with its length before it
(4 bytes, little-endian). With a header length of 0 the body is one image, as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from ...machine.errors import InputError
from ...machine.printable import printable
from ..options import quoted, unknown
from .parameters import (
    BINARY_OUTPUT,
    OPTIONS,
    Int64,
    Scalar,
    checked_parameters,
)
from .tensors import DATATYPES, IMAGE, OUTPUTS, split_elements

HEADER_LENGTH: Final = "Inference-Header-Content-Length"

_LARGEST_HEADER = 1 << 20  # bytes of JSON, which become objects of many times that size
_MOST_DIGITS = 18
_LONGEST_REASON = 200


class _InputParameters(msgspec.Struct, frozen=True):
    binary_data_size: Int64 | None = None
    shared_memory_region: str | None = None


class _Input(msgspec.Struct, frozen=True):
    name: str
    datatype: str
    shape: list[Int64]
    parameters: _InputParameters = _InputParameters()
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _OutputParameters(msgspec.Struct, frozen=True):
    binary_data: bool | None = None
    classification: int = 0
    shared_memory_region: str | None = None


class _Output(msgspec.Struct, frozen=True):
    name: str
    parameters: _OutputParameters = _OutputParameters()


class _Header(msgspec.Struct, frozen=True):
    inputs: list[_Input]
    outputs: list[_Output] = []
    id: str | None = None
    parameters: dict[str, Scalar] = {}


@dataclass(frozen=True)
class WantedOutput:
    """One output that the answer shall hold: ``SCORE`` or ``RECORD``, as bytes or as JSON."""

    name: str
    binary: bool


@dataclass(frozen=True)
class InferRequest:
    """What a client asks for.

    Attributes:
        images: each image file's bytes, at least one; an element may be empty.
        options: how to judge them. Of ``crops``, ``seed``, ``threshold``, ``provenance`` and
            ``influence`` those that were given, each of its right type, not checked for bounds.
        outputs: in the order of the answer.
        id: the client's name for the request, which the answer repeats.
    """

    images: tuple[bytes, ...]
    options: Mapping[str, Scalar]
    outputs: tuple[WantedOutput, ...]
    id: str | None = None


def parse_infer(body: bytes, header_length: str | None, *, most_images: int) -> InferRequest:
    """Read a request.

    Args:
        body: all of it.
        header_length: the HTTP header :data:`HEADER_LENGTH`; ``None`` if there is none.
        most_images: more in one request are refused before any is copied.

    Raises:
        InputError: the request breaks the protocol, or asks for what this server does not have.
    """
    size = _header_size(header_length, len(body))
    if size == 0:
        return InferRequest((body,), {}, _wanted([], binary=True))
    if size > _LARGEST_HEADER:
        raise InputError(
            f"the request's JSON takes {size} bytes, and {_LARGEST_HEADER} are the most: send "
            "images as binary data behind it."
        )
    header = _decoded(body[:size])
    parameters = checked_parameters(header.parameters)
    binary = bool(parameters.get(BINARY_OUTPUT))
    return InferRequest(
        images=_images(_only_input(header.inputs), body, size, most_images),
        options={name: value for name, value in parameters.items() if name in OPTIONS},
        outputs=_wanted(header.outputs, binary=binary),
        id=header.id,
    )


def _header_size(text: str | None, body: int) -> int:
    """Return how many bytes of the body are JSON; without the HTTP header, all."""
    if text is None:
        if not body:
            raise InputError("the body is empty: send the request's JSON, and images behind it.")
        return body
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise InputError(f"{HEADER_LENGTH} must be a number of bytes, not {quoted(text)}.")
    if int(text) > body:
        raise InputError(f"{HEADER_LENGTH} is {int(text)}, and the body has only {body} bytes.")
    return int(text)


def _decoded(text: bytes) -> _Header:
    try:
        return msgspec.json.decode(text, type=_Header)
    # Beyond its own errors msgspec lets through those of UTF-8 and of too many digits.
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        reason = printable(str(error))[:_LONGEST_REASON]
        raise InputError(f"the request's JSON is not the protocol's: {reason}.") from None


def _only_input(inputs: list[_Input]) -> _Input:
    if len(inputs) != 1:
        raise InputError(f"the model has one input, {IMAGE}, and the request {len(inputs)}.")
    (only,) = inputs
    if only.name != IMAGE:
        raise unknown("input", only.name, (IMAGE,))
    if only.datatype != DATATYPES[IMAGE]:
        raise InputError(f"{IMAGE} is {DATATYPES[IMAGE]}, not {quoted(only.datatype)}.")
    return only


def _images(tensor: _Input, body: bytes, start: int, most: int) -> tuple[bytes, ...]:
    """Return the elements of the input, which fill the body from ``start`` on."""
    count = _count(tensor.shape, most)
    _check_binary(tensor, len(body) - start)
    return split_elements(body, start, count)


def _count(shape: list[int], most: int) -> int:
    if len(shape) != 1:
        raise InputError(f"{IMAGE}'s shape is [images], one number and not {len(shape)}.")
    (count,) = shape
    if not 1 <= count <= most:
        raise InputError(f"a request holds from 1 to {most} images, and its shape says {count}.")
    return count


def _check_binary(tensor: _Input, size: int) -> None:
    """See that all the bytes behind the header are said to be the input's data."""
    said = tensor.parameters.binary_data_size
    if tensor.parameters.shared_memory_region is not None:
        raise InputError("shared memory is not supported: send images as binary data.")
    if tensor.data is not msgspec.UNSET or said is None:
        raise InputError(
            f"{IMAGE} needs binary data, as JSON text cannot hold an image file: put the images "
            "behind the JSON, their size in binary_data_size, and the JSON's own in "
            f"{HEADER_LENGTH}."
        )
    if said != size:
        raise InputError(
            f"binary_data_size is {said}, and {size} bytes follow the JSON"
            f"{'.' if size else f': is {HEADER_LENGTH} missing?'}"
        )


def _wanted(asked: list[_Output], *, binary: bool) -> tuple[WantedOutput, ...]:
    """Return the outputs that were asked for; all, if none was."""
    if not asked:
        return tuple(WantedOutput(name, binary) for name in OUTPUTS)
    wanted: dict[str, WantedOutput] = {}
    for each in asked:
        _check_output(each)
        if each.name in wanted:
            raise InputError(f"the output {each.name} is asked for twice.")
        own = each.parameters.binary_data
        wanted[each.name] = WantedOutput(each.name, binary if own is None else own)
    return tuple(wanted.values())


def _check_output(output: _Output) -> None:
    if output.name not in OUTPUTS:
        raise unknown("output", output.name, OUTPUTS)
    if output.parameters.classification:
        raise InputError(f"classification of {output.name} is not supported: leave it out.")
    if output.parameters.shared_memory_region is not None:
        raise InputError(f"{output.name} cannot go to shared memory: leave that out.")
