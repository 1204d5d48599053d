"""What ``glass-bench engines`` compares, each contestant in a process of its own.

No import of PyTorch at the top of this module, which every such process imports.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.manifest import Normalisation
from ...runtime.engines.base import EngineOptions, Float32
from ...runtime.engines.network import Network
from ..measuring.process import OwnProcess

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""Crops as the runtime holds them, ``(n, p, p, 3)``, RGB."""


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
        """The types in the bundle's manifest, ``None`` where there is no bundle."""
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

        from ...export.loading import load_model

        torch.set_num_threads(threads)
        model = load_model(self.checkpoint, self.backbone, crops.shape[1]).model.local_model
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
        """The types in the bundle's manifest."""
        return self.bundle.manifest.types

    @property
    def file_bytes(self) -> int:
        """The size of all files of the bundle."""
        return sum(path.stat().st_size for path in self.bundle.path.iterdir())

    def open(self, crops: Pixels, threads: int) -> Opened:
        """Load the graphs, see :meth:`Contestant.open`."""
        options = EngineOptions("cpu", threads, len(crops), images=1)
        network = Network(self.bundle, self.engine, options)
        name = f"{self.bundle.name}, {network.engine}"
        return Opened(name, network.precision, lambda: network.features("local", crops))


@dataclass(frozen=True)
class Introduction:
    """What a contestant says of itself when it is open, with its features of the crops."""

    name: str
    precision: str
    features: Float32


class Runner:
    """A contestant at work on its crops, in the process that it has for itself."""

    def __init__(self, contestant: Contestant, crops: Pixels, threads: int) -> None:
        self._opened = contestant.open(crops, threads)
        features = self._opened.features()
        self._introduction = Introduction(self._opened.name, self._opened.precision, features)

    def introduce(self) -> Introduction:
        """Say what it is, with its features of the crops."""
        return self._introduction

    def measure(self) -> float:
        """Return the seconds that the features take, once.

        A run that follows another is timed, as in production: the first finds the caches
        filled by other contestants and its own threads asleep.
        """
        self._opened.features()
        started = time.perf_counter()
        self._opened.features()
        return time.perf_counter() - started


class Worker(OwnProcess[Runner]):
    """A contestant in a process of its own.

    Attributes:
        contestant: who it is.
        introduction: what it says of itself.
    """

    def __init__(self, contestant: Contestant, crops: Pixels, threads: int) -> None:
        """Open the contestant.

        Raises:
            EngineError: it cannot be run as asked.
        """
        super().__init__(contestant.name, Runner, contestant, crops, threads)
        self.contestant = contestant
        self.introduction = self.ask(Runner.introduce)

    def measure(self) -> float:
        """Return the seconds that the features of the crops take, once.

        Raises:
            EngineError: the engine failed.
        """
        return self.ask(Runner.measure)


def _normalised(crops: Pixels, normalisation: Normalisation) -> Float32:
    scaled = (crops / 255 - normalisation.mean) / normalisation.std
    return np.ascontiguousarray(np.moveaxis(scaled, -1, 1), np.float32)
