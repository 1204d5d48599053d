"""A lean HTTP client: on a machine of few CPUs, what it takes is taken from the server."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import h11

if TYPE_CHECKING:
    from typing_extensions import Self

HOST = "127.0.0.1"
LOST = (OSError, h11.ProtocolError)
"""What :meth:`Connection.post` raises where no answer came."""
_BOUNDARY = b"glass-bench-boundary"
_CHUNK = 1 << 18  # bytes


class Request(NamedTuple):
    """A POST whose body is the parts, one after the other."""

    path: str
    content_type: bytes
    parts: tuple[bytes, ...]


def form(path: str, content: bytes) -> Request:
    """Return a request with the image as the part ``file`` of a form."""
    head = (
        b"--%b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"image\"\r\n"
        b"Content-Type: application/octet-stream\r\n\r\n" % _BOUNDARY
    )  # fmt: skip
    end = b"\r\n--%b--\r\n" % _BOUNDARY
    return Request(path, b"multipart/form-data; boundary=" + _BOUNDARY, (head, content, end))


class Connection:
    """A connection to a server on this machine, for one request after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._protocol = h11.Connection(h11.CLIENT)

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect.

        Raises:
            OSError: nobody listens.
        """
        return cls(*await asyncio.open_connection(HOST, port))

    @property
    def usable(self) -> bool:
        """Whether it can take another request: the server has not closed it, as far as is known."""
        states = {self._protocol.our_state, self._protocol.their_state}
        return states == {h11.IDLE} and not self._reader.at_eof()

    async def post(self, request: Request) -> int:
        """Send a request and return the status of its answer, which may come before all is sent.

        Raises:
            OSError: the connection is lost.
            h11.ProtocolError: it ended within the answer, or what came is not HTTP.
        """
        sending = asyncio.create_task(self._send(request))
        try:
            status = await self._answer()
        finally:
            sending.cancel()
            with suppress(asyncio.CancelledError, *LOST):  # an answer tells more
                await sending
        if self._protocol.our_state is self._protocol.their_state is h11.DONE:
            self._protocol.start_next_cycle()
        return status

    def close(self) -> None:
        """Close it, whatever is going on."""
        self._writer.transport.abort()

    async def _send(self, request: Request) -> None:
        headers = [
            (b"Host", HOST.encode()),
            (b"Content-Type", request.content_type),
            (b"Content-Length", b"%d" % sum(map(len, request.parts))),
        ]
        head = h11.Request(method="POST", target=request.path, headers=headers)
        self._write(self._protocol.send(head))
        for part in request.parts:
            for start in range(0, len(part), _CHUNK):
                chunk = part[start : start + _CHUNK]
                self._write(self._protocol.send(h11.Data(data=chunk)))
                await self._writer.drain()
        self._write(self._protocol.send(h11.EndOfMessage()))

    def _write(self, data: bytes | None) -> None:
        if data:
            self._writer.write(data)

    async def _answer(self) -> int:
        status = 0
        while True:
            event = self._protocol.next_event()
            if event is h11.NEED_DATA:
                self._protocol.receive_data(await self._reader.read(_CHUNK))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.EndOfMessage):
                return status
            elif isinstance(event, h11.ConnectionClosed):
                raise ConnectionResetError("the server closed the connection without an answer.")
