"""A queue of images of which more has to be computed; together they fill batches."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from .orders import More

_Owner = TypeVar("_Owner")


class Unfinished(Generic[_Owner]):
    """A queue that gives out batches.

    Not safe for threads: the pipeline's lock guards it.
    """

    def __init__(self, batch: int) -> None:
        """Hold images back until they have ``batch`` rows together."""
        self._batch = batch
        self._waiting: deque[tuple[_Owner, More]] = deque()
        self._rows = 0
        self._let_go = 0  # how many of the first need not fill a batch

    @property
    def has_held_back(self) -> bool:
        """Whether an image waits for others to share its batch."""
        return not self.has_batch and len(self._waiting) > self._let_go

    @property
    def has_batch(self) -> bool:
        """Whether a batch waits to be computed."""
        return self._rows >= self._batch or self._let_go > 0

    def add(self, owner: _Owner, more: More) -> None:
        """Let an image wait."""
        self._waiting.append((owner, more))
        self._rows += more.rows

    def let_go(self) -> bool:
        """Hold none of these images back any longer; say whether one was."""
        held_back = self.has_held_back
        self._let_go = len(self._waiting)
        return held_back

    def take(self) -> list[tuple[_Owner, More]]:
        """Return those that come next, up to a full batch; there must be a batch."""
        taken: list[tuple[_Owner, More]] = []
        rows = 0
        while self._waiting and rows < self._batch:
            taken.append(self._waiting.popleft())
            rows += taken[-1][1].rows
        self._rows -= rows
        self._let_go = max(0, self._let_go - len(taken))
        return taken
