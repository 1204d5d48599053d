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
from waiting import until  # noqa: E402

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
def server() -> Iterator[uvicorn.Server]:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.MonkeyPatch.context() as patch:
        port = listener.getsockname()[1]
        config = uvicorn.Config(
            application,
            port=port,
            http=Protocol,
            lifespan="off",
            log_config=None,
            log_level="error",
            timeout_keep_alive=IDLE,
        )
        server = uvicorn.Server(config)
        patch.setattr(protocol, "HEAD_TIMEOUT", LATE)
        patch.setattr(protocol, "READ_TIMEOUT", 2 * LATE)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield server
        server.should_exit = True
        thread.join()


def connect(server: uvicorn.Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.config.port), timeout=10)


@pytest.fixture
def client(server) -> Iterator[socket.socket]:
    with connect(server) as client:
        yield client


@pytest.fixture
def kept(server, monkeypatch) -> Iterator[socket.socket]:
    """A client whose connection may be idle for as long as a test takes."""
    monkeypatch.setattr(server.config, "timeout_keep_alive", 600)
    with connect(server) as client:
        yield client


def is_connected(server: uvicorn.Server, address: tuple[str, int]) -> bool:
    """Whether the server has a connection to the client of an address."""
    return any(each.client == address for each in list(server.server_state.connections))


def everything(client: socket.socket) -> bytes:
    """Return what the server says until it closes the connection."""
    said = b""
    while data := client.recv(1 << 16):
        said += data
    return said


def answer(client: socket.socket) -> bytes:
    """Return the application's answer, in however many pieces it comes, and nothing behind it."""
    said = b""
    while not said.endswith(b"\r\n\r\nok") and (data := client.recv(1)):
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


def test_who_does_not_read_an_answer_is_given_up(client, server):
    address = client.getsockname()
    until(lambda: is_connected(server, address))
    client.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
    until(lambda: not is_connected(server, address))
    with suppress(ConnectionResetError):
        assert len(everything(client)) < LARGE


def test_who_reads_slowly_has_the_whole_answer(client, monkeypatch):
    monkeypatch.setattr(protocol, "READ_TIMEOUT", 30.0)  # for nearly all of what is sent at once
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


def test_a_second_head_is_timed_as_well(kept):
    kept.sendall(HEAD + b"\r\n" + HEAD)
    assert answer(kept).startswith(b"HTTP/1.1 200")
    kept.sendall(b"A: b\r\n")
    status, _ = refused(everything(kept))
    assert status == 408


def test_a_body_is_not_timed_as_a_head_is(client):
    client.sendall(b"POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n")
    time.sleep(2 * LATE)
    client.sendall(b"1")
    assert answer(client).startswith(b"HTTP/1.1 200")


def test_who_never_asks_is_sent_away_without_a_word(server):
    started = time.monotonic()
    with connect(server) as client:
        assert everything(client) == b""
    assert time.monotonic() - started >= IDLE


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


def test_nonsense_after_the_answer_ends_the_connection(kept, caplog):
    kept.sendall(CHUNKED % b"/")
    assert answer(kept).endswith(b"ok")
    kept.sendall(b"zz\r\n")
    assert everything(kept) == b""
    assert caplog.records == []
