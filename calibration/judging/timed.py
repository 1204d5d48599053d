"""Lets an engine judge several draws of each image, and times what users run: one."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from ...runtime.engines.base import Engine, Float32
from ...runtime.judging.draws import DrawnBatch


class TimedLogits(NamedTuple):
    """Logits ``(n, draws, 2)``, and the seconds that the engine took for one draw of the images."""

    logits: Float32
    seconds: float


def judge_timed(engine: Engine, batch: DrawnBatch) -> TimedLogits:
    """Judge every draw of a batch that holds an image, and time the first.

    The first draw is judged as a run judges: alone, with its global views. The others share one
    run of the global backbone. They come before it: what makes the next batch's views has then
    mostly ended, and competes less with what is timed.
    """
    first, others = np.ascontiguousarray(batch.crops[:, 0]), batch.crops[:, 1:]
    logits: list[Float32] = []
    if others.size:
        logits.append(engine.judge_draws(batch.overviews, others).logits)
    started = time.perf_counter()
    alone = engine.judge(batch.overviews, first).logits
    seconds = time.perf_counter() - started
    return TimedLogits(np.concatenate([alone[:, np.newaxis], *logits], axis=1), seconds)
