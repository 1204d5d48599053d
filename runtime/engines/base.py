"""What every engine is to the rest of the runtime."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from ..bundle.manifest import GraphEntry, Role
from ..machine.errors import EngineError
from ..machine.progress import Progress, silent

Array: TypeAlias = npt.NDArray[Any]
Float32: TypeAlias = npt.NDArray[np.float32]
X86 = ("x86_64", "AMD64")  # what platform.machine() calls it
Found: TypeAlias = tuple[str, str | None, list[int | None]]
"""A tensor as an engine sees it: name, element type, and sizes, ``None`` where open."""


@dataclass(frozen=True)
class EngineOptions:
    """How an engine shall run.

    Attributes:
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: bound of the CPU threads that one run takes; 0 leaves it to the engine.
        batch_size: the most rows that one call of :meth:`Engine.run` will give.
        images: how many images' views are given at once when all goes well: the rows of the
            global graph, while those of the local one are ``batch_size``. ``None`` if that is
            not known beforehand.
        folder: where built engines are kept; ``None`` is the user's cache.
        lanes: how many runs may go on at once, each from a thread of its own.
        keep: whether OpenVINO keeps compiled graphs for the next start. It finds them again by
            the bundle's path, so that those of a bundle about to move would only fill the cache.
        progress: is told how far the building of engines is.
    """

    device: str = "auto"
    threads: int = 0
    batch_size: int = 16
    images: int | None = None
    folder: Path | None = None
    lanes: int = 1
    keep: bool = True
    progress: Progress = silent


class Engine(Protocol):
    """Executes the three graphs of one bundle, in as many threads at once as it has lanes.

    Attributes:
        description: what records say, for example ``onnxruntime 1.24.0 cpu``.
        precision: the type that the engine really computes in.
    """

    description: str
    precision: str

    def run(self, role: Role, inputs: Sequence[Array]) -> list[Float32]:
        """Run one graph; inputs and outputs in the manifest's order.

        The first dimension is the batch: of any size up to what the engine was opened for, see
        :class:`EngineOptions`.

        Raises:
            EngineError: the engine failed, for example for lack of memory.
        """
        ...


@runtime_checkable
class DeviceEngine(Engine, Protocol):
    """An engine whose features stay on its device between the graphs.

    It is used by one thread at a time, which need not be the one that made it, and takes none of
    the host's CPUs to compute.
    """

    def judge(self, overviews: Array, crops: Array) -> tuple[Float32, Float32]:
        """Run all graphs on the views of any number of images.

        Args:
            overviews: global views, float32 ``(n, p, p, 3)``.
            crops: uint8 ``(n, crops, p, p, 3)``.

        Returns:
            Logits ``(n, 2)`` and attention ``(n, crops)``.

        Raises:
            EngineError: the engine failed, for example for lack of memory.
        """
        ...


def batch_sizes(largest: int) -> list[int]:
    """Return the few sizes that engines see: powers of two below ``largest``, and ``largest``."""
    powers = itertools.takewhile(lambda size: size < largest, (2**i for i in itertools.count()))
    return [*powers, largest]


def padded(rows: Array, size: int) -> Array:
    """Append rows of zeros up to ``size``."""
    if len(rows) == size:
        return rows
    padding = np.zeros((size - len(rows), *rows.shape[1:]), rows.dtype)
    return np.concatenate([rows, padding])


def check_tensors(
    role: Role, entry: GraphEntry, inputs: Sequence[Found], outputs: Sequence[Found]
) -> None:
    """Compare what a graph really takes and gives with what the manifest says.

    Raises:
        EngineError: they differ.
    """
    for expected, found in ((entry.inputs, inputs), (entry.outputs, outputs)):
        said = [(t.name, t.dtype, _open_dimensions(t.shape)) for t in expected]
        if said != list(found):
            raise EngineError(
                f"the {role} graph does not fit the manifest: it says {said}, the "
                f"graph has {list(found)}; export the bundle again."
            )


def _open_dimensions(shape: Sequence[int | str]) -> list[int | None]:
    return [size if isinstance(size, int) else None for size in shape]
