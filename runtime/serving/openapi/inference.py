"""The routes of the Open Inference Protocol in OpenAPI 3.1."""

from __future__ import annotations

from typing import Any, Final

from ..open_inference.request import HEADER_LENGTH
from ..open_inference.response import MODEL, VERSION, model_metadata, server_metadata
from .parts import BINARY, answer, failures, json_answer, reference

_INFER = f"""\
The body is the protocol's JSON and behind it, as binary data, the input `IMAGE`: each image file
with its length before it (4 bytes, little-endian). `{HEADER_LENGTH}` gives the length
of the JSON. With `{HEADER_LENGTH}: 0` the body is one image file, as it is.

The request's `parameters` may hold the options of `/v1/judge`. An image that cannot be judged has
the score NaN, null in JSON, and an error record."""

_TEXT: Final = {"type": "string"}
_NAMED_TENSOR: Final = {
    "name": _TEXT,
    "datatype": {"enum": ["BYTES", "FP32"]},
    "shape": {"type": "array", "items": {"type": "integer"}},
}
_TENSORS: Final = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": _NAMED_TENSOR,
        "required": list(_NAMED_TENSOR),
    },
}
INFERENCE_SCHEMAS: Final[dict[str, Any]] = {
    "Liveness": {
        "type": "object",
        "properties": {"live": {"type": "boolean"}},
        "required": ["live"],
    },
    "Readiness": {
        "type": "object",
        "properties": {"name": _TEXT, "ready": {"type": "boolean"}},
        "required": ["name", "ready"],
    },
    "InferResponse": {
        "description": "The outputs SCORE (P(fake)) and RECORD (the record as JSON text).",
        "type": "object",
        "properties": {
            "model_name": _TEXT,
            "model_version": _TEXT,
            "id": _TEXT,
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        **_NAMED_TENSOR,
                        "data": {"type": "array", "items": {"type": ["number", "string", "null"]}},
                    },
                    "required": list(_NAMED_TENSOR),
                },
            },
        },
        "required": ["model_name", "model_version", "outputs"],
    },
    "ModelMetadata": {
        "type": "object",
        "properties": {
            "name": _TEXT,
            "versions": {"type": "array", "items": _TEXT},
            "platform": _TEXT,
            "inputs": _TENSORS,
            "outputs": _TENSORS,
        },
        "required": ["name", "platform", "inputs", "outputs"],
    },
    "ServerMetadata": {
        "type": "object",
        "properties": {
            "name": _TEXT,
            "version": _TEXT,
            "extensions": {"type": "array", "items": _TEXT},
        },
        "required": ["name", "version", "extensions"],
    },
}


def inference_paths(body_bytes: int, images: int) -> dict[str, Any]:
    """Return the routes under ``/v2``, of a server that takes so much at most in one body."""
    version = json_answer(
        "Its name and extensions.", reference("ServerMetadata"), server=server_metadata("0.1.0")
    )
    paths = {
        "/v2": _get("server_metadata", "What is the server?", {"200": version}),
        "/v2/health/live": _probe("server_live", "Is the server alive?", "Liveness"),
        "/v2/health/ready": _probe("server_ready", "Does the server take images now?", "Readiness"),
    }
    for path, suffix in (("", ""), (f"/versions/{VERSION}", "_version")):
        model = f"/v2/models/{MODEL}{path}"
        described = json_answer("Its tensors.", reference("ModelMetadata"), model=model_metadata())
        paths[model] = _get(f"model_metadata{suffix}", "What is the model?", {"200": described})
        paths[f"{model}/ready"] = _probe(
            f"model_ready{suffix}", "Does the model take images now?", "Readiness"
        )
        paths[f"{model}/infer"] = {"post": _infer(f"model_infer{suffix}", body_bytes, images)}
    return paths


def _get(name: str, summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {
        "get": {
            "operationId": name,
            "summary": summary,
            "tags": ["Open Inference Protocol"],
            "responses": responses,
        }
    }


def _probe(name: str, summary: str, schema: str) -> dict[str, Any]:
    return _get(name, summary, yes_or_no(schema))


def yes_or_no(schema: str) -> dict[str, Any]:
    """Return the responses to a question of load balancers; most look at the status alone."""
    return {
        "200": json_answer("Yes.", reference(schema)),
        "503": json_answer("No.", reference(schema)),
    }


def _infer(name: str, body_bytes: int, images: int) -> dict[str, Any]:
    length = {"type": "integer", "minimum": 0}
    header = {"description": "The length of the JSON in bytes.", "schema": length}
    return {
        "operationId": name,
        "summary": "Judge images, as Triton's clients ask",
        "description": _INFER,
        "tags": ["Open Inference Protocol"],
        "parameters": [{"name": HEADER_LENGTH, "in": "header", "required": True, **header}],
        "requestBody": {
            "required": True,
            "description": f"At most {body_bytes} bytes and {images} images.",
            "content": {"application/octet-stream": {"schema": BINARY}},
        },
        "responses": {
            "200": answer(
                "The outputs; those that are binary data stand behind the JSON.",
                {
                    "application/json": {"schema": reference("InferResponse")},
                    "application/octet-stream": {"schema": BINARY},
                },
                {HEADER_LENGTH: header},
            ),
            **failures(400, 408, 413, 415, 500, 503, 504),
        },
    }
