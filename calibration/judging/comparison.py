"""Compares the verdicts of two bundles on the same views."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.comparison import Comparison, Yardstick
from ...runtime.bundle.manifest import Manifest, Precision
from ...runtime.bundle.scores import DEFAULT_THRESHOLD
from ...runtime.engines.base import Engine, Float32, class_margins, class_probabilities
from ...runtime.engines.registry import AUTO, open_engine
from ...runtime.images.reading import ImageSource
from ...runtime.judging.options import (
    DEFAULT_BATCH_SIZE,
    DetectorOptions,
    engine_options,
    pipeline_options,
)
from ...runtime.machine.cpus import available_cpus
from ...runtime.machine.progress import Progress, Report, silent
from ...runtime.streaming.draws import DrawnBatch, images_at_once, in_groups, stream_draws
from ...runtime.streaming.sharing import PipelineOptions
from ...runtime.views.batch import Sampling
from ...runtime.views.placement import Placement
from ...runtime.views.spec import ViewSpec
from ..errors import AccuracyError, CalibrationError
from ..photographs import with_a_spread
from .timed import judge_timed
from .yardstick import Margins, deviation, draw_noise

_BATCH = DEFAULT_BATCH_SIZE  # images times draws
Scores = npt.NDArray[np.float64]
"""P(fake), of any shape."""


def compare_bundles(
    reference: Bundle,
    candidate: Bundle,
    images: Sequence[ImageSource],
    judgements: int,
    stand_in: Bundle | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Let two bundles judge the same crops of images, several draws of each.

    Images that cannot be read are left out, as in a run.

    Args:
        reference: in FP32.
        candidate: the same network in a lower precision.
        images: to judge; none that the candidate was made with.
        judgements: the least number of judgements by each; each image has one draw more, which its
            own mean takes from what tells the noise. Where nothing is drawn, an image is judged
            once.
        stand_in: the same verdicts as the candidate's, in types that any CPU computes. If this
            machine's engine computes some of the candidate in another type, verdicts are the
            stand-in's, and only the speed is the candidate's.
        progress: is told how far the comparison has come.

    Raises:
        AccuracyError: the candidate's values overflow.
        CalibrationError: no image can be read.
        EngineError: an engine cannot run a bundle.
    """
    first, other = Contender(Candidate(reference)), Contender(Candidate(candidate, stand_in))
    (found,) = compare_contenders(first, [other], images, judgements, progress)
    if isinstance(found, Overflow):
        raise AccuracyError(
            f"{found}. Nothing was written; choose another --precision, or --calibrate with more "
            "images, which show what must stay in FP32."
        )
    return found


@dataclass(frozen=True)
class Candidate:
    """A bundle to compare with FP32, and what stands in for it, see :func:`compare_bundles`."""

    bundle: Bundle
    stand_in: Bundle | None = None


@dataclass(frozen=True)
class Overflow:
    """Values of a candidate overflow in its type, so that some verdicts are not numbers."""

    precision: Precision
    verdicts: int
    judgements: int

    def __str__(self) -> str:
        return (
            f"values overflow in {self.precision.upper()}: {self.verdicts} of {self.judgements} "
            "verdicts are not numbers"
        )


def compare_contenders(
    reference: Contender,
    contenders: Sequence[Contender],
    images: Sequence[ImageSource],
    judgements: int,
    progress: Progress = silent,
) -> list[Comparison | Overflow]:
    """Compare several bundles with FP32 in one run, see :func:`compare_bundles`.

    Speeds are ratios of the same minutes, whatever else the machine does.

    Raises:
        CalibrationError: no image can be read.
        EngineError: an engine failed.
    """
    manifest = reference.manifest
    images = with_a_spread(images, manifest.views)
    draws = 1 - (-judgements // len(images)) if manifest.views.drawn else 1
    judges = [judge for each in (reference, *contenders) for judge in each.judges]
    with progress("comparing with FP32") as report:
        _judge_all(judges, images, Sampling(manifest.views, draws=draws), report)
    if not len(reference.judges[0].logits(draws)):
        raise CalibrationError("none of the images to compare on can be read.")
    return [each.compared(reference, draws) for each in contenders]


class Contender:
    """A candidate's engine, and its stand-in's if that gives the verdicts.

    The candidate's files are no longer needed.

    Attributes:
        manifest: the candidate's.
        engine: what serves the candidate on this machine's CPU.
        judges: what takes part in a comparison: the engine, and the one whose verdicts count.
    """

    def __init__(self, candidate: Candidate) -> None:
        """Open the engines.

        Raises:
            EngineError: no engine of this machine runs the bundle.
        """
        self.manifest = candidate.bundle.manifest
        self.engine = open_on_cpu(candidate.bundle)
        spec = self.manifest.views
        self.judges = [_Judge(self.engine, spec)]
        # No engine tells what it computes beside INT8, and none on a CPU that is FP16.
        different = self.engine.precision != self.manifest.precision or self.manifest.rest == "fp16"
        if candidate.stand_in is not None and different:
            self.judges.append(_Judge(open_on_cpu(candidate.stand_in, "onnxruntime"), spec))

    @property
    def simulated(self) -> bool:
        """Whether verdicts are the stand-in's, because the engine computes in another type."""
        return len(self.judges) > 1

    def compared(self, reference: Contender, draws: int) -> Comparison | Overflow:
        """Return what the judges found, beside those of FP32."""
        serving, judging = self.judges[0], self.judges[-1]
        logits = [judge.logits(draws) for judge in (reference.judges[0], judging)]
        first, second = (fake_scores(found, self.manifest) for found in logits)
        overflown = int(np.count_nonzero(~np.isfinite(second)))
        if overflown:
            return Overflow(self.manifest.precision, overflown, second.size)
        change = compare_scores(first, second)
        engine, precision = self.engine.description, self.engine.precision
        if self.simulated:
            engine = f"{judging.engine.description}, simulating; speed of {engine} in {precision}"
            precision = self.manifest.precision
        return Comparison(
            engine=engine,
            precision=precision,
            images=len(first),
            judgements=first.size,
            flips=change.flips,
            mean_change=change.mean_change,
            largest_change=change.largest_change,
            speed=_speed(reference.judges[0].seconds, serving.seconds),
            yardstick=_yardstick(*(class_margins(found, self.manifest) for found in logits)),
            moved=self._moved(reference) if self.manifest.views.guided else None,
        )

    def _moved(self, reference: Contender) -> float:
        """Return the share of views that lie elsewhere than those of FP32."""
        pairs = [
            one != other
            for ours, theirs in zip(self.judges[-1].places, reference.judges[0].places, strict=True)
            for one, other in zip(ours, theirs, strict=True)
        ]
        return sum(pairs) / len(pairs)


class _Judge:
    """An engine at work.

    Attributes:
        engine: what judges.
        seconds: what one draw of each batch of images has taken so far.
        places: where the views of each image lay, if the engine's own numbers chose them.
    """

    def __init__(self, engine: Engine, spec: ViewSpec) -> None:
        self.engine, self._spec = engine, spec
        self.seconds: list[float] = []
        self.places: list[tuple[Placement, ...]] = []
        self._logits: dict[int, list[Float32]] = {}

    def take(self, batch: DrawnBatch, images: Sequence[int]) -> None:
        """Judge a batch that holds the views of some images, known by their numbers."""
        found = judge_timed(self.engine, batch, self._spec)
        self.seconds.append(found.seconds)
        self.places += found.places
        for image, logits in zip(images, found.logits, strict=True):
            self._logits.setdefault(image, []).append(logits)

    def logits(self, draws: int) -> Float32:
        """Return ``(images, draws, 2)`` of the images of which every draw was judged."""
        found = [np.concatenate(groups) for groups in self._logits.values()]
        complete = [each for each in found if len(each) == draws]
        return np.stack(complete) if complete else np.zeros((0, draws, 2), np.float32)


def _judge_all(
    judges: Sequence[_Judge], images: Sequence[ImageSource], sampling: Sampling, report: Report
) -> None:
    """Show every draw of every readable image to every judge."""
    groups = in_groups(sampling)
    options = PipelineOptions(images_at_once(groups, _BATCH))
    order, done, total = list(judges), 0, len(groups) * len(images)
    for group in groups:
        with closing(stream_draws(images, group, options)) as batches:
            for batch in batches:
                report(done, total)
                first = done % len(images)
                # Another is first each time: it competes with the decoding of the next batch.
                order.append(order.pop(0))
                for judge in order if batch.readable else ():
                    judge.take(batch, [first + place for place in batch.readable])
                done += len(batch.outcomes)
    report(done, total)


def _yardstick(reference: Margins, candidate: Margins) -> Yardstick | None:
    """Compare margins; there is nothing to compare with where they do not vary by themselves."""
    noise = draw_noise(reference)
    if noise.size == 0.0:
        return None
    found = deviation(reference, candidate, noise)
    return Yardstick(noise.size, noise.unit, noise.flips, found.error, found.shift)


def _speed(reference: Sequence[float], candidate: Sequence[float]) -> float:
    """Return the median over batches of the candidate's speed, as a multiple of the reference's.

    The first batch warms the engines up and is left out if there are others.
    """
    ratios = np.array(reference) / np.array(candidate)
    return float(np.median(ratios[1:] if len(ratios) > 1 else ratios))


def open_on_cpu(bundle: Bundle, engine: str = AUTO) -> Engine:
    """Open a bundle in the making on the best engine of this machine's CPU, or the one named."""
    options, crops = DetectorOptions(device="cpu"), bundle.manifest.views.usual
    as_in_a_run = engine_options(options, pipeline_options(options, crops), crops)
    alone = replace(as_in_a_run, threads=available_cpus(), lanes=1, keep=False)
    return open_engine(bundle, engine, alone)


def fake_scores(logits: Float32, manifest: Manifest) -> Scores:
    """Return P(fake) of logits ``(..., 2)``."""
    return class_probabilities(logits, manifest)[..., manifest.fake_index]


@dataclass(frozen=True)
class Change:
    """Verdicts that flip, and absolute changes of P(fake)."""

    flips: int
    mean_change: float
    largest_change: float


def compare_scores(
    reference: Scores, candidate: Scores, threshold: float = DEFAULT_THRESHOLD
) -> Change:
    """Compare P(fake) of the same judgements; both arrays have one shape."""
    changes = np.abs(reference - candidate)
    flips = (reference >= threshold) != (candidate >= threshold)
    return Change(int(flips.sum()), float(changes.mean()), float(changes.max()))
