"""Measures servers in turns, and then each one under overload."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ...export.options import GLASS
from ...runtime.bundle.bundle import Bundle
from ...runtime.commands.progress import on_console
from ...runtime.machine.cuda import gpu_present
from ...runtime.machine.environment import environment
from ...runtime.machine.errors import EngineError, ImageError
from ...runtime.machine.progress import track
from ..contenders.turns import check_takes_part, opening, refusing
from ..measuring.process import OwnProcess
from ..measuring.report import SCHEMA_VERSION
from ..measuring.samples import Refusal, Samples
from .answers import ANSWERED, Load
from .from_files import FilesRun
from .load import LoadGenerator
from .report import Overload, ServerResult, ServingReport
from .servers import Server, ServerCommand, glass_serve, straightforward
from .watching import MemoryCurve, wait_for_rest

OVERLOAD_FACTOR = 5.0
_LIBRARIES = ("fastapi", "starlette", "uvicorn", "uvloop", "httptools", "h11", "python-multipart")


@dataclass(frozen=True)
class ServeOptions:
    """What is measured.

    Attributes:
        engine: what executes glass-serve's and glass-run's graphs.
        rounds: of the loads that can be sustained.
        seconds: of each of them.
        connections: clients at saturation.
        overload: seconds of the load that cannot.
    """

    engine: str = "auto"
    rounds: int = 3
    seconds: float = 10.0
    connections: int = 16
    overload: float = 60.0


@dataclass(eq=False)
class _Entry:
    """A server at work and what was measured of it so far."""

    server: Server
    generator: OwnProcess[LoadGenerator]
    options: ServeOptions
    alone: list[Load] = field(default_factory=list)
    saturated: list[Load] = field(default_factory=list)
    half: list[Load] = field(default_factory=list)
    overload: Overload | None = None

    def warm_up(self, images: Sequence[str]) -> None:
        """Let it judge every image once, not timed."""
        outcomes = self.generator.ask(LoadGenerator.every_image, self.server.target)
        for image, outcome in zip(images, outcomes, strict=True):
            if outcome != ANSWERED:
                raise ImageError(
                    f"{image}: {self.server.name} answered {outcome}. Leave it out of the "
                    "benchmark."
                )

    def measure(self) -> None:
        """Measure everything that it can sustain, once."""
        self.alone.append(self._closed(1))
        self.saturated.append(self._closed(self.options.connections))
        half = self._open(self.saturated[-1].rate / 2, self.options.seconds)
        self.half.append(self._checked(half))
        wait_for_rest(self.server.name, self.server.pid)

    def measure_overload(self) -> None:
        """Ask for more than it can do, and see what that leaves behind."""
        rate = OVERLOAD_FACTOR * Samples(tuple(load.rate for load in self.saturated)).median
        with MemoryCurve(self.server.pid) as memory:
            load = self._open(rate, self.options.overload)
        self.server.check_alive()
        rest = wait_for_rest(self.server.name, self.server.pid)
        after = self._closed(self.options.connections)
        self.overload = Overload(rate, load, tuple(memory.held), rest, after)

    def result(self) -> ServerResult:
        """Return what was measured."""
        return ServerResult(
            name=self.server.name,
            alone=tuple(self.alone),
            saturated=tuple(self.saturated),
            half=tuple(self.half),
            overload=self.overload,
        )

    def _closed(self, connections: int) -> Load:
        target, seconds = self.server.target, self.options.seconds
        return self._checked(
            self.generator.ask(LoadGenerator.closed, target, connections, seconds)
        )

    def _open(self, rate: float, seconds: float) -> Load:
        return self.generator.ask(LoadGenerator.open, self.server.target, rate, seconds)

    def _checked(self, load: Load) -> Load:
        """Insist on something to compute with."""
        self.server.check_alive()
        if not load.answered or ANSWERED not in load.latencies:
            outcomes = ", ".join(f"{count} x {name}" for name, count in load.counts.items())
            raise EngineError(
                f"{self.server.name} did not judge images steadily within {load.seconds:g} s "
                f"({outcomes or 'nothing was due'}): measure for longer with --seconds."
            )
        return load


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
                entry = _Entry(opened.enter_context(Server(server)), generator, options)
                entry.warm_up(images)
                entries.append(entry)
        check_takes_part([ours.name], refusals)
        from_files = []
        for _ in track(range(options.rounds), "in turns", options.rounds, on_console):
            from_files.append(files.seconds_per_image())
            for entry in entries:
                entry.measure()
        for entry in track(entries, "overload", len(entries), on_console):
            with refusing(f"{entry.server.name}, overload", refusals):
                entry.measure_overload()
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
