"""The same shards by plain processes that share a plan, and by a Ray cluster of this machine."""

from __future__ import annotations

import logging
import os
import secrets
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from ...runtime.finding.choosing import in_silence
from ...runtime.machine.errors import EngineError, InputError
from ...runtime.machine.interpreter import python_command
from ...runtime.shards.parts import part_summary
from ...runtime.shards.plan import PlanWriter
from ...runtime.shards.planning import Limits, listed, write_plan
from ...runtime.storage.folders import LocalFolder
from ..measuring.process import OwnProcess

MEMBERS = 2
"""Processes, or actors, each with one CPU."""

_SHARDS = 4  # for each of them
_STORE_BYTES = 100 << 20  # Ray's store of objects, in which only numbers of shards lie


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster that runs.

    Attributes:
        address: as :func:`ray.init` takes it.
        variables: of the environment, without which it lets nobody in.
    """

    address: str
    variables: Mapping[str, str]


@dataclass(frozen=True)
class BatchRun:
    """A run over all shards.

    Attributes:
        judging: seconds from when the first shard was begun until the last was done.
        wall: seconds from the start of the commands to their end.
    """

    judging: float
    wall: float


@dataclass(frozen=True)
class Batch:
    """What is judged, in every run anew.

    Attributes:
        plan: a file.
        bundle: a folder.
        engine: what executes the bundle.
        images: how many the plan has.
        shards: in which they are.
    """

    plan: Path
    bundle: Path
    engine: str
    images: int
    shards: int

    @classmethod
    def of(cls, photos: Path, bundle: Path, engine: str) -> Batch:
        """Plan the images of a folder in shards of the same size, next to it."""
        items = list(listed(str(photos), in_silence))
        plan = photos.with_suffix(".jsonl")
        with plan.open("wb") as file:
            most = -(-len(items) // (MEMBERS * _SHARDS))
            writer = PlanWriter(file, [str(photos)], None)
            end = write_plan(items, Limits(images=most), writer)
        return cls(plan, bundle, engine, len(items), end.shards)

    def by_processes(self) -> BatchRun:
        """Let processes judge it, each on a CPU of its own.

        Raises:
            EngineError: one of them failed.
        """
        shares = [f"{number}/{MEMBERS}" for number in range(MEMBERS)]
        return self._run(
            [
                (_pinned(cpu), ["--share", share])
                for cpu, share in zip(own_cpus(), shares, strict=True)
            ]
        )

    def by_actors(self, cluster: Cluster) -> BatchRun:
        """Let a Ray cluster judge it.

        Raises:
            EngineError: ``glass-batch`` failed.
        """
        return self._run([("", ["--ray", cluster.address])], cluster.variables)

    def _run(
        self,
        members: Sequence[tuple[str, Sequence[str]]],
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> BatchRun:
        """Run ``glass-batch`` several times at once, each with some code before it and options."""
        with tempfile.TemporaryDirectory(prefix="glass-bench-") as output:
            started = time.perf_counter()
            with ExitStack() as stack:
                for before, options in members:
                    code = f"{before}from glass_edge.runtime.commands.batch import main; main()"
                    command = [*python_command(code), *self._given(output), *options]
                    stack.enter_context(_running(command, output, variables))
            wall = time.perf_counter() - started
            return BatchRun(judging_seconds(Path(output), self.images), wall)

    def _given(self, output: str) -> list[str]:
        given = ["run", str(self.plan), "-b", str(self.bundle), "--engine", self.engine]
        return [*given, "--workers", "1", "--strict", "-o", output]


def judging_seconds(output: Path, images: int) -> float:
    """Return the time between the start of the first shard and the end of the last.

    A part is written when its shard is done, and says how long that took.

    Args:
        output: the run's folder.
        images: how many there must be.

    Raises:
        EngineError: there are fewer, or more.
    """
    folder = LocalFolder(output)
    parts = sorted(output.glob("part-*.parquet"))
    summaries = [part_summary(folder, part.name) for part in parts]
    if (found := sum(each.images for each in summaries)) != images:
        raise EngineError(f"glass-batch judged {found} images of {images}.")
    ends = [part.stat().st_mtime for part in parts]
    begins = [end - each.seconds for end, each in zip(ends, summaries, strict=True)]
    return max(ends) - min(begins)


def own_cpus() -> list[int]:
    """Return the numbers of the CPUs that the processes are pinned to.

    Raises:
        InputError: there are too few, or they cannot be chosen here.
    """
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cpus) < MEMBERS:
        raise InputError(
            f"--cluster compares {MEMBERS} processes with {MEMBERS} actors, each on a CPU of its "
            f"own, which needs Linux and {MEMBERS} CPUs: leave it out."
        )
    return cpus[:MEMBERS]


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Start a Ray cluster of this machine, with a CPU for each actor; it ends with the block."""
    # Others of the network may reach it, and whoever may use it may run any code.
    variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with OwnProcess("the Ray cluster", _Head, MEMBERS, variables) as process:
        try:
            yield Cluster(process.ask(_Head.address), variables)
        finally:
            process.ask(_Head.close)


class _Head:
    """The process that has started a cluster."""

    def __init__(self, cpus: int, variables: Mapping[str, str]) -> None:
        os.environ.update(variables)
        import ray

        self._place = tempfile.TemporaryDirectory(prefix="glass-ray-")
        ray.init(
            address="local",
            _temp_dir=self._place.name,
            num_cpus=cpus,
            object_store_memory=_STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        self._ray = ray

    def address(self) -> str:
        return str(self._ray.get_runtime_context().gcs_address)

    def close(self) -> None:
        self._ray.shutdown()
        self._place.cleanup()


def _pinned(cpu: int) -> str:
    return f"import os; os.sched_setaffinity(0, [{cpu}]); "


@contextmanager
def _running(command: Sequence[str], folder: str, variables: Mapping[str, str]) -> Iterator[None]:
    """Start a command in a folder, with more variables, and wait for it at the end of the block.

    Raises:
        EngineError: it failed; the last line it said is why.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            cwd=folder,  # Ray's workers look for modules where it was started
            env=os.environ | variables,
        )
        try:
            yield
            process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
        if process.returncode:
            raise EngineError(f"glass-batch failed: {_last_line(said) or process.returncode}")


def _last_line(said: BinaryIO) -> str:
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
