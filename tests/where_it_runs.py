"""Asked by tests in a process of its own, which imports nothing else."""

from __future__ import annotations

import os


class WhereItRuns:
    """Says which CPUs its process has."""

    def cpus(self) -> set[int]:
        return os.sched_getaffinity(0)
