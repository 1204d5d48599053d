"""Where the time of a run goes, stage by stage."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal, TypeAlias, get_args

Stage: TypeAlias = Literal["read", "decode", "views", "wait", "infer", "aggregate", "write"]
STAGES: Final[tuple[Stage, ...]] = get_args(Stage)
"""In the order in which an image passes them. ``wait`` is workers with nothing to do."""

_PREPARING: Final[tuple[Stage, ...]] = ("decode", "views")
_JUDGING: Final[tuple[Stage, ...]] = ("infer", "aggregate")
_IDLE = 0.3  # share of the workers' time from which they starve


class Timings:
    """Seconds by stage, summed over all threads.

    Attributes:
        seconds: for each stage the seconds spent in it so far.
    """

    def __init__(self) -> None:
        self.seconds: dict[Stage, float] = dict.fromkeys(STAGES, 0.0)
        self._lock = threading.Lock()

    @contextmanager
    def stage(self, name: Stage) -> Iterator[None]:
        """Add the time that the block takes."""
        started = time.perf_counter()
        try:
            yield
        finally:
            taken = time.perf_counter() - started
            with self._lock:
                self.seconds[name] += taken

    def share(self, *stages: Stage) -> float:
        """Return the share of some stages in the time of all but reading and writing."""
        counted = (*_PREPARING, *_JUDGING, "wait")
        total = sum(self.seconds[name] for name in counted)
        return sum(self.seconds[name] for name in stages) / total if total else 0.0

    def bottleneck(self) -> str:
        """Say in one sentence what bounds the run and what would help."""
        if self.share("wait") > _IDLE:
            return (
                f"workers wait {self.share('wait'):.0%} of their time: images come too slowly "
                "(the disk, or whatever lists them)."
            )
        if self.share(*_JUDGING) >= self.share(*_PREPARING):
            return (
                f"the engine takes {self.share(*_JUDGING):.0%} of the workers' time: a bundle in "
                "INT8 or BF16, another engine or fewer crops would help."
            )
        return (
            f"decoding and views take {self.share(*_PREPARING):.0%} of the workers' time: more "
            "CPUs would help, another engine would not."
        )
