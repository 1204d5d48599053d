"""The values that INT8 can hold: whole steps around zero, or from zero up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ...runtime.engines.base import Float32

SIGNED_STEPS, UNSIGNED_STEPS = 127, 255


@dataclass(frozen=True)
class Grid:
    """The values that an activation is rounded to.

    Attributes:
        limit: the largest; everything above it is clipped. 0 if the activation is always 0.
        unsigned: from 0 to the limit in 255 steps, else from minus the limit in 254.
    """

    limit: float
    unsigned: bool

    @property
    def scale(self) -> np.float32:
        """The size of a step."""
        size: np.float32 = np.float32(self.limit / self.most_steps)
        return size

    @property
    def most_steps(self) -> int:
        """How many steps the limit is from zero."""
        return UNSIGNED_STEPS if self.unsigned else SIGNED_STEPS

    def steps(self, values: Float32) -> Float32:
        """Round to whole steps, as engines do: to the nearest, halves to even."""
        lowest, highest = 0 if self.unsigned else -self.most_steps, self.most_steps
        if not self.scale:
            return np.zeros_like(values)
        steps: Float32 = np.clip(np.rint(values / self.scale), lowest, highest)
        return steps


Grids: TypeAlias = Mapping[str, Grid]
"""The grid of each activation."""
