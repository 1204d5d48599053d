"""What every engine is to the rest of the runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import EngineError
from ..manifest import GraphEntry, Role

Array: TypeAlias = npt.NDArray[Any]
Float32: TypeAlias = npt.NDArray[np.float32]
X86 = ("x86_64", "AMD64")  # what platform.machine() calls it
Found: TypeAlias = tuple[str, str | None, list[int | None]]
"""A tensor as an engine sees it: name, element type, and sizes, ``None`` where open."""


@dataclass(frozen=True)
class EngineOptions:
    """How an engine shall run.

    ``device`` is ``auto``, ``cpu`` or ``cuda``; ``threads`` bounds the engine's own
    threads on a CPU, 0 leaving the number to the engine.
    """

    device: str = "auto"
    threads: int = 0


class Engine(Protocol):
    """Executes the three graphs of one bundle.

    Attributes:
        description: what records say, for example ``onnxruntime 1.24.0 cpu``.
        precision: the type that the engine really computes in.
    """

    description: str
    precision: str

    def run(self, role: Role, inputs: Sequence[Array]) -> list[Float32]:
        """Run one graph; inputs and outputs in the manifest's order.

        The first dimension is the batch; any size of it is valid.

        Raises:
            EngineError: the engine failed, for example for lack of memory.
        """
        ...


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
