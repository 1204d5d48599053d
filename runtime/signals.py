"""Ending a run without losing what was begun."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_NOTE = b"\nfinishing the images begun; once more ends at once.\n"


class Interrupted(KeyboardInterrupt):
    """A run was ended by a signal and has finished what it had begun.

    Attributes:
        exit_code: what shells expect, 128 plus the signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


@contextmanager
def finishing_on_signals(finish: Callable[[], None]) -> Iterator[None]:
    """Call ``finish`` on the first SIGINT or SIGTERM; the second raises KeyboardInterrupt.

    For the main thread. The block goes on until it ends by itself.

    Raises:
        Interrupted: at the end of a block in which a signal came.
    """
    received: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        received.append(number)
        for each in _SIGNALS:
            signal.signal(each, signal.default_int_handler)
        os.write(2, _NOTE)  # print may be interrupted within itself
        finish()

    before = {each: signal.signal(each, handle) for each in _SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    if received:
        raise Interrupted(received[0])
