"""The engine room: images in, logits out, with every core and the engine kept busy.

Readers take images from their source and read files. Workers, one for each CPU, take the work
that is closest to done: a batch whose views are complete is judged before another image is
decoded. So the work itself decides how the CPUs are split between decoding and inference, and no
two thread pools compete for them. An engine that computes elsewhere gets a thread of its own to
wait for it, and the workers only make views.

After a batch, some images may need more computed. They wait until together they fill a batch,
unless many others already wait to be given back after them, or nothing else can go on.

A prompt pipeline holds nothing back, so that a large image keeps one worker and no other image:
whatever can be judged is judged as soon as there is nothing better to do, and outcomes come in no
order. More views are better where images gain by sharing a batch, as on a device; on the host's
CPUs, where they gain little, only while there is enough to do for all.

What is held is bounded: files read ahead, decoded pixels in flight, batches of views, and
images begun but not given back.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Generic, TypeVar

from ..images.reading import ImageSource
from ..machine.errors import ImageError
from ..machine.timings import Timings
from .blas import one_blas_thread
from .intake import Intake, Origin, Ticket
from .orders import Order, Road
from .sharing import LastStage, PipelineOptions
from .work import Work

_FILES = 8  # read ahead for each worker
_READERS = 4  # threads that read, for each worker: reading from far away is mostly waiting
_MOST_READERS = 32
_READER_TIMEOUT = 0.5  # seconds that readers have to end, where the source of images blocks
_FILES_SHARE = 4  # files read ahead take at most a quarter of the memory for decoded images
_WINDOW = 64  # images begun and not given back, for each worker

_Result = TypeVar("_Result")


class Pipeline(Generic[_Result]):
    """One run over some images: an iterator over each one's origin and outcome.

    They come in order, or with the option ``prompt`` each as soon as it is known.

    Threads start with the first image asked for and end with :meth:`close`.
    """

    def __init__(
        self,
        images: Iterable[ImageSource | Order[_Result]],
        road: Road[_Result],
        last: LastStage[_Result],
        options: PipelineOptions,
        timings: Timings,
    ) -> None:
        """Take no image yet; those that come without an order take ``road``."""
        self._last, self._options = last, options
        self._changed = threading.Condition()  # guards the state that follows
        self._intake: Intake[_Result] = Intake(
            images,
            road,
            self._changed,
            timings,
            window=options.window or _WINDOW * options.workers,
            files=_FILES * options.workers,
            file_bytes=max(1, options.memory // _FILES_SHARE),
            in_order=not options.prompt,
        )
        self._work = Work(self._intake, last, options, timings, self._changed)
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
        ticket = self.next_ticket()
        if ticket is None or ticket.outcome is None:
            raise StopIteration
        return ticket.origin, ticket.outcome

    def next_ticket(self) -> Ticket[_Result] | None:
        """Return the next image with its outcome; ``None`` at the end.

        Raises:
            Exception: see :meth:`__next__`.
        """
        with self._changed:
            if not (self._workers or self._closed):
                self._start()
            while not self._closed:
                ticket = self._intake.give_back()
                if ticket is not None:
                    return ticket
                if self._error is not None:
                    raise self._error
                if self._intake.empty:
                    break
                self._changed.wait()
        return None

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
            self._intake.ended = self._closed = self._work.stopped = True
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
        self._work.expect(len(roles))
        for role in roles:
            self._workers.append(self._thread("glass-worker", partial(self._run, *role)))
        readers = min(_MOST_READERS, _READERS * self._options.workers)
        self._readers = [self._thread("glass-reader", self._intake.read) for _ in range(readers)]

    def _run(self, views: bool, judging: bool) -> None:
        with one_blas_thread():
            self._work.work(views, judging)

    def _thread(self, name: str, work: Callable[[], None]) -> threading.Thread:
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
            self._intake.ended = self._work.stopped = True
            self._changed.notify_all()


# Those that have threads, which hold them. Abandoned ones are ending by themselves, but a thread
# that is still within an engine's code when the interpreter ends would abort the process.
_started: weakref.WeakSet[Pipeline[Any]] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    for pipeline in list(_started):
        pipeline.close()
