"""Where the views of several images come together in one batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ..views.batch import ViewBatch, ViewInfo, Views
from .orders import Road

_Owner = TypeVar("_Owner")


@dataclass(eq=False)
class Batch(Generic[_Owner]):
    """Room for the views of some images: whose each slot is, and what came into it.

    ``infos`` holds ``None`` for a slot that is not filled, or never will be. ``filled`` are the
    slots that wait to be judged, and ``judging`` tells how many runs have some of the others.
    """

    views: ViewBatch
    road: Road[Any]
    owners: list[_Owner] = field(default_factory=list)
    infos: list[ViewInfo | None] = field(default_factory=list)
    awaited: int = 0
    filled: list[int] = field(default_factory=list)
    judging: int = 0


@dataclass(frozen=True)
class Piece(Generic[_Owner]):
    """Slots of a batch that are judged together: all of them, or those that did not wait."""

    batch: Batch[_Owner]
    slots: Sequence[int]

    @property
    def owners(self) -> list[_Owner]:
        """Whose the slots are."""
        return [self.batch.owners[slot] for slot in self.slots]

    @property
    def infos(self) -> list[ViewInfo]:
        """What came into them."""
        infos = self.batch.infos
        return [info for slot in self.slots if (info := infos[slot]) is not None]

    @property
    def views(self) -> Views:
        """The slots' part of the arrays."""
        rows: Sequence[int] | slice = self.slots
        first, last = self.slots[0], self.slots[-1]
        if last - first + 1 == len(self.slots):
            rows = slice(first, last + 1)  # nothing between is missing, so nothing need be copied
        return {name: pixels[rows] for name, pixels in self.batch.views.views.items()}


class Assembly(Generic[_Owner]):
    """Batches of a fixed number of images, filled slot by slot and then judged.

    The arrays are used again and again, so that a run allocates no more of them than it
    needs at once. Not safe for threads: the pipeline's lock guards it.
    """

    def __init__(self, *, most: int) -> None:
        """Keep at most so many batches at once."""
        self._most = most
        self._spare: deque[tuple[tuple[int, int], ViewBatch]] = deque()
        self._begun: list[Batch[_Owner]] = []  # in use, the oldest first
        self._open: Batch[_Owner] | None = None
        self._complete: deque[Batch[_Owner]] = deque()

    def has_room(self, road: Road[Any]) -> bool:
        """Whether an image of this road can be given a slot.

        A batch that it cannot join is complete from here on.
        """
        if self._open is not None and not self._open.road.joins(road):
            self.close_open()
        return self._open is not None or len(self._begun) < self._most

    @property
    def has_open(self) -> bool:
        """Whether a batch has room for another image, and at least one in it."""
        return self._open is not None

    @property
    def has_complete(self) -> bool:
        """Whether a batch waits to be judged."""
        return bool(self._complete)

    @property
    def has_some(self) -> bool:
        """Whether an image waits to be judged, though others of its batch are not ready."""
        return any(batch.filled for batch in self._begun)

    @property
    def waiting(self) -> int:
        """How many images have slots and are not judged yet."""
        return sum(batch.awaited + len(batch.filled) for batch in self._begun)

    def reserve(self, owner: _Owner, road: Road[Any]) -> tuple[Batch[_Owner], int]:
        """Give an image the next slot; there must be room."""
        if self._open is None:
            self._open = Batch(self._views(road), road)
            self._begun.append(self._open)
        batch, slot = self._open, len(self._open.owners)
        batch.owners.append(owner)
        batch.infos.append(None)
        batch.awaited += 1
        if len(batch.owners) == road.images:
            self._open = None
        return batch, slot

    def _views(self, road: Road[Any]) -> ViewBatch:
        for place, (room, views) in enumerate(self._spare):
            if room == road.room:
                del self._spare[place]
                return views
        if len(self._begun) + len(self._spare) >= self._most:
            self._spare.popleft()
        images, crops = road.room
        return ViewBatch(images, road.look.sampling.spec, crops)

    def fill(self, batch: Batch[_Owner], slot: int, info: ViewInfo | None) -> None:
        """Note that a slot is filled, or with ``None`` that it stays empty."""
        batch.infos[slot] = info
        batch.awaited -= 1
        if info is not None:
            batch.filled.append(slot)
        self._look_after(batch)

    def close_open(self) -> bool:
        """Let the batch that has room still be judged as it is; say whether there was one."""
        batch, self._open = self._open, None
        if batch is not None:
            self._look_after(batch)
        return batch is not None

    def take(self) -> Piece[_Owner]:
        """Return a complete batch to judge; there must be one."""
        return self._piece(self._complete.popleft())

    def take_some(self) -> Piece[_Owner]:
        """Return images that wait in a batch, however many; there must be some."""
        return self._piece(next(batch for batch in self._begun if batch.filled))

    def _piece(self, batch: Batch[_Owner]) -> Piece[_Owner]:
        slots, batch.filled = sorted(batch.filled), []
        batch.judging += 1
        return Piece(batch, slots)

    def release(self, piece: Piece[_Owner]) -> None:
        """Note that a piece was judged; take the arrays back of a batch that has no others."""
        for slot in piece.slots:
            piece.batch.infos[slot] = None  # it may hold pixels, and the batch may go on for long
        piece.batch.judging -= 1
        self._look_after(piece.batch)

    def _look_after(self, batch: Batch[_Owner]) -> None:
        """Have a batch judged, or take its arrays back, if nothing more comes into it."""
        if batch is self._open or batch.awaited:
            return
        if batch.filled:
            if batch not in self._complete:
                self._complete.append(batch)
        elif not batch.judging:
            self._begun.remove(batch)
            self._spare.append((batch.road.room, batch.views))
