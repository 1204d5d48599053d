"""Times engines at what users run: one draw of each image."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.reference import stored_views
from ...runtime.engines.base import Engine, Float32
from ...runtime.judging.joining import Joining
from ...runtime.judging.options import DEFAULT_BATCH_SIZE
from ...runtime.machine.progress import Progress, silent, track
from ...runtime.machine.timings import Timings
from ...runtime.streaming.draws import DrawnBatch
from ...runtime.views.batch import Views
from ...runtime.views.placement import Placement
from ...runtime.views.spec import ViewSpec

_ROUNDS = 15


class TimedLogits(NamedTuple):
    """Logits ``(n, draws, 2)`` or ``(n, 2)``, and the seconds that one draw of the images took.

    ``places`` are where each image's views lay, if the engine's own numbers chose them.
    """

    logits: Float32
    seconds: float
    places: tuple[tuple[Placement, ...], ...] = ()


def judge_timed(engine: Engine, batch: DrawnBatch, spec: ViewSpec) -> TimedLogits:
    """Judge every draw of a batch that holds an image, and time the first.

    The first draw is judged as a run judges: alone, with its other views. The others share one run
    of the graphs of these. They come before it: what makes the next batch's views has then mostly
    ended, and competes less with what is timed.
    """
    if spec.apart:
        return _judge_apart(engine, batch, spec)
    first, several = dict(batch.views), engine.several
    logits: list[Float32] = []
    if several is not None:
        drawn = batch.views[several]
        first[several] = np.ascontiguousarray(drawn[:, 0])
        if drawn.shape[1] > 1:
            logits.append(engine.judge_draws({**first, several: drawn[:, 1:]}).logits)
    alone = _timed(engine, first)
    return TimedLogits(
        np.concatenate([alone.logits[:, np.newaxis], *logits], axis=1), alone.seconds
    )


def _judge_apart(engine: Engine, batch: DrawnBatch, spec: ViewSpec) -> TimedLogits:
    """Judge images as a run does whose views are in no batch."""
    started = time.perf_counter()
    found = Joining(engine, spec).judge(batch.infos, batch.views, Timings())
    seconds = time.perf_counter() - started
    places = tuple(judged.views.draws[0].placements for judged in found)
    return TimedLogits(
        np.stack([judged.logits for judged in found])[:, np.newaxis], seconds, places
    )


@dataclass(frozen=True)
class Speed:
    """How many times as fast as the first engine another is.

    Attributes:
        times: the median over rounds.
        low: the lower quartile.
        high: the upper quartile.
    """

    times: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.times:.2f} ({self.low:.2f} to {self.high:.2f})"


def measure_speeds(
    bundle: Bundle, engines: Sequence[Engine], progress: Progress = silent
) -> list[Speed]:
    """Let engines judge the same views in turns, round after round; nothing else is to run.

    Each round gives a ratio of its own, so that a disturbance spoils a round and not the result.

    Args:
        bundle: what all engines serve, in some precision.
        engines: the first is what the others' speeds are ratios to.
        progress: is told how far the rounds are.

    Returns:
        One for each engine, the first included.
    """
    views = _batch(bundle)
    for engine in engines:
        engine.judge(views)  # the first run warms up
    rounds = track(range(_ROUNDS), "measuring speeds", _ROUNDS, progress)
    seconds = np.array([[_timed(each, views).seconds for each in engines] for _ in rounds])
    quartiles = np.percentile(seconds[:, :1] / seconds, (25, 50, 75), axis=0).T
    return [Speed(float(middle), float(low), float(high)) for low, middle, high in quartiles]


def _batch(bundle: Bundle) -> Views:
    """Return as many views as a run gives an engine at once; what they show takes no other time."""
    manifest = bundle.manifest
    several, count = manifest.views.several, manifest.views.usual
    images = np.arange(max(1, DEFAULT_BATCH_SIZE // count)) % len(manifest.reference.logits)
    views = {name: pixels[images] for name, pixels in stored_views(bundle).items()}
    if several is not None:
        columns = np.arange(count) % views[several].shape[1]
        views[several] = np.ascontiguousarray(views[several][:, columns])
    return views


def _timed(engine: Engine, views: Views) -> TimedLogits:
    started = time.perf_counter()
    logits = engine.judge(views).logits
    return TimedLogits(logits, time.perf_counter() - started)
