"""Whether memory stays the same however many images an archive holds.

Each curve is measured in a process of its own, whose peak is that of nothing else.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from ...runtime.bundle.bundle import Bundle
from ...runtime.containers.arguments import images_named
from ...runtime.finding.stored import DEFAULT_MAX_BYTES, StoredImage
from ...runtime.images.decode import settle_pillow
from ...runtime.judging.detector import Detector
from ...runtime.judging.options import DetectorOptions
from ..measuring.judge import score_of
from .report import PeakCurve

MARKS = 10
"""Points of a curve, after equal numbers of images."""

_STATUS = Path("/proc/self/status")
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)
_KIB = 1024


class Reading:
    """Reads images and drops them."""

    def watch(self, path: str, count: int) -> PeakCurve:
        """Return the curve of so many images of an archive.

        Raises:
            ImageError: one of them cannot be read.
        """
        return curve("read and dropped", _contents(path, count), count)


class Judging:
    """Judges images and drops their records."""

    def __init__(self, bundle: Path, engine: str) -> None:
        """Open a detector."""
        settle_pillow()
        self._detector = Detector(Bundle.open(bundle), DetectorOptions(engine=engine))

    def watch(self, path: str, count: int) -> PeakCurve:
        """Return the curve of so many images of an archive.

        Raises:
            ImageError: one of them has no verdict.
        """
        images = islice(images_named([path]).images, count)
        with self._detector.stream(images) as records:
            return curve("judged", map(score_of, records), count)


def curve(name: str, items: Iterable[object], count: int) -> PeakCurve:
    """Take so many items one by one, and note the process's peak memory at equal distances.

    Args:
        name: what is done with the items.
        items: ``count`` of them, or more.
        count: at least :data:`MARKS`.
    """
    marks = {count * mark // MARKS for mark in range(1, MARKS + 1)}
    peaks: list[int] = []
    started = time.perf_counter()
    taken = 0
    for taken, _ in enumerate(islice(items, count), 1):
        if taken in marks and (peak := _peak_bytes()) is not None:
            peaks.append(peak)
    return PeakCurve(name, taken, time.perf_counter() - started, tuple(peaks))


def _contents(path: str, count: int) -> Iterator[bytes]:
    for image in islice(images_named([path]).images, count):
        assert isinstance(image, StoredImage)  # noqa: S101 - it lies in an archive
        yield image.read(DEFAULT_MAX_BYTES)


def _peak_bytes() -> int | None:
    """Return the most memory that this process has held so far, also between two looks at it.

    Not that of ``getrusage``, which on Linux begins with what the parent held.
    """
    try:
        found = _PEAK.search(_STATUS.read_text(encoding="utf-8"))
    except OSError:
        return None
    return int(found[1]) * _KIB if found else None
