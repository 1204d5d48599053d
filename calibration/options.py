"""User-facing INT8 options."""

from __future__ import annotations

from dataclasses import dataclass

from ..runtime.bundle.manifest import Rest
from ..runtime.machine.errors import InputError
from .int8.histogram import Method

DEFAULT_IMAGES = 512
DEFAULT_BUDGET = 0.75
DEFAULT_JUDGEMENTS = 200  # of which one flip is half a per cent, the most that is allowed


@dataclass(frozen=True)
class CalibrationOptions:
    """How ranges are measured and layers chosen.

    Attributes:
        images: the largest number of images to calibrate on.
        method: how ranges are clipped; ``None`` tries each and takes the one that moves the
            logits least.
        budget: the largest share of layers that may stay in floating point.
        rest: the type of everything that stays in floating point.

    Raises:
        InputError: a value is out of bounds.
    """

    images: int = DEFAULT_IMAGES
    method: Method | None = None
    budget: float = DEFAULT_BUDGET
    rest: Rest = "fp32"

    def __post_init__(self) -> None:
        if self.images < 1:
            raise InputError(
                f"the number of calibration images must be at least 1, not {self.images}."
            )
        if not 0.0 <= self.budget <= 1.0:
            raise InputError(f"the INT8 budget must lie between 0 and 1, not {self.budget}.")
