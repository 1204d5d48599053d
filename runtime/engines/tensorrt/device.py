"""Plans on one GPU: copies and streams side by side, features never leaving the GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...bundle.bundle import Bundle
from ...bundle.streams import (
    AGGREGATOR,
    CLASSES,
    Role,
    TensorSpec,
    features_name,
    inner_shape,
)
from ...machine.cuda import Cuda
from ...views.batch import DrawnViews
from ..base import Array, Float32, Judgement
from ..batches import BatchSizes, DrawRows
from .api import Library
from .executable import Executable, Shape
from .store import StoredPlan

_FLOAT = 4  # bytes
_LANES = 2  # one is filled while the other is computed


@dataclass(frozen=True)
class _Lane:
    """Room for one batch of views and what its graph gives, on the host and on the GPU.

    ``outputs`` are addresses by the outputs' names.
    """

    host: Array
    pixels: int
    outputs: Mapping[str, int]
    uploaded: int
    computed: int


class Device:
    """Plans on one GPU.

    Attributes:
        batch_size: the most rows that one launch computes.
        aggregates: whether an aggregator joins features; else the only stream gives the logits.
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
        manifest = bundle.manifest
        self.aggregates = manifest.aggregator is not None
        self._views = manifest.views
        self._outputs = {name: stream.graph.outputs for name, stream in manifest.streams.items()}
        self._answers = () if manifest.aggregator is None else manifest.aggregator.outputs
        # What comes last, the aggregator or a stream that has none, is on the last stream's.
        self._last = manifest.views.several or next(reversed(manifest.streams))
        self._cuda_streams = {name: cuda.stream() for name in manifest.streams}
        self._uploads = cuda.stream()
        self._done = {name: cuda.event() for name in manifest.streams}
        self._graphs = {role: Executable(library, cuda, plans[role]) for role in manifest.roles}
        self._lanes = {name: [self._lane(name) for _ in range(_LANES)] for name in manifest.streams}
        self._rooms: dict[str, tuple[int, int]] = {}
        self._hosts: dict[str, Array] = {}

    def run(self, role: Role, inputs: Sequence[Array]) -> list[Float32]:
        """Run one graph on host arrays."""
        if role == AGGREGATOR:
            return self._run_aggregator(dict(zip(self._outputs, inputs, strict=True)))
        (pixels,) = inputs
        self._reserve_outputs(role, self._batches.padded(len(pixels)))
        self._compute(role, pixels)
        found = [
            self._fetch(
                f"{role} {spec.name}",
                self._place(role, spec, 0),
                (len(pixels), *inner_shape(spec)),
                role,
            )
            for spec in self._outputs[role]
        ]
        self._wait(role)
        return [each.copy() for each in found]

    def judge(self, views: DrawnViews) -> Judgement:
        """Run all graphs on several draws; the host waits once, for the verdicts."""
        several = self._views.several
        rows, count = DrawRows.of(views, several)
        self._make_room(rows, count)
        for name in self._outputs:
            self._compute(name, rows.views(views[name]) if name == several else views[name])
        return self._judged(rows, count)

    def _run_aggregator(self, features: Mapping[str, Float32]) -> list[Float32]:
        several = self._views.several
        count = 1 if several is None else features[several].shape[1]
        rows = DrawRows(len(next(iter(features.values()))), draws=1)
        self._make_room(rows, count)
        for name, values in features.items():
            self._put(name, values)
        found = self._judged(rows, count)
        answers = (found.logits, found.attention)
        return [each[:, 0] for each in answers if each is not None]

    def _compute(self, name: str, pixels: Array) -> None:
        """Put a graph's work on its stream; what it gives gathers in device memory."""
        cuda, stream = self._cuda, self._cuda_streams[name]
        for index, part in enumerate(self._batches.parts(len(pixels))):
            start, count, size = part.start, part.count, part.size
            lane = self._lanes[name][index % _LANES]
            cuda.synchronise(lane.uploaded)  # of the batch before the last: long since
            lane.host[:count] = pixels[start : start + count]
            cuda.wait(self._uploads, lane.computed)
            cuda.upload(lane.pixels, lane.host[:size], self._uploads)
            cuda.record(lane.uploaded, self._uploads)
            cuda.wait(stream, lane.uploaded)
            shapes = {"pixels": (size, *lane.host.shape[1:])}
            self._graphs[name].launch(shapes, {"pixels": lane.pixels, **lane.outputs}, stream)
            for spec in self._outputs[name]:
                target = self._place(name, spec, start)
                cuda.copy(target, lane.outputs[spec.name], count * _row(spec), stream)
            cuda.record(lane.computed, stream)
        cuda.record(self._done[name], stream)

    def _judged(self, rows: DrawRows, count: int) -> Judgement:
        """Fetch the verdicts, of the aggregator if there is one."""
        if self.aggregates:
            self._aggregate(rows, count)
            places = {spec.name: self._rooms[spec.name][0] for spec in self._answers}
        else:
            (spec,) = self._outputs[self._last]
            places = {spec.name: self._place(self._last, spec, 0)}
        widths = {"logits": CLASSES, "attention": count}
        answers = [
            self._fetch(name, address, (rows.draws * rows.images, widths[name]), self._last)
            for name, address in places.items()
        ]
        self._wait(self._last)
        found = [rows.by_image(each) for each in answers]
        return Judgement(found[0], found[1] if len(found) > 1 else None)

    def _aggregate(self, rows: DrawRows, count: int) -> None:
        cuda, stream = self._cuda, self._cuda_streams[self._last]
        for name, done in self._done.items():
            if name != self._last:
                cuda.wait(stream, done)
        for first, part in rows.parts(self._batches):
            shapes: dict[str, Shape] = {}
            addresses = {}
            for name, (spec, *_) in self._outputs.items():
                several = name == self._views.several
                shapes[features_name(name)] = (
                    (part.size, count, *inner_shape(spec))
                    if several
                    else (part.size, *inner_shape(spec))
                )
                row = first * count if several else part.start
                addresses[features_name(name)] = self._place(name, spec, row)
            for spec in self._answers:
                width = CLASSES if spec.name == "logits" else count
                addresses[spec.name] = self._rooms[spec.name][0] + first * width * _FLOAT
            self._graphs[AGGREGATOR].launch(shapes, addresses, stream)

    def _place(self, stream: str, spec: TensorSpec, row: int) -> int:
        """Return the address of a row of one of a stream's outputs."""
        address, _ = self._rooms[f"{stream} {spec.name}"]
        return address + row * _row(spec)

    def _make_room(self, rows: DrawRows, count: int) -> None:
        """Have device memory for all that belongs to such draws, padded to full batches."""
        padded = rows.padded(self._batches)
        for name in self._outputs:
            views = self._batches.padded(rows.images)
            if name == self._views.several:
                every = self._batches.padded(rows.draws * rows.images * count)
                views = max(padded * count, every)
            self._reserve_outputs(name, views)
        for spec in self._answers:
            width = CLASSES if spec.name == "logits" else count
            self._reserve(spec.name, padded * width * _FLOAT)

    def _reserve_outputs(self, stream: str, rows: int) -> None:
        for spec in self._outputs[stream]:
            self._reserve(f"{stream} {spec.name}", rows * _row(spec))

    def _reserve(self, name: str, size: int) -> None:
        """Have device memory of at least this size; what it held is lost when it grows."""
        _, room = self._rooms.get(name, (0, 0))
        if room < size:
            room = 1 << (size - 1).bit_length()
            self._rooms[name] = (self._cuda.allocate(room), room)

    def _put(self, name: str, values: Array) -> None:
        """Copy features of the host's to where the backbones would have left them."""
        (spec, *_) = self._outputs[name]
        host = self._host(f"{name} features", values.size)
        host[:] = values.ravel()
        self._cuda.upload(self._place(name, spec, 0), host, self._cuda_streams[self._last])
        self._wait(self._last)

    def _fetch(self, name: str, address: int, shape: Shape, role: str) -> Float32:
        host = self._host(name, int(np.prod(shape)))
        self._cuda.download(host, address, self._cuda_streams[role])
        return host.reshape(shape)

    def _host(self, name: str, size: int) -> Float32:
        """Return a pinned array, the same memory as before if it suffices."""
        array = self._hosts.get(name)
        if array is None or array.size < size:
            array = self._cuda.pinned((1 << (size - 1).bit_length(),), np.float32)
            self._hosts[name] = array
        return array[:size]

    def _wait(self, name: str) -> None:
        self._cuda.record(self._done[name], self._cuda_streams[name])
        self._cuda.synchronise(self._done[name])

    def _lane(self, name: str) -> _Lane:
        views = self._views.streams[name]
        host = self._cuda.pinned((self.batch_size, views.size, views.size, 3), views.dtype)
        host[:] = 0
        pixels = self._cuda.allocate(host.nbytes)
        outputs = {
            spec.name: self._cuda.allocate(self.batch_size * _row(spec))
            for spec in self._outputs[name]
        }
        return _Lane(host, pixels, outputs, self._cuda.event(), self._cuda.event())


def _row(spec: TensorSpec) -> int:
    """Return the bytes of one row of a tensor."""
    return int(np.prod(inner_shape(spec))) * _FLOAT
