"""The number of threads follows affinity and the container's quota."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from glass_edge.runtime import cpus

COUNT = "from glass_edge.runtime.cpus import available_cpus; print(available_cpus())"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_affinity_is_respected():
    one = min(os.sched_getaffinity(0))
    command = f"import os; os.sched_setaffinity(0, [{one}]); {COUNT}"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert done.stdout.strip() == "1"


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("150000 100000", 2), ("100000 100000", 1), ("50000 100000", 1), ("max 100000", 8),
     ("6400000 100000", 8), ("", 8)],
)  # fmt: skip
def test_a_containers_quota_is_respected(quota, expected, tmp_path, monkeypatch):
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(cpus, "_CGROUP_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert cpus.available_cpus() == expected


def test_no_cgroup_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(cpus, "_CGROUP_QUOTA", tmp_path / "nothing")
    assert cpus.available_cpus() >= 1
