"""What engines on the CPU share: batches cut and padded, features joined, stages timed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from ..bundle.manifest import ROLES, Role
from ..machine.timings import Timings
from ..views.batch import Crops, Overviews
from .base import Array, BackboneRole, EngineOptions, Float32, Judgement
from .batches import BatchSizes


class HostEngine(ABC):
    """An engine whose graphs take and give host arrays, see :class:`.base.Engine`."""

    name: str
    description: str
    precision: str
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

    def judge(
        self, overviews: Overviews, crops: Crops, timings: Timings | None = None
    ) -> Judgement:
        """Run all graphs, see :meth:`.base.Engine.judge`."""
        timings = timings or Timings()
        images, count = crops.shape[:2]
        with timings.stage("infer"):
            global_features = self.features("global", overviews)
            flat = self.features("local", crops.reshape(images * count, *crops.shape[2:]))
        local_features = flat.reshape(images, count, -1)
        with timings.stage("aggregate"):
            logits, attention = self.run("aggregator", [global_features, local_features])
        return Judgement(logits, attention)
