"""Measures bundles of a one-view detector beside the script that its users run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

import msgspec
import numpy as np
import numpy.typing as npt

from ...runtime.bundle.bundle import Bundle
from ...runtime.judging.options import DetectorOptions
from ...runtime.machine.environment import environment
from ...runtime.results.tables import markdown_table
from ..contenders.turns import check_takes_part, in_turns, opening
from ..measuring.process import OwnProcess
from ..measuring.report import SCHEMA_VERSION, BenchReport
from ..measuring.samples import Refusal, Samples, median_ratio, refusals_table
from .judged import BundleRunner, Judge, Judged
from .script import Script, ScriptRunner


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


def measure_detector(
    script: Script,
    bundles: Sequence[Bundle],
    engine: str,
    paths: Sequence[str],
    rounds: int,
    *,
    command: str,
) -> DetectorReport:
    """Let the script, in FP32 and in BF16, and bundles judge images in turns.

    Args:
        script: in FP32.
        bundles: made of its checkpoint.
        engine: of the bundles.
        paths: image files; all must be readable.
        rounds: rounds that count; one more warms up.
        command: what the report says it was made by.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
        EngineError: the script cannot run here.
        ImageError: an image cannot be judged.
        InputError: it is no detector of one view.
    """
    half = replace(script, half=True)
    refusals: list[Refusal] = []
    with ExitStack() as stack:
        runners: dict[str, OwnProcess[Judge]] = {}
        for each in (script, half):
            with opening(each.name, refusals, stack) as opened:
                process: OwnProcess[Judge] = OwnProcess(each.name, ScriptRunner, each)
                runners[each.name] = opened.enter_context(process)
        options = DetectorOptions(
            engine=engine, batch_size=script.batch_size, workers=script.workers
        )
        for bundle in bundles:
            with opening(bundle.name, refusals, stack) as opened:
                served: OwnProcess[Judge] = OwnProcess(bundle.name, BundleRunner, bundle, options)
                runners[bundle.name] = opened.enter_context(served)
        check_takes_part([script.name], refusals)
        members = [*runners.values()]
        rows = in_turns(members, lambda each: _judge(each, paths), rounds + 1, "judging")
    expected = np.array(rows[0][0].scores)
    manifest = bundles[0].manifest
    return DetectorReport(
        schema=SCHEMA_VERSION,
        command=command,
        environment=environment(),
        detector=f"{manifest.detector.title}, {manifest.backbone.name}",
        views=str(manifest.views),
        images=len(paths),
        batch_size=script.batch_size,
        threads=script.threads,
        workers=script.workers,
        rounds=rounds,
        results=tuple(
            _result(name, judged, expected, script=name in (script.name, half.name))
            for name, judged in zip(runners, rows, strict=True)
        ),
        refusals=tuple(refusals),
    )


def _judge(runner: OwnProcess[Judge], paths: Sequence[str]) -> Judged:
    return runner.ask(Judge.judge, paths)


def _result(
    name: str, judged: Sequence[Judged], expected: npt.NDArray[np.float64], *, script: bool
) -> DetectorResult:
    first = judged[0]  # the round that warms up
    return DetectorResult(
        name=name,
        engine=first.engine,
        precision=first.precision,
        seconds=Samples(tuple(each.seconds for each in judged[1:])),
        difference=float(np.abs(np.array(first.scores) - expected).max()),
        script=script,
    )
