"""How INT8 is made, as users say it."""

from __future__ import annotations

from dataclasses import dataclass

from ..runtime.bundle.manifest import Rest
from ..runtime.machine.errors import InputError
from .histogram import Method

DEFAULT_IMAGES = 512
DEFAULT_BUDGET = 0.75
DEFAULT_JUDGEMENTS = 200  # one flip is half a per cent of them, the most that is allowed


@dataclass(frozen=True)
class CalibrationOptions:
    """How ranges are taken and layers chosen.

    Attributes:
        images: how many images to calibrate on at most.
        method: how ranges are cut; ``None`` tries each and takes the one that moves the
            logits least.
        budget: the largest share of layers that may stay in floating point.
        rest: the type of all that does.
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
