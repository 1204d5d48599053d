"""Measures what an image costs by bundle, crops and size, stage by stage, on one CPU."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ...runtime.bundle.bundle import Bundle
from ...runtime.commands.progress import on_console
from ...runtime.judging.options import DetectorOptions
from ...runtime.machine.cpus import available_cpus
from ...runtime.machine.environment import environment
from ...runtime.machine.timings import STAGES
from ...runtime.results.output_file import JSON_LINES
from ..measuring.bundles import common_views
from ..measuring.generated import generated_images
from ..measuring.judge import Judge, Passage
from ..measuring.process import OwnProcess
from ..measuring.report import SCHEMA_VERSION
from ..measuring.rotation import in_rotation
from ..measuring.samples import Samples
from .options import CostsOptions
from .report import BundleCosts, CostsReport, ImageCost

_MORE_FOR_ALL = 4
"""Times as many images for each of all CPUs, so that the end, when some rest, counts little."""


def measure_costs(bundles: Sequence[Bundle], options: CostsOptions, *, command: str) -> CostsReport:
    """Judge generated images of every size with every bundle and number of crops.

    Args:
        bundles: what judges.
        options: what is measured.
        command: what the report says it was made by.

    Raises:
        EngineError: an engine cannot run, or failed.
        InputError: there cannot be so many crops, or a bundle draws none.
    """
    for bundle, crops in itertools.product(bundles, options.crops):  # refused before the work
        DetectorOptions(crops=crops)
        common_views([bundle], crops)
    sizes = sorted(options.megapixels)
    with tempfile.TemporaryDirectory(prefix="glass-bench-") as scratch:
        place = Path(scratch)
        folders = {size: _folder(size, options.images, place) for size in sizes}
        crowd = options.images * _MORE_FOR_ALL * available_cpus()
        many = _folder(sizes[-1], crowd, place)
        measured = tuple(_bundle_costs(each, folders, many, options, place) for each in bundles)
    return CostsReport(
        schema=SCHEMA_VERSION,
        command=command,
        environment=environment(),
        rounds=options.rounds,
        images=options.images,
        budget=options.budget,
        bundles=measured,
    )


def _bundle_costs(
    bundle: Bundle,
    folders: dict[float, Path],
    many: Path,
    options: CostsOptions,
    place: Path,
) -> BundleCosts:
    """Measure one bundle: its numbers of crops and all sizes in turns, then all CPUs."""
    records = str(place / f"records{JSON_LINES}")
    views = bundle.manifest.views
    numbers = options.crops or (views.num_crops if views.drawn else None,)
    cases = [*itertools.product(numbers, folders)]

    def detector(name: str, crops: int | None, workers: int = 0) -> OwnProcess[Judge]:
        with on_console(f"opening {bundle.name} for {name}"):
            wanted = DetectorOptions(
                engine=options.engine, device="cpu", crops=crops, workers=workers
            )
            return OwnProcess(name, Judge, bundle.path.resolve(), wanted)

    with ExitStack() as stack:
        with _on_one_cpu():  # so that elapsed time is the CPU's, and idle threads spin nowhere else
            judges = {
                crops: stack.enter_context(detector("one CPU", crops=crops, workers=1))
                for crops in numbers
            }

        def measure(case: tuple[int | None, float]) -> Passage:
            crops, size = case
            return judges[crops].ask(Judge.judge, str(folders[size]), records)

        turns = in_rotation(cases, measure, options.rounds, bundle.name)
    images = tuple(
        _image_cost(case, folders[case[1]], turn) for case, turn in zip(cases, turns, strict=True)
    )
    with detector("all CPUs", crops=numbers[0]) as judge:
        (together,) = in_rotation(
            [many],
            lambda each: judge.ask(Judge.judge, str(each), records),
            options.rounds,
            "all CPUs",
        )
    return BundleCosts(
        bundle.name, bundle.manifest.precision, turns[0][0].engine, images, _seconds(together)
    )


def _image_cost(case: tuple[int | None, float], folder: Path, turn: Sequence[Passage]) -> ImageCost:
    crops, size = case
    return ImageCost(
        crops=crops,
        megapixels=size,
        bytes=next(folder.iterdir()).stat().st_size,
        seconds=_seconds(turn),
        stages={
            stage: Samples(tuple(each.stages[stage] / len(each.scores) for each in turn))
            for stage in STAGES
        },
    )


def _seconds(turn: Sequence[Passage]) -> Samples:
    """Return the seconds per image of each passage."""
    return Samples(tuple(passage.seconds / len(passage.scores) for passage in turn))


@contextmanager
def _on_one_cpu() -> Iterator[None]:
    """Let the processes that the block starts have one CPU, where that can be chosen."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [min(own)])
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


def _folder(megapixels: float, count: int, place: Path) -> Path:
    """Write a folder of so many equal images of some size."""
    (content,) = generated_images([megapixels]).values()
    folder = place / f"{count}-of-{megapixels:g}-megapixels"
    folder.mkdir()
    first = folder / "0.jpg"
    first.write_bytes(content)
    for number in range(1, count):  # links, or many large images would fill the disk
        (folder / f"{number}.jpg").hardlink_to(first)
    return folder
