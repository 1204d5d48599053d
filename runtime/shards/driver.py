"""The process that joins a Ray cluster: a row is a shard, and actors judge them.

Ray is given the numbers of shards and gives back what became of each. Images never pass through it:
an actor reads its shards and writes their parts itself.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ..images.decode import settle_pillow
from ..machine.errors import FaultError, GlassError, InputError
from ..machine.stderr import keep_libraries_off_stderr
from .cluster import ANY_CLUSTER, MOST_TRIES, Job, Told
from .judging import JudgeSettings, Outcome, ShardJudge
from .pool import Pool, options_within, pool_of


def drive() -> None:
    """Do the job that standard input holds, and tell of it on standard output.

    Ends at once when standard input is closed, because the parent is gone then.
    """
    stdout = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # Ray prints

    def tell(told: Told) -> None:
        stdout.write(msgspec.json.encode(told) + b"\n")
        stdout.flush()

    job: Job = pickle.load(sys.stdin.buffer)  # noqa: S301  # the parent's
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _judge(job, tell)
    except GlassError as error:
        tell(Told(error=str(error)))
    except Exception as error:
        tell(Told(error=str(FaultError.of(error))))
    else:
        tell(Told(done=True))


def _end_with_parent() -> None:
    os.read(0, 1)  # sys.stdin, if a thread waits for it, cannot be closed at the end
    os._exit(1)


def _judge(job: Job, tell: Callable[[Told], None]) -> None:
    """Judge shards on a cluster.

    Raises:
        InputError: there is no such cluster, or it has no room, or cannot judge.
    """
    ray = _join(job.address)
    pool = pool_of(ray.nodes(), job.settings.options)
    tell(Told(pool=pool))
    try:
        for row in _rows(ray, job, pool).iter_rows():
            told = msgspec.json.decode(row["told"], type=Told)
            if told.error:
                raise InputError(told.error)
            tell(told)
    except ray.exceptions.RayError as error:
        raise InputError(
            f"the cluster cannot judge ({_last_line(error)}): is the same glass-edge installed on "
            "all of its machines?"
        ) from error


def _join(address: str) -> Any:
    """Join a cluster, and return Ray.

    Raises:
        InputError: there is no such cluster.
    """
    ray = _ray()
    try:
        ray.init(address=address, log_to_driver=False)
    except ray.exceptions.AuthenticationError as error:
        raise InputError(
            "the Ray cluster asks for a secret: set RAY_AUTH_MODE=token, and copy "
            "~/.ray/auth_token from its first machine."
        ) from error
    except ConnectionError as error:
        if address != ANY_CLUSTER:
            raise _cannot_join(address, error) from error
        raise InputError(
            "this machine is part of no Ray cluster, or RAY_AUTH_MODE is not as there: start one "
            "with ray start --head, or give --ray HOST:PORT."
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise _cannot_join(address, error) from error
    return ray


def _rows(ray: Any, job: Job, pool: Pool) -> Any:
    """Return the data set of what actors tell of each shard, which is judged as it is iterated."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # a shard that nothing comes back of costs no other
    # An actor has one shard at a time, so it is used to the full, by which new ones are started.
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.0
    rows = ray.data.from_items(
        [{"shard": number} for number in job.shards], override_num_blocks=len(job.shards)
    )
    settings = replace(job.settings, options=options_within(pool, job.settings.options))
    return rows.map_batches(
        _Actor,
        fn_constructor_args=(settings, _count_begun(ray)),
        batch_size=1,
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
        # None waits behind a shard that takes long: each actor is given one when it is free.
        compute=ray.data.ActorPoolStrategy(
            min_size=1, initial_size=pool.count, max_tasks_in_flight_per_actor=1
        ),
    )


def _ray() -> Any:
    import ray
    import ray.data

    return ray


def _count_begun(ray: Any) -> Any:
    """Start an actor on this machine that counts how often each shard was begun.

    Ray's own count of retries is used up within a second of the loss of a machine: it tries the
    actor there again until it knows.
    """
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False
    )
    return ray.remote(_Begun).options(num_cpus=0, scheduling_strategy=here).remote()


class _Begun:
    """Counts how often each shard was begun."""

    def __init__(self) -> None:
        self._times: Counter[int] = Counter()

    def begin(self, shard: int) -> int:
        self._times[shard] += 1
        return self._times[shard]


class _Actor:
    """Judges shards in a process of its own, somewhere in the cluster."""

    def __init__(self, settings: JudgeSettings, begun: Any) -> None:
        settle_pillow(settings.options.max_pixels)
        keep_libraries_off_stderr()
        self._judge, self._begun = ShardJudge(settings), begun

    def __call__(self, rows: Mapping[str, npt.NDArray[np.int64]]) -> dict[str, list[bytes]]:
        told = map(self._told, map(int, rows["shard"]))
        return {"told": [msgspec.json.encode(each) for each in told]}

    def _told(self, shard: int) -> Told:
        """Judge a shard, or tell why this machine can judge none, which ends the run.

        Otherwise it would fail all shards in the time that another machine takes for one.
        """
        try:
            return Told(outcome=self._outcome(shard))
        except GlassError as error:
            reason = error
        except Exception as error:
            reason = FaultError.of(error)
        return Told(
            error=f"the machine {_ray().util.get_node_ip_address()} cannot judge: {reason} Run the "
            "same command to go on, once that machine can judge or has left the cluster."
        )

    def _outcome(self, shard: int) -> Outcome:
        """Judge a shard, unless that has ended too many processes.

        Raises:
            GlassError: no shard can be judged here.
        """
        if _ray().get(self._begun.begin.remote(shard)) <= MOST_TRIES:
            self._judge.open()
            return self._judge.judge(shard)
        return Outcome(
            shard,
            error=f"its process was lost {MOST_TRIES} times, for want of memory or by a crash in "
            "an image library: give less --memory, or --isolate.",
        )


def _cannot_join(address: str, error: Exception) -> InputError:
    return InputError(
        f"the Ray cluster {address} cannot be joined ({_first_line(error)}): check its address, "
        "and that RAY_AUTH_MODE is the same on all machines."
    )


def _first_line(error: Exception) -> str:
    return _lines(error)[0].rstrip(".:")


def _last_line(error: Exception) -> str:
    """Return the error in the actor, which follows on the traceback there."""
    return _lines(error)[-1].rstrip(".")


def _lines(error: Exception) -> list[str]:
    return str(error).strip().splitlines() or [type(error).__name__]
