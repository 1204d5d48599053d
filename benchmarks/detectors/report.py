"""The report of ``glass-bench detector``."""

from __future__ import annotations

import msgspec

from ...runtime.results.tables import markdown_table
from ..measuring.report import BenchReport
from ..measuring.samples import Refusal, Samples, median_ratio, refusals_table


class DetectorResult(msgspec.Struct, frozen=True):
    """One contender's seconds for all images.

    ``difference`` is the largest of P(fake) to the script in FP32.
    """

    name: str
    engine: str
    precision: str
    seconds: Samples
    difference: float
    script: bool


class DetectorReport(BenchReport, frozen=True):
    """Everything that a run of the benchmark measured; the first result is the script in FP32."""

    detector: str
    views: str
    images: int
    batch_size: int
    threads: int
    workers: int
    rounds: int
    results: tuple[DetectorResult, ...]
    refusals: tuple[Refusal, ...]

    def table(self) -> str:
        """Return a row for each contender that runs here."""
        header = ["contender", "engine", "computes in", "ms per image", "images/s",
                  "times the script in FP32", "times the best script",
                  "largest difference in P(fake)"]  # fmt: skip
        best = min(
            (each for each in self.results if each.script), key=lambda each: each.seconds.median
        )
        return markdown_table(header, [self._row(each, best) for each in self.results])

    def _row(self, result: DetectorResult, best: DetectorResult) -> list[str]:
        per_image = Samples(tuple(seconds / self.images for seconds in result.seconds.seconds))
        return [
            result.name,
            result.engine,
            result.precision,
            per_image.milliseconds(),
            f"{self.images / result.seconds.median:.1f}",
            f"{median_ratio(self.results[0].seconds, result.seconds):.2f}",
            f"{median_ratio(best.seconds, result.seconds):.2f}",
            f"{result.difference:.2g}",
        ]

    def to_markdown(self) -> str:
        """Return the table and how it was measured."""
        return self.page(
            f"{self.detector}: bundles beside the usual script",
            f"{self.views}. {self.images} images from their files to P(fake), batches of "
            f"{self.batch_size}, {self.threads} threads and {self.workers} workers; median of "
            f"{self.rounds} rounds in turns (quartiles), each contender in a process of its own; "
            "ratios are medians of neighbouring measurements. The script opens files with Pillow "
            "in the workers of a DataLoader, transforms them with torchvision and judges them "
            "with PyTorch.",
            self.table(),
            refusals_table(self.refusals) if self.refusals else "",
        )
