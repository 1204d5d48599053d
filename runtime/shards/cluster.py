"""Shards judged on a Ray cluster, of which this process sees only what became of each.

It is a process of its own that joins the cluster, see :mod:`.driver`: where Ray loses the cluster
it ends its process at once, and before that it writes on whatever terminal there is.
"""

from __future__ import annotations

import os
import pickle
import re
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Timer
from typing import IO, cast

import msgspec

from ..machine.errors import InputError
from ..machine.interpreter import python_command
from .judging import JudgeSettings, Outcome
from .pool import Pool

ANY_CLUSTER = "auto"
"""The address of the cluster that ``RAY_ADDRESS`` names, or that this machine is part of."""

MOST_TRIES = 4
"""How often a shard is begun, if the processes or the machines that judge it are lost."""

CONNECT_TIMEOUT = 10.0
JOIN_TIMEOUT = 60.0  # seconds; it takes 2 to 9 of them, also where the machine is busy
_CLOSE_TIMEOUT = 10.0
_DRIVE = "from glass_edge.runtime.shards.driver import drive; drive()"
_HOST_AND_PORT = re.compile(r"\[?([^/]+?)\]?:(\d{1,5})", re.A)


@dataclass(frozen=True)
class Job:
    """What the driver is given: what judges, the numbers of shards, and the cluster's address."""

    settings: JudgeSettings
    shards: Sequence[int]
    address: str


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the driver says, a line each: its pool, each outcome, and why or that it ends."""

    pool: Pool | None = None
    outcome: Outcome | None = None
    error: str | None = None
    done: bool = False


def judge_on_cluster(
    settings: JudgeSettings,
    shards: Sequence[int],
    address: str = ANY_CLUSTER,
    joined: Callable[[Pool], None] = lambda pool: None,
) -> Iterator[Outcome]:
    """Judge shards on a cluster, and yield what became of each as soon as it is known.

    The bundle, the images and the output must be reachable from every machine under the same paths,
    and glass-edge be installed there. A shard whose process or machine is lost is begun again,
    :data:`MOST_TRIES` times in all.

    Args:
        settings: what judges; its paths are absolute. For ``options.workers`` see
            :func:`.pool.pool_of`.
        shards: their numbers.
        address: of the cluster, as :func:`ray.init` takes it.
        joined: is told what judges once that is known.

    Raises:
        InputError: Ray is not installed, there is no such cluster, it has no room for an actor, or
            it was lost.
    """
    check_ray()
    if address == ANY_CLUSTER:
        address = os.environ.get("RAY_ADDRESS", address)
    _check_address(address)
    left = set(shards)
    with _driver(Job(settings, shards, address)) as lines:
        for told in lines:
            if told.pool:
                joined(told.pool)
            if told.outcome:
                left.discard(told.outcome.shard)
                yield told.outcome
    for shard in sorted(left):
        yield Outcome(
            shard, error="nothing came back of it: run the same command to go on with it."
        )


def check_ray() -> None:
    """Check that Ray is installed.

    Raises:
        InputError: it is not.
    """
    for name in ("ray", "pandas", "pyarrow"):  # Ray Data needs the others
        if find_spec(name) is None:
            raise InputError(
                f"--ray needs {name}, which is not installed: pip install 'glass-edge[ray]'."
            )


def _check_address(address: str) -> None:
    """Check that something listens at an address, because Ray tries for minutes.

    Raises:
        InputError: nothing does, or the address is of another kind.
    """
    if "://" in address:
        raise InputError(
            f"{address} is not the address of a cluster's head: give --ray HOST:PORT, as ray start "
            "shows it, from a machine of the cluster, or send the command there with ray job "
            "submit."
        )
    found = _HOST_AND_PORT.fullmatch(address)
    if found is None:
        return
    try:
        socket.create_connection((found[1], int(found[2])), CONNECT_TIMEOUT).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"no Ray cluster answers at {address} ({getattr(error, 'strerror', None) or error}): "
            "start one with ray start --head, or give its address."
        ) from None


@contextmanager
def _driver(job: Job) -> Iterator[Iterator[Told]]:
    """Start the process that joins the cluster, and end it with the block.

    It is killed where the block is left early. Its actors are killed by Ray then, and no part is
    left unfinished.
    """
    process = subprocess.Popen(  # noqa: S603
        python_command(_DRIVE),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # all that Ray has to say is in its logs, too
        cwd=Path.cwd().anchor,  # which Ray makes every worker look for modules in
        start_new_session=True,  # Ctrl-C is for the parent
    )
    try:
        yield _lines(process, job)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_CLOSE_TIMEOUT)
    finally:
        process.kill()
        process.communicate()


def _lines(process: subprocess.Popen[bytes], job: Job) -> Iterator[Told]:
    """Yield what the driver says until it is done.

    Raises:
        InputError: it cannot do it, has not joined in time, or is gone.
    """
    late = Event()

    def give_up() -> None:
        late.set()
        process.kill()

    stdin, stdout = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
    timer = Timer(JOIN_TIMEOUT, give_up)
    timer.daemon = True
    timer.start()
    try:
        with suppress(BrokenPipeError):
            pickle.dump(job, stdin)
            stdin.flush()
        for line in stdout:
            timer.cancel()
            told = msgspec.json.decode(line, type=Told)
            if told.error:
                raise InputError(told.error)
            if told.done:
                return
            yield told
    finally:
        timer.cancel()
    if late.is_set():
        raise InputError(
            f"the Ray cluster {job.address} was not joined within {JOIN_TIMEOUT:g} seconds: see "
            "with ray status whether it is up."
        )
    raise InputError(
        f"the Ray cluster {job.address} was lost: run the same command to go on, once it is up "
        "again."
    )
