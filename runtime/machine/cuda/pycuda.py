"""CUDA by PyCUDA, which is common on Jetson."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pycuda.driver as driver

from .base import MEMORY_IS_FULL, NO_GPU, Array, CudaError


class PyCuda:
    """The context of PyCUDA's that is current where it is made, or the first GPU's primary one.

    PyCUDA has no CUDA graphs, so :meth:`capture` gives none. It keeps a stack of contexts for each
    thread and ends the process if one is left there: what :meth:`current` pushes it pops.
    """

    def __init__(self) -> None:
        try:
            driver.init()
            self._context = (
                driver.Context.get_current() or driver.Device(0).retain_primary_context()
            )
            with self.current():
                device = driver.Context.get_device()
                self.name: str = device.name()
                self.capability: tuple[int, int] = device.compute_capability()
        except (driver.Error, CudaError) as error:
            raise CudaError(NO_GPU.format(why=f"CUDA finds no GPU ({error})")) from None
        self._kept: dict[int, Any] = {}
        self._pinned: list[Any] = []

    @contextmanager
    def current(self) -> Iterator[None]:
        try:
            self._context.push()
            try:
                yield
            finally:
                driver.Context.pop()
        except driver.MemoryError:
            raise CudaError(MEMORY_IS_FULL) from None
        except driver.Error as error:
            raise CudaError(f"PyCUDA: {error}") from error

    def free_memory(self) -> int:
        free, _ = driver.mem_get_info()
        return int(free)

    def allocate(self, size: int) -> int:
        memory = driver.mem_alloc(max(size, 1))
        return self._keep(int(memory), memory)

    def pinned(self, shape: Sequence[int], dtype: npt.DTypeLike) -> Array:
        array: Array = driver.pagelocked_empty(tuple(shape), np.dtype(dtype))
        self._pinned.append(array.base)
        return array

    def stream(self) -> int:
        stream = driver.Stream(1)  # CU_STREAM_NON_BLOCKING
        return self._keep(stream.handle, stream)

    def event(self) -> int:
        event = driver.Event(driver.event_flags.DISABLE_TIMING)
        return self._keep(id(event), event)

    def upload(self, address: int, source: Array, stream: int) -> None:
        driver.memcpy_htod_async(address, source, self._kept[stream])

    def download(self, target: Array, address: int, stream: int) -> None:
        driver.memcpy_dtoh_async(target, address, self._kept[stream])

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        driver.memcpy_dtod_async(target, source, size, self._kept[stream])

    def record(self, event: int, stream: int) -> None:
        self._kept[event].record(self._kept[stream])

    def wait(self, stream: int, event: int) -> None:
        self._kept[stream].wait_for_event(self._kept[event])

    def synchronise(self, event: int) -> None:
        self._kept[event].synchronize()

    def capture(self, stream: int, work: Callable[[], None]) -> int | None:
        return None

    def launch(self, graph: int, stream: int) -> None:
        raise CudaError("PyCUDA has no CUDA graphs.")

    def close(self) -> None:
        with self.current():
            self._kept.clear()
            while self._pinned:
                self._pinned.pop().free()

    def _keep(self, handle: int, thing: Any) -> int:
        self._kept[handle] = thing
        return handle
