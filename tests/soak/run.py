"""Many clients at once, each with one exchange after the other, and what came of them."""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .client import Answer, ComplaintError, Connection, carry_out
from .exchange import Exchange, Maker
from .polite import POLITE, crowd
from .rude import RUDE, trickle

KINDS: Mapping[Maker, int] = {**POLITE, **RUDE}
_CLIENTS = 16
_CROWDS = 8  # of each client
_STAYS = 0.8  # of clients keep their connection for the next exchange
_NEAR = 1e-4  # by which equal images' numbers may differ: batches of other sizes round otherwise
_MOST_COMPLAINTS = 50


@dataclass
class Tally:
    """What came of many exchanges.

    Attributes:
        exchanges, requests: how many there were; a request cut off counts.
        answers: how many of each kind had each status.
        complaints: what was wrong, each with its exchange.
        identities: of requests that were answered.
    """

    exchanges: int = 0
    requests: int = 0
    answers: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    complaints: list[str] = field(default_factory=list)
    identities: set[str] = field(default_factory=set)
    _first: dict[tuple[object, ...], Any] = field(default_factory=dict)

    @property
    def statuses(self) -> Counter[int]:
        """How many answers had each status."""
        return sum(self.answers.values(), Counter())

    def add(self, exchange: Exchange, answers: list[Answer]) -> None:
        """Note the answers to an exchange.

        Raises:
            ComplaintError: one is another than an equal request had before.
        """
        self.requests += max(1, len(exchange.answers))
        for expected, answer in zip(exchange.answers, answers, strict=False):
            self.answers[exchange.kind][answer.status] += 1
            if expected.identity:
                self.identities.add(expected.identity)
            if expected.same:
                self._compare(expected.same, json.loads(_without_identity(answer)))

    def complain(self, exchange: Exchange, why: BaseException) -> None:
        said = b"".join(exchange.pieces)
        if len(self.complaints) < _MOST_COMPLAINTS:
            self.complaints.append(f"{exchange.kind}: {type(why).__name__}: {why}; {said[:300]!r}")

    def _compare(self, asked: tuple[object, ...], found: Any) -> None:
        before = self._first.setdefault(asked, found)
        if not alike(before, found):
            raise ComplaintError(f"{asked} was answered with {before}, and now with {found}")


def _without_identity(answer: Answer) -> bytes:
    """Return the JSON of an answer, in which nothing tells one request from another."""
    length = answer.headers.get("inference-header-content-length")
    return answer.body if length is None else answer.body[: int(length)]


def alike(one: Any, other: Any) -> bool:
    """Whether two values of JSON are the same but for names that came with files, and rounding."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            name == "path" or alike(one[name], other[name]) for name in one
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, abs_tol=_NEAR)
    return one == other


class Soak:
    """Clients of one server; equal seeds make equal exchanges, in whatever order they end."""

    def __init__(self, port: int, seed: int = 0, kinds: Mapping[Maker, int] = KINDS) -> None:
        self.tally = Tally()
        self._port, self._seed, self._kinds = port, seed, kinds
        self._made = 0

    async def warm_up(self) -> None:
        """Let the server have its largest batches: engines keep the memory that those take."""
        numbers = iter(range(-_CROWDS * _CLIENTS, 0))  # none of those of later exchanges
        await asyncio.gather(*(self._client(numbers, {crowd: 1}) for _ in range(_CLIENTS)))

    async def run(self, exchanges: int) -> None:
        """Carry out so many exchanges more."""
        numbers = iter(range(self._made, self._made + exchanges))
        self._made += exchanges
        await asyncio.gather(*(self._client(numbers, self._kinds) for _ in range(_CLIENTS)))

    async def trickle(self, clients: int) -> None:
        """Let so many clients send a byte a second, again and again, until this is cancelled."""
        await asyncio.gather(*(self._trickle(random.Random(number)) for number in range(clients)))

    async def _trickle(self, chance: random.Random) -> None:
        while True:
            await self._carry_out(trickle(chance), None, stays=False)

    async def _client(self, numbers: Iterator[int], kinds: Mapping[Maker, int]) -> None:
        connection: Connection | None = None
        for number in numbers:
            chance = random.Random(f"{self._seed} {number}")
            (make,) = chance.choices([*kinds], [*kinds.values()])
            stays = chance.random() < _STAYS
            connection = await self._carry_out(make(chance), connection, stays=stays)
        if connection is not None:
            connection.close()

    async def _carry_out(
        self, exchange: Exchange, connection: Connection | None, *, stays: bool
    ) -> Connection | None:
        """Carry out an exchange, and return the connection if it can be used again."""
        connection = connection or await Connection.open(self._port)
        self.tally.exchanges += 1
        try:
            self.tally.add(exchange, await carry_out(exchange, connection))
            if exchange.surely and exchange.answers and not (stays and connection.stays):
                await asyncio.wait_for(connection.bid_farewell(), 60)
                return None
        except Exception as why:  # whatever it is, the others go on
            self.tally.complain(exchange, why)
            connection.close()
            return None
        except asyncio.CancelledError:
            connection.close()
            raise
        if connection.stays and exchange.answers:
            return connection
        connection.close()
        return None
