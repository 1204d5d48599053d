"""Running plans: copies and two backbones side by side, features never leaving the GPU."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...bundle.bundle import Bundle
from ...bundle.manifest import ROLES, Role
from ...machine.cuda import Cuda, open_cuda
from ...machine.cuda.base import describe
from ...machine.errors import EngineError
from ...machine.progress import Progress
from ...views.batch import DrawnCrops, Overviews
from ..base import Array, BackboneRole, EngineOptions, Float32, Judgement
from ..batches import BatchSizes, DrawRows
from ..device import DeviceEngine
from .api import Library, LibraryName, find_library
from .check import EngineCheck
from .executable import Executable, Shape
from .plan import Batches, BuildOptions, Check, default_batches, plan_key
from .store import PlanStore, StoredPlan, store_to_run

_log = logging.getLogger("glass_edge")
_FLOAT = 4  # bytes
_LANES = 2  # one is filled while the other is computed


class TensorRtEngine(DeviceEngine):
    """The three graphs as TensorRT engines on the first GPU, on streams of their own."""

    def __init__(self, bundle: Bundle, name: LibraryName, options: EngineOptions) -> None:
        """Load the plans; build and check those that are not there yet.

        Raises:
            EngineError: there is no GPU or no TensorRT, a plan cannot be built or loaded, or it
                computes something else than the graph.
        """
        super().__init__(options.batch_size)
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

    def judge_now(self, overviews: Overviews, crops: DrawnCrops) -> Judgement:
        """Run all graphs, see :meth:`..device.DeviceEngine.judge_now`."""
        with self._cuda.current():
            return self._device.judge(overviews, crops)

    def features_now(self, backbone: BackboneRole, pixels: Array) -> Float32:
        """Run a backbone, see :meth:`..device.DeviceEngine.features_now`."""
        with self._cuda.current():
            (features,) = self._device.run(backbone, [pixels])
        return features

    def aggregate_now(self, global_features: Float32, local_features: Float32) -> Judgement:
        """Judge by features, see :meth:`..device.DeviceEngine.aggregate_now`."""
        with self._cuda.current():
            found = self._device.run("aggregator", [global_features, local_features])
        return Judgement(*found)


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
    for role in ROLES:
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
    checks = {role: plans[role].record.check for role in ROLES}
    unchecked = [role for role in ROLES if not _covers(checks[role], device.batch_size, gpu)]
    if not unchecked:
        return
    check = EngineCheck(bundle)
    for role in unchecked:
        batches = plans[role].record.key.options.batches
        usable = Batches(1, min(batches.best, device.batch_size), device.batch_size)
        store.add_check(plans[role], check.check(role, device.run, usable, gpu))


def _covers(check: Check | None, batch_size: int, gpu: str) -> bool:
    return check is not None and check.gpu == gpu and max(check.batches) >= batch_size


@dataclass(frozen=True)
class _Lane:
    """Room for one batch of views and its features, on the host and on the GPU."""

    host: Array
    pixels: int
    features: int
    uploaded: int
    computed: int


class Device:
    """Plans on one GPU.

    Attributes:
        batch_size: the most rows that one launch computes.
    """

    def __init__(
        self,
        bundle: Bundle,
        library: Library,
        cuda: Cuda,
        plans: Mapping[Role, StoredPlan],
        batch_size: int,
    ) -> None:
        self.batch_size = batch_size
        self._cuda = cuda
        least = max(plan.record.key.options.batches.least for plan in plans.values())
        self._batches = BatchSizes.up_to(batch_size, least)
        self._width = bundle.manifest.backbone.feature_size
        self._streams = {role: cuda.stream() for role in ("global", "local")}
        self._uploads = cuda.stream()
        self._done = {role: cuda.event() for role in ("global", "local")}
        self._graphs = {role: Executable(library, cuda, plans[role]) for role in ROLES}
        side = bundle.manifest.views.crop_size
        self._lanes = {
            "global": [self._lane((side, side, 3), np.float32) for _ in range(_LANES)],
            "local": [self._lane((side, side, 3), np.uint8) for _ in range(_LANES)],
        }
        self._rooms: dict[str, tuple[int, int]] = {}
        self._hosts: dict[str, Array] = {}

    def run(self, role: Role, inputs: Sequence[Array]) -> list[Float32]:
        """Run one graph on host arrays."""
        if role == "aggregator":
            global_features, local_features = inputs
            images, crops = local_features.shape[:2]
            rows = DrawRows(images, draws=1)
            self._make_room(rows, crops)
            for name, values in (("global", global_features), ("local", local_features)):
                self._put(name, values)
            found = self._aggregate(rows, crops)
            return [found.logits[:, 0], found.attention[:, 0]]
        (pixels,) = inputs
        self._reserve(role, self._batches.padded(len(pixels)) * self._width * _FLOAT)
        self._compute(role, pixels)
        features = self._fetch(
            f"{role} features", self._features(role, 0), (len(pixels), self._width), role
        )
        self._wait(role)
        return [features.copy()]

    def judge(self, overviews: Array, crops: Array) -> Judgement:
        """Run all graphs on several draws; the host waits once, for the verdicts."""
        count, rows = crops.shape[2], DrawRows(*crops.shape[:2])
        self._make_room(rows, count)
        self._compute("global", overviews)
        self._compute("local", rows.views(crops))
        return self._aggregate(rows, count)

    def _compute(self, role: Role, pixels: Array) -> None:
        """Put a backbone's work on its stream; its features gather in device memory."""
        cuda, stream = self._cuda, self._streams[role]
        for index, part in enumerate(self._batches.parts(len(pixels))):
            start, count, size = part.start, part.count, part.size
            lane = self._lanes[role][index % _LANES]
            cuda.synchronise(lane.uploaded)  # of the batch before the last: long since
            lane.host[:count] = pixels[start : start + count]
            cuda.wait(self._uploads, lane.computed)
            cuda.upload(lane.pixels, lane.host[:size], self._uploads)
            cuda.record(lane.uploaded, self._uploads)
            cuda.wait(stream, lane.uploaded)
            shapes = {"pixels": (size, *lane.host.shape[1:])}
            addresses = {"pixels": lane.pixels, "features": lane.features}
            self._graphs[role].launch(shapes, addresses, stream)
            target = self._features(role, start)
            cuda.copy(target, lane.features, count * self._width * _FLOAT, stream)
            cuda.record(lane.computed, stream)
        cuda.record(self._done[role], stream)

    def _aggregate(self, rows: DrawRows, crops: int) -> Judgement:
        cuda, stream = self._cuda, self._streams["local"]
        cuda.wait(stream, self._done["global"])
        logits, attention = self._rooms["logits"][0], self._rooms["attention"][0]
        for first, part in rows.parts(self._batches):
            shapes = {
                "global_features": (part.size, self._width),
                "local_features": (part.size, crops, self._width),
            }
            addresses = {
                "global_features": self._features("global", part.start),
                "local_features": self._features("local", first * crops),
                "logits": logits + first * 2 * _FLOAT,
                "attention": attention + first * crops * _FLOAT,
            }
            self._graphs["aggregator"].launch(shapes, addresses, stream)
        count = rows.draws * rows.images
        answers = (
            self._fetch("logits", logits, (count, 2), "local"),
            self._fetch("attention", attention, (count, crops), "local"),
        )
        self._wait("local")
        return Judgement(*map(rows.by_image, answers))

    def _features(self, role: Role, row: int) -> int:
        address, _ = self._rooms[role]
        return address + row * self._width * _FLOAT

    def _make_room(self, rows: DrawRows, crops: int) -> None:
        """Have device memory for all that belongs to such draws, padded to full batches."""
        padded = rows.padded(self._batches)
        views = max(padded * crops, self._batches.padded(rows.draws * rows.images * crops))
        for name, values in (
            ("global", self._batches.padded(rows.images) * self._width),
            ("local", views * self._width),
            ("logits", padded * 2),
            ("attention", padded * crops),
        ):
            self._reserve(name, values * _FLOAT)

    def _reserve(self, name: str, size: int) -> None:
        """Have device memory of at least this size; what it held is lost when it grows."""
        _, room = self._rooms.get(name, (0, 0))
        if room < size:
            room = 1 << (size - 1).bit_length()
            self._rooms[name] = (self._cuda.allocate(room), room)

    def _put(self, name: str, values: Array) -> None:
        """Copy features of the host's to where the backbones would have left them."""
        stream, (address, _) = self._streams["local"], self._rooms[name]
        host = self._host(f"{name} features", values.size)
        host[:] = values.ravel()
        self._cuda.upload(address, host, stream)
        self._wait("local")

    def _fetch(self, name: str, address: int, shape: Shape, role: str) -> Float32:
        host = self._host(name, int(np.prod(shape)))
        self._cuda.download(host, address, self._streams[role])
        return host.reshape(shape)

    def _host(self, name: str, size: int) -> Float32:
        """Return a pinned array, the same memory as before if it suffices."""
        array = self._hosts.get(name)
        if array is None or array.size < size:
            array = self._cuda.pinned((1 << (size - 1).bit_length(),), np.float32)
            self._hosts[name] = array
        return array[:size]

    def _wait(self, role: str) -> None:
        self._cuda.record(self._done[role], self._streams[role])
        self._cuda.synchronise(self._done[role])

    def _lane(self, shape: Shape, dtype: type[np.generic]) -> _Lane:
        host = self._cuda.pinned((self.batch_size, *shape), dtype)
        host[:] = 0
        pixels = self._cuda.allocate(host.nbytes)
        features = self._cuda.allocate(self.batch_size * self._width * _FLOAT)
        return _Lane(host, pixels, features, self._cuda.event(), self._cuda.event())
