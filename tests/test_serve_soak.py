"""glass-serve under thousands of requests: each has its answer, and nothing is left."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from functools import partial

import pytest
from glass_edge.benchmarks.measuring.usage import MemoryCurve, cpu_seconds
from glass_edge.benchmarks.serving.answers import Load
from glass_edge.benchmarks.serving.load import LoadGenerator, Target
from serving import Server
from soak.client import Answer, ComplaintError, Connection, carry_out, check
from soak.endurance import Outcome, endure
from soak.exchange import OK, Exchange, Expected
from soak.held import measurable, settled
from soak.run import Tally, alike

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")

SHORT = (100, 200)
LONG = (5_000, 5_000, 5_000, 5_000)
ISOLATED = (500, 500, 500)
GROWTH = 40e6  # bytes: of 15,000 exchanges 2.7 kB each; photographs have more
QUEUE = 64
CLIENTS = 16


@pytest.fixture(scope="module")
def outcome(vit_bundle) -> Outcome:
    return endure(vit_bundle.path, SHORT, slow=3)


def test_every_request_has_its_answer(outcome):
    assert outcome.tally.complaints == []
    assert not [status for status in outcome.tally.statuses if status >= 500]
    assert {200, 400, 404, 405, 413, 415, 422} <= set(outcome.tally.statuses)


def test_the_server_is_as_before(outcome):
    check_end(outcome)


def check_end(outcome: Outcome) -> None:
    """The server lived, said nothing, and judges as it did; nothing is left of those who came."""
    assert (outcome.ready, outcome.said, outcome.exit_code) == (200, "", 0)
    before, after = map(json.loads, outcome.records)
    assert alike(before, after)
    assert not [status for status in outcome.statuses if status >= 500]
    assert {outcome.journal[name] for name in outcome.tally.identities} == {1}
    first, last = outcome.held[0], outcome.held[-1]
    assert last.threads <= first.threads
    assert last.files <= first.files
    assert (last.children, last.zombies) == (first.children, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phases", "arguments", "growth"),
    [(LONG, (), GROWTH), (ISOLATED, ("--isolate",), GROWTH)],
    ids=["in process", "isolated"],
)
def test_twenty_thousand(phases, arguments, growth, vit_bundle):
    outcome = endure(vit_bundle.path, phases, slow=20, warm=True, arguments=arguments)
    assert outcome.tally.complaints == []
    assert not [status for status in outcome.tally.statuses if status >= 500]
    check_end(outcome)
    _, first, *_, last = outcome.held
    assert last.memory - first.memory < growth
    assert last.helpers - first.helpers < growth


def costed(server: Server, ask: Callable[[], Load]) -> tuple[Load, float]:
    """Return a load and the CPU seconds that an image took."""
    pid = server.process.pid
    before = cpu_seconds(pid)
    load = ask()
    return load, (cpu_seconds(pid) - before) / load.counts["200"]


def best(server: Server, ask: Callable[[], Load]) -> tuple[Load, float]:
    """Return the cheapest of three loads: engines' threads spin where others take the CPUs."""
    return min((costed(server, ask) for _ in range(3)), key=lambda found: found[1])


@pytest.mark.slow
def test_five_times_what_it_can_do(vit_bundle, calibration_images):
    """Whoever is accepted is answered soon, everybody else is sent away, and nothing is left."""
    generator = LoadGenerator([str(path) for path in sorted(calibration_images.iterdir())])
    with measurable(vit_bundle.path, "--max-queue", QUEUE) as server:
        target = Target(server.address[1], "/v1/judge")
        closed = partial(generator.closed, target, CLIENTS, 5)
        closed()  # every size of batch has been seen
        before, usual = best(server, closed)
        with MemoryCurve(server.process.pid, 1.0) as memory:
            load, cost = costed(server, lambda: generator.open(target, 5 * before.rate, 60))
        settled(server)
        _, afterwards = best(server, closed)
        said = server.said
    assert set(load.counts) == {"200", "503"}
    assert load.percentile(99) < 3 * QUEUE / load.rate  # at the worst moment of a shared machine
    assert cost < 2 * usual  # four refusals for each image are paid by it
    assert afterwards < 1.5 * usual
    early, late = memory.held[: len(memory.held) // 2], memory.held[len(memory.held) // 2 :]
    assert max(late) - max(early) < GROWTH
    assert said == ""


# --- the harness notices --------------------------------------------------------------------

EXPECTED = Expected(OK, "GET", "soak-1")
PROPER = b"HTTP/1.1 200 OK\r\nX-Request-Id: soak-1\r\nContent-Length: 2\r\n\r\nok"


async def said_to(answers: bytes) -> None:
    """Carry out an exchange with a server that says the same to everybody, and leaves."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answers)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1") as server:
        connection = await Connection.open(server.sockets[0].getsockname()[1])
        exchange = Exchange("a look", (b"GET / HTTP/1.1\r\n\r\n",), (EXPECTED,))
        await carry_out(exchange, connection)
        connection.stays = False
        await connection.bid_farewell()


def test_a_proper_answer_is_none_to_complain_of():
    asyncio.run(said_to(PROPER))


@pytest.mark.parametrize(
    ("answers", "complaint"),
    [
        (b"", "closed without an answer"),
        (PROPER[:-1], "is no HTTP"),
        (b"200 ok", "is no HTTP"),
        (PROPER * 2, "more came than was asked for"),
        (PROPER.replace(b"soak-1", b"soak-2"), "names soak-2"),
        (PROPER.replace(b"X-Request-Id", b"X-Other"), "names None"),
        (PROPER.replace(b"200 OK", b"204 No Content"), "is no HTTP|more came|none of"),
        (PROPER.replace(b"200 OK", b"500 Oh"), "status 500 is none of"),
    ],
    ids=["none", "cut", "no HTTP", "two", "another's", "nobody's", "another", "failed"],
)
def test_other_answers_are_complained_of(answers, complaint):
    with pytest.raises(ComplaintError, match=complaint):
        asyncio.run(said_to(answers))


@pytest.mark.parametrize(
    ("status", "body", "complaint"),
    [
        (400, b"Bad Request", "not in JSON"),
        (400, b'{"error": ""}', "no sentence"),
        (200, b"[]", "not 1 records"),
        (200, b'{"status": "fine"}', "not 1 records"),
    ],
)
def test_bodies_are_read(status, body, complaint):
    answer = Answer(status, {"x-request-id": "a"}, body, stays=True)
    with pytest.raises(ComplaintError, match=complaint):
        check(answer, Expected({status}, "POST", "a", records=1))


def test_another_record_of_the_same_is_noticed():
    expected = Expected(OK, "POST", same=("cat", 1))
    exchange, tally = Exchange("photograph", (), (expected,)), Tally()
    for score in (0.25, 0.25001):
        tally.add(exchange, [Answer(200, {}, b'{"path": "a", "score": %f}' % score, stays=True)])
    with pytest.raises(ComplaintError, match="and now with"):
        tally.add(exchange, [Answer(200, {}, b'{"path": "b", "score": 0.26}', stays=True)])
