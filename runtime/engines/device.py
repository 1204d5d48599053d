"""What engines on a GPU share: one run at a time, which takes none of the host's CPUs."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Mapping

from ..bundle.manifest import ROLES, Role
from ..machine.timings import Timings
from ..views.batch import DrawnCrops, Overviews
from .base import Array, BackboneRole, Engine, Float32, Judgement


class DeviceEngine(Engine):
    """An engine whose features stay on its device, see :class:`.base.Engine`.

    Its runs share the device's buffers, so they take turns. The thread that runs need not be the
    one that made the engine.
    """

    lanes = 1
    on_host = False

    def __init__(self, batch_size: int) -> None:
        self.largest: Mapping[Role, int] = dict.fromkeys(ROLES, batch_size)
        self._turn = threading.Lock()

    @abstractmethod
    def judge_now(self, overviews: Overviews, crops: DrawnCrops) -> Judgement:
        """Run all graphs on several draws; no other run goes on meanwhile."""

    @abstractmethod
    def features_now(self, backbone: BackboneRole, pixels: Array) -> Float32:
        """Run a backbone; no other run goes on meanwhile."""

    @abstractmethod
    def aggregate_now(self, global_features: Float32, local_features: Float32) -> Judgement:
        """Judge by features; no other run goes on meanwhile."""

    def judge_draws(
        self, overviews: Overviews, crops: DrawnCrops, timings: Timings | None = None
    ) -> Judgement:
        """Run all graphs, see :meth:`.base.Engine.judge_draws`."""
        with (timings or Timings()).stage("infer"), self._turn:
            return self.judge_now(overviews, crops)

    def features(self, backbone: BackboneRole, pixels: Array) -> Float32:
        """Run a backbone, see :meth:`.base.Engine.features`."""
        with self._turn:
            return self.features_now(backbone, pixels)

    def aggregate(self, global_features: Float32, local_features: Float32) -> Judgement:
        """Judge by features, see :meth:`.base.Engine.aggregate`."""
        with self._turn:
            return self.aggregate_now(global_features, local_features)
