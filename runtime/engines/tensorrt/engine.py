"""The TensorRT engine: plans are found or built, checked, and run on one GPU."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Mapping, Sequence

from ...bundle.bundle import Bundle
from ...bundle.streams import AGGREGATOR, Role
from ...machine.cuda import open_cuda
from ...machine.cuda.base import describe
from ...machine.errors import EngineError
from ...machine.progress import Progress
from ...views.batch import DrawnViews
from ..base import Array, EngineOptions, Float32, Judgement
from ..device import DeviceEngine
from .api import Library, LibraryName, find_library
from .check import EngineCheck
from .device import Device
from .plan import Batches, BuildOptions, Check, default_batches, plan_key
from .store import PlanStore, StoredPlan, store_to_run

_log = logging.getLogger("glass_edge")


class TensorRtEngine(DeviceEngine):
    """The graphs as TensorRT engines on the first GPU, on streams of their own."""

    def __init__(self, bundle: Bundle, name: LibraryName, options: EngineOptions) -> None:
        """Load the plans; build and check those that are not there yet.

        Raises:
            EngineError: there is no GPU or no TensorRT, a plan cannot be built or loaded, or it
                computes something else than the graph.
        """
        super().__init__(bundle.manifest, options.batch_size)
        self.name = name
        if options.device == "cpu":
            raise EngineError(f"the {name} engine runs on an NVIDIA GPU, not on the cpu.")
        library, self._cuda = find_library(name), open_cuda()
        # At the process's end a thread may still be judging, and all memory goes back anyway.
        weakref.finalize(self, self._cuda.close).atexit = False
        gpu = describe(self._cuda)
        self.description = f"{name} {library.version} {gpu}"
        self.precision: str = bundle.manifest.precision
        with store_to_run(bundle, options.folder) as store:
            plans = _plans(bundle, library, gpu, options.batch_size, store, options.progress)
            with self._cuda.current():
                self._device = Device(bundle, library, self._cuda, plans, options.batch_size)
                _check(bundle, self._device, plans, store, gpu)

    def judge_now(self, views: DrawnViews) -> Judgement:
        """Run all graphs, see :meth:`..device.DeviceEngine.judge_now`."""
        with self._cuda.current():
            return self._device.judge(views)

    def outputs_now(self, stream: str, pixels: Array) -> Sequence[Float32]:
        """Run a stream's graph, see :meth:`..device.DeviceEngine.outputs_now`."""
        with self._cuda.current():
            return self._device.run(stream, [pixels])

    def aggregate_now(self, features: Mapping[str, Float32]) -> Judgement:
        """Judge by features, see :meth:`..device.DeviceEngine.aggregate_now`."""
        if not self._device.aggregates:
            return Judgement(next(iter(features.values())), None)
        with self._cuda.current():
            logits, *attention = self._device.run(AGGREGATOR, list(features.values()))
        return Judgement(logits, *attention or (None,))


def _plans(
    bundle: Bundle,
    library: Library,
    gpu: str,
    batch_size: int,
    store: PlanStore,
    progress: Progress,
) -> dict[Role, StoredPlan]:
    """Find a plan for every graph, however it was built, or build one."""
    usual = default_batches(bundle)
    most = max(usual.most, batch_size)
    wanted = BuildOptions(Batches(1, min(usual.best, most), most))
    needed = BuildOptions(Batches(1, 1, batch_size))
    found = {}
    target = "any" if library.portable else gpu
    for role in bundle.manifest.roles:
        there = store.find_fitting(plan_key(bundle, role, library, target, needed))
        if there is None:
            key = plan_key(bundle, role, library, target, wanted)
            _log.warning("building the %s engine: %s", role, store.why(key))
            there, _ = store.build(key, progress)
        found[role] = there
    return found


def _check(
    bundle: Bundle, device: Device, plans: Mapping[Role, StoredPlan], store: PlanStore, gpu: str
) -> None:
    """Compare plans with their graphs on every kind of GPU, in batches as large as will be run."""
    unchecked = [
        role
        for role, plan in plans.items()
        if not _covers(plan.record.check, device.batch_size, gpu)
    ]
    if not unchecked:
        return
    check = EngineCheck(bundle)
    for role in unchecked:
        batches = plans[role].record.key.options.batches
        usable = Batches(1, min(batches.best, device.batch_size), device.batch_size)
        store.add_check(plans[role], check.check(role, device.run, usable, gpu))


def _covers(check: Check | None, batch_size: int, gpu: str) -> bool:
    return check is not None and check.gpu == gpu and max(check.batches) >= batch_size
