"""What the TensorRT engine needs of CUDA, and no more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import EngineError

Array: TypeAlias = npt.NDArray[Any]

NO_GPU = (
    "{why}: check that nvidia-smi (tegrastats on a Jetson) shows a GPU, and in a container that "
    "it was started with --gpus all or --runtime nvidia."
)

MEMORY_IS_FULL = (
    "the GPU's memory is full: use a smaller --batch-size, or close what else uses the GPU."
)


class CudaError(EngineError):
    """A call to CUDA failed."""


class Cuda(Protocol):
    """One GPU. Addresses, streams, events and graphs are the driver's own handles.

    Whatever is made here lives until :meth:`close`. All else is called within :meth:`current`.
    Work goes to streams of its own, never to a caller's.

    Attributes:
        name: the GPU's name.
        capability: its compute capability, for example ``(8, 7)``.
    """

    name: str
    capability: tuple[int, int]

    def current(self) -> AbstractContextManager[None]:
        """Make this the calling thread's GPU: CUDA keeps one for each thread.

        Raises:
            CudaError: the driver refuses, or a call within failed.
        """
        ...

    def free_memory(self) -> int:
        """Return the bytes of GPU memory that are free; on a Jetson the CPU shares them."""
        ...

    def allocate(self, size: int) -> int:
        """Return the address of new device memory.

        Raises:
            CudaError: there is not enough.
        """
        ...

    def pinned(self, shape: Sequence[int], dtype: npt.DTypeLike) -> Array:
        """Return a host array that the GPU can copy from and to without the CPU."""
        ...

    def stream(self) -> int:
        """Return a new stream that does not wait for the default one."""
        ...

    def event(self) -> int:
        """Return a new event, without timing."""
        ...

    def upload(self, address: int, source: Array, stream: int) -> None:
        """Begin to copy a pinned array to the device."""
        ...

    def download(self, target: Array, address: int, stream: int) -> None:
        """Begin to copy device memory into a pinned array."""
        ...

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        """Begin to copy within the device."""
        ...

    def record(self, event: int, stream: int) -> None:
        """Let an event happen when the stream has come this far."""
        ...

    def wait(self, stream: int, event: int) -> None:
        """Let a stream go on only when an event has happened; the host does not wait."""
        ...

    def synchronise(self, event: int) -> None:
        """Wait on the host until an event has happened; other Python threads run on."""
        ...

    def capture(self, stream: int, work: Callable[[], None]) -> int | None:
        """Return a graph of what ``work`` puts on the stream; ``None`` where there are none.

        Raises:
            CudaError: what it puts there cannot be captured; the stream can be used as before.
        """
        ...

    def launch(self, graph: int, stream: int) -> None:
        """Put a captured graph on a stream."""
        ...

    def close(self) -> None:
        """Free everything that was made here; any thread may call it."""
        ...


def describe(cuda: Cuda) -> str:
    """Name a GPU for keys and records: ``NVIDIA Orin (sm_87)``."""
    major, minor = cuda.capability
    return f"{cuda.name} (sm_{major}{minor})"


def size_of(shape: Sequence[int], dtype: npt.DTypeLike) -> int:
    """Return an array's bytes."""
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
