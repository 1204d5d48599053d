"""What an image costs by its size, stage by stage, on one CPU."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ...runtime.machine.timings import STAGES
from ...runtime.results.output_file import JSON_LINES
from ..measuring.process import OwnProcess
from ..views.measure import generated_images
from .judge import Judge
from .options import CollectionsOptions
from .report import StageCost
from .turns import in_rotation

_COPIES = 4  # of an image whose stages are measured
_MILLI = 1e3  # milliseconds of a second


def measure_stages(bundle: Path, options: CollectionsOptions, place: Path) -> tuple[StageCost, ...]:
    """Judge images of every size with one worker, and divide the time by stage."""
    folders = dict(_folders_by_size(options.megapixels, place))
    records = str(place / f"stages{JSON_LINES}")
    with _on_one_cpu():  # so that elapsed time is the CPU's, and idle threads spin nowhere else
        process = OwnProcess("one worker", Judge, bundle, options.engine, 1)
    with process as judge:
        turns = in_rotation(
            list(folders),
            lambda size: judge.ask(Judge.judge, str(folders[size]), records),
            options.rounds,
            "stages",
        )
    return tuple(
        StageCost(
            megapixels=size,
            bytes=next(folders[size].iterdir()).stat().st_size,
            stages={stage: _each([taken.stages[stage] for taken in turn]) for stage in STAGES},
            cpu=_each([taken.cpu_seconds for taken in turn]),
        )
        for size, turn in zip(folders, turns, strict=True)
    )


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


def _folders_by_size(sizes: Sequence[float], place: Path) -> Iterator[tuple[float, Path]]:
    for size in sizes:
        (content,) = generated_images([size]).values()
        folder = place / f"{size:g}-megapixels"
        folder.mkdir()
        for number in range(_COPIES):
            (folder / f"{number}.jpg").write_bytes(content)
        yield size, folder


def _each(seconds: Sequence[float]) -> float:
    """Return the milliseconds of one copy, of the median round."""
    return statistics.median(seconds) / _COPIES * _MILLI
