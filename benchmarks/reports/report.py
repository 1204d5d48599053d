"""What reports cost, as one object that is written as JSON or Markdown."""

from __future__ import annotations

import msgspec

from ...runtime.results.tables import markdown_table
from ..measuring.report import BenchReport
from ..measuring.samples import Samples, median_ratio, three_digits

PHOTOGRAPH_SIZE = (3264, 2448)
"""Pixels, 8 million, of the files that are asked of their origin."""


class WayToRun(msgspec.Struct, frozen=True):
    """Seconds that ``glass-run`` takes for all images with some options, from start to end."""

    options: str
    seconds: Samples


class PageCost(msgspec.Struct, frozen=True):
    """What a page of some rows costs to make and to open.

    Attributes:
        rows: images that it shows.
        folder: whether thumbnails lie beside it.
        made: seconds that ``glass-report`` takes, from start to end.
        made_again: the same where the folder has the thumbnails already; ``None`` without one.
        file_bytes: the page's size.
        opened: seconds until a browser shows its first pictures; ``None`` without a browser.
        heap: bytes of the browser's JavaScript heap then.
        elements: nodes of the document then.
    """

    rows: int
    folder: bool
    made: Samples
    made_again: Samples | None
    file_bytes: int
    opened: Samples | None = None
    heap: int | None = None
    elements: int | None = None


class ClaimCost(msgspec.Struct, frozen=True):
    """What it takes to ask a file without content credentials of its origin."""

    format: str
    file_bytes: int
    seconds: Samples


class ReportCosts(BenchReport, frozen=True):
    """Everything that a run of the benchmark measured."""

    images: int
    megapixels: float
    bundle: str
    engine: str
    rounds: int
    browser: str | None
    ways: tuple[WayToRun, ...]
    pages: tuple[PageCost, ...]
    claims: tuple[ClaimCost, ...]

    def run_table(self) -> str:
        """Return a row for each way to run."""
        plain = self.ways[0].seconds
        header = ["glass-run", "seconds", "images/s", "times as long"]
        rows = [
            [
                way.options or "without",
                seconds(way.seconds),
                f"{self.images / way.seconds.median:.1f}",
                f"{median_ratio(way.seconds, plain):.3f}",
            ]
            for way in self.ways
        ]
        return markdown_table(header, rows)

    def page_table(self) -> str:
        """Return a row for each page."""
        header = ["page", "made in seconds", "again", "the page's MB", "opened in seconds",
                  "heap MB", "nodes"]  # fmt: skip
        rows = [
            [
                f"{page.rows:,} images, thumbnails {'in a folder' if page.folder else 'embedded'}",
                seconds(page.made),
                "" if page.made_again is None else seconds(page.made_again),
                f"{page.file_bytes / 1e6:.1f}",
                "" if page.opened is None else seconds(page.opened),
                "" if page.heap is None else f"{page.heap / 1e6:.0f}",
                "" if page.elements is None else f"{page.elements:,}",
            ]
            for page in self.pages
        ]
        return markdown_table(header, rows)

    def claims_table(self) -> str:
        """Return a row for each format."""
        header = ["format", "MB", "ms"]
        rows = [
            [cost.format, f"{cost.file_bytes / 1e6:.1f}", cost.seconds.milliseconds()]
            for cost in self.claims
        ]
        return markdown_table(header, rows)

    def to_markdown(self) -> str:
        """Return the tables and how they were measured."""
        opened = f" Opened with {self.browser}, from disk." if self.browser else ""
        return self.page(
            "What a report costs",
            f"{self.images} photographs of {self.megapixels:.1f} million pixels on average; bundle "
            f"{self.bundle} on {self.engine}; {self.rounds} rounds in turns, after one that warms "
            "up. Each figure is of a whole process, from its start to its end: median (quartiles); "
            "ratios are medians of those within a round.",
            self.run_table(),
            "Pages that glass-report makes of records, with thumbnails from the images' files; "
            "again: with thumbnails that lie in the folder already. The records name links to the "
            f"same photographs.{opened}",
            self.page_table(),
            f"What it takes to ask a file of {PHOTOGRAPH_SIZE[0]} x {PHOTOGRAPH_SIZE[1]} pixels of "
            "its origin, if it holds no content credentials.",
            self.claims_table(),
        )


def seconds(samples: Samples) -> str:
    """Return ``median (quartile to quartile)`` in seconds."""
    low, middle, high = samples.quartiles()
    return f"{three_digits(middle)} ({three_digits(low)} to {three_digits(high)})"
