"""From images to verdicts: the detector as a Python object."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from .bundle import Bundle
from .cpus import available_cpus
from .decode import DEFAULT_MAX_PIXELS
from .engines.base import EngineOptions, Float32
from .errors import EngineError, ImageError, InputError
from .network import Network, softmax
from .records import Crop, ErrorInfo, Failure, Record, Verdict
from .selftest import SelfTest, ensure_tested, self_test
from .stream import PreparedBatch, StreamOptions, stream_views
from .views import ImageSource, Sampling, ViewInfo
from .workers import DEFAULT_MEMORY

DEFAULT_BATCH_SIZE = 16
DEFAULT_THRESHOLD = 0.5
_SINGLE = (str, os.PathLike, bytes, np.ndarray)


@dataclass(frozen=True)
class DetectorOptions:
    """How a :class:`Detector` judges.

    Attributes:
        engine: ``auto`` or an engine's name.
        device: ``auto``, ``cpu`` or ``cuda``.
        crops: crops per image; ``None`` takes the bundle's number.
        seed: the run's seed, from which and from each image's content its crops follow.
        fixed_seed: one generator seed for every image instead of ``seed``'s rule.
        threshold: P(fake) from which an image is called fake.
        batch_size: the most views given to the engine at once, and images in flight.
        threads: the engine's threads on a CPU; 0 takes every CPU available.
        engine_folder: where built engines are kept; ``None`` is the user's cache.
        workers: threads that read and decode; 0 takes one per CPU available.
        memory: bytes that decoded images may take at once; a larger image goes alone.
        max_pixels: images with more pixels are refused.
    """

    engine: str = "auto"
    device: str = "auto"
    crops: int | None = None
    seed: int = 0
    fixed_seed: int | None = None
    threshold: float = DEFAULT_THRESHOLD
    batch_size: int = DEFAULT_BATCH_SIZE
    threads: int = 0
    engine_folder: Path | None = None
    workers: int = 0
    memory: int = DEFAULT_MEMORY
    max_pixels: int = DEFAULT_MAX_PIXELS

    def __post_init__(self) -> None:
        for name in ("crops", "batch_size", "memory", "max_pixels"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, not {value}.")
        for name in ("threads", "workers"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must not be negative; 0 chooses by itself.")
        if not 0.0 <= self.threshold <= 1.0:
            raise InputError(f"threshold must lie between 0 and 1, not {self.threshold}.")
        if not -(2**63) <= self.seed < 2**63:
            raise InputError(f"seed must fit in 64 bits, not {self.seed}.")
        if self.fixed_seed is not None and not 0 <= self.fixed_seed < 2**32:
            raise InputError(f"fixed_seed must lie between 0 and 2^32 - 1, not {self.fixed_seed}.")


class Detector:
    """Judges images with one bundle on one engine.

    >>> detector = Detector("gl_vit.glass")
    >>> [verdict] = detector.detect(["photo.jpg"])
    >>> verdict.verdict, verdict.score
    ('fake', 0.93)

    The same image, bundle and seed give the same crops whatever the batch, order or
    number of threads. A detector may be used from one thread at a time.
    """

    def __init__(
        self, bundle: Bundle | str | os.PathLike[str], options: DetectorOptions | None = None
    ) -> None:
        """Open the bundle, load its graphs, and self-test an engine that was not tested yet.

        Raises:
            BundleError: the bundle is damaged or unknown.
            EngineError: the engine cannot run it as asked, or computes other numbers.
        """
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        self.options = options or DetectorOptions()
        spec = self.bundle.manifest.views
        if self.options.crops is not None:
            spec = msgspec.structs.replace(spec, num_crops=self.options.crops)
        fixed = self.options.fixed_seed
        self._sampling = Sampling(
            spec, self.options.seed if fixed is None else fixed, fixed is not None
        )
        threads = self.options.threads or available_cpus()
        self._network = Network(
            self.bundle,
            self.options.engine,
            EngineOptions(
                self.options.device, threads, self.options.batch_size, self.options.engine_folder
            ),
        )
        ensure_tested(self.bundle, self._network)
        self._bundle_name = self.bundle.name

    @property
    def engine(self) -> str:
        """What executes the graphs, as records say it."""
        return self._network.engine

    def self_test(self) -> SelfTest:
        """Judge the bundle's reference views now, see :func:`.selftest.self_test`."""
        return self_test(self.bundle, self._network)

    def detect(self, images: ImageSource | Iterable[ImageSource]) -> list[Verdict]:
        """Judge images and return their verdicts in order.

        Args:
            images: paths, encoded files' bytes, or RGB arrays (uint8, height x width x 3);
                one image alone is taken as a list of one.

        Raises:
            ImageError: an image cannot be judged. To go on past such images, use
                :meth:`stream`.
        """
        several = [images] if isinstance(images, _SINGLE) else images
        verdicts = []
        with closing(self.stream(several)) as records:
            for index, record in enumerate(records):
                if isinstance(record, Failure):
                    name = record.path or f"image {index}"
                    raise ImageError(f"{name}: {record.error.message}")
                verdicts.append(record)
        return verdicts

    def stream(self, images: Iterable[ImageSource]) -> Generator[Record, None, None]:
        """Judge images as they come and yield one record each, in order.

        Images that cannot be judged give :class:`Failure` records. While one batch is
        inferred, the next one is read and decoded; at most two batches are held.

        Raises:
            EngineError: the engine failed.
        """
        options = self.options
        reading = StreamOptions(
            options.batch_size, options.workers, options.memory, options.max_pixels
        )
        with closing(stream_views(images, self._sampling, reading)) as batches:
            for batch in batches:
                yield from self._judge(batch)

    def _judge(self, batch: PreparedBatch) -> Iterator[Record]:
        judged: Iterator[tuple[Float32, Float32]] = iter(())
        if batch.infos:
            judgement = self._network.judge(batch.overviews, batch.crops)
            judged = zip(judgement.logits, judgement.attention, strict=True)
        for image, outcome in zip(batch.images, batch.outcomes, strict=True):
            path = _path_of(image)
            if isinstance(outcome, ImageError):
                yield _failure(path, outcome)
            else:
                yield self._record(path, outcome, *next(judged))

    def _record(
        self, path: str | None, views: ViewInfo, logits: Float32, attention: Float32
    ) -> Record:
        if not (np.isfinite(logits).all() and np.isfinite(attention).all()):
            return _failure(path, EngineError("the engine gave numbers that are not finite."))
        manifest = self.bundle.manifest
        probabilities = softmax(logits)
        score = _shortest(probabilities[manifest.fake_index])
        real_class = manifest.classes[1 - manifest.fake_index]
        return Verdict(
            path=path,
            verdict=manifest.fake_class if score >= self.options.threshold else real_class,
            score=score,
            probabilities=dict(zip(manifest.classes, map(_shortest, probabilities), strict=True)),
            logits=dict(zip(manifest.classes, map(_shortest, logits), strict=True)),
            crops=tuple(
                Crop(*place, attention=_shortest(share))
                for place, share in zip(views.placements, attention, strict=True)
            ),
            width=views.width,
            height=views.height,
            seed=views.seed,
            bundle=self._bundle_name,
            engine=self._network.engine,
            precision=self._network.precision,
        )


def _shortest(value: np.floating[Any]) -> float:
    """Return the shortest decimal that is the same float32, for readable records."""
    return float(str(np.float32(value)))


def _path_of(image: ImageSource) -> str | None:
    return os.fspath(image) if isinstance(image, str | os.PathLike) else None


def _failure(path: str | None, error: ImageError | EngineError) -> Failure:
    return Failure(path=path, error=ErrorInfo(type(error).__name__, str(error)))
