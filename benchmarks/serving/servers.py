"""Servers as users start them: each in a process of its own, on a free port of this machine."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from ...runtime.bundle.bundle import Bundle
from ...runtime.machine.errors import EngineError
from ...runtime.machine.interpreter import python_command
from . import client
from .load import Target

if TYPE_CHECKING:
    from typing_extensions import Self

START_TIMEOUT = 1800.0  # seconds; an engine may have to be built first
_STOP_TIMEOUT = 30.0
_POLL_INTERVAL = 0.1
_ANSWER_TIMEOUT = 5.0
# A proxy that the environment names knows nothing of this machine's ports.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class ServerCommand:
    """How a server is started and asked.

    Attributes:
        name: what tables call it.
        module: whose ``main`` serves, and takes ``--port``.
        arguments: what else it is given.
        ready: the path that answers with 200 as soon as images may come.
        path: where images go, as the part ``file`` of a form.
    """

    name: str
    module: str
    arguments: tuple[str, ...]
    ready: str
    path: str


def glass_serve(bundle: Bundle, engine: str) -> ServerCommand:
    """Return glass-serve with its defaults."""
    return ServerCommand(
        name=f"glass-serve, {bundle.name}",
        module="glass_edge.runtime.commands.serve",
        arguments=(str(bundle.path), "--engine", engine),
        ready="/v2/health/ready",
        path="/v1/judge",
    )


def straightforward(bundle: Bundle) -> ServerCommand:
    """Return the server of :mod:`.straightforward`."""
    return ServerCommand(
        name=f"straightforward, {bundle.name}",
        module="glass_edge.benchmarks.serving.straightforward",
        arguments=(str(bundle.path),),
        ready="/openapi.json",
        path="/judge",
    )


class Server:
    """A server that runs until the block ends.

    Attributes:
        name: what tables call it.
        target: where images are sent.
    """

    def __init__(self, command: ServerCommand) -> None:
        """Start it and wait until it is ready.

        Raises:
            EngineError: it ended, or is not ready in time; the last line it said is why.
        """
        self.name, port = command.name, _free_port()
        self.target = Target(port, command.path)
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the block
        code = f"from {command.module} import main; main()"
        self._process = subprocess.Popen(  # noqa: S603
            [*python_command(code), *command.arguments, "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
        )
        try:
            self._wait(f"http://{client.HOST}:{port}{command.ready}")
        except BaseException:
            self._stop()
            raise

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def check_alive(self) -> None:
        """Insist on a server that still runs.

        Raises:
            EngineError: it ended; the last line it said is why.
        """
        if self._process.poll() is not None:
            raise EngineError(f"{self.name} ended: {self._last_line()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def _wait(self, url: str) -> None:
        deadline = time.perf_counter() + START_TIMEOUT
        while not _answers(url):
            self.check_alive()
            if time.perf_counter() > deadline:
                raise EngineError(
                    f"{self.name} is not ready after {START_TIMEOUT:.0f} s: {self._last_line()}"
                )
            time.sleep(_POLL_INTERVAL)

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._said.close()

    def _last_line(self) -> str:
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self._process.returncode}"


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind((client.HOST, 0))
        port: int = listening.getsockname()[1]
        return port


def _answers(url: str) -> bool:
    # An error: it does not listen yet, or it answers that it is not ready.
    with suppress(OSError), _DIRECT.open(url, timeout=_ANSWER_TIMEOUT):
        return True
    return False
