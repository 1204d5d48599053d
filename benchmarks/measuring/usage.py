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

_PROC = Path("/proc")
_POLL_INTERVAL = 0.25  # seconds; a look takes some 20 ms for each process
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
    process again what it shares with its parent.
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


class PeakMemory:
    """Watches the memory of a process and its children while a block runs.

    Watching slows them down a little, so it is not for runs that are timed.

    Attributes:
        growth: the most bytes held in the block over those held at its start.
    """

    growth: int | None = None

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._start = memory_bytes(self._pid)
        if self._start is not None:
            self.growth = 0
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_POLL_INTERVAL):
            held = memory_bytes(self._pid)
            if held is not None and self._start is not None and self.growth is not None:
                self.growth = max(self.growth, held - self._start)


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
