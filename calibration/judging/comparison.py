"""Compares the verdicts of two bundles on the same views."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.manifest import Comparison, Manifest, Yardstick
from ...runtime.engines.base import Engine, EngineOptions, Float32, softmax
from ...runtime.engines.registry import AUTO, open_engine
from ...runtime.images.reading import ImageSource
from ...runtime.judging.draws import DrawnBatch, images_at_once, in_groups, stream_draws
from ...runtime.judging.options import DEFAULT_BATCH_SIZE, DEFAULT_THRESHOLD
from ...runtime.judging.pipeline import PipelineOptions
from ...runtime.machine.cpus import available_cpus
from ...runtime.machine.progress import Progress, Report, silent
from ...runtime.views.batch import Sampling
from ..errors import AccuracyError, CalibrationError
from .timed import judge_timed
from .yardstick import Margins, deviation, draw_noise

_BATCH = DEFAULT_BATCH_SIZE  # images times draws
_LEAST_DRAWS = 8  # of each image, for the noise that they have
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
        judgements: the least number of images times draws; each image has at least eight.
        stand_in: the same verdicts as the candidate's, in types that any CPU computes. If this
            machine's engine computes some of the candidate in another type, verdicts are the
            stand-in's, and only the speed is the candidate's.
        progress: is told how far the comparison has come.

    Raises:
        AccuracyError: the candidate's values overflow.
        CalibrationError: no image can be read.
        EngineError: an engine cannot run a bundle.
    """
    candidates = [Candidate(candidate, stand_in)]
    (found,) = compare_all(reference, candidates, images, judgements, progress)
    return found


@dataclass(frozen=True)
class Candidate:
    """A bundle to compare with FP32, and what stands in for it, see :func:`compare_bundles`."""

    bundle: Bundle
    stand_in: Bundle | None = None


def compare_all(
    reference: Bundle,
    candidates: Sequence[Candidate],
    images: Sequence[ImageSource],
    judgements: int,
    progress: Progress = silent,
) -> list[Comparison]:
    """Compare several bundles with FP32 in one run, see :func:`compare_bundles`.

    Speeds are ratios of the same minutes, whatever else the machine does.
    """
    first = _Judge(open_on_cpu(reference))
    pairs = [_Pair(candidate) for candidate in candidates]
    draws = max(_LEAST_DRAWS, -(-judgements // len(images)))
    judges = [first, *(judge for pair in pairs for judge in pair.judges)]
    with progress("comparing with FP32") as report:
        _judge_all(judges, images, Sampling(reference.manifest.views, draws=draws), report)
    if not len(first.logits(draws)):
        raise CalibrationError("none of the images to compare on can be read.")
    return [pair.compared(first, draws) for pair in pairs]


class _Pair:
    """A candidate's engine, and its stand-in's if that gives the verdicts."""

    def __init__(self, candidate: Candidate) -> None:
        self._bundle = candidate.bundle
        self.judges = [_Judge(open_on_cpu(candidate.bundle))]
        serving, said = self.judges[0].engine, candidate.bundle.manifest
        # No engine tells what it computes beside INT8, and none on a CPU that is FP16.
        different = serving.precision != said.precision or said.rest == "fp16"
        if candidate.stand_in is not None and different:
            self.judges.append(_Judge(open_on_cpu(candidate.stand_in, "onnxruntime")))

    def compared(self, reference: _Judge, draws: int) -> Comparison:
        serving, judging = self.judges[0], self.judges[-1]
        manifest = self._bundle.manifest
        logits = [judge.logits(draws) for judge in (reference, judging)]
        first, second = (fake_scores(found, manifest) for found in logits)
        _check_numbers(second, self._bundle)
        change = compare_scores(first, second)
        engine, precision = serving.engine.description, serving.engine.precision
        if judging is not serving:
            engine = f"{judging.engine.description}, simulating; speed of {engine} in {precision}"
            precision = manifest.precision
        return Comparison(
            engine=engine,
            precision=precision,
            images=len(first),
            judgements=first.size,
            flips=change.flips,
            mean_change=change.mean_change,
            largest_change=change.largest_change,
            speed=_warm(reference.seconds) / _warm(serving.seconds),
            yardstick=_yardstick(*(margins(found, manifest) for found in logits)),
        )


class _Judge:
    """An engine at work.

    Attributes:
        engine: what judges.
        seconds: what one draw of each batch of images has taken so far.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.seconds: list[float] = []
        self._logits: dict[int, list[Float32]] = {}

    def take(self, batch: DrawnBatch, images: Sequence[int]) -> None:
        """Judge a batch that holds the views of some images, known by their numbers."""
        found = judge_timed(self.engine, batch)
        self.seconds.append(found.seconds)
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
                # Alternate the order: the first competes with the decoding of the next batch.
                order.reverse()
                for judge in order if batch.readable else ():
                    judge.take(batch, [first + place for place in batch.readable])
                done += len(batch.outcomes)
    report(done, total)


def _check_numbers(scores: Scores, candidate: Bundle) -> None:
    bad = int(np.count_nonzero(~np.isfinite(scores)))
    if bad:
        precision = candidate.manifest.precision.upper()
        raise AccuracyError(
            f"values overflow in {precision}: {bad} of {scores.size} verdicts are not numbers. "
            "Nothing was written; choose another --precision, or --calibrate with more images, "
            "which show what must stay in FP32."
        )


def _yardstick(reference: Margins, candidate: Margins) -> Yardstick | None:
    """Compare margins; there is nothing to compare with where they do not vary by themselves."""
    noise = draw_noise(reference)
    if noise.size == 0.0:
        return None
    found = deviation(reference, candidate, noise)
    return Yardstick(noise.size, noise.unit, noise.flips, found.error, found.shift)


def _warm(seconds: Sequence[float]) -> float:
    """Add up all but the first batch, which warms the engine up, if there are others."""
    return sum(seconds[1:] or seconds)


def open_on_cpu(bundle: Bundle, engine: str = AUTO) -> Engine:
    """Open a bundle in the making on the best engine of this machine's CPU, or the one named."""
    options = EngineOptions("cpu", available_cpus(), DEFAULT_BATCH_SIZE, keep=False)
    return open_engine(bundle, engine, options)


def fake_scores(logits: Float32, manifest: Manifest) -> Scores:
    """Return P(fake) of logits ``(..., 2)``."""
    return softmax(logits)[..., manifest.fake_index]


def margins(logits: Float32, manifest: Manifest) -> Margins:
    """Return the logit of fake minus that of real, of logits ``(..., 2)``."""
    wide = logits.astype(np.float64)
    found: Margins = wide[..., manifest.fake_index] - wide[..., 1 - manifest.fake_index]
    return found


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
