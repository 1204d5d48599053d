"""Compares the verdicts of two bundles on the same views."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.manifest import Comparison, Manifest
from ...runtime.engines.base import Engine, EngineOptions, softmax
from ...runtime.engines.registry import AUTO, open_engine
from ...runtime.images.reading import ImageSource
from ...runtime.judging.options import DEFAULT_BATCH_SIZE, DEFAULT_THRESHOLD
from ...runtime.judging.pipeline import PipelineOptions
from ...runtime.judging.stream import PreparedBatch, stream_views
from ...runtime.machine.cpus import available_cpus
from ...runtime.machine.progress import Progress, silent, track
from ...runtime.views.batch import Sampling
from ...runtime.views.spec import ViewSpec
from ..errors import AccuracyError, CalibrationError

FLIPS_ALLOWED = 0.005  # share of judgements whose verdict changes
CHANGE_ALLOWED = 0.01  # mean absolute change of P(fake)
_BATCH = DEFAULT_BATCH_SIZE
Scores = npt.NDArray[np.float64]


def compare_bundles(
    reference: Bundle,
    candidate: Bundle,
    images: Sequence[ImageSource],
    judgements: int,
    stand_in: Bundle | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Let two bundles judge the same crops of images, with as many seeds as needed.

    Images that cannot be read are left out, as in a run.

    Args:
        reference: in FP32.
        candidate: the same network in a lower precision.
        images: to judge; none that the candidate was made with.
        judgements: the least number of images times seeds.
        stand_in: the same verdicts as the candidate's, in types that any CPU computes. If this
            machine's engine computes some of the candidate in another type, verdicts are the
            stand-in's, and only the speed is the candidate's.
        progress: is told how far the comparison has come.

    Raises:
        AccuracyError: the candidate's values overflow.
        CalibrationError: no image can be read.
        EngineError: an engine cannot run a bundle.
    """
    manifest = reference.manifest
    engines = [open_on_cpu(bundle) for bundle in (reference, candidate)]
    serving = engines[1]
    said = candidate.manifest
    # No engine tells what it computes beside INT8, and none on a CPU that is FP16.
    if stand_in and (serving.precision != said.precision or said.rest == "fp16"):
        engines.append(open_on_cpu(stand_in, "onnxruntime"))
    seeds = -(-judgements // len(images))
    found: list[list[Scores]] = [[] for _ in engines]
    seconds: list[list[float]] = [[] for _ in engines]
    with closing(_views(manifest.views, images, seeds)) as batches:
        total = seeds * -(-len(images) // _BATCH)
        for number, batch in enumerate(track(batches, "comparing with FP32", total, progress)):
            # Alternate the order: whoever runs first competes with the decoding of the next batch.
            for index in range(len(engines))[:: 1 if number % 2 else -1]:
                started = time.perf_counter()
                found[index].append(fake_scores(engines[index], batch, manifest))
                seconds[index].append(time.perf_counter() - started)
    first, second = (np.concatenate(scores) for scores in (found[0], found[-1]))
    if not len(first):
        raise CalibrationError("none of the images to compare on can be read.")
    _check_numbers(second, candidate)
    compared = compare_scores(first, second)
    engine, precision = serving.description, serving.precision
    if len(engines) > 2:
        engine = f"{engines[2].description}, simulating; speed of {engine} in {precision}"
        precision = candidate.manifest.precision
    return Comparison(
        engine=engine,
        precision=precision,
        images=len(first) // seeds,
        judgements=len(first),
        flips=compared.flips,
        mean_change=compared.mean_change,
        largest_change=compared.largest_change,
        speed=_warm(seconds[0]) / _warm(seconds[1]),
    )


def _check_numbers(scores: Scores, candidate: Bundle) -> None:
    bad = int(np.count_nonzero(~np.isfinite(scores)))
    if bad:
        precision = candidate.manifest.precision.upper()
        raise AccuracyError(
            f"values overflow in {precision}: {bad} of {len(scores)} verdicts are not numbers. "
            "Nothing was written; choose another --precision, or --calibrate with more images, "
            "which show what must stay in FP32."
        )


def _warm(seconds: Sequence[float]) -> float:
    """Add up all but the first batch, which warms the engine up, if there are others."""
    return sum(seconds[1:] or seconds)


def _views(
    spec: ViewSpec, images: Sequence[ImageSource], seeds: int
) -> Generator[PreparedBatch, None, None]:
    for seed in range(seeds):
        yield from stream_views(images, Sampling(spec, seed), PipelineOptions(_BATCH))


def open_on_cpu(bundle: Bundle, engine: str = AUTO) -> Engine:
    """Open a bundle in the making on the best engine of this machine's CPU, or the one named."""
    options = EngineOptions("cpu", available_cpus(), DEFAULT_BATCH_SIZE, keep=False)
    return open_engine(bundle, engine, options)


def fake_scores(engine: Engine, batch: PreparedBatch, manifest: Manifest) -> Scores:
    """Return P(fake) of each readable image of a batch."""
    if not batch.infos:
        return np.zeros(0)
    judgement = engine.judge(batch.overviews, batch.crops)
    return softmax(judgement.logits)[:, manifest.fake_index]


@dataclass(frozen=True)
class Change:
    """Verdicts that flip, and absolute changes of P(fake)."""

    flips: int
    mean_change: float
    largest_change: float


def compare_scores(
    reference: Scores, candidate: Scores, threshold: float = DEFAULT_THRESHOLD
) -> Change:
    """Compare P(fake) of the same judgements."""
    changes = np.abs(reference - candidate)
    flips = (reference >= threshold) != (candidate >= threshold)
    return Change(int(flips.sum()), float(changes.mean()), float(changes.max()))


def check_comparison(comparison: Comparison) -> None:
    """Refuse a loss of accuracy that users would notice.

    Raises:
        AccuracyError: too many verdicts flip, or P(fake) moves too far on average.
    """
    share = comparison.flips / comparison.judgements
    # Written so that NaN fails.
    if not (share <= FLIPS_ALLOWED and comparison.mean_change <= CHANGE_ALLOWED):
        raise AccuracyError(
            f"the verdicts differ too much from FP32's: {comparison.flips} of "
            f"{comparison.judgements} flip ({share:.2%}; {FLIPS_ALLOWED:.1%} allowed) and P(fake) "
            f"changes by {comparison.mean_change:.4f} on average ({CHANGE_ALLOWED} allowed). "
            "Nothing was written; --accept-loss writes the bundle anyway."
        )
