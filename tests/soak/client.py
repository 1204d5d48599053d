"""A client that says what it is told, and minds every byte that comes back."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import h11

from .exchange import End, Exchange, Expected, Request

PATIENCE = 300.0
"""Seconds within which an answer must come that must come at all."""
_NONSENSE = 0.3  # seconds that an answer to nonsense has
_CHUNK = 1 << 18
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closed at once, and what is unsent dropped


class ComplaintError(Exception):
    """The server did what it must not."""


@dataclass(frozen=True)
class Answer:
    """A whole answer to a request.

    Attributes:
        stays: whether the connection can take another request.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    stays: bool


class Connection:
    """A connection, read by the answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._left = b""
        self.stays = True

    @classmethod
    async def open(cls, port: int) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def say(self, pieces: tuple[bytes, ...], pause: float) -> None:
        """Write pieces; a server that does not listen any more may still have answered."""
        with suppress(ConnectionError):
            for number, piece in enumerate(pieces):
                if number:
                    await asyncio.sleep(pause)
                self._writer.write(piece)
                await self._writer.drain()

    async def hear(self, method: str) -> Answer | None:
        """Return the next answer, or ``None`` if the connection was closed instead.

        Raises:
            ComplaintError: it is not proper HTTP.
        """
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method=method, target="/", headers=[("Host", "soak")]))
        parser.send(h11.EndOfMessage())
        try:
            return await self._parsed(parser)
        except h11.RemoteProtocolError as error:
            raise ComplaintError(f"the answer is no HTTP: {error}") from None

    async def _parsed(self, parser: h11.Connection) -> Answer | None:
        head: h11.Response | None = None
        body = b""
        if self._left:
            parser.receive_data(self._left)
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                data = await self._read()
                if not (data or head or parser.trailing_data[0]):
                    return None
                parser.receive_data(data)
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                self._left = parser.trailing_data[0]
                self.stays = parser.their_state is h11.DONE
                headers = {name.decode(): value.decode() for name, value in head.headers}
                return Answer(head.status_code, headers, body, self.stays)

    async def _read(self) -> bytes:
        try:
            return await self._reader.read(_CHUNK)
        except ConnectionError:
            return b""

    async def bid_farewell(self) -> None:
        """See that nothing comes that was not asked for.

        Raises:
            ComplaintError: something did.
        """
        if self.stays:
            last = Request("/healthz", method="GET", headers=(("Connection", "close"),))
            await self.say((last.written(),), 0)
            # A server that has just closed the connection for its age does not answer, either.
            answer = await self.hear("GET")
            if answer is None or answer.status != 200:
                raise ComplaintError(f"the last request on a connection was answered: {answer}")
        rest = self._left + await self._read()
        if rest:
            raise ComplaintError(f"more came than was asked for: {rest[:200]!r}")
        self.close()

    def close(self, *, reset: bool = False) -> None:
        """Close it, whatever is going on."""
        if reset:
            found: socket.socket = self._writer.get_extra_info("socket")
            with suppress(OSError):
                found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._writer.transport.abort()


async def carry_out(exchange: Exchange, connection: Connection) -> list[Answer]:
    """Say and hear what an exchange has; leave the connection as it does.

    Raises:
        ComplaintError: an answer is missing, or is another than it must be.
    """
    saying = asyncio.create_task(connection.say(exchange.pieces, exchange.pause))
    try:
        if exchange.end is not End.WAIT:
            await saying
            connection.close(reset=exchange.end is End.RESET)
            return []
        return await _answers(exchange, connection, saying)
    finally:
        saying.cancel()
        with suppress(asyncio.CancelledError):
            await saying


async def _answers(
    exchange: Exchange, connection: Connection, saying: asyncio.Task[None]
) -> list[Answer]:
    heard: list[Answer] = []
    for expected in exchange.answers:
        hearing = connection.hear(expected.method)
        if not exchange.surely:
            heard += await _perhaps(hearing, expected, saying)
            connection.stays = False
            continue
        answer = await asyncio.wait_for(hearing, PATIENCE)
        if answer is None:
            raise ComplaintError("the connection was closed without an answer")
        check(answer, expected)
        heard.append(answer)
    return heard


async def _perhaps(hearing: Any, expected: Expected, saying: asyncio.Task[None]) -> list[Answer]:
    """Hear what is answered to nonsense, if anything is."""
    listening = asyncio.ensure_future(hearing)
    try:
        await asyncio.wait({listening, saying}, return_when=asyncio.FIRST_COMPLETED)
        answer = await asyncio.wait_for(listening, _NONSENSE)
    except asyncio.TimeoutError:
        return []
    finally:
        listening.cancel()
    if answer is None:
        return []
    check(answer, expected)
    return [answer]


def check(answer: Answer, expected: Expected) -> None:
    """Insist on an answer as it was expected.

    Raises:
        ComplaintError: it is another.
    """
    if answer.status not in expected.statuses:
        raise ComplaintError(
            f"status {answer.status} is none of {sorted(expected.statuses)}: {answer.body[:200]!r}"
        )
    given = answer.headers.get("x-request-id")
    if not given or (expected.identity is not None and given != expected.identity):
        raise ComplaintError(f"the answer to request {expected.identity} names {given}")
    if expected.method != "HEAD":
        _check_body(answer, expected)


def _check_body(answer: Answer, expected: Expected) -> None:
    if answer.status >= 400:
        error = _json(answer).get("error")
        sentence = (
            error.get("message") if answer.status == 422 and isinstance(error, dict) else error
        )
        if not isinstance(sentence, str) or not sentence:
            raise ComplaintError(f"no sentence says what is wrong: {answer.body[:200]!r}")
    elif expected.records is not None:
        found = records_in(answer)
        if len(found) != expected.records or not all(map(_is_record, found)):
            raise ComplaintError(f"not {expected.records} records: {answer.body[:200]!r}")


def _json(answer: Answer) -> Any:
    try:
        return json.loads(answer.body)
    except ValueError:
        raise ComplaintError(f"{answer.status}, not in JSON: {answer.body[:200]!r}") from None


def records_in(answer: Answer) -> list[dict[str, Any]]:
    """Return the records of an answer of ``/v1/judge``."""
    value = _json(answer)
    return value if isinstance(value, list) else [value]


def _is_record(value: Any) -> bool:
    return isinstance(value, dict) and value.get("status") in ("ok", "error")
