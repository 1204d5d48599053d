"""Where the time of one thread goes."""

from __future__ import annotations

import time


class StageClock:
    """Seconds by stage of one thread."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = time.perf_counter()

    def done(self, stage: str) -> None:
        """Note that a stage has ended and the next begins."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._started
        self._started = now
