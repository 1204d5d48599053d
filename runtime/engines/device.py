"""What engines on a GPU share: one run at a time, which takes none of the host's CPUs."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Mapping, Sequence

from ..bundle.manifest import Manifest
from ..bundle.streams import Role
from ..machine.timings import Timings
from ..views.batch import DrawnViews
from .base import Array, Engine, Float32, Judgement


class DeviceEngine(Engine):
    """An engine whose features stay on its device, see :class:`.base.Engine`.

    Its runs share the device's buffers, so they take turns. The thread that runs need not be the
    one that made the engine.
    """

    lanes = 1
    on_host = False

    def __init__(self, manifest: Manifest, batch_size: int) -> None:
        self.several = manifest.views.several
        self.largest: Mapping[Role, int] = dict.fromkeys(manifest.roles, batch_size)
        self._turn = threading.Lock()

    @abstractmethod
    def judge_now(self, views: DrawnViews) -> Judgement:
        """Run all graphs on several draws; no other run goes on meanwhile."""

    @abstractmethod
    def outputs_now(self, stream: str, pixels: Array) -> Sequence[Float32]:
        """Run a stream's graph; no other run goes on meanwhile."""

    @abstractmethod
    def aggregate_now(self, features: Mapping[str, Float32]) -> Judgement:
        """Judge by features; no other run goes on meanwhile."""

    def judge_draws(self, views: DrawnViews, timings: Timings | None = None) -> Judgement:
        """Run all graphs, see :meth:`.base.Engine.judge_draws`."""
        with (timings or Timings()).stage("infer"), self._turn:
            return self.judge_now(views)

    def outputs(self, stream: str, pixels: Array) -> Sequence[Float32]:
        """Run a stream's graph, see :meth:`.base.Engine.outputs`."""
        with self._turn:
            return self.outputs_now(stream, pixels)

    def aggregate(self, features: Mapping[str, Float32]) -> Judgement:
        """Judge by features, see :meth:`.base.Engine.aggregate`."""
        with self._turn:
            return self.aggregate_now(features)
