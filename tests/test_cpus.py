"""The number of threads follows affinity and the container's quota."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from glass_edge.runtime.machine import cpus

COUNT = "from glass_edge.runtime.machine.cpus import available_cpus; print(available_cpus())"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_affinity_is_respected():
    one = min(os.sched_getaffinity(0))
    command = f"import os; os.sched_setaffinity(0, [{one}]); {COUNT}"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert done.stdout.strip() == "1"


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Let a process on eight CPUs be in some control groups, given their files."""

    def make(own: str, files: dict[str, str]) -> None:
        (tmp_path / "own").write_text(own)
        for name, content in files.items():
            (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "groups" / name).write_text(content)

    monkeypatch.setattr(cpus, "_OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(cpus, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return make


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("150000 100000", 2), ("100000 100000", 1), ("50000 100000", 1), ("max 100000", 8),
     ("6400000 100000", 8), ("", 8)],
)  # fmt: skip
def test_a_containers_quota_is_respected(quota, expected, groups):
    groups("0::/\n", {"cpu.max": quota})
    assert cpus.available_cpus() == expected


def test_the_tightest_of_the_groups_around_a_process_counts(groups):
    """As in a systemd slice, or in a container that sees the machine's groups."""
    groups(
        "0::/work.slice/run-1.scope\n",
        {
            "work.slice/cpu.max": "300000 100000",
            "work.slice/run-1.scope/cpu.max": "500000 100000",
            "other.slice/cpu.max": "100000 100000",
        },
    )
    assert cpus.available_cpus() == 3


V1 = "12:memory:/docker/1f\n3:cpu,cpuacct:/docker/1f\n1:name=systemd:/docker/1f\n"


@pytest.mark.parametrize("seen", ["", "docker/1f/"])  # a container's own view, and the machine's
@pytest.mark.parametrize(("quota", "expected"), [("250000", 3), ("-1", 8)])
def test_the_quota_of_cgroup_v1_is_respected(quota, expected, seen, groups):
    files = {"cpu.cfs_quota_us": f"{quota}\n", "cpu.cfs_period_us": "100000\n"}
    groups(V1, {f"cpu/{seen}{name}": content for name, content in files.items()})
    assert cpus.available_cpus() == expected


def test_no_cgroup_at_all(groups):
    assert cpus.available_cpus() == 8
