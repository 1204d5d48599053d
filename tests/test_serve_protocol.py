"""The server's HTTP: slow heads and what is no HTTP are refused as everything else is."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

uvicorn = pytest.importorskip("uvicorn")

from glass_edge.runtime.serving import protocol  # noqa: E402
from glass_edge.runtime.serving.protocol import Protocol  # noqa: E402

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"
IDLE = 0.6  # seconds
LATE = 0.3
LARGE = 30 << 20  # bytes, more than systems keep for a connection


async def application(scope, receive, send):
    """Answer at once, whatever still comes; ``/wait`` waits for what comes first."""
    if scope["path"] == "/wait":
        await receive()
    body = bytes(LARGE) if scope["path"] == "/large" else b"ok"
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    config = uvicorn.Config(
        application, port=0, http=Protocol, lifespan="off", log_config=None, log_level="error"
    )
    config.timeout_keep_alive = IDLE
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "HEAD_TIMEOUT", LATE)
        patch.setattr(protocol, "READ_TIMEOUT", 2 * LATE)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join()


@pytest.fixture
def client(port) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        yield client


def everything(client: socket.socket) -> bytes:
    """Return what the server says until it closes the connection."""
    said = b""
    while data := client.recv(1 << 16):
        said += data
    return said


def refused(said: bytes) -> tuple[int, str]:
    """Return the status and the sentence of a refusal, which must be all that was said."""
    head, _, body = said.partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines[1:])
    assert fields["content-type"] == "application/json"
    assert fields["connection"] == "close"
    assert len(fields["x-request-id"]) == 32
    assert len(body) == int(fields["content-length"])
    return int(lines[0].split()[1]), json.loads(body)["error"]


def test_who_does_not_read_an_answer_is_given_up(client):
    client.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(IDLE + 4 * LATE)
    with suppress(ConnectionResetError):
        assert len(everything(client)) < LARGE


def test_who_reads_slowly_has_the_whole_answer(client):
    client.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    size = 0
    while data := client.recv(1 << 20):
        size += len(data)
        time.sleep(0.005)
    assert size > LARGE


def test_a_head_that_is_never_complete_is_refused(client):
    started = time.monotonic()
    client.sendall(HEAD)
    status, sentence = refused(everything(client))
    assert (status, "too slowly" in sentence) == (408, True)
    assert LATE <= time.monotonic() - started < IDLE


def trickle(client: socket.socket) -> None:
    for byte in HEAD * 10:
        client.sendall(bytes([byte]))
        time.sleep(LATE / 10)


def test_a_head_that_trickles_has_no_more_time_than_any(client):
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        trickle(client)


def test_a_second_head_is_timed_as_well(client):
    client.sendall(HEAD + b"\r\n" + HEAD)
    assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")
    client.sendall(b"A: b\r\n")
    status, _ = refused(everything(client))
    assert status == 408


def test_a_body_is_not_timed_as_a_head_is(client):
    client.sendall(b"POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n")
    time.sleep(2 * LATE)
    client.sendall(b"1")
    assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")


def test_who_never_asks_is_sent_away_without_a_word(client):
    started = time.monotonic()
    assert everything(client) == b""
    assert time.monotonic() - started >= IDLE - LATE


@pytest.mark.parametrize("said", [b"GET\r\n\r\n", b"\x16\x03\x01" * 9, b"GET / HTTP/1.1\r\n\r\n"])
def test_what_is_no_http_is_refused(said, client):
    client.sendall(said)
    status, sentence = refused(everything(client))
    assert (status, "not proper HTTP" in sentence) == (400, True)


CHUNKED = b"POST %b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_nonsense_behind_a_head_has_one_answer(client, caplog):
    """Whether the application would answer at once or waits for the body."""
    client.sendall(CHUNKED % b"/" + b"zz\r\n")
    assert refused(everything(client))[0] == 400
    assert caplog.records == []


def test_nonsense_that_an_application_waits_for_has_one_answer(client, caplog):
    client.sendall(CHUNKED % b"/wait")
    time.sleep(0.1)
    client.sendall(b"zz\r\n")
    assert refused(everything(client))[0] == 400
    assert caplog.records == []


def test_nonsense_after_the_answer_ends_the_connection(client, caplog):
    client.sendall(CHUNKED % b"/")
    assert client.recv(1 << 16).endswith(b"ok")
    client.sendall(b"zz\r\n")
    assert everything(client) == b""
    assert caplog.records == []
