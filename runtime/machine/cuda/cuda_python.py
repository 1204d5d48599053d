"""CUDA by NVIDIA's own bindings (``cuda-python``)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from cuda.bindings import runtime

from ..errors import EngineError
from .base import MEMORY_IS_FULL, NO_GPU, Array, CudaError, size_of

_H2D = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
_D2H = runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
_D2D = runtime.cudaMemcpyKind.cudaMemcpyDeviceToDevice
_NON_BLOCKING = 1  # cudaStreamNonBlocking
_NO_TIMING = 2  # cudaEventDisableTiming
_CAPTURE = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal


class CudaPython:
    """The device current where it is made, in the primary context that PyTorch uses, too."""

    def __init__(self) -> None:
        try:
            device = _done(runtime.cudaGetDevice())
            found = _done(runtime.cudaGetDeviceProperties(device))
        except CudaError as error:
            raise CudaError(NO_GPU.format(why=f"CUDA finds no GPU ({error})")) from None
        self.name: str = found.name.split(b"\0")[0].decode()
        self.capability: tuple[int, int] = (found.major, found.minor)
        self._device = device
        self._release: list[Callable[[], Any]] = []

    @contextmanager
    def current(self) -> Iterator[None]:
        """Leave the device current: to set the one before would open a context there."""
        _done(runtime.cudaSetDevice(self._device))
        yield

    def free_memory(self) -> int:
        free, _ = _done(runtime.cudaMemGetInfo())
        return int(free)

    def allocate(self, size: int) -> int:
        address: int = _done(runtime.cudaMalloc(max(size, 1)))
        self._release.append(lambda: runtime.cudaFree(address))
        return int(address)

    def pinned(self, shape: Sequence[int], dtype: npt.DTypeLike) -> Array:
        size = max(size_of(shape, dtype), 1)
        address: int = _done(runtime.cudaMallocHost(size))
        self._release.append(lambda: runtime.cudaFreeHost(address))
        memory = memoryview((ctypes.c_uint8 * size).from_address(int(address)))
        array: Array = np.frombuffer(memory, dtype, count=int(np.prod(shape)))
        return array.reshape(shape)

    def stream(self) -> int:
        stream = _done(runtime.cudaStreamCreateWithFlags(_NON_BLOCKING))
        self._release.append(lambda: runtime.cudaStreamDestroy(stream))
        return int(stream)

    def event(self) -> int:
        event = _done(runtime.cudaEventCreateWithFlags(_NO_TIMING))
        self._release.append(lambda: runtime.cudaEventDestroy(event))
        return int(event)

    def upload(self, address: int, source: Array, stream: int) -> None:
        _done(runtime.cudaMemcpyAsync(address, source.ctypes.data, source.nbytes, _H2D, stream))

    def download(self, target: Array, address: int, stream: int) -> None:
        _done(runtime.cudaMemcpyAsync(target.ctypes.data, address, target.nbytes, _D2H, stream))

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        _done(runtime.cudaMemcpyAsync(target, source, size, _D2D, stream))

    def record(self, event: int, stream: int) -> None:
        _done(runtime.cudaEventRecord(event, stream))

    def wait(self, stream: int, event: int) -> None:
        _done(runtime.cudaStreamWaitEvent(stream, event, 0))

    def synchronise(self, event: int) -> None:
        _done(runtime.cudaEventSynchronize(event))

    def capture(self, stream: int, work: Callable[[], None]) -> int | None:
        _done(runtime.cudaStreamBeginCapture(stream, _CAPTURE))
        try:
            try:
                work()
            finally:
                captured = runtime.cudaStreamEndCapture(stream)
            graph = _done(captured)
            executable = _done(runtime.cudaGraphInstantiate(graph, 0))
        except EngineError:
            runtime.cudaGetLastError()  # forget it, or who asks next believes it to be theirs
            raise
        _done(runtime.cudaGraphDestroy(graph))
        self._release.append(lambda: runtime.cudaGraphExecDestroy(executable))
        return int(executable)

    def launch(self, graph: int, stream: int) -> None:
        _done(runtime.cudaGraphLaunch(graph, stream))

    def close(self) -> None:
        while self._release:
            self._release.pop()()


def _done(answer: tuple[Any, ...]) -> Any:
    """Return what a call gave besides its status.

    Raises:
        CudaError: the status is an error.
    """
    status, *values = answer
    if status != runtime.cudaError_t.cudaSuccess:
        _, name = runtime.cudaGetErrorName(status)
        _, words = runtime.cudaGetErrorString(status)
        raise CudaError(_sentence(name.decode(), words.decode()))
    return values[0] if len(values) == 1 else tuple(values)


def _sentence(name: str, words: str) -> str:
    if name == "cudaErrorMemoryAllocation":
        return MEMORY_IS_FULL
    return f"{name}: {words}"
