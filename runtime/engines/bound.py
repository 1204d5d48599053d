"""ONNX Runtime with inputs and outputs bound to device memory, features never leaving it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..bundle.manifest import Role
from ..machine.errors import EngineError
from .base import Array, BackboneRole, Float32, Judgement
from .batches import BatchSizes, DrawRows

if TYPE_CHECKING:
    import onnxruntime as ort

_FLOAT = 4  # bytes
_MEMORY = ("out of memory", "failed to allocate memory", "bad_alloc", "bad allocation")


class BoundGraphs:
    """The three graphs' sessions, run on buffers that are made once for each fixed size.

    All graphs see these few batch sizes only, the last batch padded, so that the sessions' memory
    grows no more once each was seen.
    """

    def __init__(
        self, sessions: Mapping[Role, ort.InferenceSession], device: str, batch_size: int
    ) -> None:
        """Use sessions that are all on ``device``: ``cpu`` or ``cuda``."""
        self._sessions = sessions
        self._device = device
        self._batches = BatchSizes.up_to(batch_size)
        self._width: int = sessions["global"].get_outputs()[0].shape[1]
        self._values: dict[tuple[str, tuple[int, ...]], ort.OrtValue] = {}
        self._hosts: dict[tuple[str, tuple[int, ...]], Array] = {}

    def judge(self, overviews: Array, crops: Array) -> Judgement:
        """Run all graphs, see :meth:`.base.Engine.judge_draws`."""
        count, rows = crops.shape[2], DrawRows(*crops.shape[:2])
        views = rows.views(crops)
        room = max(rows.padded(self._batches) * count, self._batches.padded(len(views)))
        global_features = self._computed("global", overviews, self._batches.padded(len(overviews)))
        local_features = self._computed("local", views, room)
        return self._aggregated(rows, count, global_features, local_features)

    def aggregate(self, global_features: Float32, local_features: Float32) -> Judgement:
        """Judge by features, see :meth:`.base.Engine.aggregate`."""
        images, count, width = local_features.shape
        flat = local_features.reshape(images * count, width)
        rows = DrawRows(images, draws=1)
        padded = rows.padded(self._batches)
        found = self._aggregated(
            rows,
            count,
            self._uploaded("global features given", global_features, padded),
            self._uploaded("local features given", flat, padded * count),
        )
        return Judgement(found.logits[:, 0], found.attention[:, 0])

    def features(self, backbone: BackboneRole, pixels: Array) -> Float32:
        """Run a backbone, see :meth:`.base.Engine.features`."""
        features = self._computed(backbone, pixels, self._batches.padded(len(pixels)))
        found: Float32 = features.numpy()[: len(pixels)].copy()
        return found

    def _aggregated(
        self,
        rows: DrawRows,
        count: int,
        global_features: ort.OrtValue,
        local_features: ort.OrtValue,
    ) -> Judgement:
        """Judge by features on the device, of images with ``count`` crops in each draw."""
        padded = rows.padded(self._batches)
        logits = self._value("logits", (padded, 2), np.float32)
        attention = self._value("attention", (padded, count), np.float32)
        for first, part in rows.parts(self._batches):
            binding = self._sessions["aggregator"].io_binding()
            inputs, outputs = binding.bind_input, binding.bind_output
            one, several = (part.size, self._width), (part.size, count, self._width)
            self._bind(inputs, "global_features", global_features, part.start, one)
            self._bind(inputs, "local_features", local_features, first * count, several)
            self._bind(outputs, "logits", logits, first, (part.size, 2))
            self._bind(outputs, "attention", attention, first, (part.size, count))
            self._run("aggregator", binding)
        return Judgement(rows.by_image(logits.numpy()), rows.by_image(attention.numpy()))

    def _computed(self, role: BackboneRole, pixels: Array, room: int) -> ort.OrtValue:
        """Run a backbone; return device memory of ``room`` rows that begins with its features."""
        features = self._value(f"{role} features", (room, self._width), np.float32)
        for part in self._batches.parts(len(pixels)):
            start, size = part.start, part.size
            binding = self._sessions[role].io_binding()
            taken = pixels[start : start + part.count]
            pixels_there = self._uploaded(f"{role} pixels", taken, size)
            binding.bind_ortvalue_input("pixels", pixels_there)
            self._bind(binding.bind_output, "features", features, start, (size, self._width))
            self._run(role, binding)
        return features

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
        """Bind an input or output to floats of a value, from its row ``first`` on."""
        row = int(np.prod(value.shape()[1:])) * _FLOAT
        bind(name, self._device, 0, np.float32, list(shape), value.data_ptr() + first * row)

    def _run(self, role: Role, binding: Any) -> None:
        try:
            self._sessions[role].run_with_iobinding(binding)
        except Exception as error:  # pybind's exceptions have no common base but Exception
            raise failed(f"failed in the {role} graph", error) from error


def failed(how: str, error: Exception) -> EngineError:
    """Say what ONNX Runtime says, and what to do if memory ran out."""
    words = str(error).strip().rstrip(".")
    memory = any(sign in words.lower() for sign in _MEMORY)
    advice = " Use a smaller --batch-size, or close what else uses the memory." if memory else ""
    return EngineError(f"ONNX Runtime {how}: {words}.{advice}")
