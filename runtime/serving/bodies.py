"""Bodies of requests: read as they come, within bounds of size, speed and what is held."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import NamedTuple, TypeVar

import anyio
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .admission import Held
from .options import ServingOptions

PATIENCE = 10.0
"""Seconds within which another :data:`LEAST` bytes of a body must come, or its end."""
LEAST = 1 << 16
PART = "file"
"""What a part with an image is called."""
MULTIPART = "multipart/form-data"
OCTETS = "application/octet-stream"

_Body = TypeVar("_Body")
_FIELD = 1 << 10  # bytes of a part that is no file, which is refused anyway


class Picture(NamedTuple):
    """An image as it was sent: its bytes, and the name that came with them."""

    content: bytes
    name: str | None = None


async def pictures_in(request: Request, held: Held, options: ServingOptions) -> list[Picture]:
    """Read the images of a request, as many and as large as is allowed.

    Raises:
        HTTPException: the body is of a type that is not judged, is too large, is no proper
            multipart, has no or too many images, or comes too slowly.
        BusyError: more bytes are held than are allowed.
    """
    kind = request.headers.get("content-type", OCTETS).partition(";")[0].strip().lower()
    if kind == MULTIPART:
        most = options.max_queue
        return await read_body(
            request, held, options.max_bytes, lambda pieces: _parts(request, pieces, most)
        )
    if kind != OCTETS and not kind.startswith("image/"):
        raise HTTPException(
            415,
            f"a body of type {kind} is not judged: send an image's bytes as image/* or {OCTETS}, "
            f"or a form as {MULTIPART}.",
        )
    return [Picture(await read_body(request, held, options.max_bytes, joined))]


async def read_body(
    request: Request,
    held: Held,
    most: int,
    consume: Callable[[AsyncGenerator[bytes, None]], Awaitable[_Body]],
) -> _Body:
    """Let ``consume`` read a request's body piece by piece; each piece counts as held.

    Raises:
        HTTPException: it has more than ``most`` bytes, or comes too slowly.
        BusyError: more bytes are held than are allowed.
    """
    with anyio.move_on_after(PATIENCE) as scope:
        async with aclosing(_pieces(request, held, most, scope)) as pieces:
            return await consume(pieces)
    raise HTTPException(
        408, f"the body came too slowly: send {LEAST >> 10} KiB or its end every {PATIENCE:g} s."
    )


async def joined(pieces: AsyncGenerator[bytes, None]) -> bytes:
    """Return a whole body."""
    return b"".join([piece async for piece in pieces])


async def _pieces(
    request: Request, held: Held, most: int, scope: anyio.CancelScope
) -> AsyncGenerator[bytes, None]:
    """Yield a body's pieces, and move the deadline on as enough of them come."""
    total = recent = 0
    async with aclosing(request.stream()) as stream:
        async for piece in stream:
            total += len(piece)
            if total > most:
                raise HTTPException(413)
            held.add(size=len(piece))
            recent += len(piece)
            if recent >= LEAST:
                recent = 0
                scope.deadline = anyio.current_time() + PATIENCE
            yield piece


class _InMemory(MultiPartParser):
    """Keeps files in memory, where they are counted, and needs no disk."""

    spool_max_size = 1 << 62


async def _parts(request: Request, pieces: AsyncGenerator[bytes, None], most: int) -> list[Picture]:
    try:
        parser = _InMemory(
            request.headers, pieces, max_files=most, max_fields=0, max_part_size=_FIELD
        )
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(
            400,
            f"the form cannot be read ({error.message.rstrip('.')}): send one to {most} files as "
            f"parts named {PART!r}, and options in the URL.",
        ) from None
    try:
        return [await _picture(name, part) for name, part in _some(form.multi_items())]
    finally:
        await form.close()


def _some(items: list[tuple[str, UploadFile | str]]) -> list[tuple[str, UploadFile | str]]:
    if not items:
        raise HTTPException(400, f"the form has no file: send a part named {PART!r}.")
    return items


async def _picture(name: str, part: UploadFile | str) -> Picture:
    if name != PART or isinstance(part, str):
        raise HTTPException(
            400, f"the form has a part named {name!r}: name the files' parts {PART!r}."
        )
    return Picture(await part.read(), part.filename or None)


class FinishReading:
    """Reads what is left of a body before the connection is closed after an answer.

    Closed with bytes unread, a connection is reset, and the client may never see the answer. Where
    it stays open, the server throws away what still comes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request by the application within."""
        names = dict(scope["headers"])
        left = b"expect" not in names  # else nothing comes before it is asked for
        closes = scope.get("http_version") == "1.0" or _says_close(scope["headers"])

        async def received() -> Message:
            nonlocal left
            message = await receive()
            left = message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def sent(message: Message) -> None:
            nonlocal closes
            if message["type"] == "http.response.start":
                closes = closes or _says_close(message.get("headers", ()))
            elif closes and left and not message.get("more_body", False):
                await send({**message, "more_body": True})
                with anyio.move_on_after(PATIENCE):
                    while left:
                        await received()
                message = {"type": "http.response.body"}
            await send(message)

        await self._app(scope, received, sent)


def _says_close(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(
        name.lower() == b"connection" and b"close" in value.lower() for name, value in headers
    )
