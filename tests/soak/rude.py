"""Clients that break off, and what is no HTTP."""

from __future__ import annotations

import random

from fuzz.mutate import mutated

from . import polite
from .exchange import End, Exchange, Expected, Maker, Request, chunk
from .pictures import photographs

ANYTHING = frozenset(range(200, 500)) - {408}
"""What may be answered to nonsense: it may be a proper request after all."""
_BAD_CHUNKS = (b"zz\r\n", b"-1\r\n", b"\r\n", b"ffffffffffffffffffffff\r\n", b"5\nabcde",
               b"1\r\nabc\r\n", b"0x5\r\nabcde\r\n")  # fmt: skip
_BAD_LENGTHS = ("-1", "+5", "1 2", "0x10", "\u0661".encode().decode("latin-1"), "9" * 30, "",
                "5, 6", "1e3")  # fmt: skip
_NO_HTTP = (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(300), b"\r\n" * 1000,
            b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
            b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"a" * 100_000, b"A" * 200_000, b"\0" * 1000,
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
            )  # fmt: skip


def cut_off(chance: random.Random) -> Exchange:
    """A client that leaves in the head, in the body, or before its answer."""
    maker = chance.choice((polite.photograph, polite.photographs_in_form, polite.hostile_image,
                           polite.infer, polite.chunks, polite.awaited, polite.looks,
                           polite.pipelined))  # fmt: skip
    content = b"".join(maker(chance).pieces)
    head = content.index(b"\r\n\r\n")
    where, last = chance.choice(
        (("head", chance.randrange(head)), ("body", chance.randrange(head, len(content))),
         ("answer", len(content)))
    )  # fmt: skip
    end = chance.choice((End.CLOSE, End.RESET))
    pause = chance.choice((0.0, 0.002, 0.02, 0.1))
    return Exchange(f"{end.value} in {where}", (content[:last], b""), end=end, pause=pause)


def bad_chunks(chance: random.Random) -> Exchange:
    """Chunks that are none, after good ones; also of a request that is answered before them."""
    path = chance.choice(("/v1/judge", "/v2/models/glass/infer", "/elsewhere"))
    request = Request(path, b"")
    head = request.head(("Transfer-Encoding", "chunked"))
    bad = chance.choice(_BAD_CHUNKS) + chance.choice(photographs())
    pieces = (head + chunk(b"good"), bad)
    answers = (Expected({400, 404, 422}, "POST"),)
    return Exchange("bad chunks", pieces, answers, surely=False, pause=chance.choice((0, 0.02)))


def bad_length(chance: random.Random) -> Exchange:
    """A length that is none."""
    head = Request("/v1/judge", b"").head(("Content-Length", chance.choice(_BAD_LENGTHS)))
    return Exchange("bad length", (head, b"12345"), (Expected({400, 413}, "POST"),))


def no_http(chance: random.Random) -> Exchange:
    """Bytes that are no request."""
    content = chance.choice((*_NO_HTTP, chance.randbytes(chance.choice((1, 100, 70_000)))))
    return Exchange("no HTTP", (content,), (Expected(ANYTHING),), surely=False)


def damaged_http(chance: random.Random) -> Exchange:
    """A request with damage in its head; what follows may be another, or nothing."""
    content = b"".join(polite.looks(chance).pieces).replace(b"HEAD", b"GET", 1)
    content = mutated([content], str(chance.random()))
    return Exchange("damaged HTTP", (content,), (Expected(ANYTHING),), surely=False)


RUDE: dict[Maker, int] = {
    cut_off: 100,
    bad_chunks: 20,
    bad_length: 15,
    no_http: 25,
    damaged_http: 25,
}
"""How often each is made."""


def trickle(chance: random.Random) -> Exchange:
    """A client that sends a byte a second for a minute, in the head or in the body."""
    request = Request("/v1/judge", chance.choice(photographs()))
    content = request.written()
    start = content.index(b"\r\n\r\n") + 4 if chance.random() < 0.5 else 1
    pieces = (content[:start], *(bytes([byte]) for byte in content[start : start + 60]))
    answers = (Expected({408}, "POST"),)
    return Exchange("trickle", pieces, answers, surely=False, pause=1.0)
