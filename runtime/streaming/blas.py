"""NumPy's BLAS in one thread, where workers share out the CPUs already."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController


class _OneThread:
    """Holds NumPy's BLAS to one thread while anybody is in a block of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards what follows
        self._inside = 0
        self._keeper = _Keeper()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if not self._inside:
                self._keeper = _Keeper()
                self._keeper.begin()
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._keeper.end()


class _Keeper:
    """Sets the limit and takes it back: OpenBLAS lets only one thread do both."""

    def __init__(self) -> None:
        self._limited, self._done = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep, name="glass-blas", daemon=True)

    def begin(self) -> None:
        self._thread.start()
        self._limited.wait()

    def end(self) -> None:
        self._done.set()
        self._thread.join()

    def _keep(self) -> None:
        try:
            with _controller().limit(limits=1, user_api="blas"):
                self._limited.set()
                self._done.wait()
        finally:
            self._limited.set()


@cache
def _controller() -> ThreadpoolController:
    """Look up once what libraries are loaded; that takes a few milliseconds."""
    return ThreadpoolController()


one_blas_thread = _OneThread()
"""Returns a block in which NumPy's BLAS has one thread, also in all others of this process.

By default a matrix product takes all CPUs, and OpenBLAS' threads wait for each other by spinning,
which takes the CPUs from the workers.
"""
