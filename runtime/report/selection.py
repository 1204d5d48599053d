"""Which images a report shows, where it cannot show all: decided as records come, in little memory.

Errors have a tenth of the rows. Of the others, two fifths are the images with the highest scores,
three tenths those nearest the threshold, and the rest a random sample. Rows that are left over show
more errors.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import NamedTuple

from ..images.thumbnail import Thumbnail
from ..results.records import Failure, Record, Verdict
from .model import Choice

_SEED = 0  # of the sample: the same records give the same page


class Candidate(NamedTuple):
    """An image that may be shown: its place among all, its record, and its picture, if any."""

    place: int
    record: Record
    thumbnail: Thumbnail | None


class Chosen(NamedTuple):
    """An image that is shown, and why."""

    candidate: Candidate
    choice: Choice


class Selection:
    """Keeps the images to show."""

    def __init__(self, limit: int, threshold: float | None) -> None:
        """Keep at most ``limit``; without a threshold none are the nearest to it."""
        self._limit = limit
        self._count = 0
        self._all: list[Candidate] | None = []
        self._errors: list[Candidate] = []
        self._most_errors = max(1, limit // 10)
        self._highest = _Best(2 * limit // 5, lambda record: record.score)
        near = 0 if threshold is None else 3 * limit // 10
        self._nearest = _Best(near, lambda record: -abs(record.score - (threshold or 0.0)))
        self._sample = _Sample(limit)

    def add(self, record: Record, thumbnail: Thumbnail | None = None) -> None:
        """Consider an image."""
        candidate = Candidate(self._count, record, thumbnail)
        self._count += 1
        if self._all is not None:
            self._all.append(candidate)
            if len(self._all) > self._limit:
                self._all = None
        if isinstance(record, Failure):
            if len(self._errors) < self._limit:
                self._errors.append(candidate)
            return
        self._highest.add(record, candidate)
        self._nearest.add(record, candidate)
        self._sample.add(candidate)

    @property
    def complete(self) -> bool:
        """Whether all images are shown."""
        return self._all is not None

    def chosen(self) -> list[Chosen]:
        """Return the images to show, in the order of the records."""
        if self._all is not None:
            return [Chosen(each, "all") for each in self._all]
        found: dict[int, Chosen] = {}
        groups: tuple[tuple[Choice, list[Candidate]], ...] = (
            ("error", self._errors[: self._most_errors]),
            ("highest", self._highest.found()),
            ("threshold", self._nearest.found()),
            ("sample", self._sample.found),
            ("error", self._errors),
        )
        for choice, candidates in groups:
            for each in candidates:
                if len(found) < self._limit:
                    found.setdefault(each.place, Chosen(each, choice))
        return [found[index] for index in sorted(found)]


class _Best:
    """Keeps those for which a key is greatest."""

    def __init__(self, most: int, key: Callable[[Verdict], float]) -> None:
        self._most, self._key = most, key
        self._heap: list[tuple[float, int, Candidate]] = []

    def add(self, verdict: Verdict, candidate: Candidate) -> None:
        entry = (self._key(verdict), -candidate.place, candidate)
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, entry)
        elif self._heap and entry > self._heap[0]:
            heapq.heapreplace(self._heap, entry)

    def found(self) -> list[Candidate]:
        """Return them, the greatest first."""
        return [candidate for _, _, candidate in sorted(self._heap, reverse=True)]


class _Sample:
    """Keeps a random sample of those that came, each with the same chance."""

    def __init__(self, most: int) -> None:
        self._most, self._seen = most, 0
        self._random = random.Random(_SEED)  # noqa: S311
        self._found: list[Candidate] = []

    def add(self, candidate: Candidate) -> None:
        self._seen += 1
        if len(self._found) < self._most:
            self._found.append(candidate)
            return
        place = self._random.randrange(self._seen)
        if place < self._most:
            self._found[place] = candidate

    @property
    def found(self) -> list[Candidate]:
        """Return them in random order, so that any first part of them is a sample, too."""
        return self._random.sample(self._found, len(self._found))
