"""What ``glass-bench engines`` compares, each contestant in a process of its own.

A process of its own keeps what one leaves in the allocator from the others, and bundles run
as they are served, without PyTorch's libraries beside them. Hence no import of PyTorch at
the top of this module, which every such process imports.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ..runtime.bundle import Bundle
from ..runtime.engines.base import EngineOptions, Float32
from ..runtime.errors import EngineError, GlassError
from ..runtime.manifest import Normalisation
from ..runtime.network import Network

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""Crops as the runtime holds them, ``(n, p, p, 3)``, RGB."""
_GLANCE = 0.02  # seconds
_RESTING = 0.1  # share of one CPU below which threads are at rest
_PATIENCE = 100  # glances


@dataclass(frozen=True)
class Opened:
    """A contestant ready to run: its full name, its type, and the call that is timed."""

    name: str
    precision: str
    features: Callable[[], Float32]


class Contestant(Protocol):
    """A way to compute the local backbone's features, pickled on its way to a process."""

    @property
    def name(self) -> str:
        """What it is called before it is open."""
        ...

    @property
    def bundle_precision(self) -> str | None:
        """The precision in the bundle's manifest, ``None`` where there is no bundle."""
        ...

    @property
    def file_bytes(self) -> int:
        """The size of the checkpoint or bundle."""
        ...

    def open(self, crops: Pixels, threads: int) -> Opened:
        """Load the backbone and lay the crops ready.

        Raises:
            EngineError: it cannot be run as asked.
        """
        ...


@dataclass(frozen=True)
class PyTorchContestant:
    """The checkpoint's backbone in eager PyTorch, with ``bf16`` under autocast.

    It gets normalised float tensors made outside the timing.
    """

    checkpoint: Path
    backbone: str
    normalisation: Normalisation
    bf16: bool
    bundle_precision: None = None

    @property
    def name(self) -> str:
        """PyTorch and its type."""
        return "PyTorch BF16 autocast" if self.bf16 else "PyTorch FP32"

    @property
    def file_bytes(self) -> int:
        """The size of the checkpoint."""
        return self.checkpoint.stat().st_size

    def open(self, crops: Pixels, threads: int) -> Opened:
        """Load the checkpoint, see :meth:`Contestant.open`."""
        import torch

        from ..export.loading import load_model

        torch.set_num_threads(threads)
        model = load_model(self.checkpoint, self.backbone).model.local_model
        tensors = torch.from_numpy(_normalised(crops, self.normalisation))

        @torch.inference_mode()
        def features() -> Float32:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16):
                found: Float32 = model(tensors).float().numpy()
            return found

        return Opened(self.name, "bf16" if self.bf16 else "fp32", features)


@dataclass(frozen=True)
class BundleContestant:
    """A bundle on an engine. It gets uint8 pixels, as in production."""

    bundle: Bundle
    engine: str

    @property
    def name(self) -> str:
        """The bundle's and the engine's name."""
        return f"{self.bundle.name}, {self.engine}"

    @property
    def bundle_precision(self) -> str:
        """The precision in the bundle's manifest."""
        return self.bundle.manifest.precision

    @property
    def file_bytes(self) -> int:
        """The size of all files of the bundle."""
        return sum(path.stat().st_size for path in self.bundle.path.iterdir())

    def open(self, crops: Pixels, threads: int) -> Opened:
        """Load the graphs, see :meth:`Contestant.open`."""
        options = EngineOptions("cpu", threads, len(crops))
        network = Network(self.bundle, self.engine, options)
        name = f"{self.bundle.name}, {network.engine}"
        return Opened(name, network.precision, lambda: network.features("local", crops))


@dataclass(frozen=True)
class Introduction:
    """What a contestant says of itself when it is open, with its features of the crops."""

    name: str
    precision: str
    features: Float32


class Worker:
    """A contestant in a process of its own, which runs when asked and rests otherwise.

    Attributes:
        contestant: who it is.
        introduction: the contestant's answer to being opened.
    """

    def __init__(self, contestant: Contestant, crops: Pixels, threads: int) -> None:
        """Open the contestant.

        Raises:
            EngineError: it cannot be run as asked.
        """
        self.contestant = contestant
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        arguments = (theirs, contestant, crops, threads)
        self._process = spawn.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()  # so that the end of the process ends the pipe
        self.introduction: Introduction = self._ask()

    def measure(self) -> float:
        """Return the seconds that the features of the crops take, once.

        Raises:
            EngineError: the engine failed.
        """
        seconds: float = self._ask()
        return seconds

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.join()

    def _ask(self) -> Any:
        """Let the process go on, and return what it answers."""
        try:
            self._pipe.send(None)
            answer = self._pipe.recv()
        except (EOFError, OSError):
            raise EngineError(
                f"the process of {self.contestant.name} ended without an answer: is memory short?"
            ) from None
        if isinstance(answer, GlassError):
            raise answer
        return answer


def _serve(pipe: Connection, contestant: Contestant, crops: Pixels, threads: int) -> None:
    """Answer first with the contestant's introduction, and then with seconds, when asked."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends this
    answer: Introduction | float
    pipe.recv()
    try:
        opened = contestant.open(crops, threads)
        answer = Introduction(opened.name, opened.precision, opened.features())
        while True:
            _rest()
            pipe.send(answer)
            pipe.recv()
            answer = _seconds(opened.features)
    except GlassError as error:
        pipe.send(error)


def _seconds(features: Callable[[], Float32]) -> float:
    """Time a run that follows another, as in production.

    The first finds the caches filled by other contestants and its own threads asleep.
    """
    features()
    started = time.perf_counter()
    features()
    return time.perf_counter() - started


def _rest() -> None:
    """Wait until the engine's threads sleep.

    Thread pools spin for a while after a run, in case the next one follows at once. They
    would take the CPUs from the contestant whose turn comes.
    """
    for _ in range(_PATIENCE):
        used = time.process_time()
        time.sleep(_GLANCE)
        if time.process_time() - used < _RESTING * _GLANCE:
            return
    raise EngineError(
        "idle threads never sleep and would slow the other contestants down: unset "
        "OMP_WAIT_POLICY, GOMP_SPINCOUNT and KMP_BLOCKTIME."
    )


def _normalised(crops: Pixels, normalisation: Normalisation) -> Float32:
    scaled = (crops / 255 - normalisation.mean) / normalisation.std
    return np.ascontiguousarray(np.moveaxis(scaled, -1, 1), np.float32)
