"""What the real server refuses so that nobody holds it up: sizes, queues, times, slow clients."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from queue import Queue
from typing import Any

import httpx
import pytest
import uvicorn
from conftest import encoded
from glass_edge.runtime.serving import bodies
from glass_edge.runtime.serving.app import application
from glass_edge.runtime.serving.options import ServingOptions
from glass_edge.runtime.serving.protocol import Protocol
from glass_edge.runtime.serving.service import Service
from glass_edge.runtime.streaming.view_maker import ViewMaker
from PIL import Image
from serving import Server, serving
from waiting import PATIENCE, until

from glass_edge import Bundle, Detector, DetectorOptions

JUDGE = "/v1/judge"
MIB = 1 << 20


@pytest.fixture(scope="module")
def server(vit_bundle: Bundle) -> Iterator[Server]:
    """One worker, two images at once, and little memory for bodies."""
    options = ("--max-bytes", 1, "--max-queue", 2, "--max-queue-bytes", 2, "--workers", 1)
    with serving(vit_bundle, *options) as started:
        yield started


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


@pytest.fixture(autouse=True)
def nothing_stays(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test does to the server, in the end it holds nothing and serves."""
    yield
    if "server" in request.fixturenames:
        check_idle(request.getfixturevalue("server"))


@pytest.fixture(scope="module")
def picture(photograph: Image.Image) -> bytes:
    return encoded(photograph.resize((300, 260)), "JPEG")


@pytest.fixture(scope="module")
def lengthy() -> bytes:
    """An image of few bytes that takes long: 36 megapixels of one colour."""
    return encoded(Image.new("RGB", (6_000, 6_000), "tan"), "PNG")


@dataclass
class Gate:
    """Where images wait, in this process, until they may be decoded.

    Attributes:
        reached: the images that have come to it.
        opened: lets them go on.
    """

    reached: list[bytes] = field(default_factory=list)
    opened: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    found, make = Gate(), ViewMaker.make

    def held_up(self: ViewMaker, batch: Any, slot: int, content: Any, look: Any) -> Any:
        found.reached.append(content)
        assert found.opened.wait(PATIENCE)
        return make(self, batch, slot, content, look)

    monkeypatch.setattr(ViewMaker, "make", held_up)
    return found


@dataclass(frozen=True)
class Within:
    """A server in this process, where what it does can be changed.

    Attributes:
        address: host and port.
        service: what answers.
        lines: those written of requests.
    """

    address: tuple[str, int]
    service: Service
    lines: Queue[bytes]

    @property
    def images(self) -> int:
        """How many wait or are being judged."""
        return self.service.admission.images

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, PATIENCE)


@contextmanager
def within(bundle: Bundle, **options: int) -> Iterator[Within]:
    """Serve in this process, with one worker."""
    detector = Detector(bundle, DetectorOptions(crops=1, workers=1))
    service, lines = Service(detector, ServingOptions(**options)), Queue()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        app = application(service, lines.put)
        config = uvicorn.Config(app, http=Protocol, log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield Within(listening.getsockname(), service, lines)
        finally:
            server.should_exit = True
            thread.join()
    service.close()


def queue_of(server: Server) -> tuple[float, float]:
    found = server.metrics()
    return found["glass_queue_images"], found["glass_queue_bytes"]


def check_idle(server: Server) -> None:
    until(lambda: queue_of(server) == (0, 0))
    with server.client() as client:
        assert client.get("/readyz").status_code == 200


def head(*lines: str, path: str = JUDGE) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


def whole(picture: bytes, *lines: str) -> bytes:
    """Return a request to judge a picture."""
    return head(f"Content-Length: {len(picture)}", *lines) + picture


def answer_of(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Read one answer: its status, headers, and body."""
    stream = connection.makefile("rb")
    status = int(stream.readline().split()[1])
    lines = iter(stream.readline, b"\r\n")
    pairs = (line.decode().rstrip().split(": ", 1) for line in lines)
    headers = {name.lower(): value for name, value in pairs}
    return status, headers, stream.read(int(headers["content-length"]))


# --- sizes ------------------------------------------------------------------------------------


def test_a_body_as_large_as_allowed_is_taken(client, picture):
    padded = picture + bytes(MIB - len(picture))
    assert client.post(JUDGE, content=padded).status_code == 200
    assert client.post(JUDGE, content=iter([padded])).status_code == 200


@pytest.mark.parametrize("path", [JUDGE, "/v2/models/glass/infer"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_larger_body_is_413(path, chunked, client, server):
    content = bytes(MIB + 1)
    answer = client.post(path, content=iter([content]) if chunked else content)
    assert answer.status_code == 413
    assert answer.json() == {
        "error": "the body has more than 1048576 bytes: send fewer or smaller images."
    }
    line = server.line_of(answer.headers["X-Request-Id"])
    assert line["status"] == 413
    assert line["bytes"] <= MIB + (1 << 17)


def test_a_form_that_is_too_large_is_413(client):
    answer = client.post(JUDGE, files=[("file", (name, bytes(MIB // 2))) for name in "abc"])
    assert answer.status_code == 413


@pytest.mark.parametrize("closes", [True, False])
@pytest.mark.parametrize("chunked", [True, False])
def test_who_goes_on_sending_still_gets_the_answer(closes, chunked, server):
    """A connection closed at once would be reset, and the answer lost."""
    size = 3 * MIB
    lines = ["Transfer-Encoding: chunked"] if chunked else [f"Content-Length: {size}"]
    with server.connect() as connection:
        connection.sendall(head(*lines, *(["Connection: close"] if closes else [])))
        piece = bytes(1 << 16)
        framed = b"10000\r\n" + piece + b"\r\n" if chunked else piece
        for _ in range(size // len(piece)):
            connection.sendall(framed)
        connection.sendall(b"0\r\n\r\n" if chunked else b"")
        status, headers, content = answer_of(connection)
        assert status == 413
        assert "error" in json.loads(content)
        assert headers["connection"] == "close"  # or what still comes would hold it
        assert connection.recv(1) == b""


# --- queues -----------------------------------------------------------------------------------


def test_of_many_at_once_each_is_judged_or_told_to_come_again(server, client, picture):
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: client.post(JUDGE, content=picture), range(60)))
    counts = Counter(answer.status_code for answer in answers)
    assert set(counts) == {200, 503}
    for answer in answers:
        if answer.status_code == 503:
            assert 1 <= int(answer.headers["Retry-After"]) <= 60
            assert answer.json()["error"].endswith("try again later.")


def test_more_files_than_may_wait_are_refused_whole(client, picture):
    files = [("file", (name, picture)) for name in "abc"]
    answer = client.post(JUDGE, files=files)
    assert answer.status_code == 400
    assert "send one to 2 files" in answer.json()["error"]
    assert client.post(JUDGE, files=files[:2]).status_code == 200


def test_images_beyond_the_queue_are_503(vit_bundle, picture, gate):
    with (
        within(vit_bundle, max_queue=2) as server,
        server.connect() as one,
        server.connect() as other,
        server.connect() as third,
    ):
        for each in (one, other):
            each.sendall(whole(picture))
        until(lambda: server.images == 2)
        third.sendall(whole(picture))
        status, headers, content = answer_of(third)
        assert status == 503
        assert json.loads(content) == {"error": "2 images wait already: try again later."}
        assert int(headers["retry-after"]) >= 1
        gate.opened.set()
        assert answer_of(one)[0] == answer_of(other)[0] == 200


def test_bytes_beyond_the_queue_are_503(server, client, picture):
    """Bodies that come slowly hold their bytes, and no others are begun."""
    with ExitStack() as held:
        for _ in range(2):
            connection = held.enter_context(server.connect())
            connection.sendall(head(f"Content-Length: {MIB}") + bytes(MIB - 1))
        until(lambda: queue_of(server)[1] == 2 * (MIB - 1))
        answer = client.post(JUDGE, content=picture)
        assert answer.status_code == 503
        assert answer.json() == {"error": "1 MiB of requests are held already: try again later."}
        answer = client.post(JUDGE, content=iter([picture]))
        assert answer.status_code == 503
        assert client.get("/readyz").status_code == 200


# --- times and clients ------------------------------------------------------------------------


def test_a_client_that_has_left_costs_nothing(vit_bundle, picture, gate):
    """Its image waits behind another one, and is not even decoded."""
    with (
        within(vit_bundle) as server,
        server.connect() as first,
        server.connect() as second,
    ):
        first.sendall(whole(picture))
        until(lambda: gate.reached)
        second.sendall(whole(picture + b"2", "X-Request-Id: second"))
        until(lambda: server.images == 2)
        second.close()
        line = json.loads(server.lines.get(timeout=PATIENCE))
        assert (line["id"], line["status"], line["images"]) == ("second", 499, [])
        gate.opened.set()
        assert answer_of(first)[0] == 200
        until(lambda: server.images == 0)
        metrics = server.service.metrics.text().decode()
    assert 'glass_requests_total{code="499",route="/v1/judge"} 1.0' in metrics
    assert gate.reached == [picture]


def test_a_client_that_leaves_while_it_sends_is_forgotten(server):
    with server.connect() as connection:
        lines = ("Content-Length: 100000", "X-Request-Id: half")
        connection.sendall(head(*lines) + bytes(50_000))
        until(lambda: queue_of(server)[1] == 50_000)
    line = server.line_of("half")
    assert (line["status"], line["bytes"]) == (499, 50_000)


def test_a_slow_client_holds_nobody_up(server, client, picture):
    with server.connect() as slow:
        slow.sendall(head(f"Content-Length: {len(picture)}"))
        for byte in picture[:5]:
            slow.sendall(bytes([byte]))
            began = time.monotonic()
            assert client.post(JUDGE, content=picture).status_code == 200
            assert time.monotonic() - began < 5
        slow.sendall(picture[5:])
        assert answer_of(slow)[0] == 200


def test_what_takes_too_long_is_504(vit_bundle, lengthy, picture):
    with serving(vit_bundle, "--timeout", 0.1, "--workers", 1) as server, server.client() as client:
        answer = client.post(JUDGE, content=lengthy)
        assert answer.status_code == 504
        assert answer.json()["error"].startswith("no verdict came within 0.1 s: try again later")
        assert server.line_of(answer.headers["X-Request-Id"])["images"] == []
        check_idle(server)
        until(lambda: client.post(f"{JUDGE}?crops=1", content=picture).status_code == 200)


def test_a_body_that_comes_too_slowly_is_408(vit_bundle, picture, monkeypatch):
    """Within the patience there must come so many bytes, or the end."""
    monkeypatch.setattr(bodies, "BODY_TIMEOUT", 0.5)
    monkeypatch.setattr(bodies, "BODY_PROGRESS", 1000)
    with within(vit_bundle) as server:
        with server.connect() as slow:
            slow.sendall(head("Content-Length: 100000"))
            began = time.monotonic()
            with suppress(OSError):
                while time.monotonic() < began + 0.8:
                    slow.sendall(b"x")
                    time.sleep(0.02)
            status, headers, content = answer_of(slow)
            assert status == 408
            assert "too slowly" in json.loads(content)["error"]
            assert headers["connection"] == "close"
            with suppress(ConnectionResetError):
                assert slow.recv(1) == b""
        monkeypatch.setattr(bodies, "BODY_TIMEOUT", 1.5)  # or this test itself may be too slow
        with server.connect() as steady:
            steady.sendall(head(f"Content-Length: {len(picture)}"))
            for start in range(0, len(picture), 1100):  # longer than the patience, in all
                steady.sendall(picture[start : start + 1100])
                time.sleep(0.17)
            assert answer_of(steady)[0] == 200


def rss_of(server: Server) -> int:
    return int(server.metrics()["process_resident_memory_bytes"])


@pytest.mark.slow
def test_memory_is_bounded_whatever_clients_hold_back(vit_bundle, picture):
    """Fifty clients send most of 20 MB each, and stop."""
    bound = 100
    options = ("--max-bytes", 20, "--max-queue-bytes", bound)
    with serving(vit_bundle, *options) as server, ExitStack() as held:
        with server.client() as client:
            assert client.post(JUDGE, content=picture).status_code == 200
        before, piece = rss_of(server), bytes(19 * MIB)

        def send(_: int) -> None:
            connection = held.enter_context(server.connect())
            connection.settimeout(5)
            with suppress(OSError):
                connection.sendall(head(f"Content-Length: {20 * MIB}") + piece)

        with ThreadPoolExecutor(10) as pool:
            list(pool.map(send, range(50)))
        assert rss_of(server) - before < 2 * bound * MIB
        assert queue_of(server)[1] <= bound * MIB
        with server.client() as client:
            assert client.get("/readyz").status_code == 200
        until(lambda: queue_of(server) == (0, 0))  # each is told that it was too slow
