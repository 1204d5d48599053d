"""The load generator, which lives in a process of its own: closed and open loads.

A closed load is a number of clients, each of which waits for its answer before it sends again. An
open load comes at its own times, whatever is answered: a latency counts from the time at which the
request was due, so that nothing hides a queue.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...runtime.machine.errors import ImageError
from . import client
from .answers import ANSWERED, LOST, TIMED_OUT, Load
from .client import Connection, Request

MOST_CONNECTIONS = 500
"""At once; further requests of an open load wait, and their wait counts."""
ANSWER_TIMEOUT = 30.0  # seconds from when a request is due
_AFTER_LOSS = 0.1  # seconds that a client of a closed load waits when its connection is lost
_DIGITS = 5  # of a second


@dataclass(frozen=True)
class Target:
    """Where images are sent."""

    port: int
    path: str


class LoadGenerator:
    """Sends images, in turn, to servers on this machine.

    Raises:
        ImageError: a file cannot be read.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._images = [_content(path) for path in paths]

    def every_image(self, target: Target) -> list[str]:
        """Send each image once, one after the other; return what came of each."""
        return asyncio.run(self._every_image(target))

    def closed(self, target: Target, connections: int, seconds: float) -> Load:
        """Let so many clients each send the next image when the last is answered."""
        return asyncio.run(_Sender(target, self._images, seconds).closed(connections))

    def open(self, target: Target, rate: float, seconds: float) -> Load:
        """Send so many images in a second, at random times, the same for equal arguments."""
        return asyncio.run(_Sender(target, self._images, seconds).open(rate))

    async def _every_image(self, target: Target) -> list[str]:
        sender = _Sender(target, self._images, 0)
        try:
            return [await sender.ask(sender.now()) for _ in self._images]
        finally:
            sender.close()


class _Sender:
    """One load on one server."""

    def __init__(self, target: Target, images: Sequence[bytes], seconds: float) -> None:
        requests = [client.form(target.path, content) for content in images]
        self._port, self._requests = target.port, itertools.cycle(enumerate(requests))
        self._seconds, self._lead = seconds, min(1.0, seconds / 5)
        self._limit = asyncio.Semaphore(MOST_CONNECTIONS)
        self._idle: list[Connection] = []
        self._latencies: defaultdict[str, list[float]] = defaultdict(list)
        self._judged: list[int] = []
        self._made = self._answered = 0
        self._started, self._cpu = time.perf_counter(), time.process_time()

    def now(self) -> float:
        """Return the seconds since the load began."""
        return time.perf_counter() - self._started

    async def closed(self, clients: int) -> Load:
        """See :meth:`LoadGenerator.closed`."""
        await asyncio.gather(*(self._client() for _ in range(clients)))
        return self._result()

    async def open(self, rate: float) -> Load:
        """See :meth:`LoadGenerator.open`."""
        asked = []
        for due in _arrivals(rate, self._lead + self._seconds):
            await asyncio.sleep(max(0.0, due - self.now()))
            asked.append(asyncio.create_task(self.ask(due)))
        await asyncio.gather(*asked)
        return self._result()

    async def ask(self, due: float) -> str:
        """Send the next image, note what came of it and when, and return it."""
        self._made += 1
        image, request = next(self._requests)
        exchange = self._exchange(request)
        try:
            outcome = str(await asyncio.wait_for(exchange, due + ANSWER_TIMEOUT - self.now()))
        except asyncio.TimeoutError:
            outcome = TIMED_OUT
        except client.LOST:
            outcome = LOST
        self._note(image, due, outcome)
        return outcome

    def close(self) -> None:
        """Close the connections that are kept."""
        for connection in self._idle:
            connection.close()

    async def _client(self) -> None:
        while (due := self.now()) < self._lead + self._seconds:
            if await self.ask(due) == LOST:
                await asyncio.sleep(_AFTER_LOSS)

    async def _exchange(self, request: Request) -> int:
        async with self._limit:
            connection = await self._connect()
            try:
                status = await connection.post(request)
            except BaseException:
                connection.close()
                raise
            self._keep(connection)
            return status

    async def _connect(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
            connection.close()
        return await Connection.open(self._port)

    def _keep(self, connection: Connection) -> None:
        if connection.usable:
            self._idle.append(connection)
        else:
            connection.close()

    def _note(self, image: int, due: float, outcome: str) -> None:
        came = self.now()
        if due >= self._lead:
            self._latencies[outcome].append(round(came - due, _DIGITS))
            if outcome == ANSWERED:
                self._judged.append(image)
        if outcome == ANSWERED and self._lead <= came < self._lead + self._seconds:
            self._answered += 1

    def _result(self) -> Load:
        self.close()
        return Load(
            seconds=self._seconds,
            answered=self._answered,
            latencies={outcome: tuple(each) for outcome, each in sorted(self._latencies.items())},
            images=tuple(self._judged),
            requests=self._made,
            cpu_seconds=time.process_time() - self._cpu,
            elapsed=self.now(),
        )


def _arrivals(rate: float, seconds: float) -> Iterator[float]:
    """Yield the times of a Poisson process."""
    draw = random.Random(0)  # noqa: S311 - no secret
    due = draw.expovariate(rate)
    while due < seconds:
        yield due
        due += draw.expovariate(rate)


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}.") from None
