"""A TensorRT and a CUDA whose GPU is ONNX Runtime on the CPU.

Streams are lazy: work is done only when the host waits for an event that needs it. So a copy that
nobody waited for has not happened, and a host buffer that was written to again too early shows.
The names and parameters of the TensorRT part are compared with its type stubs.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path

import numpy as np
import onnxruntime

_SIZES = {np.dtype(np.uint8): ctypes.c_uint8, np.dtype(np.float32): ctypes.c_float}
_TYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}


class FakeCuda:
    """One GPU; ``graphs`` says whether it can capture them."""

    name = "Fake GPU"
    capability = (8, 7)
    current: FakeCuda

    def __init__(self, *, graphs: bool = True, room: int = 1 << 30) -> None:
        FakeCuda.current = self
        self.graphs, self.room = graphs, room
        self.allocations = self.captures = self.launches = 0
        self._memory: list[np.ndarray] = []
        self._streams: list[list[Callable[[], None]]] = [[]]
        self._done: list[int] = [0]
        self._events: list[tuple[int, int] | None] = [None]
        self._graphs: list[list[Callable[[], None]]] = [[]]
        self._capturing: list[Callable[[], None]] | None = None

    def free_memory(self) -> int:
        return self.room

    def allocate(self, size: int) -> int:
        self.allocations += 1
        self._memory.append(np.full(size, 0x7F, np.uint8))
        return self._memory[-1].ctypes.data

    def pinned(self, shape, dtype):
        self.allocations += 1
        return np.empty(shape, dtype)

    def stream(self) -> int:
        self._streams.append([])
        self._done.append(0)
        return len(self._streams) - 1

    def event(self) -> int:
        self._events.append(None)
        return len(self._events) - 1

    def upload(self, address, source, stream) -> None:
        self.copy(address, source.ctypes.data, source.nbytes, stream)

    def download(self, target, address, stream) -> None:
        self.copy(target.ctypes.data, address, target.nbytes, stream)

    def copy(self, target, source, size, stream) -> None:
        self.enqueue(stream, lambda: ctypes.memmove(target, source, size))

    def record(self, event, stream) -> None:
        self._events[event] = (stream, len(self._streams[stream]))

    def wait(self, stream, event) -> None:
        reached = self._events[event]
        if reached is not None:
            self.enqueue(stream, lambda: self._advance(*reached))

    def synchronise(self, event) -> None:
        if self._events[event] is not None:
            self._advance(*self._events[event])

    def capture(self, stream, work) -> int | None:
        if not self.graphs:
            return None
        self.captures += 1
        self._capturing = []
        work()
        self._graphs.append(self._capturing)
        self._capturing = None
        return len(self._graphs) - 1

    def launch(self, graph, stream) -> None:
        self.launches += 1
        for operation in self._graphs[graph]:
            self.enqueue(stream, operation)

    def close(self) -> None:
        self._memory.clear()

    def enqueue(self, stream: int, operation: Callable[[], None]) -> None:
        queue = self._streams[stream] if self._capturing is None else self._capturing
        queue.append(operation)

    def _advance(self, stream: int, length: int) -> None:
        while self._done[stream] < length:
            self._done[stream] += 1
            self._streams[stream][self._done[stream] - 1]()


class ILogger:
    def __init__(self) -> None: ...


class Runtime:
    """Its plans are paths of ONNX files, and the largest batch."""

    engine_host_code_allowed = False

    def __init__(self, logger) -> None: ...

    def deserialize_cuda_engine(self, serialized_engine) -> ICudaEngine | None:
        path, _, most = bytes(serialized_engine).decode().partition("\n")
        return ICudaEngine(path, int(most)) if Path(path).is_file() else None


class ICudaEngine:
    device_memory_size_v2 = 4096

    def __init__(self, path: str, most: int) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.most = most

    def create_execution_context(self, strategy) -> IExecutionContext:
        assert strategy is ExecutionContextAllocationStrategy.USER_MANAGED
        return IExecutionContext(self)


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._has_memory = False

    def set_input_shape(self, name, shape) -> bool:
        self._shapes[name] = tuple(shape)
        return shape[0] <= self._engine.most

    def set_tensor_address(self, name, memory) -> bool:
        self._addresses[name] = memory
        return True

    def set_device_memory(self, memory, size) -> None:
        self._has_memory = size >= self._engine.device_memory_size_v2

    def execute_async_v3(self, stream_handle) -> bool:
        assert self._has_memory
        FakeCuda.current.enqueue(stream_handle, self._compute)
        return True

    def _compute(self) -> None:
        session = self._engine.session
        inputs = {
            tensor.name: _at(
                self._addresses[tensor.name], self._shapes[tensor.name], _TYPES[tensor.type]
            )
            for tensor in session.get_inputs()
        }
        outputs = session.run(None, inputs)
        for tensor, values in zip(session.get_outputs(), outputs, strict=True):
            _at(self._addresses[tensor.name], values.shape, np.float32)[:] = values


class ExecutionContextAllocationStrategy(Enum):
    USER_MANAGED = 2


def _at(address: int, shape: Sequence[int], dtype: type) -> np.ndarray:
    """Return host memory as an array."""
    kind = _SIZES[np.dtype(dtype)]
    pointer = ctypes.cast(address, ctypes.POINTER(kind))
    return np.ctypeslib.as_array(pointer, shape=tuple(shape))
