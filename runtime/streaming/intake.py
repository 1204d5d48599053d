"""Where images enter: taken from their source in order, their files read ahead."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

import numpy as np

from ..finding.files import ImageFile, image_file, readable_path
from ..images.reading import Content, ImageSource, read_image
from ..machine.errors import ImageError
from ..machine.timings import Timings

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Origin:
    """Where an image comes from; images given as bytes or arrays are not held on to."""

    path: str | None = None
    file: ImageFile | None = None


@dataclass
class Ticket(Generic[_Result]):
    """An image's place in the order of the source, and what has become of it."""

    origin: Origin
    outcome: _Result | ImageError | None = None


class Intake(Generic[_Result]):
    """Images begun and not yet given back, and the files read for them.

    Any number of threads may call :meth:`read`. Everything else is for who holds ``changed``.

    Attributes:
        ended: no more images will be taken.
    """

    def __init__(
        self,
        images: Iterable[ImageSource],
        changed: threading.Condition,
        timings: Timings,
        *,
        window: int,
        files: int,
        file_bytes: int,
    ) -> None:
        """Take images only as they are wanted.

        Args:
            images: may block; is asked for one image at a time.
            changed: guards this object, and is notified of what happens to it.
            timings: where the time of reading is added.
            window: the most images begun and not given back.
            files: the most files read and not taken up.
            file_bytes: the size of such files and of those being read, from which no more are
                begun.
        """
        self.ended = False
        self._source = iter(images)
        self._asking = threading.Lock()  # held while the source is asked for its next image
        self._changed = changed
        self._timings = timings
        self._window, self._files, self._file_bytes = window, files, file_bytes
        self._tickets: deque[Ticket[_Result]] = deque()
        self._reading = 0
        self._read: deque[tuple[Ticket[_Result], Content]] = deque()
        self._held = 0

    def read(self) -> None:
        """Read files until the source ends or :attr:`ended` is set. Run by threads of its own.

        Raises:
            Exception: whatever the source raises.
        """
        while (begun := self._next()) is not None:
            ticket, image, expected = begun
            content: Content | None = None
            try:
                with self._timings.stage("read"):
                    content = read_image(image)
            except ImageError as error:
                ticket.outcome = error
            with self._changed:
                self._reading -= 1
                self._held -= expected
                if content is not None:
                    self._read.append((ticket, content))
                    self._held += _size(content)
                self._changed.notify_all()
            del begun, image, content  # before blocking, or the last image would stay alive

    def take(self) -> tuple[Ticket[_Result], Content]:
        """Return the next image that was read; there must be one."""
        ticket, content = self._read.popleft()
        self._held -= _size(content)
        self._changed.notify_all()
        return ticket, content

    def give_back(self) -> Ticket[_Result] | None:
        """Return the first image begun if its outcome is known, and forget it."""
        if self.known:
            self._changed.notify_all()
            return self._tickets.popleft()
        return None

    @property
    def ready(self) -> bool:
        """Whether an image was read and waits to be taken."""
        return bool(self._read)

    @property
    def expecting(self) -> bool:
        """Whether a file is being read."""
        return self._reading > 0

    @property
    def open(self) -> bool:
        """Whether the source may give another image without one being given back first."""
        return not self.ended and len(self._tickets) < self._window

    @property
    def crowded(self) -> bool:
        """Whether at least half as many images as may wait to be given back do so."""
        return 2 * len(self._tickets) >= self._window

    @property
    def known(self) -> bool:
        """Whether the outcome of the first image begun is known, so that it can be given back."""
        return bool(self._tickets) and self._tickets[0].outcome is not None

    @property
    def empty(self) -> bool:
        """Whether everything begun was given back, and nothing more will be begun."""
        return self.ended and not self._tickets

    def _next(self) -> tuple[Ticket[_Result], ImageSource, int] | None:
        """Begin the source's next image as soon as there is room for it.

        Returns:
            Its ticket, the image, and the bytes that are held for it while it is read.
        """
        with self._asking:
            with self._changed:
                self._changed.wait_for(lambda: self.ended or self._has_room())
                if self.ended:
                    return None
            found = list(islice(self._source, 1))
            with self._changed:
                if not found or self.ended:
                    self.ended = True
                    self._changed.notify_all()
                    return None
                (image,) = found
                origin = _origin(image)
                ticket: Ticket[_Result] = Ticket(origin)
                expected = origin.file.bytes if origin.file else 0
                self._tickets.append(ticket)
                self._reading += 1
                self._held += expected
                return ticket, image, expected

    def _has_room(self) -> bool:
        return (
            len(self._tickets) < self._window
            and self._reading + len(self._read) < self._files
            and self._held < self._file_bytes
        )


def _origin(image: ImageSource) -> Origin:
    if not isinstance(image, str | os.PathLike):
        return Origin()
    # Looked at before it is read: what changes in between counts as changed afterwards.
    return Origin(readable_path(image), image_file(image))


def _size(content: Content) -> int:
    if isinstance(content, bytes):
        return len(content)
    return content.nbytes if isinstance(content, np.ndarray) else 0  # perhaps not loaded yet
