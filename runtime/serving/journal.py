"""What is written down of each request: a line of JSON, and its share in the metrics."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..judging.desk import Answer
from ..results.records import Verdict
from .answers import LEFT, refusal
from .metrics import Metrics

REQUEST_ID = "x-request-id"
_ID = REQUEST_ID.encode()
_ENTRY = "glass_edge.entry"
_USABLE_ID = re.compile(r"[\w.:/+=@-]{1,128}", re.ASCII)
_ELSEWHERE = "elsewhere"


@dataclass
class Entry:
    """What is known of a request while it goes on.

    Attributes:
        identity: its client's, or a new one.
        route: of which endpoint it asks.
        size: bytes of its body, as far as they were read.
        answers: what became of its images.
    """

    identity: str
    route: str = _ELSEWHERE
    size: int = 0
    status: int = LEFT
    answers: list[Answer] = field(default_factory=list)


def entry_in(scope: Scope) -> Entry:
    """Return what is known of a request."""
    entry: Entry = scope[_ENTRY]
    return entry


class Journal:
    """Writes down each request when it was answered, and gives each answer the request's identity.

    A line has no picture, no name that came with one, and no address.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        write: Callable[[bytes], None],
        *,
        closing: Callable[[], bool],
    ) -> None:
        """Give lines to ``write``; while ``closing``, have clients leave their connections."""
        self._app, self._metrics, self._write = app, metrics, write
        self._closing = closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request by the application within."""
        started = time.perf_counter()
        entry = scope[_ENTRY] = Entry(_identity(scope))

        async def received() -> Message:
            message = await receive()
            entry.size += len(message.get("body", b""))
            return message

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry.status = message["status"]
                headers = [*message.get("headers", ()), (_ID, entry.identity.encode())]
                if self._closing():
                    headers.append((b"connection", b"close"))
                message = {**message, "headers": headers}
            await send(message)

        try:
            await self._app(scope, received, sent)
        except asyncio.CancelledError:  # the server ends, and its grace is over
            if entry.status != LEFT:
                raise
            await refusal(503, "the server has ended.")(scope, received, sent)
        finally:
            seconds = time.perf_counter() - started
            self._metrics.count_request(entry.route, entry.status, seconds)
            self._metrics.count_images(entry.answers)
            self._write(_line(entry, scope["method"], seconds))


def _identity(scope: Scope) -> str:
    given = HTTPConnection(scope).headers.get(REQUEST_ID, "")
    return given if _USABLE_ID.fullmatch(given) else uuid.uuid4().hex


def _line(entry: Entry, method: str, seconds: float) -> bytes:
    line: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "id": entry.identity,
        "method": method,
        "route": entry.route,
        "status": entry.status,
        "bytes": entry.size,
        "ms": round(seconds * 1e3, 1),
        "images": [_said(answer) for answer in entry.answers],
    }
    return msgspec.json.encode(line)


def _said(answer: Answer) -> dict[str, Any]:
    record = answer.record
    if isinstance(record, Verdict):
        found: dict[str, Any] = {
            "verdict": record.verdict,
            "score": record.score,
            "width": record.width,
            "height": record.height,
            "crops": len(record.crops),
        }
    else:
        found = {"error": record.error.type}
    parts = {part: round(seconds * 1e3, 1) for part, seconds in answer.seconds.items()}
    return {**found, "ms": parts, "together": answer.together}
