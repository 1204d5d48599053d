"""From images to verdicts: the detector as a Python object."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np
from PIL import Image

from ..bundle.bundle import Bundle
from ..engines.registry import open_engine
from ..engines.selftest import SelfTest, ensure_tested, self_test
from ..finding.stored import StoredImage
from ..images.reading import ImageSource, read_image
from ..images.thumbnail import Thumbnail
from ..machine.errors import ImageError, UnreadableError
from ..machine.progress import Progress, silent
from ..machine.timings import Timings
from ..results.records import Failure, Record, Verdict
from ..streaming.intake import Origin
from ..streaming.pipeline import Pipeline
from ..views.batch import open_image
from .desk import Desk
from .options import (
    DetectorOptions,
    decode_options,
    engine_options,
    pipeline_options,
    sampling,
    views_together,
)
from .recording import Judged
from .roads import Roads, threshold_of
from .settling import stopping_rule

_SINGLE = (str, os.PathLike, StoredImage, bytes, np.ndarray, Image.Image)


class Detector:
    """Judges images with one bundle on one engine.

    >>> detector = Detector("gl_vit.glass")
    >>> [verdict] = detector.detect(["photo.jpg"])
    >>> verdict.verdict, verdict.score
    ('fake', 0.93)

    The same image, bundle and seed give the same crops whatever the batch, order or
    number of threads. Several threads may use one detector.

    Attributes:
        bundle: what it judges with.
        options: how it judges.
        threshold: P(fake) from which it calls an image fake.
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
            InputError: ``crops`` is ``auto``, and the bundle has no stopping rule, or one for
                another threshold.
        """
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        self.options = options or DetectorOptions()
        manifest = self.bundle.manifest
        rule = stopping_rule(self.options, self.bundle)
        self._sampling = sampling(self.options, manifest.views, rule)
        together = views_together(self.options, manifest, self._sampling)
        pipeline = pipeline_options(self.options, together)
        usual = self._sampling.spec.usual
        settings = engine_options(self.options, pipeline, self._sampling.crops or usual, progress)
        self._engine = open_engine(self.bundle, self.options.engine, settings)
        ensure_tested(self.bundle, self._engine)
        roads = Roads(self.bundle, self._engine, pipeline)
        self._pipeline = replace(pipeline, images=roads.road(self.options).images)
        self.threshold = threshold_of(self.options, manifest)

    @property
    def engine(self) -> str:
        """What executes the graphs, as records say it."""
        return self._engine.description

    @property
    def precision(self) -> str:
        """The type that the engine really computes in."""
        return self._engine.precision

    @property
    def on_host(self) -> bool:
        """Whether the engine takes this machine's CPUs, and not a device of its own."""
        return self._engine.on_host

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
        """Return the seed of the generator that places an image's crops, where they are drawn.

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
        roads = Roads(self.bundle, self._engine, self._pipeline)
        road = roads.road(self.options)
        pipeline = Pipeline(several, road, roads.last_stage(road), self._pipeline, timings)
        return RecordStream(pipeline, roads.recorder(self.options).record, timings)

    def desk(self, waiting: int) -> Desk:
        """Open a desk at which any thread may have single images judged, see :class:`.desk.Desk`.

        Args:
            waiting: images being worked at and not given back, at most. In latency mode it is one.
        """
        options = replace(self._pipeline, prompt=True, window=self._pipeline.window or waiting)
        return Desk(Roads(self.bundle, self._engine, options), self.options, options)


class RecordStream:
    """Records of one run, in the order of its images.

    Iterating raises EngineError if the engine fails, and whatever the images' own iterator
    raises. Use it as a context manager, or call :meth:`close`, to end before the last image and
    wait for what is being computed. A stream that is dropped ends by itself, soon after.

    Attributes:
        timings: where the time has gone so far.
        thumbnail: of the image whose record was given last, if thumbnails were asked for.
    """

    def __init__(
        self,
        pipeline: Pipeline[Judged],
        record: Callable[[Origin, Judged | ImageError], Record],
        timings: Timings,
    ) -> None:
        self._pipeline, self._record, self.timings = pipeline, record, timings
        self.thumbnail: Thumbnail | None = None
        # Without waiting: whatever thread collects garbage may be one of the pipeline's.
        weakref.finalize(self, pipeline.close, wait=False).atexit = False

    def __iter__(self) -> Iterator[Record]:
        return self

    def __next__(self) -> Record:
        try:
            origin, outcome = next(self._pipeline)
            self.thumbnail = outcome.views.thumbnail if isinstance(outcome, Judged) else None
            return self._record(origin, outcome)
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
