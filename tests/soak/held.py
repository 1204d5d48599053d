"""What a server holds, as the system and the server itself tell it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

import serving
from serving import Server
from waiting import until

_FILES_PATIENCE = 5.0
# With one arena, and large blocks given back at once, what is free does not look like growth.
_ENVIRONMENT = os.environ | {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}


@dataclass(frozen=True)
class Held:
    """What a server holds at a moment.

    Attributes:
        memory: resident bytes of the process.
        helpers: resident bytes of its children, pages shared among them counted for each.
        threads, files, children: of the process, how many.
        zombies: children that ended and were not waited for.
    """

    memory: int
    helpers: int
    threads: int
    files: int
    children: int
    zombies: int


def measurable(bundle: Path, *options: object) -> AbstractContextManager[Server]:
    """Serve a bundle so that memory that grows is memory that is held."""
    return serving.serving(bundle, *options, env=_ENVIRONMENT)


def held(server: Server) -> Held:
    """Return what a server holds now."""
    place = Path("/proc", str(server.process.pid))
    status = _status(place)
    children = [_status(Path("/proc", name)) for name in _children(place)]
    return Held(
        memory=_resident(status),
        helpers=sum(map(_resident, children)),
        threads=int(status["Threads"]),
        files=len(list((place / "fd").iterdir())),
        children=len(children),
        zombies=sum(each["State"].startswith("Z") for each in children),
    )


def settled(server: Server, files: int | None = None) -> Held:
    """Wait until no image is held, and a moment for no more files than given; return what is."""

    def empty() -> bool:
        metrics = server.metrics()
        return metrics["glass_queue_images"] + metrics["glass_queue_bytes"] == 0

    until(empty)
    if files is not None:
        with suppress(AssertionError):  # whoever compares says how many more there are
            until(lambda: held(server).files <= files, _FILES_PATIENCE)
    return held(server)


def _children(place: Path) -> Iterator[str]:
    for task in (place / "task").iterdir():
        yield from (task / "children").read_text().split()


def _status(place: Path) -> dict[str, str]:
    lines = (place / "status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _resident(status: dict[str, str]) -> int:
    return int(status.get("VmRSS", "0 kB").split()[0]) << 10
