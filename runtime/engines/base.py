"""What every engine is to the rest of the runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ..manifest import Role

Array: TypeAlias = npt.NDArray[Any]
Float32: TypeAlias = npt.NDArray[np.float32]


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
