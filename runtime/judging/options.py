"""How a detector judges, and what follows for its engine and its engine room."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from ..engines.base import EngineOptions
from ..images.encoded import DEFAULT_MAX_PIXELS, MAX_SIDE, SIXTEEN_BIT, DecodeOptions, SixteenBit
from ..machine.cpus import available_cpus
from ..machine.errors import InputError
from ..machine.progress import Progress, silent
from ..views.spec import MOST_CROPS
from .pipeline import PipelineOptions
from .view_maker import DEFAULT_MEMORY

Mode: TypeAlias = Literal["throughput", "latency"]
MODES: tuple[Mode, ...] = get_args(Mode)
DEFAULT_BATCH_SIZE = 16
DEFAULT_THRESHOLD = 0.5
SEED_KEY = "GLASS_SEED_KEY"
"""The environment variable in which commands find :attr:`DetectorOptions.seed_key`."""

_MOST_VIEWS = 4096  # in a batch: 0.6 GB of crops of 224 pixels
_MOST_THREADS = 1024
_BOUNDS = {
    "crops": (1, MOST_CROPS),
    "batch_size": (1, _MOST_VIEWS),
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
        crops: crops per image, at most 1024; ``None`` takes the bundle's number.
        seed: the run's seed, from which and from each image's pixels its crops follow.
        seed_key: a secret, without which nobody can tell which crops an image gets; empty for
            none.
        fixed_seed: one generator seed for every image instead of ``seed``'s rule.
        threshold: P(fake) from which an image is called fake.
        mode: ``throughput`` keeps every CPU busy with images of its own; ``latency`` takes
            one image at a time and gives it all of them.
        batch_size: the most views given to the engine at once, at most 4096; views of several
            images are given together where they fit.
        threads: CPU threads of one run of the engine; 0 chooses by the mode: one, and as many
            runs at once as there are CPUs, or all.
        engine_folder: where built engines are kept; ``None`` is the user's cache.
        workers: threads that decode and, on a CPU, judge; 0 takes one per CPU available. In
            latency mode there is one.
        memory: bytes that decoded images may take at once; a larger image goes alone.
        max_pixels: images with more pixels are refused.
        allow_damaged: judge images of which a part is missing, instead of refusing them.
        sixteen_bit: ``clip`` grey values of more than 8 bits as Pillow does, and refuse images
            of which nothing is left; or ``scale`` them to 8 bits.
        isolate: decode in processes of their own, so that a crash in an image library costs
            one image its verdict and not the run (Linux).
    """

    engine: str = "auto"
    device: str = "auto"
    crops: int | None = None
    seed: int = 0
    seed_key: str = ""
    fixed_seed: int | None = None
    threshold: float = DEFAULT_THRESHOLD
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

    def __post_init__(self) -> None:
        for name, (least, most) in _BOUNDS.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
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
        if not 0.0 <= self.threshold <= 1.0:
            raise InputError(f"threshold must lie between 0 and 1, not {self.threshold}.")
        if not -(2**63) <= self.seed < 2**63:
            raise InputError(f"seed must fit in 64 bits, not {self.seed}.")
        if self.fixed_seed is not None and not 0 <= self.fixed_seed < 2**32:
            raise InputError(f"fixed_seed must lie between 0 and 2^32 - 1, not {self.fixed_seed}.")


def decode_options(options: DetectorOptions) -> DecodeOptions:
    """Return which images are decoded, and how."""
    return DecodeOptions(options.max_pixels, options.allow_damaged, options.sixteen_bit)


def pipeline_options(options: DetectorOptions, crops: int) -> PipelineOptions:
    """Say how many images of so many crops share a batch, and how many threads compute."""
    alone = options.mode == "latency"
    return PipelineOptions(
        images=1 if alone else max(1, options.batch_size // crops),
        workers=1 if alone else options.workers,
        memory=options.memory,
        decode=decode_options(options),
        isolate=options.isolate,
        window=1 if alone else None,
    )


def engine_options(
    options: DetectorOptions, pipeline: PipelineOptions, crops: int, progress: Progress = silent
) -> EngineOptions:
    """Say how the engine runs: alone on all CPUs, or several times at once on one each."""
    cpus = available_cpus()
    threads = options.threads or (1 if options.mode == "throughput" else cpus)
    return EngineOptions(
        device=options.device,
        threads=threads,
        lanes=max(1, min(pipeline.workers, cpus // threads)),
        batch_size=min(pipeline.images * crops, options.batch_size),
        images=pipeline.images,
        folder=options.engine_folder,
        progress=progress,
    )
