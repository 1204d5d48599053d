"""How a detector judges, and what follows for its engine and its engine room."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from ..bundle.manifest import Manifest
from ..bundle.stopping import Stopping
from ..claims.claims import ClaimOptions
from ..engines.base import EngineOptions
from ..images.encoded import DEFAULT_MAX_PIXELS, MAX_SIDE, SIXTEEN_BIT, DecodeOptions, SixteenBit
from ..machine.cpus import available_cpus
from ..machine.errors import InputError
from ..machine.progress import Progress, silent
from ..streaming.sharing import PipelineOptions, batches_at_once
from ..streaming.view_maker import DEFAULT_MEMORY
from ..views.batch import Sampling
from ..views.sizes import MOST_VIEWS
from ..views.spec import ViewSpec

Mode: TypeAlias = Literal["throughput", "latency"]
MODES: tuple[Mode, ...] = get_args(Mode)
DEFAULT_BATCH_SIZE = 16
AUTO_CROPS: Final = "auto"
SEED_KEY = "GLASS_SEED_KEY"
"""The environment variable in which commands find :attr:`DetectorOptions.seed_key`."""

_LARGEST_BATCH = 4096  # views: 0.6 GB of crops of 224 pixels
_MOST_THREADS = 1024
_BOUNDS = {
    "crops": (1, MOST_VIEWS),
    "batch_size": (1, _LARGEST_BATCH),
    "threads": (0, _MOST_THREADS),
    "workers": (0, _MOST_THREADS),
    "memory": (1, 2**63 - 1),
    "max_pixels": (1, MAX_SIDE**2),
}
"""What each number of :class:`DetectorOptions` may be at least and at most."""


@dataclass(frozen=True)
class DetectorOptions:
    """How a :class:`Detector` judges.

    Attributes:
        engine: ``auto`` or an engine's name.
        device: ``auto``, ``cpu`` or ``cuda``.
        crops: crops per image, at most 1024; ``None`` takes the bundle's number, and ``auto`` as
            many as each image needs by the bundle's stopping rule.
        seed: the run's seed, from which and from each image's pixels its crops follow.
        seed_key: a secret, without which nobody can tell which crops an image gets; empty for
            none.
        fixed_seed: one generator seed for every image instead of ``seed``'s rule.
        threshold: P(fake) from which an image is called fake; ``None`` takes the bundle's.
        mode: ``throughput`` keeps every CPU busy with images of its own; ``latency`` takes
            one image at a time and gives it all of them.
        batch_size: the most views given to the engine at once, at most 4096; views of several
            images are given together where they fit.
        threads: CPU threads of one run of the engine; 0 chooses by the mode: one, and as many
            runs at once as there are CPUs, or all.
        engine_folder: where built engines are kept; ``None`` is the user's cache.
        workers: threads that decode and, on a CPU, judge; 0 takes one per CPU available. In
            latency mode there is one.
        memory: bytes that decoded images may take at once; a larger image goes alone. With
            ``auto`` crops, those that wait may take as much again. Where the number of views varies
            or another stream places them, up to one image for each worker and each batch being
            judged is kept besides.
        max_pixels: images with more pixels are refused.
        allow_damaged: judge images of which a part is missing, instead of refusing them.
        sixteen_bit: ``clip`` grey values of more than 8 bits as Pillow does, and refuse images
            of which nothing is left; or ``scale`` them to 8 bits.
        isolate: decode in processes of their own, so that a crash in an image library costs
            one image its verdict and not the run (Linux).
        influence: also say by how much each crop moves P(fake), see
            :class:`.influence.Influence`. The aggregator runs once more for each crop.
        thumbnails: make a small picture of each image, see :attr:`.detector.RecordStream`.
        claims: what files are asked of themselves. It has no part in any verdict.
    """

    engine: str = "auto"
    device: str = "auto"
    crops: int | Literal["auto"] | None = None
    seed: int = 0
    seed_key: str = ""
    fixed_seed: int | None = None
    threshold: float | None = None
    mode: Mode = "throughput"
    batch_size: int = DEFAULT_BATCH_SIZE
    threads: int = 0
    engine_folder: Path | None = None
    workers: int = 0
    memory: int = DEFAULT_MEMORY
    max_pixels: int = DEFAULT_MAX_PIXELS
    allow_damaged: bool = False
    sixteen_bit: SixteenBit = "clip"
    isolate: bool = False
    influence: bool = False
    thumbnails: bool = False
    claims: ClaimOptions = field(default_factory=ClaimOptions)

    def __post_init__(self) -> None:
        if isinstance(self.crops, str) and self.crops != AUTO_CROPS:
            raise InputError(f"crops must be a number or {AUTO_CROPS}, not {self.crops!r}.")
        for name, (least, most) in _BOUNDS.items():
            value = getattr(self, name)
            if value not in (None, AUTO_CROPS) and not least <= value <= most:
                raise InputError(f"{name} must lie between {least} and {most}, not {value}.")
        self._check_choices()

    def _check_choices(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"mode must be {' or '.join(MODES)}, not {self.mode!r}.")
        if self.sixteen_bit not in SIXTEEN_BIT:
            raise InputError(
                f"sixteen_bit must be {' or '.join(SIXTEEN_BIT)}, not {self.sixteen_bit!r}."
            )
        if self.mode == "latency" and self.workers > 1:
            raise InputError(
                f"workers must be 1 in latency mode, which takes one image at a time, not "
                f"{self.workers}: leave it out."
            )
        if self.threshold is not None and not 0.0 <= self.threshold <= 1.0:
            raise InputError(f"threshold must lie between 0 and 1, not {self.threshold}.")
        if not -(2**63) <= self.seed < 2**63:
            raise InputError(f"seed must fit in 64 bits, not {self.seed}.")
        if self.fixed_seed is not None and not 0 <= self.fixed_seed < 2**32:
            raise InputError(f"fixed_seed must lie between 0 and 2^32 - 1, not {self.fixed_seed}.")


def decode_options(options: DetectorOptions) -> DecodeOptions:
    """Return which images are decoded, and how."""
    return DecodeOptions(options.max_pixels, options.allow_damaged, options.sixteen_bit)


def sampling(options: DetectorOptions, views: ViewSpec, rule: Stopping | None) -> Sampling:
    """Say which views images are judged by: a fixed number, or what a stopping rule may need.

    Raises:
        InputError: a number of crops is asked for, and the detector's places are not drawn.
    """
    crops, fixed = options.crops, options.fixed_seed
    if isinstance(crops, int) and not views.drawn:
        raise InputError(
            f"{crops} crops were asked for, and this bundle's detector chooses its views by a rule "
            "of its own: leave the number of crops out."
        )
    return Sampling(
        views.with_crops(crops) if isinstance(crops, int) else views,
        options.seed if fixed is None else fixed,
        fixed is not None,
        os.fsencode(options.seed_key),  # of any bytes, from the environment
        most_crops=None if rule is None else rule.most_crops,
        at_once=None if rule is None else rule.steps[0],
    )


def views_together(options: DetectorOptions, manifest: Manifest, views: Sampling) -> int:
    """Return how many views of an image count towards a batch."""
    # Of so few crops that global views count, too: both together make a batch. Not where a graph
    # computes a full batch in any case, which crops alone shall fill.
    counted = options.crops == AUTO_CROPS and not manifest.backbone.fixed_batch
    return (views.laid or manifest.views.usual) + counted


def images_together(options: DetectorOptions, views: int) -> int:
    """Return how many images of so many views share a batch."""
    return 1 if options.mode == "latency" else max(1, options.batch_size // views)


def pipeline_options(options: DetectorOptions, views: int) -> PipelineOptions:
    """Say how many images of so many views share a batch, and how many threads compute."""
    alone = options.mode == "latency"
    return PipelineOptions(
        images=images_together(options, views),
        workers=1 if alone else options.workers,
        memory=options.memory,
        decode=decode_options(options),
        isolate=options.isolate,
        window=1 if alone else None,
    )


def engine_options(
    options: DetectorOptions, pipeline: PipelineOptions, views: int, progress: Progress = silent
) -> EngineOptions:
    """Say how the engine runs: alone on all CPUs, or several times at once on one each."""
    cpus = available_cpus()
    threads = options.threads or (1 if options.mode == "throughput" else cpus)
    return EngineOptions(
        device=options.device,
        threads=threads,
        lanes=max(1, min(pipeline.workers, cpus // threads)),
        batch_size=min(pipeline.images * views, options.batch_size),
        images=pipeline.images,
        folder=options.engine_folder,
        progress=progress,
    )


def within_memory(
    pipeline: PipelineOptions, lanes: int, batch_size: int, image_bytes: int
) -> PipelineOptions:
    """Put fewer images into a batch if the views that wait would take more than the memory.

    Args:
        pipeline: with the most images that are useful.
        lanes: how many batches are judged at once.
        batch_size: so many views of images that are not settled are gathered.
        image_bytes: what all views of an image take.
    """
    while pipeline.images > 1:
        if most_waiting(pipeline, lanes, batch_size) * image_bytes <= pipeline.memory:
            break
        pipeline = replace(pipeline, images=pipeline.images // 2)
    return pipeline


def most_waiting(pipeline: PipelineOptions, lanes: int, batch_size: int) -> int:
    """Return how many images may wait with their views: in batches, lanes, and for more crops."""
    in_batches = pipeline.images * batches_at_once(pipeline, lanes)
    return in_batches + lanes * max(pipeline.images, batch_size) + batch_size
