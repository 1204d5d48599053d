"""Answers of the Open Inference Protocol: scores and records, and what the model is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from ...results.records import Record, Verdict
from .request import HEADER_LENGTH, InferRequest
from .tensors import DATATYPES, IMAGE, OUTPUTS, RECORD, SCORE, join_elements

MODEL: Final = "glass"
VERSION: Final = "1"
PLATFORM: Final = "glass-edge"
EXTENSIONS: Final = ("binary_tensor_data", "parameters")
"""Of the protocol, by Triton's names."""


def infer_response(
    request: InferRequest, records: Sequence[Record]
) -> tuple[bytes, dict[str, str]]:
    """Return the answer's body and HTTP headers.

    ``SCORE`` is P(fake) of each image, FP32 ``[images]``; of an image that could not be judged it
    is NaN, and null in JSON. ``RECORD`` is each image's record as JSON text, BYTES ``[images]``.

    Args:
        request: says which outputs are wanted, and in which form.
        records: one for each image, in order.
    """
    tensors, outputs = [], []
    for wanted in request.outputs:
        output: dict[str, Any] = {
            "name": wanted.name,
            "datatype": DATATYPES[wanted.name],
            "shape": [len(records)],
        }
        if wanted.binary:
            tensors.append(_AS_BYTES[wanted.name](records))
            output["parameters"] = {"binary_data_size": len(tensors[-1])}
        else:
            output["data"] = _AS_JSON[wanted.name](records)
        outputs.append(output)
    named = {} if request.id is None else {"id": request.id}
    header = msgspec.json.encode(
        {"model_name": MODEL, "model_version": VERSION, **named, "outputs": outputs}
    )
    if not tensors:
        return header, {"Content-Type": "application/json"}
    return b"".join([header, *tensors]), {
        "Content-Type": "application/octet-stream",
        HEADER_LENGTH: str(len(header)),
    }


def server_metadata(version: str) -> dict[str, Any]:
    """Describe the server, of this version of glass-edge: ``GET /v2``."""
    return {"name": PLATFORM, "version": version, "extensions": list(EXTENSIONS)}


def model_metadata() -> dict[str, Any]:
    """Describe the model, whose bundle may be any: ``GET /v2/models/glass``."""
    return {
        "name": MODEL,
        "versions": [VERSION],
        "platform": PLATFORM,
        "inputs": [_tensor_metadata(IMAGE)],
        "outputs": [_tensor_metadata(name) for name in OUTPUTS],
    }


def _tensor_metadata(name: str) -> dict[str, Any]:
    return {"name": name, "datatype": DATATYPES[name], "shape": [-1]}


def _scores(records: Sequence[Record]) -> list[float | None]:
    return [record.score if isinstance(record, Verdict) else None for record in records]


def _texts(records: Sequence[Record]) -> list[str]:
    return [msgspec.json.encode(record).decode() for record in records]


def _score_bytes(records: Sequence[Record]) -> bytes:
    scores = [math.nan if score is None else score for score in _scores(records)]
    return np.array(scores, "<f4").tobytes()


def _record_bytes(records: Sequence[Record]) -> bytes:
    return join_elements(map(msgspec.json.encode, records))


_AS_BYTES: dict[str, Callable[[Sequence[Record]], bytes]] = {
    SCORE: _score_bytes,
    RECORD: _record_bytes,
}
_AS_JSON: dict[str, Callable[[Sequence[Record]], list[Any]]] = {SCORE: _scores, RECORD: _texts}
