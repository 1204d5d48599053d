"""Where images enter: taken from their source in order, their files read ahead.

And where they leave: in the same order, or each as soon as its outcome is known.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeVar

import numpy as np

from ..finding.files import ImageFile, image_file, readable_path
from ..finding.stored import StoredImage
from ..images.reading import Content, ImageSource, read_image
from ..machine.errors import FaultError, ImageError
from ..machine.timings import Timings
from .orders import Asker, Order, Road

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Origin:
    """Where an image comes from; images given as bytes or arrays are not held on to."""

    path: str | None = None
    file: ImageFile | None = None


@dataclass
class Moments:
    """When an image began the parts of its way, by :func:`time.perf_counter`, and ended it.

    ``judging`` is when it was first given to what judges it, ``together`` with so many images.
    ``None`` is what it has not begun.
    """

    viewing: float | None = None
    viewed: float | None = None
    judging: float | None = None
    done: float | None = None
    together: int = 0


@dataclass
class Ticket(Generic[_Result]):
    """An image's place in the order of the source, and what has become of it."""

    origin: Origin
    road: Road[_Result]
    asker: Asker | None = None
    outcome: _Result | ImageError | None = None
    moments: Moments = field(default_factory=Moments)


class Intake(Generic[_Result]):
    """Images begun and not yet given back, and the files read for them.

    Any number of threads may call :meth:`read`. Everything else is for who holds ``changed``.

    Attributes:
        ended: no more images will be taken.
    """

    def __init__(
        self,
        images: Iterable[ImageSource | Order[_Result]],
        road: Road[_Result],
        changed: threading.Condition,
        timings: Timings,
        *,
        window: int,
        files: int,
        file_bytes: int,
        in_order: bool = True,
    ) -> None:
        """Take images only as they are wanted.

        Args:
            images: may block; is asked for one image at a time.
            road: of those that come without an order.
            changed: guards this object, and is notified of what happens to it.
            timings: where the time of reading is added.
            window: the most images begun and not given back.
            files: the most files being read, or read and not taken up. Once there are so many,
                no more are begun until half are taken up, because a bucket was measured to keep
                up better with bursts.
            file_bytes: the size of such files and of those being read, from which no more are
                begun.
            in_order: whether an image is given back only after those begun before it.
        """
        self.ended = False
        self._source, self._road = iter(images), road
        self._in_order = in_order
        self._asking = threading.Lock()  # held while the source is asked for its next image
        self._changed = changed
        self._timings = timings
        self._window, self._files, self._file_bytes = window, files, file_bytes
        self._tickets: deque[Ticket[_Result]] = deque()
        self._reading, self._resting = 0, False
        self._read: deque[tuple[Ticket[_Result], Content]] = deque()
        self._held = 0

    def read(self) -> None:
        """Read files until the source ends or :attr:`ended` is set. Run by threads of its own.

        Raises:
            Exception: whatever the source raises, or the reading of an image that nobody asks for.
        """
        while (begun := self._next()) is not None:
            ticket, image, expected = begun
            content: Content | None = None
            try:
                with self._timings.stage("read"):
                    content = read_image(image)
            except ImageError as error:
                ticket.outcome = error
            except Exception as error:
                if ticket.asker is None:
                    raise
                ticket.outcome = FaultError.of(error)  # others wait for theirs
            with self._changed:
                self._reading -= 1
                self._held -= expected
                if content is not None:
                    self._read.append((ticket, content))
                    self._held += _size(content)
                self._rest_or_read()
                self._changed.notify_all()
            del begun, image, content  # before blocking, or the last image would stay alive

    @property
    def next_road(self) -> Road[_Result]:
        """The road of the next image that was read; there must be one."""
        return self._read[0][0].road

    def take(self) -> tuple[Ticket[_Result], Content]:
        """Return the next image that was read; there must be one."""
        ticket, content = self._read.popleft()
        self._held -= _size(content)
        self._rest_or_read()
        self._changed.notify_all()
        return ticket, content

    def give_back(self) -> Ticket[_Result] | None:
        """Return the image to give back next if its outcome is known, and forget it."""
        place = self._next_known()
        if place is None:
            return None
        self._changed.notify_all()
        ticket = self._tickets[place]
        del self._tickets[place]
        return ticket

    def _next_known(self) -> int | None:
        """Return the place of the image to give back next, if its outcome is known."""
        considered = islice(self._tickets, 1 if self._in_order else None)
        known = (place for place, each in enumerate(considered) if each.outcome is not None)
        return next(known, None)

    @property
    def ready(self) -> bool:
        """Whether an image was read and waits to be taken."""
        return bool(self._read)

    @property
    def waiting(self) -> int:
        """How many images were read and wait to be taken."""
        return len(self._read)

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
        """Whether an outcome is known, so that an image can be given back."""
        return self._next_known() is not None

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
                order = found.pop()
                if not isinstance(order, Order):
                    order = Order(order, self._road)
                image, origin = order.image, _origin(order.image, order.name)
                ticket = Ticket(origin, order.road, order.asker)
                expected = origin.file.bytes if origin.file else 0
                self._tickets.append(ticket)
                self._reading += 1
                self._held += expected
                self._rest_or_read()
                return ticket, image, expected

    def _has_room(self) -> bool:
        return (
            len(self._tickets) < self._window
            and not self._resting
            and self._held < self._file_bytes
        )

    def _rest_or_read(self) -> None:
        """Rest once all the files that may wait do so; read on once half of them are taken up."""
        ahead = self._reading + len(self._read)
        if ahead >= self._files:
            self._resting = True
        elif 2 * ahead <= self._files:
            self._resting = False


def _origin(image: ImageSource, name: str | None) -> Origin:
    if isinstance(image, StoredImage):
        return Origin(image.path, image.file)
    if not isinstance(image, str | os.PathLike):
        return Origin(name)
    # Looked at before it is read: what changes in between counts as changed afterwards.
    return Origin(readable_path(image), image_file(image))


def _size(content: Content) -> int:
    if isinstance(content, bytes):
        return len(content)
    return content.nbytes if isinstance(content, np.ndarray) else 0  # perhaps not loaded yet
