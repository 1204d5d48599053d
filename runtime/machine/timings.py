"""Where the time of a run goes, stage by stage."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, Literal, TypeAlias, get_args

Stage: TypeAlias = Literal["read", "decode", "views", "wait", "infer", "aggregate", "write"]
STAGES: Final[tuple[Stage, ...]] = get_args(Stage)
"""In the order in which an image passes them. ``wait`` is workers with nothing to do."""
Awaited: TypeAlias = Literal["images", "engine", "memory", "records"]
"""Why workers have nothing to do: no image was read, the engine is busy, what is decoded takes
all the memory allowed, or nobody takes the records."""

_PREPARING: Final[tuple[Stage, ...]] = ("decode", "views")
_JUDGING: Final[tuple[Stage, ...]] = ("infer", "aggregate")
_IDLE = 0.3  # share of the workers' time from which what they wait for bounds the run
_FASTER_ENGINE = "a bundle in INT8 or BF16, another engine or fewer crops would help."
_ADVICE: Final[dict[Awaited, str]] = {
    "images": "images: they come too slowly (the disk, or whatever lists them).",
    "engine": f"the engine: {_FASTER_ENGINE}",
    "memory": "memory: a larger --memory would let more large images be decoded at once.",
    "records": "records to be taken: whoever reads or writes them is too slow.",
}


class Timings:
    """Seconds by stage, summed over all threads.

    Attributes:
        seconds: for each stage the seconds spent in it so far.
        waited: the seconds of ``wait`` by what was waited for; at a run's end it is nothing.
    """

    def __init__(self) -> None:
        self.seconds: dict[Stage, float] = dict.fromkeys(STAGES, 0.0)
        self.waited: dict[Awaited, float] = dict.fromkeys(_ADVICE, 0.0)
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

    @contextmanager
    def waiting(self, awaited: Awaited | None) -> Iterator[None]:
        """Add the time that the block waits."""
        started = time.perf_counter()
        try:
            with self.stage("wait"):
                yield
        finally:
            taken = time.perf_counter() - started
            if awaited is not None:
                with self._lock:
                    self.waited[awaited] += taken

    def bottleneck(self) -> str:
        """Say in one sentence what bounds the run and what would help."""
        awaited = max(self.waited, key=lambda each: self.waited[each])
        waiting = self._share(self.waited[awaited])
        if waiting > _IDLE:
            return f"workers wait {waiting:.0%} of their time for {_ADVICE[awaited]}"
        judging, preparing = self._share_of(_JUDGING), self._share_of(_PREPARING)
        if judging >= preparing:
            return f"the engine takes {judging:.0%} of the workers' time: {_FASTER_ENGINE}"
        return (
            f"decoding and views take {preparing:.0%} of the workers' time: more "
            "CPUs would help, another engine would not."
        )

    def _share_of(self, stages: Iterable[Stage]) -> float:
        return self._share(sum(self.seconds[name] for name in stages))

    def _share(self, seconds: float) -> float:
        """Return the share in the time of all stages but reading and writing."""
        counted = (*_PREPARING, *_JUDGING, "wait")
        total = sum(self.seconds[name] for name in counted)
        return seconds / total if total else 0.0
