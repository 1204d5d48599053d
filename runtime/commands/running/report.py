"""The report of a run: fed with records as they come, and written when the run ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from ...containers.container import ReadOptions
from ...finding.files import readable_path
from ...images.thumbnail import Thumbnail
from ...judging.detector import Detector
from ...judging.options import DetectorOptions, decode_options
from ...machine.errors import GlassError
from ...machine.progress import Progress
from ...machine.signals import Interrupted, ending_on_sigterm
from ...report.making import make_report
from ...report.reading import LeftOut, read_records
from ...report.rows import Setting
from ...report.selection import Selection
from ...report.summary import Summary, Threshold
from ...report.writing import PageFile, check_page
from ...results.records import Record
from ..console import check_libraries

EMBEDDED = 2000
"""Images that a page shows by default."""
REPORT_LIBRARIES = ("jinja2",)

_SHOWN = 3  # of the paths that were given, in the title


class RunReport:
    """Takes every record of a run."""

    def __init__(
        self, page: Path, paths: Sequence[str], detector: Detector, reading: ReadOptions
    ) -> None:
        """Report to ``page`` on the images that ``paths`` name, read with ``reading``."""
        self._page = PageFile(page, folder=False)
        self._threshold = Threshold(detector.threshold, _source(detector.options))
        self._summary = Summary()
        self._selection = Selection(EMBEDDED, detector.threshold)
        self._setting = Setting(
            title=_title(paths),
            page=page,
            root=Path(),
            bundle=detector.bundle,
            seed=_seed(detector.options),
            reading=reading,
            decode=decode_options(detector.options),
            repeat=tuple(_repeated(detector.options)),
        )

    def add(self, record: Record, thumbnail: Thumbnail | None) -> None:
        """Take a record as it is made."""
        self._summary.add(record)
        self._selection.add(record, thumbnail)

    def add_earlier(self, path: Path) -> None:
        """Take the records that an earlier run wrote to a file."""
        with open(path, "rb") as lines:
            for record in read_records(lines, LeftOut()):
                self.add(record, None)

    def write(self, progress: Progress) -> None:
        """Write the page and say so on standard error.

        Raises:
            OutputError: it cannot be written.
        """
        report = make_report(
            self._summary,
            self._threshold,
            self._selection,
            self._setting,
            thumbnails=self._page.thumbnails,
            progress=progress,
        )
        self._page.write(report)
        say_where(self._page.path, report.head.shown, report.head.images)


def check_report(page: Path, *, force: bool, folder: bool = False) -> None:
    """Refuse before the work a report that could not be written after it.

    Raises:
        InputError: a library is missing, or the name cannot be taken.
        OutputError: the page, or its folder, cannot be written.
    """
    check_libraries("a report", REPORT_LIBRARIES, extra="report", reports=())
    check_page(page, force=force, folder=folder)


@contextmanager
def writing(report: RunReport | None, progress: Progress) -> Iterator[None]:
    """Write the report at the end of the block, also if the run failed or was told to finish.

    Whoever ended it at once gets none.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        yield
    except (Interrupted, GlassError, BrokenPipeError) as error:
        if report is not None and not (isinstance(error, Interrupted) and error.at_once):
            _write(report, progress)
        raise
    if report is not None:
        _write(report, progress)


def _write(report: RunReport, progress: Progress) -> None:
    with ending_on_sigterm():  # so that nothing unfinished is left behind
        report.write(progress)


def say_where(page: Path, shown: int, images: int) -> None:
    """Say on standard error what was written."""
    noun = "image" if images == 1 else "images"
    count = str(images) if shown == images else f"{shown} of {images}"
    click.echo(f"report: {readable_path(page)} ({count} {noun})", err=True)


def _repeated(options: DetectorOptions) -> Iterator[str]:
    """Yield the options of a run that a record does not hold."""
    usual = DetectorOptions()
    if options.threshold is not None:
        yield from ("--threshold", str(options.threshold))
    if options.sixteen_bit != usual.sixteen_bit:
        yield from ("--sixteen-bit", options.sixteen_bit)
    if options.max_pixels != usual.max_pixels:
        yield from ("--max-pixels", str(options.max_pixels))
    if options.device != usual.device:
        yield from ("--device", options.device)


def _title(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(map(readable_path, paths[:_SHOWN])) + more


def _source(options: DetectorOptions) -> str:
    return "from the bundle" if options.threshold is None else "given with --threshold"


def _seed(options: DetectorOptions) -> str:
    if options.fixed_seed is not None:
        return f"{options.fixed_seed} for every image (--fixed-seed)"
    return f"{options.seed}{' and a secret (GLASS_SEED_KEY)' if options.seed_key else ''}"
