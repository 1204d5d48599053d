"""What a client says on a connection, and what it must hear."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from enum import Enum

OK = frozenset({200})
REFUSED = frozenset({400})
IMAGE = frozenset({200, 422})
"""An image that may or may not be one."""


class End(Enum):
    """How a client leaves when it has said everything.

    It waits for its answers, closes the connection without reading, or resets it.
    """

    WAIT = "wait"
    CLOSE = "close"
    RESET = "reset"


@dataclass(frozen=True)
class Expected:
    """The answer to one request.

    Attributes:
        statuses: one of them.
        method: of the request; the answer to HEAD has no body.
        identity: the request's ``X-Request-Id``, which the answer repeats; ``None`` where the
            request may not have been understood.
        records: how many records answer 200 has; ``None`` if it has none, or any number.
        same: names what was asked: answers to the same are the same. Empty where nothing is.
    """

    statuses: Collection[int]
    method: str = "GET"
    identity: str | None = None
    records: int | None = None
    same: tuple[object, ...] = ()


@dataclass(frozen=True)
class Exchange:
    """What one client says, and what it must hear.

    Attributes:
        kind: names it in reports.
        pieces: what it writes, one after the other.
        answers: what must come back, in order.
        surely: whether all answers must come. Else the server may close the connection instead.
        end: how the client leaves.
        pause: seconds between the pieces.
    """

    kind: str
    pieces: tuple[bytes, ...]
    answers: tuple[Expected, ...] = ()
    surely: bool = True
    end: End = End.WAIT
    pause: float = 0.0


Maker = Callable[[random.Random], Exchange]
"""Makes an exchange; equal states of the random numbers give equal ones."""


@dataclass(frozen=True)
class Request:
    """A well-formed request, before it is written."""

    path: str
    body: bytes | None = None
    kind: str = "application/octet-stream"
    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = field(default=())
    identity: str = ""

    def head(self, *framing: tuple[str, str]) -> bytes:
        """Return everything up to the body."""
        lines = [("Host", "soak"), *self.headers, *framing]
        if self.body is not None and self.kind:
            lines.append(("Content-Type", self.kind))
        if self.identity:
            lines.append(("X-Request-Id", self.identity))
        text = "".join(f"{name}: {value}\r\n" for name, value in lines)
        return f"{self.method} {self.path} HTTP/1.1\r\n{text}\r\n".encode("latin-1")

    def written(self) -> bytes:
        """Return it with its length before it."""
        if self.body is None:
            return self.head()
        return self.head(("Content-Length", str(len(self.body)))) + self.body

    def chunked(self, sizes: Iterable[int]) -> tuple[bytes, ...]:
        """Return its head, and its body in chunks of these sizes, the last as long as is left."""
        pieces, rest = [self.head(("Transfer-Encoding", "chunked"))], self.body or b""
        for size in sizes:
            if not rest:
                break
            pieces.append(chunk(rest[:size]))
            rest = rest[size:]
        return (*pieces, *([chunk(rest)] if rest else []), b"0\r\n\r\n")


def chunk(content: bytes) -> bytes:
    """Return a chunk of a body; an empty one would end it."""
    return b"%x\r\n%b\r\n" % (len(content), content)


def identity(chance: random.Random) -> str:
    """Return a name that no other request has."""
    return f"soak-{chance.getrandbits(64):016x}"


def cut(content: bytes, chance: random.Random) -> tuple[bytes, ...]:
    """Return the content in up to five pieces, so that it arrives in as many."""
    places = sorted(chance.randrange(len(content) + 1) for _ in range(chance.randrange(5)))
    return tuple(
        content[start:end]
        for start, end in zip([0, *places], [*places, len(content)], strict=True)
        if end > start
    )
