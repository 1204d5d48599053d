"""A Ray cluster on this machine, of which tests see who judges, and which they damage."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from waiting import until

STORE = 80 << 20  # bytes of a node's object store


@dataclass
class RayCluster:
    """Nodes with a CPU each, all on this machine.

    Attributes:
        folder: where Ray keeps what it writes, its logs among it.
        scratch: the folder for temporary files of all that runs on it.
        nodes: of them the first is the head.
    """

    cluster: Any
    folder: Path
    scratch: Path
    nodes: list[Any] = field(default_factory=list)

    @property
    def address(self) -> str:
        return self.cluster.address

    def add_node(self) -> None:
        options = {"num_cpus": 1, "object_store_memory": STORE, "include_dashboard": False}
        self.nodes.append(self.cluster.add_node(**options))

    def remove_last_node(self) -> None:
        """Kill all of a node's processes at once, as the loss of a machine does."""
        self.cluster.remove_node(self.nodes.pop(), allow_graceful=False)

    def lose_head(self) -> None:
        _raylet(self.nodes[0]).kill()

    def judging(self) -> dict[int, int]:
        """Return the processes that write a part now, with the number of the node of each."""
        raylets = {_raylet(node).pid: number for number, node in enumerate(self.nodes)}
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                opened = [link.readlink() for link in (process / "fd").iterdir()]
                parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it has ended
                continue
            if parent in raylets and any(path.is_relative_to(self.scratch) for path in opened):
                found[int(process.name)] = raylets[parent]
        return found

    def judging_on(self, node: int) -> bool:
        return node in self.judging().values()

    def kill_one_judging(self) -> None:
        """Kill a process while it judges."""
        os.kill(next(iter(until(self.judging))), signal.SIGKILL)

    def stored_bytes(self) -> int:
        """Return how much of the nodes' object stores was ever written to."""
        texts = [Path(f"/proc/{_raylet(node).pid}/status").read_text() for node in self.nodes]
        found = [re.search(r"^RssShmem:\s+(\d+) kB$", text, re.M) for text in texts]
        return sum(int(match[1]) << 10 for match in found if match)


def _raylet(node: Any) -> Any:
    (info,) = node.all_processes["raylet"]
    return info.process


@contextmanager
def ray_cluster(environment: Mapping[str, str]) -> Iterator[RayCluster]:
    """Start a cluster of one node on the machine's own address: 127.0.0.1 takes no second one."""
    from ray.cluster_utils import Cluster

    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # paths of sockets must be short
    scratch = folder / "scratch"
    scratch.mkdir()
    settings = {"RAY_TMPDIR": str(folder), "TMPDIR": str(scratch), "RAY_USAGE_STATS_ENABLED": "0"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (settings | dict(environment)).items():
            patch.setenv(name, value)
        cluster = RayCluster(Cluster(), folder, scratch)
        try:
            cluster.add_node()
            yield cluster
        finally:
            cluster.cluster.shutdown()
            shutil.rmtree(folder, ignore_errors=True)
