"""The engine room: images in, logits out, with every core and the engine kept busy.

Readers take images from their source and read files. Workers, one for each CPU, take the work
that is closest to done: a batch whose views are complete is judged before another image is
decoded. So the work itself decides how the CPUs are split between decoding and inference, and no
two thread pools compete for them. An engine that computes elsewhere gets a thread of its own to
wait for it, and the workers only make views.

After a batch, some images may need more computed. They wait until together they fill a batch,
unless many others already wait to be given back after them, or nothing else can go on.

What is held is bounded: files read ahead, decoded pixels in flight, batches of views, and
images begun but not given back.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from ..images.reading import Content, ImageSource
from ..machine.errors import ImageError
from ..machine.timings import Awaited, Timings
from ..views.batch import Sampling, ViewInfo
from .assembly import Assembly, Batch
from .intake import Intake, Origin, Ticket
from .sharing import LastStage, More, PipelineOptions, batches_at_once
from .unfinished import Unfinished
from .view_maker import ViewMaker

_BATCH_TIMEOUT = 0.01  # seconds that a batch waits for more images if there is nothing else to do
_READERS = 4
_READER_TIMEOUT = 0.5  # seconds that readers have to end, where the source of images blocks
_FILES_AHEAD = 4  # for each worker
_FILES_SHARE = 4  # files read ahead take at most a quarter of the memory for decoded images
_WINDOW = 64  # images begun and not given back, for each worker


_Result = TypeVar("_Result")
_Task: TypeAlias = Callable[[], None]


class Pipeline(Generic[_Result]):
    """One run over some images: an iterator over each one's origin and outcome, in order.

    Threads start with the first image asked for and end with :meth:`close`.
    """

    def __init__(
        self,
        images: Iterable[ImageSource],
        last: LastStage[_Result],
        sampling: Sampling,
        options: PipelineOptions,
        timings: Timings,
    ) -> None:
        self._last, self._options, self._timings = last, options, timings
        self._changed = threading.Condition()  # guards the state that follows
        self._intake: Intake[_Result] = Intake(
            images,
            self._changed,
            timings,
            window=options.window or _WINDOW * options.workers,
            files=_FILES_AHEAD * options.workers,
            file_bytes=max(1, options.memory // _FILES_SHARE),
        )
        self._assembly: Assembly[Ticket[_Result]] = Assembly(
            sampling, images=options.images, most=batches_at_once(options, last.lanes)
        )
        self._unfinished: Unfinished[Ticket[_Result]] = Unfinished(last.batch)
        self._maker = ViewMaker(
            sampling,
            threads=options.workers,
            memory=options.memory,
            decode=options.decode,
            timings=timings,
            isolate=options.isolate,
            thumbnails=options.thumbnails,
            claims=options.claims,
        )
        self._working = 0
        self._viewing = 0
        self._judging = 0
        self._closed = False
        self._error: BaseException | None = None
        self._workers: list[threading.Thread] = []
        self._readers: list[threading.Thread] = []

    def __iter__(self) -> Iterator[tuple[Origin, _Result | ImageError]]:
        return self

    def __next__(self) -> tuple[Origin, _Result | ImageError]:
        """Return the next image's origin and its outcome, as soon as that is known.

        Raises:
            Exception: whatever the source of the images or the last stage raised.
        """
        with self._changed:
            if not (self._workers or self._closed):
                self._start()
            while not self._closed:
                ticket = self._intake.give_back()
                if ticket is not None and ticket.outcome is not None:
                    return ticket.origin, ticket.outcome
                if self._error is not None:
                    raise self._error
                if self._intake.empty:
                    break
                self._changed.wait()
        raise StopIteration

    def finish(self) -> None:
        """Take no more images; those begun are still judged and given back."""
        with self._changed:
            self._intake.ended = True
            self._changed.notify_all()

    def close(self, *, wait: bool = True) -> None:
        """Drop what is not done, and wait for what is being computed, if asked to.

        A source that blocks is not waited for longer than a moment. Any thread may call this, also
        from a finaliser: one of the pipeline's own waits for none of the others.
        """
        with self._changed:
            self._intake.ended = self._closed = True
            self._changed.notify_all()
        if wait and threading.current_thread() not in (*self._workers, *self._readers):
            for worker in self._workers:
                worker.join()
            until = time.monotonic() + _READER_TIMEOUT
            for reader in self._readers:  # none shall run while the interpreter ends
                reader.join(max(0.0, until - time.monotonic()))

    def _start(self) -> None:
        _started.add(self)
        here = self._last.on_host
        roles = [(True, here)] * self._options.workers
        if not here:
            roles += [(False, True)] * self._last.lanes
        self._working = len(roles)
        for views, judges in roles:
            self._workers.append(self._thread("glass-worker", partial(self._work, views, judges)))
        self._readers = [self._thread("glass-reader", self._intake.read) for _ in range(_READERS)]

    def _thread(self, name: str, work: _Task) -> threading.Thread:
        def guarded() -> None:
            try:
                work()
            except BaseException as error:  # whatever it is, __next__ raises it
                self._fail(error)

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        thread.start()
        return thread

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = self._error or error
            self._intake.ended = True
            self._changed.notify_all()

    def _work(self, views: bool, judges: bool) -> None:
        """Do what there is to do, the closest to done first, until nothing is left."""
        try:
            while (task := self._next_task(views, judges)) is not None:
                task()
        finally:
            with self._changed:
                self._working -= 1
                last = not self._working
            if last:  # whether or not anybody waits for it, as after a stream that was dropped
                self._maker.close()

    def _next_task(self, views: bool, judges: bool) -> _Task | None:
        with self._changed:
            while not (self._closed or self._error):
                if self._intake.crowded and not self._intake.known:
                    self._let_go(of_views=False)  # the first image may be one of these
                if judges and self._judging < self._last.lanes:
                    if self._unfinished.has_batch:
                        self._judging += 1
                        return partial(self._go_on, self._unfinished.take())
                    if self._assembly.has_complete:
                        self._judging += 1
                        return partial(self._judge, self._assembly.take())
                if views and self._intake.ready and self._assembly.has_room:
                    self._viewing += 1
                    ticket, content = self._intake.take()
                    return partial(self._make_views, *self._assembly.reserve(ticket), content)
                if self._intake.empty:
                    # Whoever takes the records may have looked before that was so.
                    self._changed.notify_all()
                    break
                self._wait(counted=views)
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
            something = self._changed.wait(_BATCH_TIMEOUT if idle and waits else None)
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
        info: ViewInfo | None = None
        try:
            info = self._maker.make(batch.views, slot, content)
        except ImageError as error:
            batch.owners[slot].outcome = error
        with self._changed:
            self._viewing -= 1
            self._assembly.fill(batch, slot, info)
            self._changed.notify_all()

    def _judge(self, batch: Batch[Ticket[_Result]]) -> None:
        filled = [slot for slot, info in enumerate(batch.infos) if info is not None]
        results = self._judge_slots(batch, filled) if filled else []
        with self._changed:
            self._assembly.release(batch)
            self._take_in([batch.owners[slot] for slot in filled], results)

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
        for ticket, result in zip(tickets, results, strict=True):
            if isinstance(result, More):
                self._unfinished.add(ticket, result)
            else:
                ticket.outcome = result
        self._judging -= 1
        self._changed.notify_all()

    def _judge_slots(
        self, batch: Batch[Ticket[_Result]], filled: list[int]
    ) -> Sequence[_Result | More]:
        rows: list[int] | slice = filled
        if len(filled) == filled[-1] + 1:
            rows = slice(len(filled))  # nothing is missing, so nothing need be copied
        infos = [info for info in batch.infos if info is not None]
        views = {name: pixels[rows] for name, pixels in batch.views.views.items()}
        return self._last.run(infos, views, self._timings)


# Those that have threads, which hold them. Abandoned ones are ending by themselves, but a thread
# that is still within an engine's code when the interpreter ends would abort the process.
_started: weakref.WeakSet[Pipeline[Any]] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    for pipeline in list(_started):
        pipeline.close()
