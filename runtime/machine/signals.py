"""Ending a run without losing what was begun."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_NOTE = b"\nfinishing the images begun; once more ends at once.\n"


class Interrupted(KeyboardInterrupt):
    """A run was ended by a signal.

    Attributes:
        exit_code: what shells expect, 128 plus the signal's number.
        at_once: whether it did not wait for what was begun.
    """

    def __init__(self, number: int, *, at_once: bool = False) -> None:
        super().__init__()
        self.exit_code, self.at_once = 128 + number, at_once


@contextmanager
def finishing_on_signals(finish: Callable[[], None]) -> Iterator[None]:
    """Call ``finish`` on the first SIGINT or SIGTERM; the second ends the block at once.

    For the main thread. After the first the block goes on until it ends by itself.

    Raises:
        Interrupted: at the end of a block in which a signal came, or by the second one.
    """
    received: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        received.append(number)
        for each in _SIGNALS:
            signal.signal(each, _end_at_once)
        finish()
        if sys.stderr is not None:  # else it was closed
            with suppress(OSError, ValueError):  # nobody may be reading it, or it is closed
                os.write(sys.stderr.fileno(), _NOTE)  # print may be interrupted within itself

    before = {each: signal.signal(each, handle) for each in _SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    if received:
        raise Interrupted(received[0])


@contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does: by an exception, so that files are cleaned up.

    For the main thread.

    Raises:
        Interrupted: SIGTERM came.
    """
    before = signal.signal(signal.SIGTERM, _end_at_once)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end_at_once(number: int, _: FrameType | None) -> None:
    raise Interrupted(number, at_once=True)
