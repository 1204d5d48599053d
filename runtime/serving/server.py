"""A server's life: it listens, drains and ends without losing a request."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import uvicorn

from ..machine.errors import EngineError, InputError
from .app import application
from .lines import Lines
from .protocol import Protocol
from .service import Service

_IDLE = 75  # seconds that an idle connection is kept; longer than load balancers keep theirs
_BACKLOG = 2048


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that has the address, and does not listen yet.

    Raises:
        InputError: the address cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:  # of a name that no host may have
        raise _not_had(host, port, error) from None
    if sys.platform != "win32":  # where it would let two programs have one port
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind(address)
    except OSError as error:
        found.close()
        raise _not_had(host, port, error) from None
    return found


def address_of(listener: socket.socket) -> str:
    """Return where people find a server."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    service: Service, listener: socket.socket, lines: Lines, begun: Callable[[], None]
) -> int:
    """Answer requests until SIGINT or SIGTERM; return how many were not answered in the end.

    After SIGTERM requests are answered for the drain delay, while readiness fails. Then no
    connection is accepted, and what is in flight has its grace. SIGINT takes no delay. A further
    signal of either kind ends the delay, and one after that the grace.

    Args:
        service: what answers.
        listener: is bound, and closed in the end.
        lines: take a line for each request.
        begun: called as soon as requests are answered and signals obeyed.

    Raises:
        InputError: another program has taken the address in between.
        EngineError: the engine failed.
    """
    server = _Server(service, lines, begun)
    try:
        listener.listen(_BACKLOG)
    except OSError as error:
        host, port = listener.getsockname()[:2]
        raise _not_had(host, port, error) from None
    _allow_connections()
    server.run([listener])
    if service.failure is not None:
        raise EngineError(f"the engine failed, so the server has ended: {service.failure}")
    return server.lost


def _not_had(host: str, port: int, error: OSError | UnicodeError) -> InputError:
    reason = str(getattr(error, "strerror", None) or error).lower()
    used = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
    return InputError(
        f"the server cannot listen at {host}, port {port} ({reason}): choose another --host or "
        f"--port{', or end the program that has this one' if used else ''}."
    )


def _allow_connections() -> None:
    """Let this process have as many open files as the system allows it: each client is one."""
    if sys.platform == "win32":  # which has no such limit
        return
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # where it may not be raised
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class _Server(uvicorn.Server):
    """Ends in the order that load balancers need: first not ready, then closed.

    Attributes:
        lost: requests that the end cut off.
    """

    def __init__(self, service: Service, lines: Lines, begun: Callable[[], None]) -> None:
        options = service.options
        super().__init__(
            uvicorn.Config(
                application(service, lines.write),
                http=Protocol,
                lifespan="off",
                ws="none",
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=_IDLE,
                timeout_graceful_shutdown=options.grace,
            )
        )
        # It says of each bad form what is wrong with it, where nobody has set up logging.
        logging.getLogger("python_multipart").setLevel(logging.ERROR)
        self.lost = 0
        self._service, self._begun = service, begun
        self._closes_at: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, and say so."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._begun()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; see :func:`serve`. Signals are not raised again: the exit is our own."""
        now = time.monotonic()
        if self.should_exit:
            self.force_exit = True
            self._loop.call_soon_threadsafe(self._cut)
        elif self._closes_at is None and sig == signal.SIGTERM:
            self._closes_at = now + self._service.options.drain_delay
        else:
            self._closes_at = now
        self._service.draining = True

    def _cut(self) -> None:
        """Close all connections now: newer Pythons wait for the last one before they end."""
        self.lost = len(self.server_state.tasks)
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()

    async def on_tick(self, counter: int) -> bool:
        """Whether to end now; asked ten times a second."""
        closes = self._closes_at is not None and time.monotonic() >= self._closes_at
        self.should_exit = self.should_exit or closes or self._service.failure is not None
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close, and count what did not end in time."""
        await super().shutdown(sockets)
        self.lost = max(self.lost, len(self.server_state.tasks))
