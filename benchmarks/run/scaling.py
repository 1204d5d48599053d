"""What an image costs by its number of crops and by its size, on generated images."""

from __future__ import annotations

import itertools
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ..contenders.turns import in_turns, refusing
from ..contenders.work import Photos, Runner, Setup, plan_photos
from ..measuring.generated import generated_images
from ..measuring.samples import Samples
from .options import RunOptions
from .report import Axis, Point, Series
from .turns import Entry, Turns

_MEGAPIXELS = 1.0  # of the image whose crops are counted
_COPIES = 8  # of an image in a passage, so that workers have something to do side by side


@dataclass(frozen=True)
class _Case:
    """One value of an axis, and the images that are judged for it."""

    axis: Axis
    at: float
    photos: Photos

    def measure(self, entry: Entry, seconds: float) -> float:
        """Return seconds per image: from its file on, or by crops of the network alone."""
        if self.axis == "megapixels":
            return entry.process.ask(Runner.judge, self.photos).seconds / len(self.photos)
        return statistics.median(entry.process.ask(Runner.time_batch, self.photos, seconds))


def measure_scaling(turns: Turns, setup: Setup, options: RunOptions) -> tuple[Series, ...]:
    """Measure everyone along both axes, in turns, but PyTorch at its best.

    That would compile anew for each number of crops.
    """
    rounds, seconds = options.rounds, options.seconds
    with tempfile.TemporaryDirectory(prefix="glass-bench-") as folder:
        cases = list(_cases(Path(folder), setup, options))
        ready = []
        for entry in turns.entries:
            if entry.kind == "pytorch" and entry is not turns.entries[0]:
                continue
            with refusing(f"{entry.contender.name}, by crops and size", turns.refusals):
                for case in cases:
                    case.measure(entry, seconds)
                ready.append(entry)
        members = list(itertools.product(cases, ready))
        costs = in_turns(members, lambda each: each[0].measure(each[1], seconds), rounds, "scaling")
    found = {member: Samples(each) for member, each in zip(members, costs, strict=True)}
    return tuple(
        Series(
            axis,
            entry.contender.name,
            tuple(Point(case.at, found[case, entry]) for case in cases if case.axis == axis),
        )
        for axis in dict.fromkeys(case.axis for case in cases)
        for entry in ready
    )


def _cases(folder: Path, setup: Setup, options: RunOptions) -> Iterator[_Case]:
    for count in options.scale_crops:
        counted = replace(setup, views=setup.views.with_crops(count))
        yield _Case("crops", float(count), plan_photos([_image(folder, _MEGAPIXELS)], counted))
    for size in options.scale_megapixels:
        yield _Case("megapixels", float(size), plan_photos([_image(folder, size)], setup) * _COPIES)


def _image(folder: Path, megapixels: float) -> str:
    ((name, content),) = generated_images([megapixels]).items()
    path = folder / f"{name}.jpg"
    path.write_bytes(content)
    return str(path)
