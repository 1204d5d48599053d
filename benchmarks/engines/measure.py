"""``glass-bench engines``: the local backbone in PyTorch and on engines, time per crop."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import msgspec
import numpy as np

from ...export.loading import load_model
from ...export.options import AUTO
from ...export.parity import reference_views
from ...runtime.bundle.bundle import Bundle
from ...runtime.commands.progress import on_console
from ...runtime.engines import ENGINE_NAMES
from ...runtime.machine.cpus import available_cpus
from ...runtime.machine.environment import Environment, environment
from ...runtime.machine.errors import EngineError
from ...runtime.machine.progress import track
from ...runtime.results.tables import markdown_table
from ...runtime.views.spec import ViewSpec
from ..measuring.bundles import check_fit
from ..measuring.samples import Refusal, Samples, median_ratio, refusals_table
from .contestants import BundleContestant, Pixels, PyTorchContestant, Worker

SCHEMA_VERSION = 1


class ContestantResult(msgspec.Struct, frozen=True):
    """One contestant's time per crop, and what its features are off.

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


class EnginesReport(msgspec.Struct, frozen=True):
    """Everything that a run of the benchmark measured.

    The first two contestants are PyTorch in FP32 and under BF16 autocast.
    """

    schema: int
    command: str
    environment: Environment
    backbone: str
    batch_size: int
    repeats: int
    threads: int
    contestants: tuple[ContestantResult, ...]
    refusals: tuple[Refusal, ...]

    def to_json(self) -> bytes:
        """Return the report with all samples."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"

    def table(self) -> str:
        """Return a row for each contestant that runs here."""
        fp32, bf16, *_ = self.contestants
        header = ["contestant", "bundle", "computes in", "ms per crop",
                  "times PyTorch FP32's speed", "times PyTorch BF16's speed", "MB on disk",
                  "relative error"]  # fmt: skip
        rows = [
            [
                result.name,
                result.bundle_precision or "",
                result.precision,
                result.per_crop.milliseconds(),
                f"{median_ratio(fp32.per_crop, result.per_crop):.2f}",
                f"{median_ratio(bf16.per_crop, result.per_crop):.2f}",
                f"{result.file_bytes / 1e6:.1f}",
                f"{result.error:.2g}",
            ]
            for result in self.contestants
        ]
        return markdown_table(header, rows)

    def to_markdown(self) -> str:
        """Return the table and how it was measured."""
        parts = [
            "# Engines: the local backbone",
            f"`{self.command}`",
            self.environment.to_markdown(),
            f"{self.backbone} on batches of {self.batch_size} crops of photographs, "
            f"{self.threads} threads; median of {self.repeats} repeats in turns (quartiles), "
            "each contestant in a process of its own; ratios are medians of neighbouring "
            "measurements. Bundles are given uint8 pixels and normalise them; PyTorch is given "
            "normalised float tensors, made outside the timing, which favours it. Errors are "
            "L2 distances to PyTorch FP32's features, relative to their norm. Sizes are of "
            "the whole checkpoint or bundle.",
            self.table(),
            *([refusals_table(self.refusals)] if self.refusals else []),
        ]
        return "\n\n".join(parts) + "\n"


@dataclass(frozen=True)
class EnginesOptions:
    """What is measured and how.

    Attributes:
        backbone: ``auto`` or ``timm/NAME``, as the export takes it.
        engines: names of engines; none means all that are installed.
        batch_size: crops given at once.
        repeats: rounds that count.
        threads: CPU threads of every contestant.
    """

    backbone: str = AUTO
    engines: tuple[str, ...] = ()
    batch_size: int = 10
    repeats: int = 11
    threads: int = field(default_factory=available_cpus)


def measure_engines(
    checkpoint: Path, bundles: Sequence[Bundle], options: EnginesOptions, *, command: str
) -> EnginesReport:
    """Time PyTorch and every bundle on every engine, in turns.

    Raises:
        CheckpointError: the checkpoint does not hold the GLASS expected.
        InputError: a bundle is of another backbone than the checkpoint.
        EngineError: an engine failed after it had begun well.
    """
    first = bundles[0].manifest
    loaded = load_model(checkpoint, options.backbone, first.views.crop_size)
    for bundle in bundles:
        check_fit(checkpoint, loaded, bundle)
    crops = _photographed_crops(first.views, options.batch_size)
    pytorch = [
        PyTorchContestant(checkpoint, options.backbone, first.normalisation, bf16)
        for bf16 in (False, True)
    ]
    engines = options.engines or [name for name in ENGINE_NAMES if find_spec(name)]
    exported = [BundleContestant(bundle, engine) for bundle in bundles for engine in engines]
    with ExitStack() as stack:
        workers, refusals = _open(pytorch, exported, crops, options.threads, stack)
        seconds = _measure_in_turns(workers, options.repeats)
    return EnginesReport(
        schema=SCHEMA_VERSION,
        command=command,
        environment=environment(),
        backbone=loaded.recipe.name,
        batch_size=options.batch_size,
        repeats=options.repeats,
        threads=options.threads,
        contestants=tuple(
            _result(worker, taken, workers[0])
            for worker, taken in zip(workers, seconds, strict=True)
        ),
        refusals=tuple(refusals),
    )


def _photographed_crops(spec: ViewSpec, count: int) -> Pixels:
    """Return crops of all photographs in turn, over again if there are too few."""
    crops = reference_views(spec).crops.swapaxes(0, 1)
    return np.resize(crops, (count, *crops.shape[2:]))


def _open(
    pytorch: Sequence[PyTorchContestant],
    exported: Sequence[BundleContestant],
    crops: Pixels,
    threads: int,
    stack: ExitStack,
) -> tuple[list[Worker], list[Refusal]]:
    """Open every contestant until the stack closes. Only bundles may be refused."""
    with on_console("loading"):
        workers = [stack.enter_context(Worker(one, crops, threads)) for one in pytorch]
        refusals = []
        for one in exported:
            try:
                workers.append(stack.enter_context(Worker(one, crops, threads)))
            except EngineError as error:
                refusals.append(Refusal(one.name, str(error)))
    return workers, refusals


def _measure_in_turns(workers: Sequence[Worker], repeats: int) -> list[list[float]]:
    """Return each worker's seconds. The first round warms up and is left out."""
    rounds = [
        [worker.measure() for worker in workers]
        for _ in track(range(repeats + 1), "measuring", repeats + 1, on_console)
    ]
    return [list(seconds) for seconds in zip(*rounds[1:], strict=True)]


def _result(worker: Worker, seconds: Sequence[float], reference: Worker) -> ContestantResult:
    features, expected = worker.introduction.features, reference.introduction.features
    return ContestantResult(
        name=worker.introduction.name,
        bundle_precision=worker.contestant.bundle_precision,
        precision=worker.introduction.precision,
        per_crop=Samples(tuple(taken / len(features) for taken in seconds)),
        file_bytes=worker.contestant.file_bytes,
        error=float(np.linalg.norm(features - expected) / np.linalg.norm(expected)),
    )
