"""Measures what reports cost."""

from __future__ import annotations

import io
import itertools
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from PIL import Image

from ...runtime.bundle.bundle import Bundle
from ...runtime.claims.claims import ClaimOptions
from ...runtime.claims.reading import read_claims
from ...runtime.machine.environment import environment
from ...runtime.machine.errors import ImageError
from ...runtime.report.writing import FILES_SUFFIX
from ...runtime.results.records import Verdict, decode_record
from ..contenders.turns import in_turns
from ..measuring.report import SCHEMA_VERSION
from ..measuring.samples import Samples
from .browser import browser, find_browser, opened
from .programs import REPORT, RUN, seconds_of
from .report import PHOTOGRAPH_SIZE, ClaimCost, PageCost, ReportCosts, WayToRun

WAYS = ("", "--report report.html", "--provenance")
PAGES = ((2_000, False), (10_000, True))
"""The rows of a page, and whether its thumbnails lie in a folder."""
_RECORDS = "records.jsonl"
_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "AVIF")
_ORIGIN = ClaimOptions(orientation=True, provenance=True)
_TIMES = 31  # that each file is asked


def measure_reports(
    images: Sequence[str],
    bundle: Bundle,
    rounds: int,
    *,
    pages: Sequence[tuple[int, bool]] = PAGES,
    command: str,
) -> ReportCosts:
    """Time ``glass-run`` with and without a report, and pages of many rows.

    Args:
        images: photographs, named so that any working directory finds them.
        bundle: what judges.
        rounds: rounds that count; one more warms up.
        pages: which pages are made of records of these images.
        command: what the report says it was made by.

    Raises:
        EngineError: a program failed.
        ImageError: none of the images could be judged.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        judge = [*images, "-b", str(bundle.path.resolve()), "--force", "-o", _RECORDS]

        def timed(options: str) -> float:
            return seconds_of(RUN, [*judge, *options.split()], folder)

        turns = in_turns(WAYS, timed, rounds + 1, "measuring runs")
        ways = [WayToRun(options, Samples(found[1:])) for options, found in
                zip(WAYS, turns, strict=True)]  # fmt: skip
        lines = (folder / _RECORDS).read_bytes().splitlines(keepends=True)
        verdicts = [found for line in lines if isinstance(found := decode_record(line), Verdict)]
        if not verdicts:
            raise ImageError("none of the images could be judged.")
        costs = [_page(verdicts, rows, rounds, folder, beside=beside) for rows, beside in pages]
    return ReportCosts(
        schema=SCHEMA_VERSION,
        command=command,
        environment=environment(),
        images=len(images),
        megapixels=sum(each.width * each.height for each in verdicts) / 1e6 / len(verdicts),
        bundle=bundle.name,
        engine=verdicts[0].engine,
        rounds=rounds,
        browser=_browser_name(),
        ways=tuple(ways),
        pages=tuple(costs),
        claims=tuple(_claims(Path(str(verdicts[0].path)))),
    )


def _page(
    verdicts: Sequence[Verdict], rows: int, rounds: int, folder: Path, *, beside: bool
) -> PageCost:
    """Make a page of so many rows several times, and open it."""
    records, page = folder / f"{rows}.jsonl", folder / f"{rows}.html"
    _write_records(verdicts, rows, records)
    make = [str(records), "-o", str(page), "--force", "--limit", str(rows)]
    make += ["--folder"] if beside else []
    made, again = [], []
    for _ in range(rounds):
        shutil.rmtree(page.with_name(page.stem + FILES_SUFFIX), ignore_errors=True)
        made.append(seconds_of(REPORT, make, folder))
        again += [seconds_of(REPORT, make, folder)] if beside else []
    cost = PageCost(
        rows,
        beside,
        Samples(tuple(made)),
        Samples(tuple(again)) if beside else None,
        page.stat().st_size,
    )
    executable = find_browser()
    if executable is None:
        return cost
    with browser(executable) as started:
        times = [opened(started, page) for _ in range(rounds)]
    return msgspec.structs.replace(
        cost,
        opened=Samples(tuple(each.seconds for each in times)),
        heap=max(each.heap for each in times),
        elements=max(each.elements for each in times),
    )


def _write_records(verdicts: Sequence[Verdict], rows: int, path: Path) -> None:
    """Write so many records, each of a link of its own to one of the images."""
    links = path.with_suffix("")
    links.mkdir()
    with open(path, "wb") as file:
        for row, verdict in zip(range(rows), itertools.cycle(verdicts), strict=False):
            link = links / f"{row}.jpg"
            link.symlink_to(str(verdict.path))
            record = msgspec.structs.replace(verdict, path=str(link))
            file.write(msgspec.json.encode(record) + b"\n")


def _claims(photograph: Path) -> Iterator[ClaimCost]:
    """Ask a photograph in several formats of its origin."""
    with Image.open(photograph) as image:
        resized = image.convert("RGB").resize(PHOTOGRAPH_SIZE)
    for name in _FORMATS:
        file = io.BytesIO()
        resized.save(file, name)
        content = file.getvalue()
        seconds = [_asked(content) for _ in range(_TIMES + 1)]
        yield ClaimCost(name, len(content), Samples(tuple(seconds[1:])))


def _asked(content: bytes) -> float:
    started = time.perf_counter()
    read_claims(content, _ORIGIN)
    return time.perf_counter() - started


def _browser_name() -> str | None:
    executable = find_browser()
    if executable is None:
        return None
    with browser(executable) as started:
        return f"Chromium {started.version}"
