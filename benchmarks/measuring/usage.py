"""What a process and its children take of the machine, as Linux tells it.

Elsewhere nothing is known, and every figure is ``None``.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

_PROC = Path("/proc")
_KIB = 1024
_AFTER_NAME = slice(11, 15)  # utime, stime, cutime, cstime in the fields after the name


def cpu_seconds(pid: int) -> float | None:
    """Return the CPU time that a process and its children, ended ones too, have taken."""
    if not _known(pid):
        return None
    ticks = 0
    for member in _family(pid):
        try:
            text = (_PROC / str(member) / "stat").read_text(encoding="utf-8")
        except OSError:  # it has just ended; its parent counts it
            continue
        ticks += sum(map(int, text.rpartition(")")[2].split()[_AFTER_NAME]))
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_bytes(pid: int) -> int | None:
    """Return the memory that a process and its children hold, shared pages counted once.

    The sum of proportional set sizes: a resident set size would count for each loader
    process again what it shares with its parent. Each takes some 20 ms to look at.
    """
    if not _known(pid):
        return None
    total = 0
    for member in _family(pid):
        try:
            text = (_PROC / str(member) / "smaps_rollup").read_text(encoding="utf-8")
        except OSError:
            continue
        found = re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)
        total += int(found[1]) * _KIB if found else 0
    return total


class MemoryCurve:
    """Notes the memory of a process and its children again and again while a block runs.

    Looking slows them down a little.

    Attributes:
        held: bytes; the first are those at the block's start, the last those at its end. Empty
            where they are not known.
    """

    def __init__(self, pid: int, interval: float) -> None:
        """Look every so many seconds."""
        self.held: list[int] = []
        self._pid, self._interval = pid, interval
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def growth(self) -> int | None:
        """The most bytes held in the block over those held at its start."""
        return max(self.held) - self.held[0] if self.held else None

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._ended.wait(self._interval):
            self._look()

    def _look(self) -> None:
        if (held := memory_bytes(self._pid)) is not None:
            self.held.append(held)


def _known(pid: int) -> bool:
    return (_PROC / str(pid) / "smaps_rollup").exists()


def _family(pid: int) -> Iterator[int]:
    """Yield a process and all that descend from it."""
    yield pid
    for listing in (_PROC / str(pid) / "task").glob("*/children"):
        try:
            children = listing.read_text(encoding="ascii").split()
        except OSError:  # the thread has just ended
            continue
        for child in children:
            yield from _family(int(child))
