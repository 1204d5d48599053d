"""How the real server begins and ends: refusals in one sentence, and no request lost."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from conftest import Done, call, encoded, refusal, slow
from glass_edge.runtime.bundle.bundle import sha256_of
from glass_edge.runtime.serving import lines as lines_module
from glass_edge.runtime.serving.options import ServingOptions
from glass_edge.runtime.serving.server import address_of, bound, serve
from glass_edge.runtime.serving.service import Service
from PIL import Image
from serving import Server, command, serving
from test_bundle import change, graph_of
from waiting import PATIENCE, until

from glass_edge import Bundle, Detector, EngineError

JUDGE = "/v1/judge"
TERM, INT = signal.SIGTERM, signal.SIGINT


@pytest.fixture(scope="module")
def picture(photograph: Image.Image) -> bytes:
    return encoded(photograph.resize((300, 260)), "JPEG")


@pytest.fixture(scope="module")
def lengthy() -> bytes:
    """An image of few bytes that takes long: 36 megapixels of one colour."""
    return encoded(Image.new("RGB", (6_000, 6_000), "tan"), "PNG")


def refused(bundle: Bundle | Path, *options: object) -> str:
    done = call("glass-serve", Path.cwd(), *command(bundle, *options)[1:])
    assert "serving bundle" not in done.stderr
    return refusal(done)


# --- the beginning ----------------------------------------------------------------------------


def test_a_port_that_is_taken_is_said(vit_bundle):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sentence = refused(vit_bundle, "--port", port)
    assert (
        f"the server cannot listen at 127.0.0.1, port {port} (address already in use)" in sentence
    )
    assert "choose another --host or --port, or end the program that has this one." in sentence


def test_a_port_is_taken_before_the_bundle_is_loaded_and_not_listened_at(vit_bundle):
    """So that nobody loads for a minute in vain, and nobody waits for who is not there yet."""
    with serving(vit_bundle) as first:
        port = first.address[1]
        assert f"port {port}" in refused(Path("missing.glass"), "--port", port)


@pytest.mark.parametrize("host", ["nowhere.invalid", "192.0.2.1", "a..b"])
def test_a_host_that_is_not_here_is_said(host, vit_bundle):
    sentence = refused(vit_bundle, "--host", host)
    assert f"the server cannot listen at {host}" in sentence
    assert sentence.endswith("choose another --host or --port.")


def test_a_bundle_that_is_not_there_is_said(tmp_path):
    assert "missing.glass" in refused(tmp_path / "missing.glass")


def test_another_bundle_than_was_meant_is_refused(vit_bundle):
    assert "SHA-256" in refused(vit_bundle, "--bundle-sha256", "0" * 64)


def test_bounds_that_contradict_each_other_are_refused(vit_bundle):
    assert "raise --max-queue-bytes" in refused(
        vit_bundle, "--max-bytes", 20, "--max-queue-bytes", 10
    )
    assert "raise --max-crops" in refused(vit_bundle, "--crops", 9, "--max-crops", 8)


def test_an_engine_that_computes_other_numbers_serves_nobody(copied_bundle):
    path = copied_bundle / "aggregator.onnx"
    model = onnx.load(path)
    (bias,) = (tensor for tensor in model.graph.initializer if list(tensor.dims) == [2])
    bias.raw_data = (onnx.numpy_helper.to_array(bias) + np.float32([0.3, 0])).tobytes()
    onnx.save(model, path)
    sha256 = sha256_of(path)
    change(copied_bundle, lambda m: graph_of(m, "aggregator").update(sha256=sha256))
    assert "self-test failed" in refused(copied_bundle)


@pytest.mark.parametrize(
    "library", ["starlette", "uvicorn", "python_multipart", "prometheus_client", "jinja2"]
)
def test_a_library_that_is_missing_is_named(library, vit_bundle):
    program = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "from glass_edge.runtime.commands.serve import main\nmain(prog_name='glass-serve')"
    )
    arguments = map(str, command(vit_bundle)[1:])
    done: Done = subprocess.run(
        [sys.executable, "-P", "-c", program, *arguments],
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    sentence = refusal(done)
    assert library in sentence.lower()
    assert "pip install 'glass-edge[" in sentence
    assert "serving bundle" not in sentence


def test_who_needs_no_page_needs_no_jinja(vit_bundle):
    program = (
        "import sys; sys.modules['jinja2'] = None\n"
        "from glass_edge.runtime.commands.serve import main\nmain(prog_name='glass-serve')"
    )
    arguments = command(vit_bundle, "--no-page")[1:]
    server = Server([sys.executable, "-P", "-c", program, *arguments])
    with server.client() as client:
        assert client.get("/").status_code == 404
        assert client.get("/readyz").status_code == 200
    assert server.stop() == 0


def test_it_can_be_used_as_soon_as_it_says_where_it_is(vit_bundle, picture):
    with serving(vit_bundle) as server, server.client() as client:
        assert client.post(JUDGE, content=picture).status_code == 200
        engine = client.post(JUDGE, content=picture).json()["engine"]
        assert server.errors == [
            f"serving bundle {vit_bundle.name} by {engine} (fp32) at {server.url}; Ctrl-C ends it\n"
        ]


def test_an_address_of_ipv6(vit_bundle, picture):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with serving(vit_bundle, "--host", "::1") as server, server.client() as client:
        assert server.url.startswith("http://[::1]:")
        assert client.post(JUDGE, content=picture).status_code == 200


# --- the end ----------------------------------------------------------------------------------


@contextmanager
def busy(server: Server, content: bytes) -> Iterator[Request]:
    """A request in flight, whose image is being judged."""
    request = Request(server, content)
    until(lambda: server.metrics()["glass_queue_images"] >= 1)
    yield request


class Request:
    """A request that another thread waits for."""

    def __init__(self, server: Server, content: bytes) -> None:
        self.pool = ThreadPoolExecutor(1)
        self.answer = self.pool.submit(self._send, server, content)

    def _send(self, server: Server, content: bytes) -> httpx.Response:
        with server.client() as client:
            return client.post(JUDGE, content=content)


def images_taken(server: Server) -> float:
    """How many images, of requests of one each, were taken to be judged, or are judged already."""
    found = server.metrics()
    answered = found['glass_requests_total{code="200",route="/v1/judge"}']
    return found["glass_queue_images"] + answered


def is_closed(server: Server) -> bool:
    try:
        server.connect().close()
    except ConnectionRefusedError:
        return True
    return False


def test_after_sigterm_it_answers_until_it_closes_and_then_what_is_in_flight(
    vit_bundle, picture, lengthy
):
    options = ("--drain-delay", 600, "--workers", 1)
    with serving(vit_bundle, *options) as server, server.client() as client:
        assert "connection" not in client.post(JUDGE, content=picture).headers
        server.signal(TERM)
        until(lambda: client.get("/readyz").status_code == 503)
        answer = client.post(JUDGE, content=picture)
        assert (answer.status_code, answer.headers["Connection"]) == (200, "close")
        assert client.get("/healthz").status_code == 200
        in_flight = [Request(server, lengthy) for _ in range(3)]
        until(lambda: images_taken(server) == 2 + len(in_flight))
        server.signal(TERM)  # ends the delay
        until(lambda: is_closed(server))
        for each in in_flight:
            found = each.answer.result(PATIENCE)
            assert (found.status_code, found.headers["Connection"]) == (200, "close")
        assert server.wait() == 0
        assert len(server.errors) == 1


def test_the_delay_after_sigterm_is_as_long_as_was_asked(vit_bundle):
    with serving(vit_bundle, "--drain-delay", 1) as server:
        began = time.monotonic()
        server.signal(TERM)
        until(lambda: is_closed(server))
        assert time.monotonic() >= began + 1
        assert server.wait() == 0


@pytest.mark.parametrize("signals", [[INT], [TERM, TERM], slow([TERM, INT]), slow([INT, INT])])
def test_sigint_or_a_second_signal_ends_the_delay(signals, vit_bundle, lengthy):
    options = ("--drain-delay", 600, "--workers", 1)
    first, *others = signals
    with serving(vit_bundle, *options) as server, busy(server, lengthy) as request:
        server.signal(first)
        if first is TERM:  # or two of a kind may become one; after SIGINT it might end the grace
            with server.client() as client:
                until(lambda: client.get("/readyz").status_code == 503)
        for number in others:
            server.signal(number)
        assert request.answer.result(PATIENCE).status_code == 200
        assert server.wait() == 0


def test_idle_connections_hold_the_end_up_for_nobody(vit_bundle, picture):
    with serving(vit_bundle) as server, server.client() as client, server.connect() as silent:
        assert client.post(JUDGE, content=picture).status_code == 200
        with server.connect() as half:
            half.sendall(b"POST /v1/judge HTTP/1.1\r\nHost: x\r\nContent-Le")
            began = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() < began + 5
            assert silent.recv(1) == b""


@pytest.mark.parametrize("third", [False, True])
def test_what_does_not_end_within_the_grace_is_said(third, vit_bundle):
    """A client that sends its body for ever; a third signal takes the grace away."""
    options = ("--grace", 600 if third else 1)
    with serving(vit_bundle, *options) as server, server.connect() as endless:
        endless.sendall(b"POST /v1/judge HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nx")
        until(lambda: server.metrics()["glass_queue_bytes"] >= 1)
        server.signal(TERM)
        if third:
            until(lambda: is_closed(server))
            server.signal(TERM)
        began = time.monotonic()
        assert server.wait() == 1
        assert time.monotonic() < began + 5
        assert server.errors[-1] == "1 requests were not answered within the grace.\n"


CLIENTS = 20
SLOW_CLIENTS = 4


@pytest.mark.parametrize("turns", [1, slow(50)])
def test_under_load_no_accepted_request_is_lost(turns, vit_bundle, picture):
    """Those that are answered in the delay, and those whose bodies are not complete by its end."""
    for _ in range(turns):
        with (
            serving(vit_bundle, "--drain-delay", 0.5, "--workers", 1) as server,
            ThreadPoolExecutor(CLIENTS) as pool,
        ):
            together = threading.Barrier(CLIENTS + 1)
            clients = [pool.submit(keep_asking, server, picture, together) for _ in range(CLIENTS)]
            together.wait(PATIENCE)
            slow_clients = [begin(server, picture) for _ in range(SLOW_CLIENTS)]
            halves = SLOW_CLIENTS * (len(picture) // 2)
            until(lambda: server.metrics()["glass_queue_bytes"] == halves)  # noqa: B023
            together.wait(PATIENCE)
            until(lambda: server.metrics()["glass_queue_images"] > 1)
            server.signal(TERM)
            until(lambda: is_closed(server))
            time.sleep(0.3)  # nor are they cut off a little later
            for each in slow_clients:
                each.send(picture[len(picture) // 2 :])
            assert [each.getresponse().status for each in slow_clients] == [200] * SLOW_CLIENTS
            for asked in (each.result(PATIENCE) for each in clients):
                assert asked.statuses == [200] * asked.sent
            assert server.wait() == 0, server.errors


@dataclass
class Asked:
    """What a client has sent, and the statuses of the answers that it got."""

    sent: int = 0
    statuses: list[int] = field(default_factory=list)


def keep_asking(server: Server, picture: bytes, together: threading.Barrier) -> Asked:
    """Ask once, and then until an answer says that the server ends, or nobody listens."""
    asked = Asked()
    with server.client() as client:
        client.post(JUDGE, content=picture)
        together.wait(PATIENCE)  # all have a connection now
        together.wait(PATIENCE)  # and so have the slow ones
        ending = False
        while not ending:
            asked.sent += 1
            try:
                answer = client.post(JUDGE, content=picture)
            except httpx.ConnectError:  # so nothing was sent
                asked.sent -= 1
                break
            except httpx.HTTPError:
                break
            asked.statuses.append(answer.status_code)
            ending = answer.headers.get("Connection") == "close"
    return asked


def begin(server: Server, picture: bytes) -> HTTPConnection:
    """Send half of a request."""
    connection = HTTPConnection(*server.address, timeout=PATIENCE)
    connection.putrequest("POST", JUDGE)
    connection.putheader("Content-Length", str(len(picture)))
    connection.endheaders(picture[: len(picture) // 2])
    return connection


def test_an_engine_that_fails_ends_the_server(vit_bundle, picture, monkeypatch):
    """Which its supervisor starts anew; until then nobody is sent there."""
    detector = Detector(vit_bundle)
    service = Service(detector, ServingOptions())

    def broken(*_: object) -> None:
        raise EngineError("the device is out of memory.")

    monkeypatch.setattr(detector._engine, "run", broken)
    begun, lines = threading.Event(), lines_module.Lines(os.open(os.devnull, os.O_WRONLY))
    with bound("127.0.0.1", 0) as listener, ThreadPoolExecutor(1) as pool:
        served = pool.submit(serve, service, listener, lines, begun.set)
        assert begun.wait(PATIENCE)
        assert service.ready
        url = address_of(listener) + JUDGE
        answer = httpx.post(url, content=picture, timeout=PATIENCE, trust_env=False)
        assert answer.status_code == 500
        assert answer.json() == {"error": "glass-edge failed at this; its log says how."}
        with pytest.raises(EngineError, match="so the server has ended: the device is out of mem"):
            served.result(PATIENCE)
    assert not service.ready
    service.close()
    lines.close()


# --- who reads its lines ----------------------------------------------------------------------


def requests_go_on(server: Server, picture: bytes) -> None:
    with server.client() as client:
        for _ in range(300):
            assert client.get("/healthz").status_code == 200
        assert client.post(JUDGE, content=picture).status_code == 200


def test_standard_output_that_was_closed_holds_nobody_up(vit_bundle, picture):
    read, write = os.pipe()
    server = Server(command(vit_bundle), stdout=write)
    os.close(write)
    os.close(read)
    requests_go_on(server, picture)
    assert server.stop() == 0
    assert len(server.errors) == 1


def test_standard_output_that_nobody_reads_holds_nobody_up(vit_bundle, picture):
    read, write = os.pipe()
    with suppress(AttributeError, OSError):
        fcntl.fcntl(write, 1031, 4096)  # F_SETPIPE_SZ: full after some lines
    server = Server(command(vit_bundle), stdout=write)
    os.close(write)
    requests_go_on(server, picture)
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() < began + 10
    os.close(read)


def test_lines_that_nobody_reads_are_lost_in_the_end(monkeypatch):
    monkeypatch.setattr(lines_module, "_MOST_WAITING", 1000)
    read, write = os.pipe()
    lines = lines_module.Lines(write)

    def write_many() -> None:
        for _ in range(20_000):
            lines.write(bytes(100))
        lines.close()

    writer = threading.Thread(target=write_many, daemon=True)
    writer.start()
    writer.join(PATIENCE)
    assert not writer.is_alive()
    assert os.read(read, 101) == bytes(100) + b"\n"
    os.close(read)


def test_a_server_without_standard_output_serves(vit_bundle, picture):
    """As started with ``>&-``: what it opens next must not be taken for standard output."""
    starting = ["sh", "-c", 'exec "$0" "$@" >&-', *command(vit_bundle)]
    server = Server(starting, stdout=None)
    requests_go_on(server, picture)
    assert server.stop() == 0
    assert len(server.errors) == 1


def test_the_last_lines_are_written_before_the_end(vit_bundle, picture):
    with serving(vit_bundle) as server:
        with server.client() as client:
            client.post(JUDGE, content=picture, headers={"X-Request-Id": "last"})
        assert server.stop() == 0
        assert server.line_of("last")["status"] == 200
