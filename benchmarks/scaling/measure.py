"""``glass-bench scaling``: what an image costs by crops, by its size, and in batches."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from ...export.loading import load_model
from ...export.options import AUTO
from ...runtime.bundle.bundle import Bundle
from ...runtime.commands.progress import on_console
from ...runtime.machine.environment import environment
from ...runtime.machine.errors import EngineError
from ...runtime.machine.progress import track
from ..contenders.ours import bundle_contenders
from ..contenders.work import Contender, Photos, Runner, Setup, cycled, plan_photos
from ..measuring.bundles import check_fit
from ..measuring.process import OwnProcess
from ..measuring.samples import Refusal, Samples
from ..run.measure import bundle_info, plain_pytorch
from ..run.turns import refusing
from ..views.measure import generated_images
from .report import SCHEMA_VERSION, Axis, Point, ScalingReport, Series

_COPIES = 8  # of an image in a passage, so that workers have something to do side by side
_AT_ONCE = 2  # of them in a batch of PyTorch's, so that its loaders read on while it judges


@dataclass(frozen=True)
class ScalingOptions:
    """What is measured and how.

    Attributes:
        backbone: ``auto`` or ``timm/NAME``, as the export takes it.
        engines: names of engines; none means all that can run here.
        crops: numbers of crops.
        megapixels: sizes of generated images.
        batches: images in a batch.
        rounds: rounds that count.
        seconds: how long calls on one batch are repeated in each round.
    """

    backbone: str = AUTO
    engines: tuple[str, ...] = ()
    crops: tuple[int, ...] = (1, 2, 4, 8, 16)
    megapixels: tuple[float, ...] = (1, 4, 12, 24, 48)
    batches: tuple[int, ...] = (1, 2, 4, 8, 16)
    rounds: int = 5
    seconds: float = 0.2


@dataclass(frozen=True)
class _Case:
    """One value of an axis, and the images that are judged for it."""

    axis: Axis
    at: float
    photos: Photos

    def measure(self, runner: OwnProcess[Runner], seconds: float) -> float:
        """Return seconds per image, or per batch along the axis of batches."""
        if self.axis == "megapixels":
            return runner.ask(Runner.judge, self.photos).seconds / len(self.photos)
        calls = runner.ask(Runner.time_batch, self.photos, seconds)
        return sum(calls) / len(calls)


def measure_scaling(
    checkpoint: Path,
    bundles: Sequence[Bundle],
    setup: Setup,
    options: ScalingOptions,
    *,
    command: str,
) -> ScalingReport:
    """Time PyTorch FP32 and every bundle on every engine along each axis, in turns.

    Raises:
        CheckpointError: the checkpoint does not hold the GLASS expected.
        InputError: a bundle is of another backbone than the checkpoint.
        EngineError: nothing can run here, or a contender failed after it had begun well.
    """
    loaded = load_model(checkpoint, options.backbone, bundles[0].manifest.views.crop_size)
    for bundle in bundles:
        check_fit(checkpoint, loaded, bundle)
    plain = plain_pytorch(checkpoint, options.backbone, bundles[0])
    refusals: list[Refusal] = []
    with tempfile.TemporaryDirectory(prefix="glass-bench-") as folder, ExitStack() as stack:
        with on_console("making images"):
            cases = list(_cases(Path(folder), setup, options))
        runners = {}
        contenders: list[tuple[Contender, Setup]] = [
            (plain, replace(setup, batch_size=_AT_ONCE)),
            *((each, setup) for each in bundle_contenders(bundles, options.engines)),
        ]
        for contender, own in contenders:
            with refusing(contender.name, refusals), ExitStack() as opening:
                runners[contender.name] = _open(contender, own, cases, options, opening)
                stack.push(opening.pop_all())
        if not runners:
            raise EngineError(refusals[0].reason)
        series = tuple(_measure(runners, cases, options))
    return ScalingReport(
        schema=SCHEMA_VERSION,
        command=command,
        environment=environment(),
        backbone=loaded.recipe.name,
        bundles=tuple(map(bundle_info, bundles)),
        views=setup.views,
        threads=setup.threads,
        workers=setup.workers,
        rounds=options.rounds,
        series=series,
        refusals=tuple(refusals),
    )


def _cases(folder: Path, setup: Setup, options: ScalingOptions) -> Iterator[_Case]:
    """Make images of each size; the engine alone is measured on the first."""
    paths = []
    for name, content in generated_images(options.megapixels).items():
        paths.append(folder / f"{name}.jpg")
        paths[-1].write_bytes(content)
    photos = plan_photos([str(path) for path in paths], setup)
    for count in options.crops:
        views = msgspec.structs.replace(setup.views, num_crops=count)
        yield _Case("crops", count, plan_photos([str(paths[0])], replace(setup, views=views)))
    for size, photo in zip(options.megapixels, photos, strict=True):
        yield _Case("megapixels", size, (photo,) * _COPIES)
    for count in options.batches:
        yield _Case("batch", count, cycled(photos[:1], count))


def _open(
    contender: Contender,
    setup: Setup,
    cases: Sequence[_Case],
    options: ScalingOptions,
    stack: ExitStack,
) -> OwnProcess[Runner]:
    """Open a contender and let it do everything once."""
    with on_console(f"warming up {contender.name}"):
        runner = stack.enter_context(OwnProcess(contender.name, Runner, contender, setup))
        for case in cases:
            case.measure(runner, options.seconds)
        return runner


def _measure(
    runners: dict[str, OwnProcess[Runner]], cases: Sequence[_Case], options: ScalingOptions
) -> Iterator[Series]:
    costs: dict[tuple[str, _Case], list[float]] = {
        (name, case): [] for name in runners for case in cases
    }
    for _ in track(range(options.rounds), "measuring", options.rounds, on_console):
        for case in cases:
            for name, runner in runners.items():
                costs[name, case].append(case.measure(runner, options.seconds))
    for axis in dict.fromkeys(case.axis for case in cases):
        for name in runners:
            points = (
                Point(case.at, Samples(tuple(costs[name, case])))
                for case in cases
                if case.axis == axis
            )
            yield Series(axis, name, tuple(points))
