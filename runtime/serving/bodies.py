"""Bodies of requests: read as they come, within bounds of size, speed and what is held."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import NamedTuple, TypeVar

import anyio
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .admission import Held
from .options import ServingOptions, quoted

BODY_TIMEOUT = 10.0
"""Seconds within which another :data:`BODY_PROGRESS` bytes of a body must come, or its end."""
BODY_PROGRESS = 1 << 16
FILE_FIELD = "file"
"""What a part with an image is called."""
MULTIPART = "multipart/form-data"
OCTETS = "application/octet-stream"

_Body = TypeVar("_Body")


class Picture(NamedTuple):
    """An image as it was sent: its bytes, and the name that came with them."""

    content: bytes
    name: str | None = None


def check_encoding(request: Request) -> None:
    """Refuse a body that its ``Content-Encoding`` calls compressed.

    Raises:
        HTTPException: it is.
    """
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        raise HTTPException(
            415,
            f"the body's Content-Encoding is {quoted(encoding)}, which is not decoded here: send "
            "it as it is, as image files are compressed already.",
        )


async def pictures_in(request: Request, held: Held, options: ServingOptions) -> list[Picture]:
    """Read the images of a request, at most as many as may wait.

    Raises:
        HTTPException: the body is of a type that is not judged, is no proper multipart, has no or
            too many images, is too large, or comes too slowly.
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
            f"a body of type {quoted(kind)} is not judged: send an image's bytes as image/* or "
            f"{OCTETS}, or a form as {MULTIPART}.",
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
    with anyio.move_on_after(BODY_TIMEOUT) as scope:
        async with aclosing(_pieces(request, held, most, scope)) as pieces:
            return await consume(pieces)
    raise HTTPException(
        408,
        f"the body came too slowly: send {BODY_PROGRESS >> 10} KiB or its end every "
        f"{BODY_TIMEOUT:g} s.",
    )


async def joined(pieces: AsyncGenerator[bytes, None]) -> bytes:
    """Return a whole body."""
    return b"".join([piece async for piece in pieces])


async def _pieces(
    request: Request, held: Held, most: int, scope: anyio.CancelScope
) -> AsyncGenerator[bytes, None]:
    """Yield a body's pieces, and move the deadline on as enough of them come."""
    size = recent = 0
    async with aclosing(request.stream()) as stream:
        async for piece in stream:
            size += len(piece)
            if size > most:
                raise HTTPException(413)
            held.add(size=len(piece))
            recent += len(piece)
            if recent >= BODY_PROGRESS:
                recent = 0
                scope.deadline = anyio.current_time() + BODY_TIMEOUT
            yield piece


class _InMemory(MultiPartParser):
    """Keeps files in memory, where they are counted, and needs no disk."""

    spool_max_size = 1 << 62


async def _parts(request: Request, pieces: AsyncGenerator[bytes, None], most: int) -> list[Picture]:
    try:
        parser = _InMemory(request.headers, pieces, max_files=most, max_fields=0)
        form = await parser.parse()
    except (MultiPartException, FormParserError) as error:
        reason = error.message if isinstance(error, MultiPartException) else "it is no multipart"
        raise HTTPException(
            400,
            f"the form cannot be read ({reason.rstrip('.')}): send one to {most} files as "
            f"parts named {FILE_FIELD!r} that have a filename, and options in the URL.",
        ) from None
    try:
        return [await _picture(name, part) for name, part in _some(form.multi_items())]
    finally:
        await form.close()


def _some(items: list[tuple[str, UploadFile | str]]) -> list[tuple[str, UploadFile | str]]:
    if not items:
        raise HTTPException(400, f"the form has no file: send a part named {FILE_FIELD!r}.")
    return items


async def _picture(name: str, part: UploadFile | str) -> Picture:
    if name != FILE_FIELD or isinstance(part, str):
        raise HTTPException(
            400, f"the form has a part named {name!r}: name the files' parts {FILE_FIELD!r}."
        )
    # A form may choose its charset, and some give halves of characters, which are none.
    sent = (part.filename or "").encode("utf-8", "replace").decode()
    return Picture(await part.read(), sent or None)


class FinishReading:
    """Closes the connection after an answer that does not wait for the whole body.

    What is left of the body is read first, for a while: closed with bytes unread, a connection is
    reset, and the client may never see the answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request by the application within."""
        headers = dict(scope["headers"])
        unread = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
        on_its_way = b"expect" not in headers  # else it comes only when it is asked for

        async def received() -> Message:
            nonlocal unread, on_its_way
            on_its_way = True
            message = await receive()
            unread = message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start" and unread:
                closing = (b"connection", b"close")
                message = {**message, "headers": [*message.get("headers", ()), closing]}
            elif unread and on_its_way and not message.get("more_body", False):
                await send({**message, "more_body": True})
                with anyio.move_on_after(BODY_TIMEOUT):
                    while unread:
                        await received()
                message = {"type": "http.response.body"}
            await send(message)

        await self._app(scope, received, sent)
