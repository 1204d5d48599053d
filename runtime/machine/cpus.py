"""How many CPUs this process may really use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_OWN_GROUPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
_QUOTAS = (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
"""Files that hold a quota and its period: of cgroup v2, and of v1."""


def available_cpus() -> int:
    """Return how many CPUs affinity and control-group quotas leave to this process, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    quotas = (quota for folder in _group_folders() for quota in _quotas(folder))
    return max(1, min([allowed, *map(math.ceil, quotas)]))


def _group_folders() -> Iterator[Path]:
    """Yield the folders of this process's groups and of all around them.

    A container may see its own group where the whole machine's are elsewhere; folders of groups
    that it does not see are not there.
    """
    try:
        lines = _OWN_GROUPS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        place = PurePosixPath(group.lstrip("/"))
        for each in (place, *place.parents):
            yield _GROUPS / ("cpu" if controllers else "") / each  # v1 has a tree for CPUs


def _quotas(folder: Path) -> Iterator[float]:
    """Yield the CPUs that a group may take, if it has a quota."""
    for files in _QUOTAS:
        try:
            read = [(folder / name).read_text(encoding="ascii") for name in files]
            quota, period = map(int, " ".join(read).split())
        except (OSError, ValueError):  # no such file, or a quota of "max"
            continue
        if quota > 0:  # v1 says -1 where there is none
            yield quota / period
