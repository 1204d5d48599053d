"""The server's OpenAPI description: valid, and equal to what it describes."""

from __future__ import annotations

import json

import jsonschema_rs
import msgspec
import pytest
from conftest import ROOT
from glass_edge.runtime.serving.open_inference.request import InferRequest, WantedOutput
from glass_edge.runtime.serving.open_inference.response import (
    infer_response,
    model_metadata,
    server_metadata,
)
from glass_edge.runtime.serving.openapi.document import Bounds, openapi_document
from jsonschema import Draft202012Validator
from test_records import FAILURE, VERDICT

openapi = pytest.importorskip("schemathesis.openapi")

DOCUMENT = openapi_document("1.2.3", Bounds(body_bytes=1000, images=5, crops=7))
OPERATIONS = [
    (path, method, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]
JUDGE = DOCUMENT["paths"]["/v1/judge"]["post"]


def validator(schema):
    """Return what checks values of a schema, or of one of the document's by its name."""
    if isinstance(schema, str):
        schema = {"$ref": f"#/components/schemas/{schema}"}
    return Draft202012Validator(schema | {"components": DOCUMENT["components"]})


def as_json(value) -> object:
    return json.loads(msgspec.json.encode(value))


def references(value):
    if isinstance(value, dict):
        yield from (text for key, text in value.items() if key == "$ref")
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def test_it_is_valid_openapi():
    from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

    OPENAPI_31_VALIDATOR.validate(DOCUMENT)
    with pytest.raises(jsonschema_rs.ValidationError):
        OPENAPI_31_VALIDATOR.validate(DOCUMENT | {"info": {"title": "no version"}})


def test_it_is_json():
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT


def test_programs_find_every_operation():
    found = [each.ok() for each in openapi.from_dict(DOCUMENT).get_all_operations()]
    assert {(each.path, each.method) for each in found} == {
        (path, method) for path, method, _ in OPERATIONS
    }


def test_routes():
    model = "/v2/models/glass"
    assert {f"{method} {path}" for path, method, _ in OPERATIONS} == {
        "post /v1/judge", "get /healthz", "get /readyz", "get /metrics",
        "get /v2", "get /v2/health/live", "get /v2/health/ready",
        f"get {model}", f"get {model}/ready", f"post {model}/infer",
        f"get {model}/versions/1", f"get {model}/versions/1/ready",
        f"post {model}/versions/1/infer",
    }  # fmt: skip
    names = [operation["operationId"] for *_, operation in OPERATIONS]
    assert len(set(names)) == len(names)


def test_every_reference_is_there():
    for each in references(DOCUMENT):
        value = DOCUMENT
        for part in each.removeprefix("#/").split("/"):
            value = value[part]


def test_schemas_of_records_are_those_of_the_documentation():
    text = (ROOT / "docs" / "record.schema.json").read_text()
    documented = json.loads(text.replace("#/$defs/", "#/components/schemas/"))
    schemas = DOCUMENT["components"]["schemas"]
    assert {name: schemas[name] for name in documented["$defs"]} == documented["$defs"]
    assert schemas["Record"]["oneOf"] == documented["oneOf"]


def test_records_keep_the_schemas():
    validator("Verdict").validate(as_json(VERDICT))
    validator("Failure").validate(as_json(FAILURE))
    several = [as_json(VERDICT), as_json(FAILURE)]
    answer = validator(JUDGE["responses"]["200"]["content"]["application/json"]["schema"])
    answer.validate(several)
    answer.validate(several[0])
    assert not answer.is_valid(several[1])  # which is answered with 422
    assert not answer.is_valid(several[:1])  # one image is answered with its record


@pytest.mark.parametrize("binary", [True, False])
def test_messages_of_the_open_inference_protocol_keep_theirs(binary):
    wanted = tuple(WantedOutput(name, binary) for name in ("SCORE", "RECORD"))
    request = InferRequest((b"", b""), {}, wanted, "name")
    body, headers = infer_response(request, [VERDICT, FAILURE])
    length = int(headers.get("Inference-Header-Content-Length", len(body)))
    validator("InferResponse").validate(json.loads(body[:length]))
    validator("ModelMetadata").validate(model_metadata())
    validator("ServerMetadata").validate(server_metadata("1.2.3"))


def examples():
    for path, method, operation in OPERATIONS:
        for status, response in operation["responses"].items():
            for content in response.get("content", {}).values():
                for name, example in content.get("examples", {}).items():
                    label = f"{method} {path} {status} {name}"
                    yield pytest.param(content["schema"], example["value"], id=label)


@pytest.mark.parametrize(("schema", "value"), [*examples()])
def test_examples_keep_their_schemas(schema, value):
    validator(schema).validate(value)


def test_bounds_are_the_servers():
    schemas = {each["name"]: each["schema"] for each in JUDGE["parameters"]}
    assert list(schemas) == ["crops", "seed", "threshold", "provenance", "influence"]
    crops = validator(schemas["crops"])
    assert [crops.is_valid(value) for value in (0, 1, 7, 8, "auto", "many")] == [
        False, True, True, False, True, False,
    ]  # fmt: skip
    assert validator(schemas["threshold"]).is_valid(1)
    assert not validator(schemas["threshold"]).is_valid(1.01)
    assert validator(schemas["seed"]).is_valid(-(2**63))
    form = JUDGE["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["properties"]["file"]["maxItems"] == 5
    for path, method, operation in OPERATIONS:
        if method == "post":
            assert "1000 bytes and 5 " in operation["requestBody"]["description"], path


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_every_answer_names_its_request_and_every_failure_says_why(path, method, operation):
    probes = path.endswith(("/ready", "/live", "/readyz", "/healthz"))
    for status, response in operation["responses"].items():
        assert "X-Request-Id" in response["headers"]
        assert ("Retry-After" in response["headers"]) == (status == "503" and not probes)
        for header in (each for name, each in response["headers"].items() if name == "Retry-After"):
            assert not validator(header["schema"]).is_valid(0)
        if status not in ("200", "422") and not probes:
            schema = response["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Error"}


def test_images_are_refused_with_these_statuses():
    assert list(JUDGE["responses"]) == [
        "200", "400", "408", "413", "415", "422", "500", "503", "504",
    ]  # fmt: skip
    assert list(JUDGE["requestBody"]["content"]) == [
        "image/*", "application/octet-stream", "multipart/form-data",
    ]  # fmt: skip
