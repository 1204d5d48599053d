"""The real ``glass-serve``, in a process of its own, for tests to talk to."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from typing import IO, Any

import httpx
from conftest import PROGRAMS
from glass_edge.runtime.bundle.bundle import Bundle
from prometheus_client.parser import text_string_to_metric_families
from waiting import PATIENCE

_ADDRESS = re.compile(r"http://[^\s;]+")


class Server:
    """A server that listens, and what it has written so far.

    Attributes:
        process: in which it runs.
        url: where it is found; no slash at the end.
        errors: the lines of its standard error.
    """

    def __init__(self, command: Sequence[object], **options: Any) -> None:
        """Start it, and wait until it says where it listens."""
        usual: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen([*map(str, command)], **usual | options)
        self.errors: list[str] = []
        self._lines: Queue[bytes] = Queue()
        self._greeted: Queue[str] = Queue()
        self._readers = [self._reader(self.process.stderr, self._note)]
        if self.process.stdout is not None:
            self._readers.append(self._reader(self.process.stdout, self._lines.put))
        try:
            self.url = self._greeted.get(timeout=PATIENCE)
        except Empty:
            self.process.kill()
            raise AssertionError(f"it has not begun to serve: {self.errors}") from None
        assert self.url, self.errors

    def _reader(self, stream: IO[bytes], take: Any) -> threading.Thread:
        def read() -> None:
            for line in stream:
                take(line)
            if stream is self.process.stderr:
                self._greeted.put("")  # as it ended without a greeting

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        return thread

    def _note(self, line: bytes) -> None:
        text = line.decode()
        self.errors.append(text)
        if found := _ADDRESS.search(text):
            self._greeted.put(found[0])

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host.strip("[]"), int(port)

    def connect(self) -> socket.socket:
        """Open a connection, for what no client would say."""
        return socket.create_connection(self.address, PATIENCE)

    def client(self, **options: Any) -> httpx.Client:
        """Return a client that knows the server; close it."""
        usual: dict[str, Any] = {"timeout": PATIENCE, "trust_env": False, "verify": False}
        return httpx.Client(base_url=self.url, **usual | options)

    def line(self) -> dict[str, Any]:
        """Wait for the next line that the server writes of a request."""
        return json.loads(self._lines.get(timeout=PATIENCE))

    @property
    def lines(self) -> Iterator[dict[str, Any]]:
        """The lines that were written of requests and not taken yet."""
        while not self._lines.empty():
            yield self.line()

    @property
    def said(self) -> str:
        """What it said on standard error after its greeting."""
        return "".join(self.errors[1:])

    def line_of(self, identity: str) -> dict[str, Any]:
        """Wait for the line of a request; those before it are passed over."""
        while (line := self.line())["id"] != identity:
            pass
        return line

    def metrics(self) -> dict[str, float]:
        """Return what is counted: ``name{label="value"}``, as Prometheus reads it."""
        with self.client() as client:
            text = client.get("/metrics").text
        return {
            _written(sample.name, sample.labels): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for the end, and return the exit code. Everything written was read then."""
        code = self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        return code

    def stop(self) -> int:
        """End it as a supervisor does; return the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()


def _written(name: str, labels: dict[str, str]) -> str:
    said = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    return f"{name}{{{said}}}" if said else name


def command(bundle: Bundle | Path, *options: object) -> list[object]:
    """Return the command that serves a bundle at a free port, and ends without a delay."""
    path = bundle.path if isinstance(bundle, Bundle) else bundle
    usual = ("--port", 0, "--drain-delay", 0)
    return [PROGRAMS / "glass-serve", path, *usual, *options]


@contextmanager
def serving(bundle: Bundle | Path, *options: object, **popen: Any) -> Iterator[Server]:
    """Serve a bundle; a test may end the server itself. It is never left running."""
    server = Server(command(bundle, *options), **popen)
    try:
        yield server
        if server.process.poll() is None:
            assert server.stop() == 0, server.errors
    finally:
        server.process.kill()
        server.wait()
