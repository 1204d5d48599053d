"""A Ray cluster on this machine, of which tests see who judges, and which they damage."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

STORE = 80 << 20  # bytes of a node's object store
PATIENCE = 120.0  # seconds


@dataclass
class RayCluster:
    """Nodes with a CPU each.

    Attributes:
        scratch: the folder for temporary files of all that runs on it.
    """

    cluster: Any
    scratch: Path
    nodes: list[Any] = field(default_factory=list)

    @property
    def address(self) -> str:
        return self.cluster.address

    def add_node(self, cpus: int = 1) -> None:
        self.nodes.append(
            self.cluster.add_node(num_cpus=cpus, object_store_memory=STORE, include_dashboard=False)
        )

    def remove_last_node(self) -> None:
        """Kill all of a node's processes at once, as the loss of a machine does."""
        self.cluster.remove_node(self.nodes.pop(), allow_graceful=False)

    def judging(self) -> dict[int, int]:
        """Return the processes that write a part now, with the number of the node of each."""
        raylets = {_raylet(node): number for number, node in enumerate(self.nodes)}
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                links = [os.readlink(each) for each in (process / "fd").iterdir()]
                parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it has ended
                continue
            if parent in raylets and any(link.startswith(f"{self.scratch}/") for link in links):
                found[int(process.name)] = raylets[parent]
        return found

    def kill_one(self) -> None:
        """Kill a process while it judges."""
        os.kill(next(iter(wait_for(self.judging))), signal.SIGKILL)


def wait_for(look: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Look until there is something, and return it."""
    end = time.monotonic() + patience
    while not (found := look()):
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.02)
    return found


def _raylet(node: Any) -> int:
    (info,) = node.all_processes["raylet"]
    return info.process.pid


@contextmanager
def ray_cluster(
    nodes: int = 2, environment: Mapping[str, str] | None = None
) -> Iterator[RayCluster]:
    """Start a cluster on the machine's own address: on 127.0.0.1 two nodes do not come up."""
    from ray.cluster_utils import Cluster

    place = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets' paths must be short
    scratch = place / "scratch"
    scratch.mkdir()
    settings = {"RAY_TMPDIR": str(place), "TMPDIR": str(scratch), "RAY_USAGE_STATS_ENABLED": "0"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (settings | dict(environment or {})).items():
            patch.setenv(name, value)
        cluster = RayCluster(Cluster(), scratch)
        try:
            for _ in range(nodes):
                cluster.add_node()
            yield cluster
        finally:
            cluster.cluster.shutdown()
            shutil.rmtree(place, ignore_errors=True)
