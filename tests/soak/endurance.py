"""A server that is soaked phase by phase, and what it is like after each."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from serving import Server

from .held import Held, held, measurable, settled
from .pictures import photographs
from .polite import MAX_BYTES, MAX_CROPS
from .run import Soak, Tally

_ARGUMENTS = ("--max-bytes", str(MAX_BYTES >> 20), "--max-crops", str(MAX_CROPS),
              "--max-queue", "1000", "--timeout", "300")  # fmt: skip
# Such a server refuses nothing for want of room or time, so that each request has its one answer.


@dataclass(frozen=True)
class Outcome:
    """What a server did and was like.

    Attributes:
        tally: what it answered.
        held: what it held after it was warmed up and after each phase, when everybody had left.
        ready: the status of ``/readyz`` then.
        records: of one photograph, before the first phase and after the last.
        journal: how many lines it wrote for each identity.
        statuses: which it wrote.
        said: on standard error, but for its greeting.
        exit_code: when it was asked to end.
    """

    tally: Tally
    held: tuple[Held, ...]
    ready: int
    records: tuple[bytes, bytes]
    journal: Counter[str]
    statuses: Counter[int]
    said: str
    exit_code: int


def endure(
    bundle: Path,
    phases: Sequence[int],
    *,
    slow: int,
    warm: bool = False,
    seed: int = 0,
    arguments: Sequence[str] = (),
) -> Outcome:
    """Soak a server of its own.

    Args:
        bundle: what it serves.
        phases: so many exchanges in each.
        slow: clients that send a byte a second meanwhile.
        warm: warm the server up, and note what it holds then, too.
        seed: other ones make other exchanges.
        arguments: more of them for the server.
    """
    with measurable(bundle, *_ARGUMENTS, *arguments) as server:
        files, before = held(server).files, _record(server)
        soak, found = Soak(server.address[1], seed), []
        if warm:
            asyncio.run(soak.warm_up())
            found.append(settled(server, files))
        for exchanges in phases:
            asyncio.run(_phase(soak, exchanges, slow))
            found.append(settled(server, files))
        after, ready = _record(server), _status(server, "/readyz")
        exit_code = server.stop()
        lines = list(server.lines)
        return Outcome(
            soak.tally,
            tuple(found),
            ready,
            (before, after),
            Counter(str(line["id"]) for line in lines),
            Counter(int(line["status"]) for line in lines),
            server.said,
            exit_code,
        )


async def _phase(soak: Soak, exchanges: int, slow: int) -> None:
    trickling = asyncio.create_task(soak.trickle(slow))
    await soak.run(exchanges)
    trickling.cancel()
    with suppress(asyncio.CancelledError):
        await trickling


def _record(server: Server) -> bytes:
    kind = {"Content-Type": "image/jpeg"}
    with server.client() as client:
        return client.post("/v1/judge?seed=7", content=photographs()[0], headers=kind).content


def _status(server: Server, path: str) -> int:
    with server.client() as client:
        return client.get(path).status_code
