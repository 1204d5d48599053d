"""A detector that is opened once and judges collections, in whatever form they have."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...runtime.bundle.bundle import Bundle
from ...runtime.commands.running.output import finish, open_output, record_writer
from ...runtime.containers.arguments import images_named
from ...runtime.images.decode import settle_pillow
from ...runtime.judging.detector import Detector
from ...runtime.judging.options import DetectorOptions
from ...runtime.machine.errors import ImageError
from ...runtime.machine.timings import Stage
from ...runtime.results.records import Record, Verdict


@dataclass(frozen=True)
class Passage:
    """One passage over a collection, from its address to the last record.

    Attributes:
        scores: P(fake) of each image, in the collection's order.
        seconds: from the first look to the last record, written if it is written at all.
        cpu_seconds: of this process in that time, all its threads together.
        stages: seconds by stage, summed over threads.
        engine: what executed the graphs.
    """

    scores: tuple[float, ...]
    seconds: float
    cpu_seconds: float
    stages: dict[Stage, float]
    engine: str


class Judge:
    """Judges collections with one detector, as ``glass-run`` does."""

    def __init__(
        self,
        bundle: Path,
        options: DetectorOptions,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Open the detector.

        Args:
            bundle: its folder.
            options: how it judges.
            environment: variables that this process gets, such as those that lead to a bucket.

        Raises:
            GlassError: the bundle or the engine is not usable.
        """
        os.environ.update(environment or {})
        settle_pillow()
        self._detector = Detector(Bundle.open(bundle), options)
        self._records: list[Record] = []

    def judge(self, address: str, output: str | None = None) -> Passage:
        """Judge all images at a path or an address.

        Args:
            address: of a folder, an archive or a table.
            output: the file that takes the records; its suffix tells the format. ``None`` drops
                them.

        Raises:
            ImageError: an image has no verdict.
        """
        started, used = time.perf_counter(), time.process_time()
        scores = []
        images = images_named([address]).images
        with self._writing(output) as write, self._detector.stream(images) as records:
            for record in records:
                with records.timings.stage("write"):
                    write(record)
                scores.append(score_of(record))
        seconds, used = time.perf_counter() - started, time.process_time() - used
        return Passage(
            tuple(scores), seconds, used, dict(records.timings.seconds), self._detector.engine
        )

    def keep(self, address: str) -> int:
        """Judge all images at an address, keep their records, and return how many they are."""
        with self._detector.stream(images_named([address]).images) as records:
            self._records = list(records)
        return len(self._records)

    def write(self, output: str, count: int) -> float:
        """Return the seconds that writing takes for so many of the kept records, used in turn."""
        started = time.perf_counter()
        with self._writing(output) as write:
            for record in itertools.islice(itertools.cycle(self._records), count):
                write(record)
        return time.perf_counter() - started

    @contextmanager
    def _writing(self, output: str | None) -> Iterator[Callable[[Record], None]]:
        """Open an output for the block; what it was given is in place after it."""
        if output is None:
            yield lambda record: None
            return
        manifest = self._detector.bundle.manifest
        with open_output(output, "replace") as opened:
            writer = record_writer(output, opened, manifest.classes, manifest.fake_class)
            yield writer.write
            finish(writer, opened)


def score_of(record: Record) -> float:
    """Return P(fake).

    Raises:
        ImageError: the image has no verdict.
    """
    if not isinstance(record, Verdict):
        raise ImageError(f"{record.path}: {record.error.message} Leave it out of the benchmark.")
    return record.score
