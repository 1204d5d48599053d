"""Turns images into views, from any number of threads, within a budget of memory."""

from __future__ import annotations

import ctypes
import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import msgspec
import numpy as np

from ..claims.claims import Claims
from ..claims.reading import read_claims
from ..images.decode import read_header
from ..images.encoded import DecodeOptions, Rgb
from ..images.reading import Content
from ..images.thumbnail import quick_thumbnail
from ..isolation.decoder import IsolatedDecoder
from ..machine.errors import ImageError
from ..machine.timings import Timings
from ..views.batch import HeaderReader, ViewBatch, ViewInfo, open_image
from .orders import Look

DEFAULT_MEMORY = 1 << 30  # bytes
# glibc keeps freed memory in an arena for each thread; malloc_trim gives it back.
_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None


class ByteBudget:
    """Lets threads proceed while what they hold together stays within a limit.

    They proceed in the order in which they came: else what is large might wait for ever. What is
    larger than the whole limit proceeds alone.
    """

    def __init__(self, limit: int, timings: Timings | None = None) -> None:
        self._limit, self._timings = limit, timings or Timings()
        self._held = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Wait until ``size`` bytes may be held, and hold them."""
        size = min(size, self._limit)
        place = object()

        def may_proceed() -> bool:
            return self._waiting[0] is place and self._held + size <= self._limit

        with self._changed:
            self._waiting.append(place)
            if not may_proceed():
                with self._timings.waiting("memory"):
                    self._changed.wait_for(may_proceed)
            self._waiting.popleft()
            self._held += size
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._held -= size
                self._changed.notify_all()


class ViewMaker:
    """Turns images that were read into views, from any number of threads.

    Decoding and resampling release Python's global lock, so threads run side by side. Each
    keeps a buffer for decoded pixels, so that no fresh memory need be fetched from the system
    for each image.
    """

    def __init__(
        self,
        *,
        threads: int,
        memory: int,
        decode: DecodeOptions,
        timings: Timings,
        isolate: bool = False,
    ) -> None:
        """Serve so many ``threads``; with ``isolate`` each has a process that decodes for it."""
        self._isolated: list[IsolatedDecoder] | None = [] if isolate else None
        self._decode = decode
        self._timings = timings
        self._budget = ByteBudget(memory, timings)
        self._largest_kept = memory // (4 * threads)
        self._own = threading.local()

    def make(self, batch: ViewBatch, slot: int, content: Content, look: Look) -> ViewInfo:
        """Write an image's views into a batch's slot, as soon as the memory may be held.

        Raises:
            ImageError: the image cannot be judged, or takes more memory than there is.
        """
        try:
            return self._make(batch, slot, content, look)
        except MemoryError:
            raise ImageError(
                "the image takes more memory than is left; scale it down, or decode fewer at once."
            ) from None

    def close(self) -> None:
        """End the processes that decode, when no thread makes views any more."""
        for decoder in self._isolated or ():
            decoder.close()

    def _make(self, batch: ViewBatch, slot: int, content: Content, look: Look) -> ViewInfo:
        with self._timings.stage("decode"):
            claims = self._claims(content, look)
        image = open_image(content, self._decode, self._look())
        resizing = look.sampling.resizing_bytes(image.height, image.width)
        with self._budget.holding(image.peak_bytes + resizing):
            try:
                with self._timings.stage("decode"):
                    rgb, damaged = image.decode(self._buffer(image.decoded_bytes))
                with self._timings.stage("views"):
                    views = batch.fill(slot, rgb, look.sampling)
                    thumbnail = None
                    if look.thumbnails:
                        overview = look.sampling.spec.overview
                        seen = rgb if overview is None else batch.views[overview][slot]
                        size = (views.width, views.height)
                        thumbnail = quick_thumbnail(seen, size, claims.orientation)
                return replace(
                    views, damaged=damaged, thumbnail=thumbnail, provenance=claims.provenance
                )
            finally:
                self._give_back(image.peak_bytes)

    def _give_back(self, taken: int) -> None:
        """Keep no more than a buffer may have of what an image has taken."""
        if taken > self._largest_kept and _malloc_trim is not None:
            _malloc_trim(0)
        decoder = self._decoder()
        if decoder is not None:
            decoder.shrink(self._largest_kept)

    def _claims(self, content: Content, look: Look) -> Claims:
        """Return what a file says of itself; pixels say nothing."""
        asked = look.claims
        if look.thumbnails and not asked.orientation:
            asked = msgspec.structs.replace(asked, orientation=True)
        if not (asked.any and isinstance(content, bytes)):
            return Claims()
        decoder = self._decoder()
        return (read_claims if decoder is None else decoder.read_claims)(content, asked)

    def _look(self) -> HeaderReader:
        """Return what looks at files for this thread."""
        decoder = self._decoder()
        return read_header if decoder is None else decoder.read_header

    def _decoder(self) -> IsolatedDecoder | None:
        """Return the process that decodes for this thread, if any does."""
        if self._isolated is None:
            return None
        decoder: IsolatedDecoder | None = getattr(self._own, "decoder", None)
        if decoder is None:
            self._own.decoder = decoder = IsolatedDecoder()
            self._isolated.append(decoder)
        return decoder

    def _buffer(self, size: int) -> Rgb | None:
        """Return this thread's buffer, or nothing for an image too large to keep room for."""
        if size > self._largest_kept:
            return None
        buffer: Rgb | None = getattr(self._own, "buffer", None)
        if buffer is None or buffer.size < size:
            self._own.buffer = buffer = np.empty(size, np.uint8)
        return buffer
