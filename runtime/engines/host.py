"""What engines on the CPU share: batches cut and padded, features joined, stages timed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from ..bundle.manifest import ROLES, Role
from ..machine.timings import Timings
from ..views.batch import DrawnCrops, Overviews
from .base import Array, BackboneRole, Engine, EngineOptions, Float32, Judgement
from .batches import BatchSizes


class HostEngine(Engine):
    """An engine whose graphs take and give host arrays, see :class:`.base.Engine`."""

    on_host = True

    def __init__(self, options: EngineOptions, fixed: Mapping[Role, int] | None = None) -> None:
        """Serve batches of a few sizes; of one size only where ``fixed`` names a graph's."""
        self.lanes = options.lanes
        images = BatchSizes.up_to(options.images or options.batch_size)
        views = BatchSizes.up_to(options.batch_size)
        usual: dict[Role, BatchSizes] = {"global": images, "local": views, "aggregator": images}
        only = {role: BatchSizes((rows,)) for role, rows in (fixed or {}).items()}
        self._batches: Mapping[Role, BatchSizes] = usual | only
        self.largest: Mapping[Role, int] = {role: self._batches[role].largest for role in ROLES}

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

    def features(self, backbone: BackboneRole, pixels: Array) -> Float32:
        """Run a backbone, see :meth:`.base.Engine.features`."""
        (features,) = self.run(backbone, [pixels])
        if len(features) != len(pixels):
            raise ValueError(f"features of {len(features)} views, not of {len(pixels)}")
        return features

    def aggregate(self, global_features: Float32, local_features: Float32) -> Judgement:
        """Judge by features, see :meth:`.base.Engine.aggregate`."""
        return Judgement(*self.run("aggregator", [global_features, local_features]))

    def judge_draws(
        self, overviews: Overviews, crops: DrawnCrops, timings: Timings | None = None
    ) -> Judgement:
        """Run all graphs, see :meth:`.base.Engine.judge_draws`."""
        timings = timings or Timings()
        images, draws, count, *pixels = crops.shape
        with timings.stage("infer"):
            global_features = self.features("global", overviews)
            flat = self.features("local", crops.reshape(images * draws * count, *pixels))
        local_features = flat.reshape(images * draws, count, -1)
        with timings.stage("aggregate"):
            repeated = np.repeat(global_features, draws, axis=0)
            found = self.run("aggregator", [repeated, local_features])
        logits, attention = (rows.reshape(images, draws, *rows.shape[1:]) for rows in found)
        return Judgement(logits, attention)
