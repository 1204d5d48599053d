"""What every contender can do, and the processes in which they do it.

No import of PyTorch here: the processes in which bundles are measured import this module.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ...runtime.commands.progress import on_console
from ...runtime.engines.base import Float32
from ...runtime.images.decode import read_header
from ...runtime.judging.options import DEFAULT_BATCH_SIZE
from ...runtime.machine.cpus import available_cpus
from ...runtime.machine.cuda import gpu_present
from ...runtime.machine.errors import ImageError
from ...runtime.machine.progress import track
from ...runtime.views.batch import Sampling, plan
from ...runtime.views.placement import Placement
from ...runtime.views.spec import ViewSpec


@dataclass(frozen=True)
class Photo:
    """An image file, its size in pixels, and where its crops lie."""

    path: str
    width: int
    height: int
    placements: tuple[Placement, ...]


Photos: TypeAlias = tuple[Photo, ...]
Pixels: TypeAlias = npt.NDArray[np.uint8]
"""Crops as the runtime holds them, ``(n, p, p, 3)``, RGB."""


@dataclass(frozen=True)
class Setup:
    """How every contender judges.

    Attributes:
        views: how images become views.
        seed: the run's seed, from which placements follow.
        batch_size: the most images that PyTorch takes at once; a bundle's most views at once.
        threads: CPU threads of the network; of a bundle's only where views lie ready.
        workers: threads or processes that read and decode; in bundles they judge, too.
    """

    views: ViewSpec
    seed: int = 0
    batch_size: int = DEFAULT_BATCH_SIZE
    threads: int = field(default_factory=available_cpus)
    workers: int = field(default_factory=available_cpus)


@dataclass(frozen=True)
class Judged:
    """One passage from files to P(fake).

    Attributes:
        engine: what executed the network.
        precision: the type that it computed in.
        scores: P(fake) of each image.
        placements: each image's crops; ``None`` where the contender chooses their number itself.
        seconds: from the first file to the last score.
        stages: seconds by stage, summed over threads and processes.
        mean_crops: how many crops an image has been judged by, where that is counted.
    """

    engine: str
    precision: str
    scores: tuple[float, ...]
    placements: tuple[tuple[Placement, ...], ...] | None
    seconds: float
    stages: dict[str, float]
    mean_crops: float | None = None


class Loaded(Protocol):
    """A contender ready to judge."""

    def judge(self, photos: Photos) -> Judged:
        """Judge images, from their files to P(fake).

        Raises:
            EngineError: it cannot.
        """
        ...

    def batch(self, photos: Photos) -> Callable[[], object]:
        """Make the views of some images and return the call that judges all of them.

        Raises:
            EngineError: it cannot.
        """
        ...


class Contender(Protocol):
    """A way to judge images, pickled on its way to a process of its own."""

    @property
    def name(self) -> str:
        """What tables call it, the same on every machine."""
        ...

    def open(self, setup: Setup) -> Loaded:
        """Load the network; no image is touched.

        Raises:
            EngineError: it cannot be run as asked.
        """
        ...


class Backbone:
    """A contender's local backbone at work on crops, in the process that it has for itself.

    Args:
        engine: what executes it.
        precision: the type that it computes in.
        features: the call that returns the features ``(n, D)`` of the first ``n`` crops.
    """

    def __init__(self, engine: str, precision: str, features: Callable[[int], Float32]) -> None:
        self._features = features
        self._introduction = engine, precision

    def introduce(self) -> tuple[str, str]:
        """Return the engine and the precision."""
        return self._introduction

    def features(self, count: int) -> Float32:
        """Return the features ``(count, D)`` of the first ``count`` crops."""
        return self._features(count)

    def time(self, count: int) -> float:
        """Return the seconds that the features of the first ``count`` crops take, once.

        A run that follows another is timed, as in production: the first finds the caches
        filled by other contenders and its own threads asleep.
        """
        self._features(count)
        started = time.perf_counter()
        self._features(count)
        return time.perf_counter() - started


class Runner:
    """A contender at work, in the process that it has for itself."""

    def __init__(self, contender: Contender, setup: Setup) -> None:
        self._loaded = contender.open(setup)
        self._batches: dict[Photos, Callable[[], object]] = {}

    def judge(self, photos: Photos) -> Judged:
        """Judge images, from their files on."""
        return self._loaded.judge(photos)

    def time_batch(self, photos: Photos, seconds: float) -> tuple[float, ...]:
        """Return what calls of the network take on the views of ``photos``, made before.

        Calls follow each other for ``seconds``, as in production. The first finds the caches
        filled by other contenders and threads asleep; it counts only where it takes all the
        time there is.
        """
        if photos not in self._batches:
            self._batches[photos] = self._loaded.batch(photos)
        call = self._batches[photos]
        taken: list[float] = []
        while sum(taken) < seconds:
            started = time.perf_counter()
            call()
            taken.append(time.perf_counter() - started)
        return tuple(taken[1:] or taken)

    def time_parts(self, photos: Photos, calls: int) -> dict[str, tuple[float, ...]]:
        """Return what calls of the network spend in each part of a GPU's work, in seconds.

        Nothing without a GPU, where PyTorch need not be loaded beside a bundle.
        """
        if not gpu_present():
            return {}
        from .gpu_parts import time_parts  # it imports PyTorch

        return time_parts(self._batches[photos], calls)


def plan_photos(paths: Sequence[str], setup: Setup) -> Photos:
    """Place the crops of every image, and decode each once, so that all can be judged.

    Raises:
        ImageError: an image cannot be judged.
    """
    sampling = Sampling(setup.views, setup.seed)
    return tuple(
        _plan(path, sampling) for path in track(paths, "checking images", len(paths), on_console)
    )


def _plan(path: str, sampling: Sampling) -> Photo:
    try:
        content = Path(path).read_bytes()
        image = read_header(content)
        rgb = image.decode().rgb
    except ImageError as error:
        raise ImageError(f"{path}: {error} Leave it out of the benchmark.") from None
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}.") from None
    seed = sampling.generator_seed(rgb)
    places = plan(image.height, image.width, seed, sampling.spec)
    return Photo(path, image.width, image.height, tuple(places))


def cycled(photos: Photos, count: int) -> Photos:
    """Return so many images, over again if there are too few."""
    return tuple(itertools.islice(itertools.cycle(photos), count))


def spread_out(photos: Photos, most: int) -> Photos:
    """Return at most so many images, evenly spread over the list."""
    count = min(most, len(photos))
    return tuple(photos[index * len(photos) // count] for index in range(count))


def tiled(photos: Photos, side: int) -> Photos:
    """Return the same images with every tile of a regular grid in place of their crops.

    Tiles that stick out at the right and at the bottom hold what is left of the image.
    """
    return tuple(replace(photo, placements=_tiles(photo, side)) for photo in photos)


def _tiles(photo: Photo, side: int) -> tuple[Placement, ...]:
    corners = itertools.product(range(0, photo.height, side), range(0, photo.width, side))
    return tuple(
        Placement(top, left, min(side, photo.height - top), min(side, photo.width - left))
        for top, left in corners
    )
