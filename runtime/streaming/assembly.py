"""Where the views of several images come together in one batch."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ..views.batch import Sampling, ViewBatch, ViewInfo

_Owner = TypeVar("_Owner")


@dataclass
class Batch(Generic[_Owner]):
    """Room for the views of some images: whose each slot is, and what came into it.

    ``infos`` holds ``None`` for a slot that is not filled, or never will be.
    """

    views: ViewBatch
    owners: list[_Owner] = field(default_factory=list)
    infos: list[ViewInfo | None] = field(default_factory=list)
    awaited: int = 0


class Assembly(Generic[_Owner]):
    """Batches of a fixed number of images, filled slot by slot and then judged.

    The arrays are used again and again, so that a run allocates no more of them than it
    needs at once. Not safe for threads: the pipeline's lock guards it.
    """

    def __init__(self, sampling: Sampling, *, images: int, most: int) -> None:
        """Make batches of ``images`` images, at most ``most`` at once."""
        self._sampling, self._images, self._most = sampling, images, most
        self._spare: list[ViewBatch] = []
        self._used = 0
        self._open: Batch[_Owner] | None = None
        self._complete: deque[Batch[_Owner]] = deque()

    @property
    def has_room(self) -> bool:
        """Whether another image can be given a slot."""
        return self._open is not None or self._used < self._most

    @property
    def has_open(self) -> bool:
        """Whether a batch has room for another image, and at least one in it."""
        return self._open is not None

    @property
    def has_complete(self) -> bool:
        """Whether a batch waits to be judged."""
        return bool(self._complete)

    def reserve(self, owner: _Owner) -> tuple[Batch[_Owner], int]:
        """Give an image the next slot; there must be room."""
        if self._open is None:
            self._open = Batch(self._spare.pop() if self._spare else self._new_views())
            self._used += 1
        batch, slot = self._open, len(self._open.owners)
        batch.owners.append(owner)
        batch.infos.append(None)
        batch.awaited += 1
        if len(batch.owners) == self._images:
            self._open = None
        return batch, slot

    def _new_views(self) -> ViewBatch:
        return ViewBatch(
            self._images, self._sampling.spec, self._sampling.draws * self._sampling.laid
        )

    def fill(self, batch: Batch[_Owner], slot: int, info: ViewInfo | None) -> None:
        """Note that a slot is filled, or with ``None`` that it stays empty."""
        batch.infos[slot] = info
        batch.awaited -= 1
        if not batch.awaited and batch is not self._open:
            self._complete.append(batch)

    def close_open(self) -> bool:
        """Let the batch that has room still be judged as it is; say whether there was one."""
        batch, self._open = self._open, None
        if batch is not None and not batch.awaited:
            self._complete.append(batch)
        return batch is not None

    def take(self) -> Batch[_Owner]:
        """Return a batch to judge; there must be one."""
        return self._complete.popleft()

    def release(self, batch: Batch[_Owner]) -> None:
        """Take a judged batch's arrays back."""
        self._used -= 1
        self._spare.append(batch.views)
