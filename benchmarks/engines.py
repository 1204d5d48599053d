"""``glass-bench engines``: the local backbone in PyTorch and on engines, time per crop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import msgspec
import numpy as np

from ..calibration.photographs import reference_views
from ..export.paper import LOCAL
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
    """One contender's time per crop in batches of one size, and the error of its features.

    ``bundle_precision`` is ``None`` for PyTorch, ``precision`` the type computed in,
    ``file_bytes`` the size of the bundle or checkpoint. ``error`` is the L2 distance to the
    features of PyTorch FP32, relative to their norm.
    """

    name: str
    bundle_precision: str | None
    precision: str
    batch_size: int
    per_crop: Samples
    file_bytes: int
    error: float


class EnginesReport(BenchReport, frozen=True):
    """Everything that a run of the benchmark measured.

    For each batch size in turn, the first two contenders are PyTorch in FP32 and under autocast.
    """

    backbone: str
    batch_sizes: tuple[int, ...]
    repeats: int
    threads: int
    contenders: tuple[EngineResult, ...]
    refusals: tuple[Refusal, ...]

    def table(self) -> str:
        """Return a row for each contender that runs here, with each batch size."""
        half = self.contenders[1].precision.upper()
        header = ["crops", "contender", "bundle", "computes in", "ms per crop",
                  "times PyTorch FP32's speed", f"times PyTorch {half}'s speed",
                  "times the best PyTorch's", "MB on disk", "relative error"]  # fmt: skip
        rows = [row for size in self.batch_sizes for row in self._rows(size)]
        return markdown_table(header, rows)

    def _rows(self, batch_size: int) -> Iterator[list[str]]:
        contenders = [each for each in self.contenders if each.batch_size == batch_size]
        fp32, half, *_ = contenders
        pytorch = (each for each in contenders if each.bundle_precision is None)
        best = min(pytorch, key=lambda each: each.per_crop.median)
        for result in contenders:
            speeds = [median_ratio(base.per_crop, result.per_crop) for base in (fp32, half, best)]
            yield [
                str(batch_size),
                result.name,
                result.bundle_precision or "",
                result.precision,
                result.per_crop.milliseconds(),
                *(f"{speed:.2f}" for speed in speeds),
                f"{result.file_bytes / 1e6:.1f}",
                f"{result.error:.2g}",
            ]

    def to_markdown(self) -> str:
        """Return the table and how it was measured."""
        sizes = ", ".join(map(str, self.batch_sizes))
        return self.page(
            "Engines: the local backbone",
            f"{self.backbone} on batches of {sizes} crops of photographs, "
            f"{self.threads} threads; median of {self.repeats} repeats in turns (quartiles), "
            "each contender in a process of its own; ratios are medians of neighbouring "
            "measurements. Bundles are given uint8 pixels and normalise them. So is PyTorch on a "
            "GPU, in pinned memory; on a CPU it is given normalised float tensors, made outside "
            "the timing, which favours it. PyTorch FP32 is PyTorch's default, which on a GPU "
            "convolves in TF32. Features come back to the host. Errors are L2 distances to PyTorch "
            "FP32's features, relative to their norm. Sizes are of the whole checkpoint or bundle.",
            self.table(),
            refusals_table(self.refusals) if self.refusals else "",
        )


class _Entry:
    """A contender's local backbone in a process of its own, and what it says of itself."""

    def __init__(
        self, contender: _Contender, crops: Pixels, sizes: Sequence[int], threads: int
    ) -> None:
        self.contender, self._sizes = contender, sizes
        self.process = OwnProcess(contender.name, contender.open_backbone, crops, threads)
        self.features: list[Float32] = []

    def warm_up(self) -> None:
        """Compute the features once in batches of each size.

        Raises:
            EngineError: the contender cannot compute them.
        """
        self.features = [self.process.ask(Backbone.features, size) for size in self._sizes]

    def time(self) -> tuple[float, ...]:
        """Return the seconds that a batch of each size takes."""
        return tuple(self.process.ask(Backbone.time, size) for size in self._sizes)

    def results(
        self, rounds: Sequence[Sequence[float]], expected: Float32
    ) -> Iterator[EngineResult]:
        """Return what was measured, for each batch size."""
        engine, precision = self.process.ask(Backbone.introduce)
        who, types = self.contender, None
        if isinstance(who, BundleContender):
            name, types = f"{who.bundle.name}, {engine}", who.bundle.manifest.types
            stored = file_bytes(who.bundle)
        else:
            name, stored = who.name, who.checkpoint.stat().st_size
        by_size = zip(*rounds, strict=True)
        for size, seconds, found in zip(self._sizes, by_size, self.features, strict=True):
            per_crop = Samples(tuple(taken / size for taken in seconds))
            error = np.linalg.norm(found - expected[:size]) / np.linalg.norm(expected[:size])
            yield EngineResult(name, types, precision, size, per_crop, stored, float(error))


def measure_engines(
    checkpoint: Path,
    bundles: Sequence[Bundle],
    *,
    engines: Sequence[str],
    backbone: str,
    batch_sizes: Sequence[int],
    repeats: int,
    threads: int,
    compiled: bool,
    command: str,
) -> EnginesReport:
    """Time PyTorch and every bundle on every engine, in turns.

    Args:
        checkpoint: what the bundles were exported from.
        bundles: at least one.
        engines: names of engines; none means all that can run here.
        backbone: ``auto`` or ``timm/NAME``, as the export takes it.
        batch_sizes: crops given at once, in ascending order; at least one.
        repeats: rounds that count; one more warms up.
        threads: CPU threads of every contender.
        compiled: whether ``torch.compile`` takes part.
        command: what the report says it was made by.

    Raises:
        CheckpointError: the checkpoint does not hold the GLASS expected.
        InputError: a bundle is of another backbone than the checkpoint.
        EngineError: PyTorch cannot run here, or an engine failed after it had begun well.
    """
    loaded = load_fitting(checkpoint, backbone, bundles)
    crops = _photographed_crops(bundles[0].manifest.views, max(batch_sizes))
    plain = PyTorchContender.plain(checkpoint, backbone, bundles[0])
    pytorch = [plain, replace(plain, half=True)]
    if compiled:
        pytorch.append(replace(plain, half=True, channels_last=True, compiled=True))
    contenders: list[_Contender] = [*pytorch, *bundle_contenders(bundles, engines)]
    entries: list[_Entry] = []
    refusals: list[Refusal] = []
    with ExitStack() as stack:
        for contender in contenders:
            with opening(contender.name, refusals, stack) as opened:
                entry = _Entry(contender, crops, batch_sizes, threads)
                opened.enter_context(entry.process)
                entry.warm_up()
                entries.append(entry)
        check_takes_part((each.name for each in pytorch[:2]), refusals)
        seconds = in_turns(entries, _Entry.time, repeats + 1, "measuring")
        expected = entries[0].features[-1]
        results = [
            list(entry.results(taken[1:], expected))  # the first round warms up
            for entry, taken in zip(entries, seconds, strict=True)
        ]
    return EnginesReport(
        schema=SCHEMA_VERSION,
        command=command,
        environment=environment(),
        backbone=loaded.recipe.name,
        batch_sizes=tuple(batch_sizes),
        repeats=repeats,
        threads=threads,
        contenders=tuple(result for size in zip(*results, strict=True) for result in size),
        refusals=tuple(refusals),
    )


def _photographed_crops(spec: ViewSpec, count: int) -> Pixels:
    """Return crops of all photographs in turn, over again if there are too few."""
    crops = reference_views(spec)[LOCAL].swapaxes(0, 1)
    return np.resize(crops, (count, *crops.shape[2:]))
