"""A server whose delays and answers are known, for tests of the load generator."""

from __future__ import annotations

import asyncio
import itertools

import click
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

SECONDS = 0.05
STALL = 1.0
_turn = asyncio.Lock()
_numbers = itertools.count(1)
_stalls = iter([STALL])


async def slow(request: Request) -> Response:
    """Takes one at a time, for :data:`SECONDS` each; forms must be whole."""
    content = await (await request.form())["file"].read()
    async with _turn:
        await asyncio.sleep(SECONDS)
    return Response(status_code=200 if content.startswith(b"image") else 422)


async def by_size(request: Request) -> Response:
    """Takes longer than :data:`SECONDS` for what has a thousand bytes."""
    content = await (await request.form())["file"].read()
    await asyncio.sleep(1.5 * SECONDS if len(content) > 1000 else 0)
    return Response()


async def third(request: Request) -> Response:
    """Refuses every third."""
    await request.body()
    return Response(status_code=200 if next(_numbers) % 3 else 503)


async def full(request: Request) -> Response:
    """Answers before it has read the body."""
    return Response(b"full", status_code=503)


async def stalling(request: Request) -> Response:
    """Stalls once, and keeps everybody waiting."""
    await request.body()
    async with _turn:
        await asyncio.sleep(next(_stalls, 0))
    return Response()


async def silent(request: Request) -> Response:
    await asyncio.sleep(60)
    return Response()


async def ready(request: Request) -> Response:
    return Response()


ROUTES = [Route("/ready", ready)] + [
    Route(f"/{each.__name__}", each, methods=["POST"])
    for each in (slow, by_size, third, full, stalling, silent)
]


@click.command()
@click.option("--port", type=int)
@click.option("--refuse", is_flag=True)
def main(port: int, refuse: bool) -> None:
    if refuse:
        raise click.ClickException("there is no such bundle.")
    uvicorn.run(Starlette(routes=ROUTES), port=port, timeout_graceful_shutdown=1)
