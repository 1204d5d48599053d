"""A process of its own for each thing that is compared.

It keeps what one leaves in the allocator from the others, and lets bundles run as they are
served, without PyTorch's libraries beside them. Hence no import of PyTorch here: every such
process imports this module.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar

from ...runtime.machine.errors import EngineError, GlassError

if TYPE_CHECKING:
    from typing_extensions import Self

_Inhabitant = TypeVar("_Inhabitant")
_Arguments = ParamSpec("_Arguments")
_Answer = TypeVar("_Answer")
_CLOSE_TIMEOUT = 10.0  # seconds that a process may take to end by itself
_POLL_INTERVAL = 0.02  # seconds
_AT_REST = 0.1  # share of one CPU below which threads are at rest
_MOST_POLLS = 100


class OwnProcess(Generic[_Inhabitant]):
    """An object that lives in a process of its own, runs when asked, and rests otherwise.

    The process may have children, such as PyTorch's loaders, and ends with the block.
    """

    def __init__(
        self,
        name: str,
        make: Callable[_Arguments, _Inhabitant],
        *arguments: _Arguments.args,
        **named: _Arguments.kwargs,
    ) -> None:
        """Start the process and make the object in it.

        Args:
            name: what errors call the process.
            make: makes the object; it and its arguments are pickled.

        Raises:
            GlassError: what ``make`` raised.
            EngineError: the process ended.
        """
        self._name = name
        ordinary, spawn = multiprocessing.get_start_method(), multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(
            target=_serve, args=(theirs, ordinary, make, arguments, named)
        )
        self._process.start()
        theirs.close()  # so that the end of the process ends the pipe
        try:
            self._receive()
        except BaseException:
            self._end(at_once=True)
            raise

    @property
    def pid(self) -> int:
        """The process's number."""
        assert self._process.pid is not None  # noqa: S101 - it was started
        return self._process.pid

    def ask(
        self,
        method: Callable[Concatenate[_Inhabitant, _Arguments], _Answer],
        *arguments: _Arguments.args,
        **named: _Arguments.kwargs,
    ) -> _Answer:
        """Call a method of the object and return what it returns.

        Args:
            method: as its class has it, for example ``Runner.judge``.

        Raises:
            GlassError: what the method raised; the object lives on.
            EngineError: the process ended.
        """
        try:
            self._pipe.send((method.__name__, arguments, named))
        except OSError:
            raise self._gone() from None
        answer: _Answer = self._receive()
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end(at_once=kind is not None)

    def _receive(self) -> Any:
        try:
            answer = self._pipe.recv()
        except (EOFError, OSError):
            raise self._gone() from None
        if isinstance(answer, GlassError):
            raise answer
        return answer

    def _gone(self) -> EngineError:
        self._process.join(_CLOSE_TIMEOUT)
        return EngineError(
            f"the process of {self._name} ended without an answer (exit code "
            f"{self._process.exitcode}): is memory short?"
        )

    def _end(self, *, at_once: bool) -> None:
        """Let the process end, which it does when the pipe does; or make it."""
        self._pipe.close()
        if not at_once:
            self._process.join(_CLOSE_TIMEOUT)
        self._process.terminate()
        self._process.join()


def _serve(
    pipe: Connection,
    start_method: str,
    make: Callable[..., object],
    arguments: Any,
    named: dict[str, Any],
) -> None:
    """Make the object and answer calls of its methods until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends this
    # A spawned process would spawn its own children, too, and those of PyTorch's loaders take
    # seconds to start: let it start them as any other process here does.
    multiprocessing.set_start_method(start_method, force=True)
    try:
        inhabitant = make(*arguments, **named)
        _rest()
    except GlassError as error:
        pipe.send(error)
        return
    pipe.send(None)
    while True:
        try:
            method, arguments, named = pipe.recv()
        except EOFError:
            return
        try:
            answer = getattr(inhabitant, method)(*arguments, **named)
            _rest()
        except GlassError as error:
            answer = error
        pipe.send(answer)


def _rest() -> None:
    """Wait until the engine's threads sleep.

    Thread pools spin for a while after a run, in case the next one follows at once. They
    would take the CPUs from the contender whose turn comes.
    """
    for _ in range(_MOST_POLLS):
        used = time.process_time()
        time.sleep(_POLL_INTERVAL)
        if time.process_time() - used < _AT_REST * _POLL_INTERVAL:
            return
    raise EngineError(
        "idle threads never sleep and would slow the other contenders down: unset "
        "OMP_WAIT_POLICY, GOMP_SPINCOUNT and KMP_BLOCKTIME."
    )
