"""Parts of the OpenAPI description that many operations share."""

from __future__ import annotations

from typing import Any, Final

BINARY: Final = {
    "type": "string",
    "format": "binary",  # what many programs still look for
    "contentMediaType": "application/octet-stream",
}
_FAILURES: Final = {
    400: "The request is malformed, or an option is wrong.",
    408: "The request came too slowly.",
    413: "The body is too large.",
    415: "The body is compressed, or of a type that is not read.",
    500: "The server failed.",
    503: "Too much waits already.",
    504: "The images were not judged in time.",
}


def reference(name: str) -> dict[str, Any]:
    """Refer to a schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def answer(
    description: str,
    content: dict[str, Any] | None = None,
    headers: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a response; without ``content`` its body says nothing."""
    return {
        "description": description,
        "headers": {
            "X-Request-Id": {"$ref": "#/components/headers/RequestId"},
            **(headers or {}),
        },
        **({} if content is None else {"content": content}),
    }


def json_answer(description: str, schema: dict[str, Any], **examples: object) -> dict[str, Any]:
    """Return a response whose body is JSON, with examples by their names."""
    content: dict[str, Any] = {"schema": schema}
    if examples:
        content["examples"] = {name: {"value": value} for name, value in examples.items()}
    return answer(description, {"application/json": content})


def failures(*statuses: int) -> dict[str, Any]:
    """Return the responses of an operation that fails with these statuses."""
    return {str(status): _failure(status) for status in statuses}


def _failure(status: int) -> dict[str, Any]:
    failure = json_answer(_FAILURES[status], reference("Error"))
    if status == 503:
        failure["headers"]["Retry-After"] = {
            "description": "Seconds after which to ask again.",
            "schema": {"type": "integer", "minimum": 1},
        }
    return failure
