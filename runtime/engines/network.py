"""The three graphs as one function, from views to logits, in a few fixed batch sizes."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..bundle.bundle import Bundle
from ..bundle.manifest import Role
from ..machine.timings import Timings
from ..views.batch import Crops, Overviews
from . import open_engine
from .base import Array, DeviceEngine, EngineOptions, Float32, batch_sizes, padded


@dataclass(frozen=True)
class Judgement:
    """What the model says of ``n`` images: logits ``(n, 2)``, attention ``(n, crops)``."""

    logits: Float32
    attention: Float32


class Network:
    """A bundle's graphs on one engine.

    Rows are given to the engine in full batches or powers of two, the last one padded with
    zeros, so that an engine sees few shapes and prepares each once.

    Attributes:
        engine: what executes the graphs, as records say it.
        precision: the type that the engine really computes in.
        lanes: how many threads may judge at once.
        on_host: whether judging takes the host's CPUs.
    """

    def __init__(self, bundle: Bundle, engine: str, options: EngineOptions) -> None:
        """Load the graphs.

        Raises:
            BundleError: the bundle's files changed since it was opened.
            EngineError: the engine cannot run the bundle as asked.
        """
        self._engine = open_engine(bundle, engine, options)
        bundle.check_unchanged()
        images = batch_sizes(options.images or options.batch_size)
        self._batch_sizes: Mapping[Role, list[int]] = {
            "global": images, "local": batch_sizes(options.batch_size), "aggregator": images,
        }  # fmt: skip
        self.engine = self._engine.description
        self.precision = self._engine.precision
        self.on_host = not isinstance(self._engine, DeviceEngine)
        # Streams share a network, and a device's runs share its buffers: one at a time.
        self._turn: AbstractContextManager[object] = (
            nullcontext() if self.on_host else threading.Lock()
        )
        self.lanes = options.lanes if self.on_host else 1

    def judge(
        self, overviews: Overviews, crops: Crops, timings: Timings | None = None
    ) -> Judgement:
        """Run the graphs on the views of some images.

        Args:
            overviews: global views, ``(n, p, p, 3)`` in 0..255.
            crops: ``(n, crops, p, p, 3)``.
            timings: where the time is added.

        Raises:
            EngineError: the engine failed.
        """
        timings = timings or Timings()
        if isinstance(self._engine, DeviceEngine):
            with timings.stage("infer"), self._turn:
                return Judgement(*self._engine.judge(overviews, crops))
        images, count = crops.shape[:2]
        with timings.stage("infer"):
            global_features = self.features("global", overviews)
            flat = self.features("local", crops.reshape(images * count, *crops.shape[2:]))
        local_features = flat.reshape(images, count, -1)
        with timings.stage("aggregate"):
            logits, attention = self._run("aggregator", [global_features, local_features])
        return Judgement(logits, attention)

    def features(self, role: Role, pixels: Array) -> Float32:
        """Run a backbone on views ``(n, p, p, 3)``; return features ``(n, D)``.

        Raises:
            EngineError: the engine failed.
            ValueError: the engine gave features of another number of views.
        """
        (features,) = self._run(role, [pixels])
        if len(features) != len(pixels):
            raise ValueError(f"features of {len(features)} views, not of {len(pixels)}")
        return features

    def _run(self, role: Role, inputs: Sequence[Array]) -> list[Float32]:
        rows, sizes = len(inputs[0]), self._batch_sizes[role]
        largest = sizes[-1]
        parts = []
        for start in range(0, rows, largest):
            taken = [array[start : start + largest] for array in inputs]
            count = len(taken[0])
            size = next(size for size in sizes if size >= count)
            given = [padded(array, size) for array in taken]
            with self._turn:
                outputs = self._engine.run(role, given)
            parts.append([output[:count] for output in outputs])
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return probabilities along the last axis, computed in double precision."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    shares: npt.NDArray[np.float64] = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return shares
