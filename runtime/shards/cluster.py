"""Shards judged on a Ray cluster: a row each, and an actor on each machine or for each GPU.

Ray is given the numbers of shards and gives back what became of each. Images never pass through it:
an actor reads its shards and writes their parts itself. Shards of a machine that is lost are given
to others.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ..images.decode import settle_pillow
from ..judging.options import DetectorOptions
from ..machine.errors import InputError
from ..machine.stderr import keep_libraries_off_stderr
from ..storage.urls import is_url
from .judging import JudgeSettings, Outcome, ShardJudge

ANY_CLUSTER = "auto"
"""The address of the cluster that ``RAY_ADDRESS`` names, or that this machine is part of."""


@dataclass(frozen=True)
class Actors:
    """How many judge at once, and what each of them has."""

    count: int
    cpus: int
    gpus: int

    def __str__(self) -> str:
        gpu = ", a GPU" if self.gpus else ""
        return f"{self.count} {_plural('actor', self.count)} with {self.cpus} CPU{gpu}"


def judge_on_cluster(
    settings: JudgeSettings, shards: Sequence[int], address: str = ANY_CLUSTER
) -> Iterator[Outcome]:
    """Judge shards on a cluster, and yield what became of each as soon as it is known.

    The bundle, the images and the output must be reachable from every machine under the same paths,
    and glass-edge be installed there.

    Args:
        settings: what judges. ``options.workers`` is how many CPUs an actor has, by default all of
            a machine; it has a GPU where there are any and ``options.device`` is not the CPU.
        shards: their numbers.
        address: of the cluster, as :func:`ray.init` takes it.

    Raises:
        InputError: Ray is not installed, there is no such cluster, it has no room for an actor, or
            it was lost.
    """
    with _joined(address) as ray:
        actors = actors_of(ray.nodes(), settings.options)
        options = replace(settings.options, workers=actors.cpus)
        everywhere = replace(
            settings,
            bundle=settings.bundle.absolute(),
            output=_absolute(settings.output),
            options=options,
        )
        rows = ray.data.from_items(
            [{"shard": number} for number in shards], override_num_blocks=len(shards)
        )
        outcomes = rows.map_batches(
            _Actor,
            fn_constructor_args=(everywhere,),
            batch_size=1,
            num_cpus=actors.cpus,
            num_gpus=actors.gpus,
            # None waits behind a shard that takes long: each actor is given one when it is free.
            compute=ray.data.ActorPoolStrategy(
                min_size=1, initial_size=actors.count, max_tasks_in_flight_per_actor=1
            ),
        )
        for row in outcomes.iter_rows():
            yield msgspec.json.decode(row["outcome"], type=Outcome)


def actors_of(nodes: Sequence[Mapping[str, Any]], options: DetectorOptions) -> Actors:
    """Say how many actors there is room for, one for each GPU, or else for each machine.

    Args:
        nodes: the machines, as :func:`ray.nodes` describes them.
        options: see :func:`judge_on_cluster`.

    Raises:
        InputError: there is room for none.
    """
    machines = [node["Resources"] for node in nodes if node["Alive"]]
    cpus = [int(machine.get("CPU", 0)) for machine in machines]
    gpus = [int(machine.get("GPU", 0)) for machine in machines]
    if options.device != "cpu" and any(gpus):
        own = options.workers or max(
            1, min(have // gpu for have, gpu in zip(cpus, gpus, strict=True) if gpu)
        )
        count = sum(min(gpu, have // own) for have, gpu in zip(cpus, gpus, strict=True))
    else:
        own = options.workers or min(filter(None, cpus), default=1)
        count = sum(have // own for have in cpus)
    if not count:
        raise InputError(
            f"no machine of the cluster has {own} {_plural('CPU', own)} for an actor (they have "
            f"{', '.join(map(str, cpus))}): give fewer --workers."
        )
    return Actors(count, own, int(options.device != "cpu" and any(gpus)))


class _Actor:
    """Judges shards in a process of its own, somewhere in the cluster."""

    def __init__(self, settings: JudgeSettings) -> None:
        settle_pillow(settings.options.max_pixels)
        keep_libraries_off_stderr()
        self._judge = ShardJudge(settings)

    def __call__(self, rows: Mapping[str, npt.NDArray[np.int64]]) -> dict[str, list[bytes]]:
        outcomes = map(self._judge.judge, map(int, rows["shard"]))
        return {"outcome": [msgspec.json.encode(outcome) for outcome in outcomes]}


@contextmanager
def _joined(address: str) -> Iterator[Any]:
    """Join a cluster, and leave it at the end of the block.

    Raises:
        InputError: see :func:`judge_on_cluster`.
    """
    # Or Ray prints as an error what is its own way to make actors.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    ray = _ray()
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"the Ray cluster {address} cannot be joined ({_first_line(error)}): start one with "
            "ray start --head, or give its address."
        ) from error
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        yield ray
    except ray.exceptions.RayError as error:
        raise InputError(
            f"the Ray cluster was lost ({_first_line(error)}): run the same command to go on."
        ) from error
    finally:
        ray.shutdown()


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError(
            f"--ray needs a library that is not installed ({error.name}): pip install "
            "'glass-edge[ray]'."
        ) from None
    return ray


def _absolute(output: str) -> str:
    return output if is_url(output) else os.path.abspath(Path(output))  # noqa: PTH100  # keeps links


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _plural(noun: str, count: int) -> str:
    return noun if count == 1 else f"{noun}s"
