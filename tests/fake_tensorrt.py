"""A TensorRT and a CUDA whose GPU is ONNX Runtime on the CPU.

Streams are lazy: work is done only when the host waits for an event that needs it. So a copy that
nobody waited for has not happened, and a host buffer that was written to again too early shows.
The names and parameters of the TensorRT part are compared with its type stubs.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
from glass_edge.runtime.engines.tensorrt.plan import Built
from glass_edge.runtime.machine.cuda import CudaError

_SIZES = {np.dtype(np.uint8): ctypes.c_uint8, np.dtype(np.float32): ctypes.c_float}
MOST_CROPS = 64  # of an image that the plans take
_TYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}


class FakeCuda:
    """One GPU.

    ``graphs`` says whether it can capture them, or in which words it fails; ``strict`` whether it
    refuses threads that did not make it current, as CUDA does.
    """

    name = "Fake GPU"
    capability = (8, 7)
    latest: FakeCuda

    def __init__(
        self, *, graphs: bool | str = True, room: int = 1 << 30, strict: bool = False
    ) -> None:
        FakeCuda.latest = self
        self.graphs, self.room, self.strict = graphs, room, strict
        self.closed = False
        self._here = threading.local()
        self.allocations = self.captures = self.launches = 0
        self._memory: list[np.ndarray] = []
        self._streams: list[list[Callable[[], None]]] = [[]]
        self._done: list[int] = [0]
        self._events: list[tuple[int, int] | None] = [None]
        self._graphs: list[list[Callable[[], None]]] = [[]]
        self._capturing: list[Callable[[], None]] | None = None

    @contextmanager
    def current(self):
        self._here.inside = True
        try:
            yield
        finally:
            self._here.inside = False

    def check_thread(self) -> None:
        assert not self.strict or getattr(self._here, "inside", False), "invalid device context"

    def free_memory(self) -> int:
        self.check_thread()
        return self.room

    def allocate(self, size: int) -> int:
        self.check_thread()
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
        captured, self._capturing = self._capturing, None
        if isinstance(self.graphs, str):
            raise CudaError(self.graphs)
        self._graphs.append(captured)
        return len(self._graphs) - 1

    def launch(self, graph, stream) -> None:
        self.launches += 1
        for operation in self._graphs[graph]:
            self.enqueue(stream, operation)

    def close(self) -> None:
        self.closed = True
        self._memory.clear()

    def enqueue(self, stream: int, operation: Callable[[], None]) -> None:
        self.check_thread()
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

    def __init__(self, logger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine) -> ICudaEngine | None:
        path, _, most = bytes(serialized_engine).decode().partition("\n")
        return ICudaEngine(path, int(most), self._logger) if Path(path).is_file() else None


def build_plan(graph, key, target, timings, progress) -> Built:
    """Build as the compiler does: the plan names the graph and its largest batch."""
    target.write_text(f"{graph}\n{key.options.batches.most}")
    return Built(1.0, (), (), {"FLOAT": 1}, ())


def complain(logger: ILogger, words: str) -> None:
    """Write to a log as the library does when something fails."""
    logger.log(SimpleNamespace(name="ERROR"), words)


class ICudaEngine:
    device_memory_size_v2 = 4096

    def __init__(self, path: str, most: int, logger: ILogger) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.most, self.logger = most, logger

    def create_execution_context(self, strategy) -> IExecutionContext:
        if isinstance(strategy, IRuntimeConfig):
            assert strategy.cuda_graph_strategy is CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            strategy = strategy.strategy
        assert strategy is ExecutionContextAllocationStrategy.USER_MANAGED
        return IExecutionContext(self)

    def create_runtime_config(self) -> IRuntimeConfig:
        return IRuntimeConfig()


class IRuntimeConfig:
    cuda_graph_strategy: CudaGraphStrategy | None = None
    strategy: ExecutionContextAllocationStrategy | None = None

    def set_execution_context_allocation_strategy(self, strategy) -> None:
        self.strategy = strategy


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._has_memory = False

    def set_input_shape(self, name, shape) -> bool:
        self._shapes[name] = tuple(shape)
        crops = shape[1] if len(shape) == 3 else 1
        return shape[0] <= self._engine.most and crops <= MOST_CROPS

    def set_tensor_address(self, name, memory) -> bool:
        self._addresses[name] = memory
        return True

    def set_device_memory(self, memory, size) -> None:
        self._has_memory = size >= self._engine.device_memory_size_v2

    def execute_async_v3(self, stream_handle) -> bool:
        assert self._has_memory
        FakeCuda.latest.enqueue(stream_handle, self._compute)
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


class CudaGraphStrategy(Enum):
    """TensorRT-RTX alone has it."""

    WHOLE_GRAPH_CAPTURE = 1


def _at(address: int, shape: Sequence[int], dtype: type) -> np.ndarray:
    """Return host memory as an array."""
    kind = _SIZES[np.dtype(dtype)]
    pointer = ctypes.cast(address, ctypes.POINTER(kind))
    return np.ctypeslib.as_array(pointer, shape=tuple(shape))
