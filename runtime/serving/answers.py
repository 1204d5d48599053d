"""Answers in JSON, and which answer each error is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from ..machine.errors import InputError
from ..results.records import Failure, Record
from .admission import BusyError

JSON = "application/json"
LEFT = 499
"""The status of a request whose client has left; nobody sees it but the log."""
UNJUDGED = 422
"""The status of an image alone that cannot be judged."""


def json_answer(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a value as JSON; records keep the order of their fields."""
    return Response(msgspec.json.encode(value), status, headers, JSON)


def refusal(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer that says what is wrong, as ``{"error": sentence}``."""
    return json_answer({"error": sentence}, status, headers)


def records_answer(records: Sequence[Record]) -> Response:
    """Return the record of one image, or those of several in order."""
    if len(records) > 1:
        return json_answer(records)
    (record,) = records
    return json_answer(record, UNJUDGED if isinstance(record, Failure) else 200)


def error_handlers(max_bytes: int) -> Mapping[Any, ExceptionHandler]:
    """Return how errors are answered, by their types.

    Args:
        max_bytes: the largest body.
    """
    sentences: dict[int, Callable[[Request], str]] = {
        404: lambda request: "there is nothing here: /openapi.json says what there is.",
        405: lambda request: f"{request.method} is not answered here: see /openapi.json.",
        413: lambda request: (
            f"the body has more than {max_bytes} bytes: send fewer or smaller images."
        ),
    }

    async def of_http(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        known = sentences.get(error.status_code)
        sentence = error.detail if known is None else known(request)
        return refusal(error.status_code, sentence, error.headers)

    async def busy(_: Request, error: Exception) -> Response:
        after = error.retry_after if isinstance(error, BusyError) else 1
        return refusal(503, str(error), {"Retry-After": str(after)})

    async def asked_wrongly(_: Request, error: Exception) -> Response:
        return refusal(400, str(error))

    async def left(_: Request, __: Exception) -> Response:
        return Response(status_code=LEFT)

    async def at_fault(_: Request, __: Exception) -> Response:
        return refusal(500, "glass-edge failed at this; its log says how.")

    return {
        HTTPException: of_http,
        BusyError: busy,
        InputError: asked_wrongly,
        ClientDisconnect: left,
        Exception: at_fault,
    }
