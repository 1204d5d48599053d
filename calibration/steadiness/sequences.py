"""What a bundle says of images after ever more of their crops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ...runtime.bundle.manifest import Manifest
from ...runtime.engines.base import Engine, Float32, class_margins
from ...runtime.machine.errors import EngineError, ImageError
from ...runtime.machine.progress import Progress, silent, track
from ...runtime.streaming.draws import DrawnBatch, stream_draws
from ...runtime.streaming.sharing import PipelineOptions
from ...runtime.views.batch import Sampling, ViewInfo
from ..judging.timed import judge_timed

SETTLED_CROPS = 64
"""The settled verdict of an image is that of its first 64 crops, or of all if it has fewer places.
If a rule may look at more than 64, it is that of the most."""
_PURPOSE = {True: "judging with ever more crops", False: "judging"}
_BATCH = 4  # images: 10 MB of crops each, for one sequence

Margins = npt.NDArray[np.float64]
"""Logit of fake minus that of real, ``(images, sequences, steps)``."""


@dataclass(frozen=True)
class Sequences:
    """Margins of images after each of some numbers of crops, for one or more sequences of them.

    Attributes:
        paths: the images, ``(images,)``.
        steps: the numbers of crops, rising; the last gives the settled verdict.
        margins: ``(images, sequences, steps)``. Where an image has places for fewer crops than a
            step, that of all its crops.
        places: how many crops each image has places for, but for no more than the last step;
            ``(images, sequences)``.
        areas: the images', in areas of a crop; ``(images,)``.
        unreadable: why other images were left out, by their paths.
    """

    paths: tuple[str, ...]
    steps: tuple[int, ...]
    margins: Margins
    places: npt.NDArray[np.int64]
    areas: npt.NDArray[np.float64]
    unreadable: Mapping[str, str] = field(default_factory=dict)

    @property
    def settled(self) -> Margins:
        """The margins of settled verdicts, ``(images, sequences)``."""
        settled: Margins = self.margins[..., -1]
        return settled

    def after(self, crops: int) -> Margins:
        """Return the margins after so many crops, which must be a step; ``(images, sequences)``."""
        found: Margins = self.margins[..., self.steps.index(crops)]
        return found


def steps_up_to(most: int) -> tuple[int, ...]:
    """Return 1, 2, 3, 4, 6, 8, 12 and so on up to ``most``: each at most twice the one before."""
    powers = [1 << power for power in range(most.bit_length())]
    return tuple(sorted({step for p in powers for step in (p, p * 3 // 2) if step < most} | {most}))


def measure_sequences(
    images: Sequence[str],
    engine: Engine,
    manifest: Manifest,
    steps: Sequence[int],
    *,
    seeds: int = 1,
    progress: Progress = silent,
) -> Sequences:
    """Judge images after ever more crops of their sequences.

    Features are computed once. Images that cannot be read are left out. Where nothing is drawn, an
    image has one verdict, after any step.

    Args:
        images: files.
        engine: what runs the bundle.
        manifest: the bundle's.
        steps: the numbers of crops, rising.
        seeds: how many sequences each image has: those of runs with the seeds 0 to ``seeds - 1``.
        progress: is told how far the work is.

    Raises:
        EngineError: the engine fails, or gives numbers that are not finite.
    """
    drawn = manifest.views.drawn
    sampling = Sampling(manifest.views, draws=seeds, most_crops=steps[-1] if drawn else None)
    margins, places, areas = [], [], []
    outcomes: list[ViewInfo | ImageError] = []
    with closing(stream_draws(images, sampling, PipelineOptions(_BATCH))) as batches:
        count = -(-len(images) // _BATCH)
        for batch in track(batches, _PURPOSE[drawn], count, progress):
            outcomes += batch.outcomes
            if batch.readable:
                measured = _measure(batch, engine, manifest, steps)
                margins.append(measured)
                places += [
                    [len(draw.placements) if drawn else 1 for draw in info.draws]
                    for info in batch.infos
                ]
                areas += [info.width * info.height for info in batch.infos]
    found = list(zip(images, outcomes, strict=True))
    return Sequences(
        tuple(path for path, outcome in found if isinstance(outcome, ViewInfo)),
        tuple(steps),
        np.concatenate([np.empty((0, seeds, len(steps))), *margins]),
        np.array(places, np.int64).reshape(-1, seeds),
        np.array(areas) / manifest.views.crop_size**2,
        {path: str(outcome) for path, outcome in found if isinstance(outcome, ImageError)},
    )


def _measure(
    batch: DrawnBatch, engine: Engine, manifest: Manifest, steps: Sequence[int]
) -> Margins:
    """Return the margins ``(images, sequences, steps)`` of a batch's readable images."""
    several = manifest.views.several
    if several is None or not manifest.views.drawn:
        logits = judge_timed(engine, batch, manifest.views).logits
        margins = np.repeat(class_margins(logits, manifest)[..., np.newaxis], len(steps), axis=2)
    else:
        margins = _measure_crops(batch, several, engine, manifest, steps)
    if not np.isfinite(margins).all():
        raise EngineError(
            f"{engine.description} gave numbers that are not finite: try another engine, or "
            "another precision."
        )
    return margins


def _measure_crops(
    batch: DrawnBatch, several: str, engine: Engine, manifest: Manifest, steps: Sequence[int]
) -> Margins:
    others = {
        name: engine.features(name, pixels)
        for name, pixels in batch.views.items()
        if name != several
    }
    margins = np.empty((*batch.views[several].shape[:2], len(steps)))
    for image, info in enumerate(batch.infos):
        one = {name: features[image : image + 1] for name, features in others.items()}
        for sequence, draw in enumerate(info.draws):
            crops = batch.views[several][image, sequence, : len(draw.placements)]
            own = engine.features(several, crops)
            features = {name: one.get(name, own[np.newaxis]) for name in manifest.streams}
            margins[image, sequence] = _after_steps(features, several, engine, manifest, steps)
    return margins


def _after_steps(
    features: Mapping[str, Float32],
    several: str,
    engine: Engine,
    manifest: Manifest,
    steps: Sequence[int],
) -> npt.NDArray[np.float64]:
    """Judge one image by features ``(1, D)`` and ``(1, crops, D)`` after each step."""
    crops = features[several]
    counts = [min(step, crops.shape[1]) for step in steps]
    logits = {
        count: engine.aggregate({**features, several: crops[:, :count]}).logits
        for count in dict.fromkeys(counts)
    }
    return class_margins(np.concatenate([logits[count] for count in counts]), manifest)
