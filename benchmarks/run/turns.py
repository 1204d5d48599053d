"""Contenders take turns: each measured once in every round, in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

from ...runtime.machine.errors import EngineError
from ..contenders.turns import in_turns, opening, refusing
from ..contenders.work import Contender, Judged, Photos, Runner, Setup, cycled
from ..measuring.process import OwnProcess
from ..measuring.samples import Refusal, Samples
from ..measuring.usage import MemoryCurve, cpu_seconds
from .report import ContenderResult, EndToEnd, EngineOnly, Kind

_PARTS_CALLS = 20
_MEMORY_INTERVAL = 0.25  # seconds


@dataclass(eq=False)
class Entry:
    """A contender at work and what was measured of it so far."""

    contender: Contender
    kind: Kind
    process: OwnProcess[Runner]
    first: Judged | None = None
    peak_bytes: int | None = None
    passages: list[Judged] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    batches: dict[int, list[tuple[float, ...]]] = field(default_factory=dict)
    parts: dict[int, dict[str, tuple[float, ...]]] = field(default_factory=dict)

    def warm_up(self, photos: Photos) -> None:
        """Judge all images once, not timed, and note the memory that it takes."""
        with MemoryCurve(self.process.pid, _MEMORY_INTERVAL) as memory:
            judged = self.process.ask(Runner.judge, photos)
        self.first, self.peak_bytes = judged, memory.growth
        planned = tuple(photo.placements for photo in photos)
        if judged.placements is not None and judged.placements != planned:
            raise EngineError(
                f"{self.contender.name} judged other crops than the rest: an image was changed "
                "during the benchmark."
            )

    def judge(self, photos: Photos) -> None:
        """Judge all images once, timed."""
        before = cpu_seconds(self.process.pid)
        self.passages.append(self.process.ask(Runner.judge, photos))
        after = cpu_seconds(self.process.pid)
        if before is not None and after is not None:
            self.cpu_seconds.append(after - before)

    def prepare_batch(self, photos: Photos, seconds: float) -> None:
        """Lay the views of some images ready and run the network on them, not timed."""
        self.process.ask(Runner.time_batch, photos, seconds)
        self.parts[len(photos)] = self.process.ask(Runner.time_parts, photos, _PARTS_CALLS)
        self.batches[len(photos)] = []

    def time_batch(self, photos: Photos, seconds: float) -> None:
        """Time calls of the network on views that lie ready."""
        taken = self.process.ask(Runner.time_batch, photos, seconds)
        self.batches[len(photos)].append(taken)

    def result(self) -> ContenderResult:
        """Return what was measured; there must have been one round."""
        assert self.first is not None  # noqa: S101 - a contender that did not warm up is refused
        passages = self.passages
        return ContenderResult(
            name=self.contender.name,
            kind=self.kind,
            engine=self.first.engine,
            precision=self.first.precision,
            end_to_end=EndToEnd(
                passages=Samples(tuple(each.seconds for each in passages)),
                cpu_seconds=Samples(tuple(self.cpu_seconds)) if self.cpu_seconds else None,
                peak_bytes=self.peak_bytes,
                stages={
                    stage: Samples(tuple(each.stages[stage] for each in passages))
                    for stage in passages[0].stages
                },
            ),
            engine_only=tuple(
                EngineOnly(images, tuple(rounds), self.parts[images])
                for images, rounds in self.batches.items()
            ),
            scores=self.first.scores,
            mean_crops=self.first.mean_crops if self.first.placements is None else None,
        )


class Turns:
    """All contenders, open until the stack closes.

    Attributes:
        entries: those that take part, in order.
        refusals: what cannot run here, and why.
    """

    def __init__(self, stack: ExitStack, setup: Setup) -> None:
        self.entries: list[Entry] = []
        self.refusals: list[Refusal] = []
        self._stack, self._setup = stack, setup

    def enter(self, kind: Kind, contender: Contender, photos: Photos) -> None:
        """Open a contender and let it judge all images once; if it cannot, it is refused."""
        with opening(contender.name, self.refusals, self._stack) as opened:
            process = OwnProcess(contender.name, Runner, contender, self._setup)
            entry = Entry(contender, kind, opened.enter_context(process))
            entry.warm_up(photos)
            self.entries.append(entry)

    def measure_end_to_end(self, photos: Photos, rounds: int) -> None:
        """Let everyone judge all images once in each round."""
        in_turns(self.entries, lambda entry: entry.judge(photos), rounds, "end to end")

    def measure_batches(
        self, photos: Photos, sizes: Sequence[int], rounds: int, seconds: float
    ) -> None:
        """Time everyone's network on views that lie ready; a size may be refused."""
        for size in sizes:
            batch, words = cycled(photos, size), f"batches of {size}"
            ready = []
            for entry in self.entries:
                with refusing(f"{entry.contender.name}, {words}", self.refusals):
                    entry.prepare_batch(batch, seconds)
                    ready.append(entry)
            in_turns(ready, partial(Entry.time_batch, photos=batch, seconds=seconds), rounds, words)
