"""A server at work, and the loads that it is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...runtime.machine.errors import EngineError, ImageError
from ..measuring.process import OwnProcess
from ..measuring.samples import Samples
from ..measuring.usage import MemoryCurve
from .answers import ANSWERED, Load
from .load import LoadGenerator
from .report import Overload, ServerResult
from .rest import wait_for_rest
from .servers import Server

OVERLOAD_FACTOR = 5.0
"""The overload's rate as a multiple of the saturated rate."""
_MEMORY_INTERVAL = 1.0  # seconds


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
class Entry:
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
        with MemoryCurve(self.server.pid, _MEMORY_INTERVAL) as memory:
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
        return self._checked(self.generator.ask(LoadGenerator.closed, target, connections, seconds))

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
