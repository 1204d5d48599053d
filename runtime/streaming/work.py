"""What the threads of a pipeline do, and who does what next."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeAlias, TypeVar

from ..images.reading import Content
from ..machine.errors import FaultError, ImageError
from ..machine.timings import Awaited, Timings
from ..views.batch import ViewBatch, ViewInfo
from .assembly import Assembly, Batch, Piece
from .intake import Intake, Ticket
from .orders import More
from .sharing import LastStage, PipelineOptions, batches_at_once
from .unfinished import Unfinished
from .view_maker import ViewMaker

_BATCH_TIMEOUT = 0.01  # seconds that a batch waits for more images if there is nothing else to do
_ENOUGH_FOR_A_LANE = 4  # images that wait for it: it needs none of those that lack views

_Result = TypeVar("_Result")
_Task: TypeAlias = Callable[[], None]


class Work(Generic[_Result]):
    """The work that there is, from images that were read to their outcomes.

    Attributes:
        stopped: nothing more is begun.
    """

    def __init__(
        self,
        intake: Intake[_Result],
        last: LastStage[_Result],
        options: PipelineOptions,
        timings: Timings,
        changed: threading.Condition,
    ) -> None:
        """Share out what ``intake`` takes in; ``changed`` guards both."""
        self.stopped = False
        self._last, self._options, self._timings = last, options, timings
        self._changed, self._intake = changed, intake
        self._assembly: Assembly[Ticket[_Result]] = Assembly(
            most=batches_at_once(options, last.lanes)
        )
        self._unfinished: Unfinished[Ticket[_Result]] = Unfinished(last.batch)
        self._maker = ViewMaker(
            threads=options.workers,
            memory=options.memory,
            decode=options.decode,
            timings=timings,
            isolate=options.isolate,
        )
        self._working = 0
        self._viewing = 0
        self._judging = 0

    def expect(self, threads: int) -> None:
        """Say how many threads will :meth:`work`; the last to end takes the processes along."""
        self._working = threads

    def work(self, views: bool, judges: bool) -> None:
        """Do what there is to do, the closest to done first, until nothing is left.

        Run by threads: those that make ``views``, those that judge, or both.
        """
        try:
            while (task := self._next_task(views, judges)) is not None:
                task()
                del task  # before blocking, or its image would stay alive
        finally:
            with self._changed:
                self._working -= 1
                last = not self._working
            if last:  # whether or not anybody waits for it, as after a stream that was dropped
                self._maker.close()

    def _next_task(self, views: bool, judges: bool) -> _Task | None:
        with self._changed:
            while not self.stopped:
                if self._intake.crowded and not self._intake.known:
                    self._let_go(of_views=False)  # the first image may be one of these
                task = self._choose(views, judges)
                if task is not None:
                    return task
                if self._intake.empty:
                    # Whoever takes the records may have looked before that was so.
                    self._changed.notify_all()
                    break
                self._wait(counted=views)
        return None

    def _choose(self, views: bool, judges: bool) -> _Task | None:
        """Return what is closest to done, if there is anything to do."""
        room = views and self._has_room_for_next()  # first, as it may complete a batch
        free = judges and self._judging < self._last.lanes
        if free and (batch := self._next_batch()) is not None:
            return batch
        if room and not (free and self._hurries()):
            return self._next_views()
        if free and self._options.prompt and (rest := self._next_rest()) is not None:
            return rest
        return self._next_views() if room else None

    def _hurries(self) -> bool:
        """Whether what can be judged is judged before other images get their views.

        Where images gain little by sharing a batch, they would only wait for each other, and one
        lane would have the work of all. While all lanes have enough to do, they share it.
        """
        if not self._options.prompt or self._last.together:
            return False
        enough = min(self._intake.next_road.images, _ENOUGH_FOR_A_LANE)
        return self._intake.waiting + self._assembly.waiting < self._last.lanes * enough

    def _has_room_for_next(self) -> bool:
        """Whether an image was read and can be given a slot."""
        return self._intake.ready and self._assembly.has_room(self._intake.next_road)

    def _next_batch(self) -> _Task | None:
        """Take a batch to judge, if one is complete."""
        if self._unfinished.has_batch:
            self._judging += 1
            return partial(self._go_on, self._unfinished.take())
        if self._assembly.has_complete:
            self._judging += 1
            return partial(self._judge, self._assembly.take())
        return None

    def _next_views(self) -> _Task:
        """Take an image to make views of; there must be one, and room for it."""
        self._viewing += 1
        ticket, content = self._intake.take()
        return partial(self._make_views, *self._assembly.reserve(ticket, ticket.road), content)

    def _next_rest(self) -> _Task | None:
        """Take images to judge that wait for others to share their batch, if any do."""
        if self._unfinished.let_go():
            return self._next_batch()
        if self._assembly.has_some:
            self._judging += 1
            return partial(self._judge, self._assembly.take_some())
        return None

    def _wait(self, *, counted: bool) -> None:
        """Wait for work. If none comes, let a batch go that is not full."""
        idle = not (self._viewing or self._intake.ready or self._intake.expecting)
        # What waits for others to share its batch may be what the next image waits for.
        if idle and not self._intake.open and self._let_go(of_views=self._intake.ended):
            return
        if not counted:
            self._changed.wait()
            return
        with self._timings.waiting(self._awaited()):
            waits = self._assembly.has_open or self._unfinished.has_held_back
            lets_go = idle and waits and not self._options.prompt
            something = self._changed.wait(_BATCH_TIMEOUT if lets_go else None)
        if not something:
            self._let_go(of_views=True)

    def _let_go(self, *, of_views: bool) -> bool:
        """Hold no images back to fill batches; say whether any were."""
        batches = [self._unfinished.let_go(), of_views and self._assembly.close_open()]
        if any(batches):
            self._changed.notify_all()  # it may be for another thread to judge
        return any(batches)

    def _awaited(self) -> Awaited | None:
        """Say what a worker without work waits for; while others do the last, for nothing."""
        batches = self._assembly.has_complete or self._unfinished.has_batch
        behind = batches and self._judging == self._last.lanes
        if behind or self._intake.ready:  # for which there is no room
            return "engine"
        if self._intake.open:
            return "images"
        return "records" if self._intake.known else None

    def _make_views(self, batch: Batch[Ticket[_Result]], slot: int, content: Content) -> None:
        ticket, info, failure = batch.owners[slot], None, None
        ticket.moments.viewing = time.perf_counter()
        try:
            info = self._views_of(ticket, batch.views, slot, content)
        except ImageError as error:
            failure = error
        ticket.moments.viewed = time.perf_counter()
        with self._changed:
            self._viewing -= 1
            ticket.outcome = failure
            self._assembly.fill(batch, slot, info)
            self._changed.notify_all()

    def _views_of(
        self, ticket: Ticket[_Result], views: ViewBatch, slot: int, content: Content
    ) -> ViewInfo:
        """Make an image's views, unless nobody waits for it any more.

        Raises:
            ImageError: it cannot be judged. A prompt pipeline serves many, and does not end for
                what one image alone meets: a fault costs that image its verdict.
        """
        if ticket.asker is not None and ticket.asker.left:
            raise ImageError("nobody waits for it any more.")
        try:
            return self._maker.make(views, slot, content, ticket.road.look)
        except ImageError:
            raise
        except Exception as error:
            if not self._options.prompt:
                raise
            raise FaultError.of(error) from error

    def _judge(self, piece: Piece[Ticket[_Result]]) -> None:
        now = time.perf_counter()
        for ticket in piece.owners:
            ticket.moments.judging, ticket.moments.together = now, len(piece.slots)
        results = piece.batch.road.run(piece.infos, piece.views, self._timings)
        with self._changed:
            self._take_in(piece.owners, results)
            self._assembly.release(piece)

    def _go_on(self, waiting: Sequence[tuple[Ticket[_Result], More]]) -> None:
        tickets, left = zip(*waiting, strict=True)
        if self._last.go_on is None:
            raise TypeError("the last stage leaves something to compute, and cannot go on")
        results = self._last.go_on(left, self._timings)
        with self._changed:
            self._take_in(tickets, results)

    def _take_in(
        self, tickets: Sequence[Ticket[_Result]], results: Sequence[_Result | More]
    ) -> None:
        """Note what a run of the last stage has found."""
        now = time.perf_counter()
        for ticket, result in zip(tickets, results, strict=True):
            if isinstance(result, More):
                self._unfinished.add(ticket, result)
            else:
                ticket.outcome, ticket.moments.done = result, now
        self._judging -= 1
        self._changed.notify_all()
