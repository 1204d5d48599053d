"""What engines on the CPU share: batches cut and padded, features joined, stages timed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from ..bundle.manifest import Manifest
from ..bundle.streams import AGGREGATOR, Role
from ..machine.timings import Timings
from ..views.batch import DrawnViews
from .base import Array, Engine, EngineOptions, Float32, Judgement
from .batches import BatchSizes


class HostEngine(Engine):
    """An engine whose graphs take and give host arrays, see :class:`.base.Engine`."""

    on_host = True

    def __init__(
        self, manifest: Manifest, options: EngineOptions, fixed: Mapping[Role, int] | None = None
    ) -> None:
        """Serve batches of a few sizes; of one size only where ``fixed`` names a graph's."""
        self.lanes = options.lanes
        self.several = manifest.views.several
        self._streams = tuple(manifest.streams)
        self._aggregates = manifest.aggregator is not None
        images = BatchSizes.up_to(options.images or options.batch_size)
        several = BatchSizes.up_to(options.batch_size)
        only = {role: BatchSizes((rows,)) for role, rows in (fixed or {}).items()}
        self._batches: Mapping[Role, BatchSizes] = {
            role: only.get(role, several if role == self.several else images)
            for role in manifest.roles
        }
        self.largest: Mapping[Role, int] = {
            role: sizes.largest for role, sizes in self._batches.items()
        }

    @abstractmethod
    def compute(self, role: Role, inputs: Sequence[Array]) -> Sequence[Float32]:
        """Run one graph on one batch; inputs and outputs in the manifest's order.

        Raises:
            EngineError: the engine failed, for example for lack of memory.
        """

    def run(self, role: Role, inputs: Sequence[Array]) -> list[Float32]:
        """Run one graph on any number of rows; inputs and outputs in the manifest's order.

        Raises:
            EngineError: the engine failed.
        """
        found = []
        for part in self._batches[role].parts(len(inputs[0])):
            outputs = self.compute(role, [part.of(rows) for rows in inputs])
            found.append([output[: part.count] for output in outputs])
        return [np.concatenate(outputs) for outputs in zip(*found, strict=True)]

    def outputs(self, stream: str, pixels: Array) -> Sequence[Float32]:
        """Run a stream's graph, see :meth:`.base.Engine.outputs`."""
        outputs = self.run(stream, [pixels])
        if len(outputs[0]) != len(pixels):
            raise ValueError(f"features of {len(outputs[0])} views, not of {len(pixels)}")
        return outputs

    def aggregate(self, features: Mapping[str, Float32]) -> Judgement:
        """Judge by features, see :meth:`.base.Engine.aggregate`."""
        if not self._aggregates:
            return Judgement(features[self._streams[0]], None)
        logits, *attention = self.run(AGGREGATOR, [features[name] for name in self._streams])
        return Judgement(logits, *attention or (None,))

    def judge_draws(self, views: DrawnViews, timings: Timings | None = None) -> Judgement:
        """Run all graphs, see :meth:`.base.Engine.judge_draws`."""
        timings = timings or Timings()
        with timings.stage("infer"):
            features = {name: self.features(name, flat(views[name])) for name in self._streams}
        draws = 1
        if self.several is not None:
            images, draws, count = views[self.several].shape[:3]
            own = features[self.several].reshape(images * draws, count, -1)
            features = {
                name: own if name == self.several else np.repeat(each, draws, axis=0)
                for name, each in features.items()
            }
        with timings.stage("aggregate"):
            found = self.aggregate(features)
        logits = found.logits.reshape(-1, draws, *found.logits.shape[1:])
        if found.attention is None:
            return Judgement(logits, None)
        return Judgement(logits, found.attention.reshape(*logits.shape[:2], -1))


def flat(views: Array) -> Array:
    """Return views ``(..., p, p, 3)`` one after the other, ``(n, p, p, 3)``."""
    return views.reshape(-1, *views.shape[-3:])
