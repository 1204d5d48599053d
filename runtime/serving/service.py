"""What all endpoints share: one detector, how much it takes on, and how it is doing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from ..judging.desk import Answer, Handed
from ..judging.detector import Detector
from ..judging.options import DetectorOptions
from ..machine.errors import EngineError
from ..results.records import Failure
from .admission import Admission, Held
from .bodies import Picture, check_encoding
from .journal import entry_in
from .metrics import Metrics
from .options import ServingOptions

_LOGGER = logging.getLogger("glass_edge")
_GREY = np.full((256, 256, 3), 128, np.uint8)


class Service:
    """Judges what requests send.

    Attributes:
        detector: what judges.
        options: what is allowed.
        admission: what is held.
        metrics: what is counted.
        draining: the server is about to end, so that no more should be sent.
    """

    def __init__(self, detector: Detector, options: ServingOptions) -> None:
        """Open a desk; close it in the end."""
        self.detector, self.options = detector, options
        self.admission = Admission(options.max_queue, options.max_queue_bytes)
        self.draining = False
        self._desk = detector.desk(options.max_queue)
        self.metrics = Metrics(detector, self.admission, self._desk.timings)

    @property
    def failure(self) -> BaseException | None:
        """What the engine failed by, after which nothing is judged."""
        return self._desk.failure

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here."""
        return not self.draining and self.failure is None

    def try_out(self) -> None:
        """Judge once before anybody asks: an engine on a device may fail at any start.

        Raises:
            BundleError: the reference views cannot be read.
            EngineError: the engine computes other numbers, or cannot do what it may be asked.
        """
        if not self.detector.on_host:
            self.detector.self_test()
            drawn = self.detector.bundle.manifest.views.drawn
            most = self.options.max_crops if drawn else None
            utmost = replace(self.detector.options, crops=most, influence=True)
            record = self._desk.hand_in(_GREY, utmost).answer.result().record
            if isinstance(record, Failure):
                raise EngineError(f"the engine was tried out: {record.error.message}")

    def close(self) -> None:
        """Judge nothing any more."""
        self._desk.close()

    def check(self, request: Request) -> None:
        """Refuse a request before its body is read.

        Raises:
            HTTPException: the body is compressed or too large.
            BusyError: there is no room.
        """
        check_encoding(request)
        size = int(request.headers.get("content-length", "0"))
        if size > self.options.max_bytes:
            raise HTTPException(413)
        self.admission.check(size)

    async def judge(
        self, request: Request, held: Held, pictures: Sequence[Picture], asked: DetectorOptions
    ) -> list[Answer]:
        """Judge the images of a request, whose bytes are held.

        Raises:
            BusyError: too many images wait.
            HTTPException: it takes too long.
            ClientDisconnect: the client has left.
            GlassError: the engine, or glass-edge itself, is at fault.
        """
        held.add(images=len(pictures))
        handed: list[Handed] = []
        try:
            for picture in pictures:
                handed.append(self._desk.hand_in(picture.content, asked, picture.name))
                held.share()
                release = partial(_release, asyncio.get_running_loop(), held)
                handed[-1].answer.add_done_callback(release)
            answers = await _answers(request, handed, self.options.timeout)
        finally:
            for each in handed:
                each.left = True
        entry_in(request.scope).answers.extend(answers)
        _report_faults(answers)
        return answers


def _report_faults(answers: Sequence[Answer]) -> None:
    """Log what glass-edge is at fault for; alone it is the request's answer.

    Raises:
        FaultError: the only image met one.
    """
    for fault in (answer.fault for answer in answers if answer.fault is not None):
        if len(answers) == 1:
            raise fault
        _LOGGER.error("an image among others was not judged", exc_info=fault)


def _release(loop: asyncio.AbstractEventLoop, held: Held, _: object) -> None:
    """Hold a request's bytes no longer for an image; from any thread."""
    with suppress(RuntimeError):  # the server has ended
        loop.call_soon_threadsafe(held.close)


async def _answers(request: Request, handed: Sequence[Handed], timeout: float) -> list[Answer]:
    """Wait for answers, as long as the client does and the time allows."""
    judged: asyncio.Future[list[Answer]] = asyncio.gather(
        *(asyncio.wrap_future(each.answer) for each in handed)
    )
    gone: asyncio.Future[None] = asyncio.ensure_future(_gone(request))
    try:
        either: set[asyncio.Future[Any]] = {judged, gone}
        await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
    if judged.done():
        return judged.result()
    judged.cancel()
    judged.add_done_callback(_drop)
    if gone.done():
        raise ClientDisconnect
    raise HTTPException(
        504, f"no verdict came within {timeout:g} s: try again later, or send a smaller image."
    )


def _drop(judged: asyncio.Future[list[Answer]]) -> None:
    """Take an outcome that nobody waits for, or asyncio would report its error as forgotten."""
    if not judged.cancelled():
        judged.exception()


async def _gone(request: Request) -> None:
    """Return when the client has left, or has its answer."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
