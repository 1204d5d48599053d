"""What a report's page is made of."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from ..results.records import Record

Choice: TypeAlias = Literal["all", "highest", "threshold", "sample", "error"]
"""Why an image is shown: all are, or it is one of those with the highest score, of those nearest
the threshold, of a random sample, or of those that could not be judged."""


class Counted(msgspec.Struct, frozen=True):
    """A name, and how many records bear it."""

    name: str
    count: int


class Bar(msgspec.Struct, frozen=True):
    """How many images of each class have scores from ``low`` up to ``high``."""

    low: float
    high: float
    fake: int
    real: int


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What is said above the pictures; of all records, not only of those shown.

    Attributes:
        title: what was judged, for the page's title.
        made: when the page was made, UTC, ISO 8601.
        bundles, engines, precisions: that the records name. Usually one of each.
        digest: SHA-256 of the bundle's manifest, if the bundle was at hand.
        detector: the detector's name, if the bundle was at hand.
        seed: the run's seed in words, or null if it is not known.
        fake_class, real_class: the classes' names; ``None`` where there is no verdict.
        threshold: P(fake) from which an image is called fake, or null if it is not known.
        threshold_source: where that is known from, in words.
        images, fake, real, errors: counts of records.
        open_verdicts: those that are not settled; null if their number of crops was fixed.
        shown: how many have a row in the page.
        selection: which ones these are, in a sentence; null if all are shown.
        bars: the histogram of the scores; of equal width from 0 to 1.
        notes: what the reader must know of the records, each a sentence.
        limits: what a verdict is not, each a sentence.
    """

    title: str
    made: str
    bundles: tuple[Counted, ...]
    engines: tuple[Counted, ...]
    precisions: tuple[Counted, ...]
    digest: str | None
    detector: str | None
    seed: str | None
    fake_class: str | None
    real_class: str | None
    threshold: float | None
    threshold_source: str
    images: int
    fake: int
    real: int
    errors: int
    open_verdicts: int | None
    shown: int
    selection: str | None
    bars: tuple[Bar, ...]
    notes: tuple[str, ...]
    limits: tuple[str, ...]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """An image in the page.

    Attributes:
        record: as glass-run wrote it. Crops are in stored pixels, before ``orientation``.
        choice: why it is shown.
        thumbnail: the URL of a picture of at most 192 pixels, upright; null if there is none.
        orientation: EXIF's, 1 to 8, by which the stored pixels become upright.
        original: the URL of the image's file, relative to the page; null if it was not found.
        previews: URLs of the crops in native pixels, upright, in the order of the record; empty
            for most images.
        command: a command line that repeats the verdict; null if there is none.
        note: what the reader must know of this row, a sentence.
    """

    record: Record
    choice: Choice
    thumbnail: str | None = None
    orientation: int = 1
    original: str | None = None
    previews: tuple[str, ...] = ()
    command: str | None = None
    note: str | None = None


class Report(msgspec.Struct, frozen=True):
    """The whole page."""

    head: Head
    rows: tuple[Row, ...]
