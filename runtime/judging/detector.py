"""From images to verdicts: the detector as a Python object."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import repeat, starmap

import numpy as np
from PIL import Image

from ..bundle.bundle import Bundle
from ..engines.registry import open_engine
from ..engines.selftest import SelfTest, ensure_tested, self_test
from ..images.reading import ImageSource, read_image
from ..images.thumbnail import Thumbnail
from ..machine.errors import ImageError, UnreadableError
from ..machine.progress import Progress, silent
from ..machine.timings import Timings
from ..results.records import Failure, Record, Verdict
from ..streaming.intake import Origin
from ..streaming.pipeline import Pipeline
from ..streaming.sharing import LastStage
from ..views.batch import ViewInfo, Views, open_image
from .influence import Influence
from .joining import Joining
from .options import (
    DetectorOptions,
    decode_options,
    engine_options,
    pipeline_options,
    sampling,
    within_memory,
)
from .recording import Judged, Recorder, rows_of
from .settling import Settling, stopping_rule

_SINGLE = (str, os.PathLike, bytes, np.ndarray, Image.Image)


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
        rule = self._rule = stopping_rule(self.options, self.bundle)
        self._sampling = sampling(self.options, manifest.views, rule)
        # Of so few crops that global views count, too: both together make a batch. Not where a
        # graph computes a full batch in any case, which crops alone shall fill.
        counted = rule is not None and not manifest.backbone.fixed_batch
        usual = self._sampling.spec.usual
        pipeline = pipeline_options(self.options, (self._sampling.laid or usual) + counted)
        settings = engine_options(self.options, pipeline, self._sampling.crops or usual, progress)
        if manifest.views.apart:
            # What waits to be judged is as large as the image: no more than one for each batch.
            pipeline = replace(pipeline, images=1)
        self._engine = open_engine(self.bundle, self.options.engine, settings)
        ensure_tested(self.bundle, self._engine)
        if rule is not None:
            pipeline = within_memory(
                pipeline, self._engine.lanes, settings.batch_size, self._sampling.image_bytes
            )
        self._pipeline = pipeline
        threshold = self.options.threshold
        self.threshold = manifest.threshold if threshold is None else threshold
        self._recorder = Recorder(self.bundle, self._engine, self.threshold)

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
        pipeline = Pipeline(several, self._last_stage(), self._sampling, self._pipeline, timings)
        return RecordStream(pipeline, self._recorder.record, timings)

    def _last_stage(self) -> LastStage[Judged]:
        lanes, on_host = self._engine.lanes, self._engine.on_host
        manifest = self.bundle.manifest
        spec = manifest.views
        influence = Influence(self._engine, manifest) if self.options.influence else None
        if self._rule is None:
            if spec.apart or (influence and spec.several):
                joining = Joining(self._engine, spec, influence)
                return LastStage(joining.judge, lanes, on_host)
            return LastStage(self._judge, lanes, on_host)
        settling = Settling(self._engine, manifest, self._rule, influence)
        # In latency mode no other image comes to share a batch.
        several = spec.several
        batch = self._engine.largest[several] if several and self._pipeline.images > 1 else 1
        return LastStage(settling.begin, lanes, on_host, settling.go_on, batch)

    def _judge(self, infos: Sequence[ViewInfo], views: Views, timings: Timings) -> list[Judged]:
        logits, attention = rows_of(self._engine.judge(views, timings))
        looked = repeat(max(1, self._sampling.crops), len(infos))
        return list(starmap(Judged, zip(infos, logits, attention, looked, strict=True)))


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
