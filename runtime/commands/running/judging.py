"""The run of ``glass-run``: every image is judged and written, and a summary follows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import click

from ...finding.stored import StoredImage
from ...judging.detector import Detector
from ...machine.progress import Progress, track
from ...machine.signals import finishing_on_signals
from ...machine.timings import Timings
from ...results.records import Failure, Record, Verdict
from ...results.writers import Writer
from .report import RunReport


class Run:
    """Judges images, writes their records, and says on standard error how it went."""

    def __init__(
        self,
        detector: Detector,
        writer: Writer,
        report: RunReport | None = None,
        *,
        show_timings: bool,
    ) -> None:
        """Judge with ``detector`` and write to ``writer``.

        Args:
            detector: what judges.
            writer: what takes the records.
            report: takes them, too.
            show_timings: whether a table of the stages follows the summary.
        """
        self._detector, self._writer, self._report = detector, writer, report
        self._show_timings = show_timings
        self._counts: Counter[str] = Counter()
        self._steadiness = _Steadiness()

    def judge(
        self, images: Iterable[str | StoredImage], *, total: int | None, progress: Progress
    ) -> int:
        """Judge and write everything; return the number of errors.

        The first Ctrl-C or SIGTERM ends the run after the images begun; the second ends it at
        once. The summary is printed in either case.

        Args:
            images: paths, and what lies in archives, tables and buckets.
            total: how many there are, if that is known.
            progress: is told how far the run has come.
        """
        started = time.perf_counter()
        with self._detector.stream(images) as records:
            try:
                with finishing_on_signals(records.finish):
                    for record in track(records, "judging", total, progress):
                        with records.timings.stage("write"):
                            self._writer.write(record)
                            if self._report is not None:
                                self._report.add(record, records.thumbnail)
                        self._counts[_counted_as(record)] += 1
                        self._steadiness.add(record)
            finally:
                self._summarise(time.perf_counter() - started)
                if self._show_timings:
                    click.echo(_timings_table(records.timings, self._counts.total()), err=True)
        return self._counts["error"]

    def _summarise(self, seconds: float) -> None:
        detector, counts = self._detector, self._counts
        manifest = detector.bundle.manifest
        images, errors = counts.total(), counts["error"]
        verdicts = ", ".join(f"{counts[name]} {name}" for name in manifest.classes)
        click.echo(
            f"{images} images in {seconds:.1f} s ({images / max(seconds, 1e-9):.1f} images/s): "
            f"{verdicts}, {errors} errors; {self._steadiness}{detector.engine}, "
            f"{manifest.precision}, bundle {detector.bundle.name}",
            err=True,
        )


@dataclass
class _Steadiness:
    """Counts crops where each image is judged by as many as it needs."""

    images: int = 0
    crops: int = 0
    open: int = 0

    def add(self, record: Record) -> None:
        """Count a record's crops."""
        if isinstance(record, Verdict) and record.settled is not None:
            self.images += 1
            self.crops += len(record.crops)
            self.open += not record.settled

    def __str__(self) -> str:
        if not self.images:
            return ""
        return f"{self.crops / self.images:.2f} crops per image, {self.open} not settled; "


def _counted_as(record: Record) -> str:
    return "error" if isinstance(record, Failure) else record.verdict


def _timings_table(timings: Timings, images: int) -> str:
    """Return a line for each stage, and what bounds the run."""
    lines = [f"{'stage':<10}{'seconds':>9}{'ms/image':>10}"]
    for stage, seconds in timings.seconds.items():
        lines.append(f"{stage:<10}{seconds:>9.2f}{seconds * 1e3 / max(images, 1):>10.1f}")
    return "\n".join([*lines, timings.bottleneck()])
