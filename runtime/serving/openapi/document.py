"""The server's description in OpenAPI 3.1: what it is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from ...results.records import Crop, ErrorInfo, Failure, Verdict
from .inference import INFERENCE_SCHEMAS, inference_paths, yes_or_no
from .parts import BINARY, answer, failures, json_answer, reference

_DESCRIPTION = """\
Judges whether images were made by a generator.

Every answer names its request in `X-Request-Id`. What fails says why in one sentence:
`{"error": "…"}`. Only in an error record, which is what 422 answers with, is `error` an object, and
the sentence its `message`. A path that is not listed is answered with 404, a method that is not
listed with 405."""

_JUDGE = """\
Send one image file as the body, or several as parts named `file` of a form. One file is answered
with its record, several with an array of records in their order. An image that cannot be judged has
an error record: alone it is answered with 422, among others it stands in the array."""

_VERDICT = Verdict(
    path=None,
    verdict="fake",
    score=0.93,
    probabilities={"fake": 0.93, "real": 0.07},
    logits={"fake": 1.4, "real": -1.187},
    views={"global": 1, "local": 2},
    crops=(Crop(0, 312, 224, 224, 0.625), Crop(96, 40, 224, 224, 0.375)),
    width=640,
    height=480,
    seed=1_402_873_019,
    bundle="gl_vit.glass@0123456789ab",
    engine="onnxruntime 1.24.0 cpu",
    precision="fp32",
)
_FAILURE = Failure(path=None, error=ErrorInfo("ImageError", "the file is empty."))


@dataclass(frozen=True)
class Bounds:
    """What a server takes at most: bytes in a body, images in one, and crops of each."""

    body_bytes: int
    images: int
    crops: int


def openapi_document(version: str, bounds: Bounds) -> dict[str, Any]:
    """Return the description of a server of this version of glass-edge, with these bounds.

    The schemas of records are those of :func:`..results.records.record_schema`.
    """
    document = {
        "openapi": "3.1.0",
        "info": {"title": "glass-edge", "version": version, "description": _DESCRIPTION},
        "paths": {
            "/v1/judge": {"post": _judge(bounds)},
            **inference_paths(bounds.body_bytes, bounds.images),
            **_operating_paths(),
        },
        "components": {
            "schemas": {**_schemas(), **INFERENCE_SCHEMAS},
            "headers": {
                "RequestId": {
                    "description": "Names the request, in the server's log, too.",
                    "schema": {"type": "string"},
                }
            },
        },
    }
    # As it is served: examples and defaults of records are tuples.
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document))
    return plain


def _schemas() -> dict[str, Any]:
    _, records = msgspec.json.schema_components(
        [Verdict, Failure], ref_template="#/components/schemas/{name}"
    )
    return {
        **records,
        "Record": {"oneOf": [reference("Verdict"), reference("Failure")]},
        "Error": {
            "description": "Why a request failed, in one sentence.",
            "type": "object",
            "properties": {"error": {"type": "string"}},
            "required": ["error"],
        },
    }


def _judge(bounds: Bounds) -> dict[str, Any]:
    return {
        "operationId": "judge",
        "summary": "Judge images",
        "description": _JUDGE,
        "tags": ["images"],
        "parameters": _options(bounds.crops),
        "requestBody": {
            "required": True,
            "description": f"At most {bounds.body_bytes} bytes and {bounds.images} files.",
            "content": {
                "image/*": {"schema": BINARY},
                "application/octet-stream": {"schema": BINARY},
                "multipart/form-data": {"schema": _form(bounds.images)},
            },
        },
        "responses": {
            "200": _judged(),
            **failures(400, 408, 413, 415),
            "422": json_answer(
                "The only image cannot be judged.",
                reference("Failure"),
                failure=msgspec.to_builtins(_FAILURE),
            ),
            **failures(500, 503, 504),
        },
    }


def _judged() -> dict[str, Any]:
    records = {"type": "array", "minItems": 2, "items": reference("Record")}
    one, error = msgspec.to_builtins(_VERDICT), msgspec.to_builtins(_FAILURE)
    several = [{**one, "path": "first.jpg"}, {**error, "path": "second.jpg"}]
    schema = {"oneOf": [reference("Verdict"), records]}
    return json_answer("The record of each image.", schema, one=one, several=several)


def _form(images: int) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "file": {
                "description": "Image files. The name that a part comes with is its record's path.",
                "type": "array",
                "items": BINARY,
                "minItems": 1,
                "maxItems": images,
            }
        },
        "required": ["file"],
    }


def _options(crops: int) -> list[dict[str, Any]]:
    number = {"type": "integer", "minimum": 1, "maximum": crops}
    return [
        _option(
            "crops",
            {"oneOf": [number, {"const": "auto"}]},
            "Crops of each image, or as many as it needs. Default: as the server was started.",
        ),
        _option(
            "seed",
            {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
            "From it and from an image's pixels its crops follow.",
        ),
        _option(
            "threshold",
            {"type": "number", "minimum": 0, "maximum": 1},
            "P(fake) from which an image is called fake.",
        ),
        _option("provenance", {"type": "boolean"}, "Also read what files say of their origin."),
        _option("influence", {"type": "boolean"}, "Also say by how much each crop moves P(fake)."),
    ]


def _option(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _operating_paths() -> dict[str, Any]:
    text = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "/healthz": _operating("healthz", "Is the server alive?", yes_or_no("Liveness")),
        "/readyz": _operating("readyz", "Does the server take images now?", yes_or_no("Readiness")),
        "/metrics": _operating(
            "metrics", "What Prometheus collects", {"200": answer("The measurements.", text)}
        ),
    }


def _operating(name: str, summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {
        "get": {
            "operationId": name,
            "summary": summary,
            "tags": ["operating"],
            "responses": responses,
        }
    }
