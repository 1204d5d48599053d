"""HTTP/1.1 as uvicorn speaks it, but heads are bounded in time, and refusals are as ours are."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import h11
import msgspec
from uvicorn.protocols.http.h11_impl import H11Protocol

from .journal import REQUEST_ID

HEAD_TIMEOUT = 10.0
"""Seconds from a head's first byte within which it must be complete."""
READ_TIMEOUT = 30.0
"""Seconds that a client may take to read an answer, beyond what systems keep for a connection."""
_ANSWERABLE = (h11.IDLE, h11.SEND_RESPONSE)


class Protocol(H11Protocol):
    """One connection.

    uvicorn bounds the time between requests alone: a client that never sends one, sends its head a
    byte at a time, or never reads its answer would hold a connection for ever. And what it answers
    itself, to what is no HTTP, is none of our answers.
    """

    _head_timer: asyncio.TimerHandle | None = None
    _read_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; a connection that has sent nothing yet is kept as long as an idle one."""
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def data_received(self, data: bytes) -> None:
        """Take in what came, and time a head that is not complete."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_timer()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT, self._head_is_late)

    def pause_writing(self) -> None:
        """Note that the client does not read, and give it up if it goes on so."""
        super().pause_writing()
        self._read_timer = self.loop.call_later(READ_TIMEOUT, self.transport.abort)

    def resume_writing(self) -> None:
        """Note that it does."""
        self._stop_read_timer()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, whether or not its client reads what was sent last."""
        super().timeout_keep_alive_handler()
        self._stop_read_timer()
        self._read_timer = self.loop.call_later(READ_TIMEOUT, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._stop_timer()
        self._stop_read_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP. Called by uvicorn, whose sentence says no more than that."""
        self._refuse(400, "the request is not proper HTTP/1.1.")

    def _head_is_late(self) -> None:
        if not self.transport.is_closing():
            self._refuse(
                408, f"the request came too slowly: send all of its head within {HEAD_TIMEOUT:g} s."
            )

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _refuse(self, status: int, sentence: str) -> None:
        """Answer, unless an answer has begun, and close the connection."""
        if self.conn.our_state in _ANSWERABLE:
            for event in _answer(status, sentence):
                self.transport.write(self.conn.send(event) or b"")
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # or it might answer before it learns that from us
            self.cycle.message_event.set()
        self.transport.close()


def _answer(status: int, sentence: str) -> tuple[Any, ...]:
    body = msgspec.json.encode({"error": sentence})
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
        (REQUEST_ID, uuid.uuid4().hex),
    ]
    head = h11.Response(status_code=status, headers=headers)
    return head, h11.Data(data=body), h11.EndOfMessage()
