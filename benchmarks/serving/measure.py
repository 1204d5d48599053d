"""Measures servers in turns, and then each one under overload."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ...export.options import GLASS
from ...runtime.bundle.bundle import Bundle
from ...runtime.commands.progress import on_console
from ...runtime.machine.cuda import gpu_present
from ...runtime.machine.environment import environment
from ...runtime.machine.errors import EngineError
from ...runtime.machine.progress import track
from ..contenders.turns import check_takes_part, opening
from ..measuring.process import OwnProcess
from ..measuring.report import SCHEMA_VERSION
from ..measuring.samples import Refusal, Samples
from .entry import OVERLOAD_FACTOR, Entry, ServeOptions
from .from_files import FilesRun
from .load import LoadGenerator
from .report import ServingReport
from .servers import Server, ServerCommand, glass_serve, straightforward

_LIBRARIES = ("fastapi", "starlette", "uvicorn", "uvloop", "httptools", "h11", "python-multipart")


def measure_serving(
    images: Sequence[str],
    bundle: Bundle,
    other: Bundle | None,
    options: ServeOptions,
    *,
    command: str,
) -> ServingReport:
    """Compare glass-serve with the straightforward server and with ``glass-run``.

    Args:
        images: files, named so that any working directory finds them; all are held in memory.
        bundle: what everyone judges with.
        other: what the straightforward server judges with in a second process, if it is given.
        options: what is measured.
        command: what the report says it was made by.

    Raises:
        EngineError: glass-serve or glass-run failed, or a server did after it had begun well.
        ImageError: an image cannot be read or judged.
    """
    refusals: list[Refusal] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        generator = stack.enter_context(OwnProcess("the load generator", LoadGenerator, images))
        with on_console("warming up glass-run"):
            files = FilesRun(images, bundle, options.engine, options.seconds, folder)
        ours = glass_serve(bundle, options.engine)
        entries = []
        for server in [ours, *_straightforward(bundle, other, refusals)]:
            with opening(server.name, refusals, stack) as opened:
                entry = Entry(opened.enter_context(Server(server)), generator, options)
                entry.warm_up(images)
                entries.append(entry)
        check_takes_part([ours.name], refusals)
        from_files = []
        for _ in track(range(options.rounds), "in turns", options.rounds, on_console):
            from_files.append(files.seconds_per_image())
            for entry in entries:
                entry.measure()
        measure_overloads(entries, refusals)
    return ServingReport(
        schema=SCHEMA_VERSION,
        command=command,
        environment=environment(),
        libraries=_versions(),
        images=len(images),
        image_bytes=sum(Path(image).stat().st_size for image in images) / len(images),
        bundle=bundle.name,
        engine=files.engine,
        rounds=options.rounds,
        seconds=options.seconds,
        connections=options.connections,
        overload_seconds=options.overload,
        overload_factor=OVERLOAD_FACTOR,
        files=Samples(tuple(from_files)),
        servers=tuple(entry.result() for entry in entries),
        refusals=tuple(refusals),
    )


def measure_overloads(entries: Sequence[Entry], refusals: list[Refusal]) -> None:
    """Overload each server; note those that do not outlive it, and go on."""
    for entry in track(entries, "overload", len(entries), on_console):
        try:
            entry.measure_overload()
        except EngineError as error:
            refusals.append(Refusal(f"{entry.server.name}, overload", str(error)))


def _straightforward(
    bundle: Bundle, other: Bundle | None, refusals: list[Refusal]
) -> list[ServerCommand]:
    """Return the straightforward servers that can be compared, and note why others cannot."""
    commands = []
    for each in [bundle, *([other] if other else [])]:
        command = straightforward(each)
        if gpu_present():
            refusals.append(Refusal(command.name, "it computes on the CPU, and there is a GPU."))
        elif each.manifest.detector.family != GLASS:
            refusals.append(Refusal(command.name, "it is written for the views of a GLASS."))
        else:
            commands.append(command)
    return commands


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
