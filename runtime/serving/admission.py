"""How much a server takes on at once: images that wait, and the bytes of bodies."""

from __future__ import annotations

import math
import time
from collections import deque
from types import TracebackType

_RECENT = 32  # answers by which the time until there is room again is estimated
_MOST_RETRY_AFTER = 60  # seconds


class BusyError(Exception):
    """There is no room for a request now.

    Attributes:
        retry_after: whole seconds after which there probably is.
    """

    def __init__(self, sentence: str, retry_after: int) -> None:
        super().__init__(sentence)
        self.retry_after = retry_after


class Admission:
    """Counts what is held, and refuses more than was allowed. For one thread: the event loop's.

    Attributes:
        images: how many wait or are being judged.
        size: how many bytes of bodies are held.
    """

    def __init__(self, most_images: int, most_bytes: int) -> None:
        self.images = 0
        self.size = 0
        self._most_images, self._most_bytes = most_images, most_bytes
        self._answered: deque[float] = deque(maxlen=_RECENT)

    def check(self, size: int) -> None:
        """Refuse a request before its body is read.

        Args:
            size: of the body in bytes, as far as that is known beforehand.

        Raises:
            BusyError: there is no room for another image, or for so many bytes.
        """
        self._refuse(1, size)

    def hold(self) -> Held:
        """Return an account for a request; leave its context when the request is answered."""
        return Held(self)

    def take(self, images: int, size: int) -> None:
        """Count more images or bytes.

        Raises:
            BusyError: there is no room.
        """
        self._refuse(images, size)
        self.images += images
        self.size += size

    def give_back(self, images: int, size: int) -> None:
        """Count so many less."""
        self.images -= images
        self.size -= size
        self._answered.extend([time.monotonic()] * images)
        if not self.images:
            self._answered.clear()  # how long nobody came says nothing of how quick this server is

    def _refuse(self, images: int, size: int) -> None:
        what = None
        if images and self.images + images > self._most_images:
            what = f"{self.images} images wait already"
        elif size and self.size + size > self._most_bytes:
            what = f"{self.size >> 20} MiB of requests are held already"
        if what is not None:
            raise BusyError(f"{what}: try again later.", self._seconds_to_room())

    def _seconds_to_room(self) -> int:
        """Estimate when half of what waits is done, by how quickly the last answers came."""
        if len(self._answered) < _RECENT:
            return 1
        per_image = (self._answered[-1] - self._answered[0]) / (_RECENT - 1)
        return min(_MOST_RETRY_AFTER, max(1, math.ceil(per_image * self.images / 2)))


class Held:
    """What one request holds, for itself and for each of its images that is not done."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._images, self._size = 0, 0
        self._users = 1

    def add(self, *, images: int = 0, size: int = 0) -> None:
        """Hold more.

        Raises:
            BusyError: there is no room.
        """
        self._admission.take(images, size)
        self._images += images
        self._size += size

    def share(self) -> None:
        """Hold it for one user more."""
        self._users += 1

    def close(self) -> None:
        """Hold it for one user less; after the last one, not at all."""
        self._users -= 1
        if not self._users:
            self._admission.give_back(self._images, self._size)

    def __enter__(self) -> Held:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.close()
