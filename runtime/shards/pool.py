"""How many actors of a Ray cluster judge at once, and what each of them has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from ..judging.options import DetectorOptions
from ..machine.errors import InputError


class Pool(msgspec.Struct, frozen=True):
    """How many actors there are, and how many CPUs and GPUs each of them has."""

    count: int
    cpus: int
    gpus: int

    def __str__(self) -> str:
        gpu = " and a GPU" if self.gpus else ""
        return f"{counted(self.count, 'actor')} with {counted(self.cpus, 'CPU')}{gpu}"


def pool_of(nodes: Sequence[Mapping[str, Any]], options: DetectorOptions) -> Pool:
    """Say how many actors there is room for, one for each GPU, or else for each machine.

    Args:
        nodes: the machines, as :func:`ray.nodes` describes them.
        options: ``workers`` is how many CPUs an actor has. By default it is all of a machine, or
            its share beside a GPU, of the machine that has the fewest.

    Raises:
        InputError: there is room for none.
    """
    machines = [node["Resources"] for node in nodes if node["Alive"]]
    cpus = [int(machine.get("CPU", 0)) for machine in machines]
    gpus = [int(machine.get("GPU", 0)) for machine in machines]
    on_gpus = options.device == "cuda" or (options.device == "auto" and any(gpus))
    if on_gpus:
        shares = [have // gpu for have, gpu in zip(cpus, gpus, strict=True) if gpu]
        own = options.workers or max(1, min(shares, default=1))
        count = sum(min(gpu, have // own) for have, gpu in zip(cpus, gpus, strict=True))
    else:
        own = options.workers or min(filter(None, cpus), default=1)
        count = sum(have // own for have in cpus)
    if not count:
        raise InputError(_no_room(own, on_gpus, cpus, gpus))
    return Pool(count, own, int(on_gpus))


def options_within(pool: Pool, options: DetectorOptions) -> DetectorOptions:
    """Return options by which a detector uses the CPUs of an actor, and no more."""
    if options.mode == "latency":  # one image at a time, with all CPUs
        return replace(options, workers=1, threads=options.threads or pool.cpus)
    return replace(options, workers=pool.cpus)


def counted(count: int, noun: str) -> str:
    """Return a number and what it counts: ``2 CPUs``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _no_room(own: int, on_gpus: bool, cpus: Sequence[int], gpus: Sequence[int]) -> str:
    if on_gpus and not any(gpus):
        return "no machine of the cluster has a GPU: leave --device out, or give --device cpu."
    have = ", ".join(map(str, cpus)) or "none"
    return (
        f"no machine of the cluster has {counted(own, 'CPU')} for an actor (they have {have}): "
        "give fewer --workers."
    )
