"""From images to verdicts: the detector as a Python object."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import starmap
from typing import Any, NamedTuple

import msgspec
import numpy as np
from PIL import Image

from ..bundle.bundle import Bundle
from ..engines.base import Float32, softmax
from ..engines.registry import open_engine
from ..engines.selftest import SelfTest, ensure_tested, self_test
from ..images.reading import ImageSource, read_image
from ..machine.errors import EngineError, ImageError, UnreadableError
from ..machine.progress import Progress, silent
from ..machine.timings import Timings
from ..results.records import Crop, ErrorInfo, Failure, Record, Verdict
from ..views.batch import Crops, Overviews, Sampling, ViewInfo, open_image
from .intake import Origin
from .options import DetectorOptions, decode_options, engine_options, pipeline_options
from .pipeline import LastStage, Pipeline

_SINGLE = (str, os.PathLike, bytes, np.ndarray, Image.Image)


class _Judged(NamedTuple):
    """What the model says of one image: logits ``(2,)``, attention ``(crops,)``."""

    views: ViewInfo
    logits: Float32
    attention: Float32


class Detector:
    """Judges images with one bundle on one engine.

    >>> detector = Detector("gl_vit.glass")
    >>> [verdict] = detector.detect(["photo.jpg"])
    >>> verdict.verdict, verdict.score
    ('fake', 0.93)

    The same image, bundle and seed give the same crops whatever the batch, order or
    number of threads. Several threads may use one detector.
    """

    def __init__(
        self,
        bundle: Bundle | str | os.PathLike[str],
        options: DetectorOptions | None = None,
        progress: Progress = silent,
    ) -> None:
        """Open the bundle, load its graphs, and self-test an engine that was not tested yet.

        Args:
            bundle: one that is open, or its folder.
            options: how to judge.
            progress: is told how far the building of engines is, which can take minutes.

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
            spec,
            self.options.seed if fixed is None else fixed,
            fixed is not None,
            os.fsencode(self.options.seed_key),  # of any bytes, from the environment
        )
        self._pipeline = pipeline_options(self.options, spec.num_crops)
        settings = engine_options(self.options, self._pipeline, spec.num_crops, progress)
        self._engine = open_engine(self.bundle, self.options.engine, settings)
        ensure_tested(self.bundle, self._engine)
        self._bundle_name = self.bundle.name

    @property
    def engine(self) -> str:
        """What executes the graphs, as records say it."""
        return self._engine.description

    @property
    def precision(self) -> str:
        """The type that the engine really computes in."""
        return self._engine.precision

    def self_test(self) -> SelfTest:
        """Judge the bundle's reference views now, see :func:`.selftest.self_test`."""
        return self_test(self.bundle, self._engine)

    def detect(self, images: ImageSource | Iterable[ImageSource]) -> list[Verdict]:
        """Judge images and return their verdicts in order.

        Args:
            images: paths, encoded files' bytes, RGB arrays (uint8, height x width x 3), or PIL
                images; one image alone is taken as a list of one.

        Raises:
            ImageError: an image cannot be judged. To go on past such images, use
                :meth:`stream`.
        """
        verdicts = []
        with closing(self.stream(images)) as records:
            for index, record in enumerate(records):
                if isinstance(record, Failure):
                    name = record.path or f"image {index}"
                    unreadable = record.error.type == UnreadableError.__name__
                    raise (UnreadableError if unreadable else ImageError)(
                        f"{name}: {record.error.message}"
                    )
                verdicts.append(record)
        return verdicts

    def generator_seed(self, image: ImageSource) -> int:
        """Return the seed of the generator that places an image's crops.

        Raises:
            ImageError: it cannot be read or decoded.
        """
        opened = open_image(read_image(image), decode_options(self.options))
        return self._sampling.generator_seed(opened.decode().rgb)

    def stream(self, images: ImageSource | Iterable[ImageSource]) -> RecordStream:
        """Judge images as they come; iterate over the result for one record each, in order.

        One image alone is taken as a list of one, as by :meth:`detect`.
        Images that cannot be judged give :class:`Failure` records. Reading, decoding and
        judging go on at the same time, in bounded memory, in threads that begin with the
        first record asked for and take ``images`` a little ahead. Close the stream to end
        early, see :class:`RecordStream`.
        """
        timings = Timings()
        several = [images] if isinstance(images, _SINGLE) else images
        last = LastStage(self._judge, self._engine.lanes, self._engine.on_host)
        pipeline = Pipeline(several, last, self._sampling, self._pipeline, timings)
        return RecordStream(pipeline, self._record, timings)

    def _judge(
        self, infos: Sequence[ViewInfo], overviews: Overviews, crops: Crops, timings: Timings
    ) -> list[_Judged]:
        found = self._engine.judge(overviews, crops, timings)
        return list(starmap(_Judged, zip(infos, found.logits, found.attention, strict=True)))

    def _record(self, origin: Origin, outcome: _Judged | ImageError) -> Record:
        if isinstance(outcome, ImageError):
            return _failure(origin, outcome)
        return self._verdict(origin, outcome)

    def _verdict(self, origin: Origin, judged: _Judged) -> Record:
        views, logits, attention = judged.views, judged.logits, judged.attention
        (draw,) = views.draws
        if not (np.isfinite(logits).all() and np.isfinite(attention).all()):
            return _failure(origin, EngineError("the engine gave numbers that are not finite."))
        manifest = self.bundle.manifest
        probabilities = softmax(logits)
        score = _shortest(probabilities[manifest.fake_index])
        real_class = manifest.classes[1 - manifest.fake_index]
        return Verdict(
            path=origin.path,
            verdict=manifest.fake_class if score >= self.options.threshold else real_class,
            score=score,
            probabilities=dict(zip(manifest.classes, map(_shortest, probabilities), strict=True)),
            logits=dict(zip(manifest.classes, map(_shortest, logits), strict=True)),
            crops=tuple(
                Crop(*place, attention=_shortest(share))
                for place, share in zip(draw.placements, attention, strict=True)
            ),
            width=views.width,
            height=views.height,
            seed=draw.seed,
            bundle=self._bundle_name,
            engine=self._engine.description,
            precision=self._engine.precision,
            file=origin.file,
            damaged=views.damaged,
        )


class RecordStream:
    """Records of one run, in the order of its images.

    Iterating raises EngineError if the engine fails, and whatever the images' own iterator
    raises. Use it as a context manager, or call :meth:`close`, to end before the last image and
    wait for what is being computed. A stream that is dropped ends by itself, soon after.

    Attributes:
        timings: where the time has gone so far.
    """

    def __init__(
        self,
        pipeline: Pipeline[_Judged],
        record: Callable[[Origin, _Judged | ImageError], Record],
        timings: Timings,
    ) -> None:
        self._pipeline, self._record, self.timings = pipeline, record, timings
        # Without waiting: whatever thread collects garbage may be one of the pipeline's.
        weakref.finalize(self, pipeline.close, wait=False).atexit = False

    def __iter__(self) -> Iterator[Record]:
        return self

    def __next__(self) -> Record:
        try:
            return self._record(*next(self._pipeline))
        except Exception:  # the end, too
            self.close()
            raise

    def finish(self) -> None:
        """Take no more images; the records of those already begun still come.

        May be called from any thread and from a signal handler.
        """
        self._pipeline.finish()

    def close(self) -> None:
        """End now: drop what is not done, and wait for what is being computed."""
        self._pipeline.close()

    def __enter__(self) -> RecordStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Whoever presses Ctrl-C does not want to wait for an image of 200 megapixels.
        self._pipeline.close(wait=kind is not KeyboardInterrupt)


def _shortest(value: np.floating[Any]) -> float:
    """Return the shortest decimal that is the same float32, for readable records."""
    return float(str(np.float32(value)))


def _failure(origin: Origin, error: ImageError | EngineError) -> Failure:
    info = ErrorInfo(type(error).__name__, str(error))
    return Failure(path=origin.path, error=info, file=origin.file)
