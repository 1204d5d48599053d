"""``glass-bench engines``: the local backbone in PyTorch and on engines, time per crop."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import msgspec
import numpy as np

from ..calibration.photographs import reference_views
from ..runtime.bundle.bundle import Bundle
from ..runtime.engines.base import Float32
from ..runtime.machine.environment import environment
from ..runtime.results.tables import markdown_table
from ..runtime.views.spec import ViewSpec
from .contenders.ours import BundleContender, bundle_contenders
from .contenders.pytorch import PyTorchContender
from .contenders.turns import check_takes_part, in_turns, opening
from .contenders.work import Backbone, Pixels
from .measuring.bundles import file_bytes, load_fitting
from .measuring.process import OwnProcess
from .measuring.report import SCHEMA_VERSION, BenchReport
from .measuring.samples import Refusal, Samples, median_ratio, refusals_table

_Contender: TypeAlias = PyTorchContender | BundleContender


class EngineResult(msgspec.Struct, frozen=True):
    """One contender's time per crop, and the error of its features.

    ``bundle_precision`` is ``None`` for PyTorch, ``precision`` the type computed in,
    ``file_bytes`` the size of the bundle or checkpoint. ``error`` is the L2 distance to the
    features of PyTorch FP32, relative to their norm.
    """

    name: str
    bundle_precision: str | None
    precision: str
    per_crop: Samples
    file_bytes: int
    error: float


class EnginesReport(BenchReport, frozen=True):
    """Everything that a run of the benchmark measured.

    The first two contenders are PyTorch in FP32 and under autocast.
    """

    backbone: str
    batch_size: int
    repeats: int
    threads: int
    contenders: tuple[EngineResult, ...]
    refusals: tuple[Refusal, ...]

    def table(self) -> str:
        """Return a row for each contender that runs here."""
        fp32, half, *_ = self.contenders
        header = ["contender", "bundle", "computes in", "ms per crop",
                  "times PyTorch FP32's speed", f"times PyTorch {half.precision.upper()}'s speed",
                  "MB on disk", "relative error"]  # fmt: skip
        rows = [
            [
                result.name,
                result.bundle_precision or "",
                result.precision,
                result.per_crop.milliseconds(),
                f"{median_ratio(fp32.per_crop, result.per_crop):.2f}",
                f"{median_ratio(half.per_crop, result.per_crop):.2f}",
                f"{result.file_bytes / 1e6:.1f}",
                f"{result.error:.2g}",
            ]
            for result in self.contenders
        ]
        return markdown_table(header, rows)

    def to_markdown(self) -> str:
        """Return the table and how it was measured."""
        return self.page(
            "Engines: the local backbone",
            f"{self.backbone} on batches of {self.batch_size} crops of photographs, "
            f"{self.threads} threads; median of {self.repeats} repeats in turns (quartiles), "
            "each contender in a process of its own; ratios are medians of neighbouring "
            "measurements. Bundles are given uint8 pixels and normalise them; PyTorch is given "
            "normalised float tensors, made outside the timing, which favours it. Errors are "
            "L2 distances to PyTorch FP32's features, relative to their norm. Sizes are of "
            "the whole checkpoint or bundle.",
            self.table(),
            refusals_table(self.refusals) if self.refusals else "",
        )


class _Entry:
    """A contender's local backbone in a process of its own, and what it says of itself."""

    def __init__(self, contender: _Contender, crops: Pixels, threads: int) -> None:
        self.contender = contender
        self.process = OwnProcess(contender.name, contender.open_backbone, crops, threads)

    def time(self) -> float:
        return self.process.ask(Backbone.time)

    def result(self, seconds: Sequence[float], expected: Float32) -> EngineResult:
        engine, precision, features = self.process.ask(Backbone.introduce)
        who, types = self.contender, None
        if isinstance(who, BundleContender):
            name, types = f"{who.bundle.name}, {engine}", who.bundle.manifest.types
            size = file_bytes(who.bundle)
        else:
            name, size = who.name, who.checkpoint.stat().st_size
        error = np.linalg.norm(features - expected) / np.linalg.norm(expected)
        per_crop = Samples(tuple(taken / len(features) for taken in seconds))
        return EngineResult(name, types, precision, per_crop, size, float(error))


def measure_engines(
    checkpoint: Path,
    bundles: Sequence[Bundle],
    *,
    engines: Sequence[str],
    backbone: str,
    batch_size: int,
    repeats: int,
    threads: int,
    command: str,
) -> EnginesReport:
    """Time PyTorch and every bundle on every engine, in turns.

    Args:
        checkpoint: what the bundles were exported from.
        bundles: at least one.
        engines: names of engines; none means all that can run here.
        backbone: ``auto`` or ``timm/NAME``, as the export takes it.
        batch_size: crops given at once.
        repeats: rounds that count; one more warms up.
        threads: CPU threads of every contender.
        command: what the report says it was made by.

    Raises:
        CheckpointError: the checkpoint does not hold the GLASS expected.
        InputError: a bundle is of another backbone than the checkpoint.
        EngineError: PyTorch cannot run here, or an engine failed after it had begun well.
    """
    loaded = load_fitting(checkpoint, backbone, bundles)
    crops = _photographed_crops(bundles[0].manifest.views, batch_size)
    plain = PyTorchContender.plain(checkpoint, backbone, bundles[0])
    pytorch = [plain, replace(plain, half=True)]
    contenders: list[_Contender] = [*pytorch, *bundle_contenders(bundles, engines)]
    entries: list[_Entry] = []
    refusals: list[Refusal] = []
    with ExitStack() as stack:
        for contender in contenders:
            with opening(contender.name, refusals, stack) as opened:
                entry = _Entry(contender, crops, threads)
                opened.enter_context(entry.process)
                entries.append(entry)
        check_takes_part((each.name for each in pytorch), refusals)
        seconds = in_turns(entries, _Entry.time, repeats + 1, "measuring")
        _, _, expected = entries[0].process.ask(Backbone.introduce)
        results = [
            entry.result(taken[1:], expected)  # the first round warms up
            for entry, taken in zip(entries, seconds, strict=True)
        ]
    return EnginesReport(
        schema=SCHEMA_VERSION,
        command=command,
        environment=environment(),
        backbone=loaded.recipe.name,
        batch_size=batch_size,
        repeats=repeats,
        threads=threads,
        contenders=tuple(results),
        refusals=tuple(refusals),
    )


def _photographed_crops(spec: ViewSpec, count: int) -> Pixels:
    """Return crops of all photographs in turn, over again if there are too few."""
    crops = reference_views(spec).crops.swapaxes(0, 1)
    return np.resize(crops, (count, *crops.shape[2:]))
