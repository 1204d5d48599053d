"""ONNX Runtime with inputs and outputs bound to device memory, features never leaving it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..bundle.manifest import Manifest
from ..bundle.streams import AGGREGATOR, CLASSES, Role, features_name, inner_shape
from ..machine.errors import EngineError
from ..views.batch import DrawnViews
from .base import Array, Float32, Judgement
from .batches import BatchSizes, DrawRows

if TYPE_CHECKING:
    import onnxruntime as ort

_FLOAT = 4  # bytes
_MEMORY = ("out of memory", "failed to allocate memory", "bad_alloc", "bad allocation")


class BoundGraphs:
    """The graphs' sessions, run on buffers that are made once for each fixed size.

    All graphs see these few batch sizes only, the last batch padded, so that the sessions' memory
    grows no more once each was seen.
    """

    def __init__(
        self,
        sessions: Mapping[Role, ort.InferenceSession],
        manifest: Manifest,
        device: str,
        batch_size: int,
    ) -> None:
        """Use sessions that are all on ``device``: ``cpu`` or ``cuda``."""
        self._sessions = sessions
        self._streams = manifest.streams
        self._several = manifest.views.several
        self._aggregator = manifest.aggregator
        self._device = device
        self._batches = BatchSizes.up_to(batch_size)
        self._values: dict[tuple[str, tuple[int, ...]], ort.OrtValue] = {}
        self._hosts: dict[tuple[str, tuple[int, ...]], Array] = {}

    def judge(self, views: DrawnViews) -> Judgement:
        """Run all graphs, see :meth:`.base.Engine.judge_draws`."""
        rows, count = DrawRows.of(views, self._several)
        features = {}
        for name in self._streams:
            pixels = rows.views(views[name]) if name == self._several else views[name]
            room = self._batches.padded(len(pixels))
            if name == self._several:
                room = max(room, rows.padded(self._batches) * count)
            features[name] = self._computed(name, pixels, room)[0]
        return self._judged(rows, count, features)

    def aggregate(self, features: Mapping[str, Float32]) -> Judgement:
        """Judge by features, see :meth:`.base.Engine.aggregate`."""
        several = None if self._several is None else features[self._several]
        images = len(next(iter(features.values())))
        count = 1 if several is None else several.shape[1]
        rows = DrawRows(images, draws=1)
        padded = rows.padded(self._batches)
        given = {
            name: self._given(
                name, each, padded * (count if name == self._several else 1) * each.shape[-1]
            )
            for name, each in features.items()
        }
        found = self._judged(rows, count, given)
        attention = None if found.attention is None else found.attention[:, 0]
        return Judgement(found.logits[:, 0], attention)

    def outputs(self, stream: str, pixels: Array) -> list[Float32]:
        """Run a stream's graph, see :meth:`.base.Engine.outputs`."""
        outputs = self._computed(stream, pixels, self._batches.padded(len(pixels)))
        specs = self._streams[stream].graph.outputs
        return [
            _rows(value, len(pixels), *inner_shape(spec)).copy()
            for value, spec in zip(outputs, specs, strict=True)
        ]

    def _judged(
        self, rows: DrawRows, count: int, features: Mapping[str, ort.OrtValue]
    ) -> Judgement:
        """Judge by features on the device, of images with ``count`` crops in each draw."""
        if self._aggregator is None:
            (logits,) = features.values()
            return Judgement(rows.by_image(_rows(logits, rows.images, CLASSES)), None)
        padded = rows.padded(self._batches)
        widths = {"logits": CLASSES, "attention": count}
        answers = {
            spec.name: self._floats(spec.name, padded * widths[spec.name])
            for spec in self._aggregator.outputs
        }
        for first, part in rows.parts(self._batches):
            binding = self._sessions[AGGREGATOR].io_binding()
            for name, value in features.items():
                width = self._streams[name].width
                one = name != self._several
                shape = (part.size, width) if one else (part.size, count, width)
                start = part.start if one else first * count
                self._bind(binding.bind_input, features_name(name), value, start * width, shape)
            for name, value in answers.items():
                shape = (part.size, widths[name])
                self._bind(binding.bind_output, name, value, first * widths[name], shape)
            self._run(AGGREGATOR, binding)
        found = [
            rows.by_image(_rows(value, rows.draws * rows.images, widths[name]))
            for name, value in answers.items()
        ]
        return Judgement(found[0], found[1] if len(found) > 1 else None)

    def _computed(self, stream: str, pixels: Array, room: int) -> list[ort.OrtValue]:
        """Run a stream's graph; return device memory of ``room`` rows for each of its outputs."""
        outputs = self._streams[stream].graph.outputs
        found = [
            self._floats(f"{stream} {each.name}", room * math.prod(inner_shape(each)))
            for each in outputs
        ]
        for part in self._batches.parts(len(pixels)):
            start, size = part.start, part.size
            binding = self._sessions[stream].io_binding()
            taken = pixels[start : start + part.count]
            pixels_there = self._uploaded(f"{stream} pixels", taken, size)
            binding.bind_ortvalue_input("pixels", pixels_there)
            for spec, value in zip(outputs, found, strict=True):
                inner = inner_shape(spec)
                first = start * math.prod(inner)
                self._bind(binding.bind_output, spec.name, value, first, (size, *inner))
            self._run(stream, binding)
        return found

    def _uploaded(self, name: str, rows: Array, size: int) -> ort.OrtValue:
        """Copy rows to the device; what is missing to ``size`` is left from earlier batches."""
        shape = (size, *rows.shape[1:])
        host = self._hosts.get((name, shape))
        if host is None:
            self._hosts[name, shape] = host = np.zeros(shape, rows.dtype)
        host[: len(rows)] = rows
        value = self._value(name, shape, rows.dtype)
        value.update_inplace(host)
        return value

    def _given(self, name: str, features: Float32, size: int) -> ort.OrtValue:
        """Copy features to the device, to room for ``size`` floats."""
        value = self._floats(f"{name} features given", size)
        key = (name, tuple(value.shape()))
        host = self._hosts.get(key)
        if host is None:
            self._hosts = {kept: each for kept, each in self._hosts.items() if kept[0] != name}
            self._hosts[key] = host = np.zeros(value.shape(), np.float32)
        host[: features.size] = features.ravel()
        value.update_inplace(host)
        return value

    def _floats(self, name: str, size: int) -> ort.OrtValue:
        """Return device memory for so many floats, the same as before if it suffices.

        It grows to powers of two, so that images with ever other numbers of views share it.
        """
        there = next((shape for kept, shape in self._values if kept == name), None)
        if there is not None and there[0] < size:
            del self._values[name, there]
            there = None
        return self._value(name, there or (1 << (size - 1).bit_length(),), np.float32)

    def _value(self, name: str, shape: Sequence[int], dtype: npt.DTypeLike) -> ort.OrtValue:
        import onnxruntime

        key = (name, tuple(shape))
        if key not in self._values:
            try:
                self._values[key] = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
                    list(shape), dtype, self._device, 0
                )
            except Exception as error:  # as below
                raise failed(f"has no room for {name}", error) from error
        return self._values[key]

    def _bind(
        self,
        bind: Callable[..., None],
        name: str,
        value: ort.OrtValue,
        first: int,
        shape: tuple[int, ...],
    ) -> None:
        """Bind an input or output to floats of a value, from number ``first`` on."""
        bind(name, self._device, 0, np.float32, list(shape), value.data_ptr() + first * _FLOAT)

    def _run(self, role: Role, binding: Any) -> None:
        try:
            self._sessions[role].run_with_iobinding(binding)
        except Exception as error:  # pybind's exceptions have no common base but Exception
            raise failed(f"failed in the {role} graph", error) from error


def _rows(value: ort.OrtValue, count: int, *inner: int) -> Float32:
    """Return the first ``count`` rows of device memory, ``(count, *inner)``."""
    floats: Float32 = value.numpy()[: count * math.prod(inner)]
    return floats.reshape(count, *inner)


def failed(how: str, error: Exception) -> EngineError:
    """Say what ONNX Runtime says, and what to do if memory ran out."""
    words = str(error).strip().rstrip(".")
    memory = any(sign in words.lower() for sign in _MEMORY)
    advice = " Use a smaller --batch-size, or close what else uses the memory." if memory else ""
    return EngineError(f"ONNX Runtime {how}: {words}.{advice}")
