"""A desk at which single images are handed in, from any thread, and judged together."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final, Literal, TypeAlias, get_args

from ..images.reading import ImageSource
from ..machine.errors import EngineError, FaultError
from ..machine.timings import Timings
from ..results.records import Record
from ..streaming.intake import Moments, Ticket
from ..streaming.orders import Order
from ..streaming.pipeline import Pipeline
from ..streaming.sharing import PipelineOptions
from .options import DetectorOptions
from .recording import Judged, Recorder
from .roads import Roads

Part: TypeAlias = Literal["queue", "views", "batch", "judge"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)
"""Of an image's way, in order: it waits to be taken up, its views are made, it waits for the
engine, and it is judged."""


@dataclass(frozen=True)
class Answer:
    """What became of an image.

    Attributes:
        record: its record.
        seconds: how long each part of its way took; parts that it did not come to are left out.
        together: how many images the engine was first given together with it, itself counted.
        fault: of glass-edge itself, if that is why the image was not judged.
    """

    record: Record
    seconds: dict[Part, float]
    together: int
    fault: FaultError | None = None


class Handed:
    """An image that was handed in.

    Attributes:
        answer: what becomes of it; done when nothing of the image is held any more, also if nobody
            waits for it. It has an exception where the engine failed.
        recorder: what its record is made with.
        left: whether nobody waits for it any more. Whoever handed it in may set this, so that
            nothing is computed for it.
        since: when it was handed in, by :func:`time.perf_counter`.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.answer: Future[Answer] = Future()
        self.answer.set_running_or_notify_cancel()  # so that whoever awaits it cannot cancel it
        self.recorder = recorder
        self.left = False
        self.since = time.perf_counter()


class Desk:
    """Judges each image that is handed in, and answers as soon as it is judged.

    Images that are there at the same time share batches where that pays; none waits for others to
    come. On the host's CPUs it pays only when enough of them wait to keep all CPUs at work. In
    throughput mode one that takes long keeps one worker, and no other image. Close it, or its
    threads go on. Made by :meth:`.detector.Detector.desk`.

    Attributes:
        timings: where the time has gone so far.
        failure: what the engine failed by; nothing is judged any more.
    """

    def __init__(self, roads: Roads, options: DetectorOptions, pipeline: PipelineOptions) -> None:
        """Judge by ``options``, if an image comes without its own."""
        self.timings = Timings()
        self.failure: BaseException | None = None
        self._roads, self._options = roads, options
        self._orders: SimpleQueue[Order[Judged] | None] = SimpleQueue()
        self._waiting: set[Handed] = set()
        self._lock = threading.Lock()  # guards what waits, and whether the desk is open
        self._open = True
        road = roads.road(options)
        self._pipeline: Pipeline[Judged] = Pipeline(
            self._handed_in(), road, roads.last_stage(road), pipeline, self.timings
        )
        self._answering = threading.Thread(target=self._answer_all, name="glass-desk", daemon=True)
        self._answering.start()

    def hand_in(
        self, image: ImageSource, options: DetectorOptions | None = None, name: str | None = None
    ) -> Handed:
        """Have an image judged.

        Args:
            image: as for :meth:`.detector.Detector.detect`. How much may wait is the caller's to
                bound.
            options: what is asked of it: crops, seeds, threshold, influence and claims count, and
                all else is the desk's. ``None`` asks what the desk was opened with.
            name: becomes the record's path.

        Raises:
            InputError: the bundle's detector cannot be asked for these crops.
            EngineError: the desk is closed.
        """
        asked = options or self._options
        handed = Handed(self._roads.recorder(asked))
        order = Order(image, self._roads.road(asked), name, handed)
        with self._lock:
            if not self._open:
                raise EngineError("nothing is judged any more.") from self.failure
            self._waiting.add(handed)
            self._orders.put(order)
        return handed

    def close(self) -> None:
        """Drop what is not done, and wait for what is being computed."""
        self._end(None)
        self._pipeline.close()
        self._answering.join()

    def _handed_in(self) -> Iterator[Order[Judged]]:
        while (order := self._orders.get()) is not None:
            yield order
            del order  # before blocking, or its image would stay alive

    def _answer_all(self) -> None:
        try:
            while (ticket := self._pipeline.next_ticket()) is not None:
                self._answer(ticket)
        except BaseException as error:  # whatever it is, nothing can be judged after it
            self._end(error)

    def _answer(self, ticket: Ticket[Judged]) -> None:
        handed, outcome = ticket.asker, ticket.outcome
        if not isinstance(handed, Handed) or outcome is None:
            raise TypeError("an image was not handed in at the desk")
        with self._lock:
            self._waiting.discard(handed)
        try:
            record = handed.recorder.record(ticket.origin, outcome)
            seconds = _parts(handed.since, ticket.moments)
            fault = outcome if isinstance(outcome, FaultError) else None
            answer = Answer(record, seconds, ticket.moments.together, fault)
        except BaseException as error:
            handed.answer.set_exception(error)
            raise
        handed.answer.set_result(answer)

    def _end(self, failure: BaseException | None) -> None:
        """Take no more images, and answer those that wait with why they were not judged."""
        with self._lock:
            self._open = False
            self.failure = self.failure or failure
            waiting, self._waiting = self._waiting, set()
        self._orders.put(None)
        why = failure or EngineError("nothing is judged any more.")
        for handed in waiting:
            handed.answer.set_exception(why)


def _parts(since: float, moments: Moments) -> dict[Part, float]:
    """Return the seconds between the moments that there were."""
    ways = (since, moments.viewing, moments.viewed, moments.judging, moments.done)
    return {
        part: end - start
        for part, start, end in zip(PARTS, ways, ways[1:], strict=False)
        if start is not None and end is not None
    }
