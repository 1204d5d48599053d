"""What came of a load: every request's latency, by how it ended."""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec
import numpy as np

ANSWERED = "200"
LOST = "connection lost"
TIMED_OUT = "no answer in time"


class Load(msgspec.Struct, frozen=True):
    """What came of the requests of one load.

    Attributes:
        seconds: how long it went on, without the time that warmed the server up.
        answered: how many answers of status 200 came in these seconds.
        latencies: by the status, :data:`LOST` or :data:`TIMED_OUT`, the seconds of each request
            that was due in them: from the time it was due to its answer, or to its failure.
        images: which image each answer of status 200 in ``latencies`` is of, by its place among
            those sent.
        requests: how many were made in all.
        cpu_seconds: what the load generator took of the CPUs for all of them.
        elapsed: seconds from the first request to the last answer.
    """

    seconds: float
    answered: int
    latencies: dict[str, tuple[float, ...]]
    images: tuple[int, ...]
    requests: int
    cpu_seconds: float
    elapsed: float

    @property
    def rate(self) -> float:
        """Answers of status 200 in a second."""
        return self.answered / self.seconds

    @property
    def counts(self) -> dict[str, int]:
        """How many requests ended in each way."""
        return {outcome: len(each) for outcome, each in self.latencies.items()}

    @property
    def of_images(self) -> Iterator[tuple[int, float]]:
        """The image and the seconds of each answer of status 200."""
        return zip(self.images, self.latencies.get(ANSWERED, ()), strict=True)

    @property
    def longest(self) -> float:
        """Seconds of the slowest request, whatever came of it; NaN if none was due."""
        return max(map(max, self.latencies.values()), default=math.nan)

    @property
    def cpu_share(self) -> float:
        """What the load generator took of one CPU."""
        return self.cpu_seconds / self.elapsed

    def percentile(self, percent: float) -> float:
        """Return a percentile, interpolated, of the seconds to answers of status 200.

        NaN if there are none.
        """
        found = self.latencies.get(ANSWERED)
        return float(np.percentile(found, percent)) if found else math.nan
