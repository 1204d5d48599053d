"""ONNX Runtime with inputs and outputs bound to device memory, features never leaving it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import EngineError
from ..manifest import Role
from .base import Array, Float32, batch_sizes

if TYPE_CHECKING:
    import onnxruntime as ort

_FLOAT = 4  # bytes


class BoundGraphs:
    """The three graphs' sessions, run on buffers that are made once for each fixed size."""

    def __init__(
        self, sessions: Mapping[Role, ort.InferenceSession], device: str, batch_size: int
    ) -> None:
        """Use sessions that are all on ``device``: ``cpu`` or ``cuda``."""
        self._sessions = sessions
        self._device = device
        self._batch_size = batch_size
        self._sizes = batch_sizes(batch_size)
        self._width: int = sessions["global"].get_outputs()[0].shape[1]
        self._values: dict[tuple[str, tuple[int, ...]], ort.OrtValue] = {}
        self._hosts: dict[tuple[str, int], Array] = {}

    def judge(self, overviews: Array, crops: Array) -> tuple[Float32, Float32]:
        """Run all graphs, see :meth:`.base.DeviceEngine.judge`."""
        images, count = crops.shape[:2]
        views: dict[Role, Array] = {
            "global": overviews,
            "local": crops.reshape(images * count, *crops.shape[2:]),
        }
        features = {role: self._features(role, pixels) for role, pixels in views.items()}
        binding = self._sessions["aggregator"].io_binding()
        shapes: dict[Role, tuple[int, ...]] = {
            "global": (images, self._width),
            "local": (images, count, self._width),
        }
        for role, shape in shapes.items():
            address = features[role].data_ptr()
            self._bind_input(binding, f"{role}_features", np.float32, shape, address)
        logits = self._value("logits", (images, 2), np.float32)
        attention = self._value("attention", (images, count), np.float32)
        binding.bind_ortvalue_output("logits", logits)
        binding.bind_ortvalue_output("attention", attention)
        self._run("aggregator", binding)
        return logits.numpy().copy(), attention.numpy().copy()

    def _features(self, role: Role, pixels: Array) -> ort.OrtValue:
        """Run a backbone; return device memory that begins with its features, row by row."""
        rows = len(pixels)
        room = -(-rows // self._batch_size) * self._batch_size
        features = self._value(f"{role} features", (room, self._width), np.float32)
        for start in range(0, rows, self._batch_size):
            taken = pixels[start : start + self._batch_size]
            size = next(size for size in self._sizes if size >= len(taken))
            binding = self._sessions[role].io_binding()
            binding.bind_ortvalue_input("pixels", self._uploaded(role, taken, size))
            binding.bind_output(
                "features",
                self._device,
                0,
                np.float32,
                (size, self._width),
                features.data_ptr() + start * self._width * _FLOAT,
            )
            self._run(role, binding)
        return features

    def _uploaded(self, role: Role, pixels: Array, size: int) -> ort.OrtValue:
        """Copy rows to the device; what is missing to ``size`` is left from earlier batches."""
        host = self._hosts.get((role, size))
        if host is None:
            host = np.zeros((size, *pixels.shape[1:]), pixels.dtype)
            self._hosts[role, size] = host
        host[: len(pixels)] = pixels
        value = self._value(f"{role} pixels", host.shape, host.dtype)
        value.update_inplace(host)
        return value

    def _value(self, name: str, shape: Sequence[int], dtype: npt.DTypeLike) -> ort.OrtValue:
        import onnxruntime

        key = (name, tuple(shape))
        if key not in self._values:
            self._values[key] = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
                list(shape), dtype, self._device, 0
            )
        return self._values[key]

    def _bind_input(
        self,
        binding: ort.IOBinding,
        name: str,
        dtype: npt.DTypeLike,
        shape: Sequence[int],
        address: int,
    ) -> None:
        binding.bind_input(name, self._device, 0, dtype, list(shape), address)

    def _run(self, role: Role, binding: Any) -> None:
        try:
            self._sessions[role].run_with_iobinding(binding)
        except Exception as error:  # pybind's exceptions have no common base but Exception
            raise EngineError(f"ONNX Runtime failed in the {role} graph: {error}") from error
