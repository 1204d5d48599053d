"""What a user may choose for a bundle in a lower precision."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..runtime.bundle.manifest import Rest
from ..runtime.machine.errors import InputError
from .errors import CalibrationError
from .images import ImageSets

LowPrecision = Literal["fp16", "bf16", "int8"]

DEFAULT_IMAGES = 256  # of which the views take 0.9 MB each
DEFAULT_BUDGET = 0.75
DEFAULT_JUDGEMENTS = 100  # from which the error is known to 7 %


@dataclass(frozen=True)
class CalibrationOptions:
    """How ranges are measured and layers chosen.

    Attributes:
        images: the largest number of images to calibrate on.
        budget: the largest share of layers that may stay in floating point.
        keep: how many layers stay in floating point, whatever the error; ``None`` keeps as few as
            the error allows.
        rest: the type of everything that stays in floating point.

    Raises:
        InputError: a value is out of bounds.
    """

    images: int = DEFAULT_IMAGES
    budget: float = DEFAULT_BUDGET
    rest: Rest = "fp32"
    keep: int | None = None

    def __post_init__(self) -> None:
        if self.images < 1:
            raise InputError(
                f"the number of calibration images must be at least 1, not {self.images}."
            )
        if not 0.0 <= self.budget <= 1.0:
            raise InputError(f"the INT8 budget must lie between 0 and 1, not {self.budget}.")
        if self.keep is not None and self.keep < 0:
            raise InputError(f"the number of layers to keep must be at least 0, not {self.keep}.")


@dataclass(frozen=True)
class VariantOptions:
    """Which precision to make of FP32, and on which images to compare the two.

    Attributes:
        precision: the type that the graphs shall compute in.
        images: the user's. INT8 needs them; ``None`` takes the package's photographs for other
            types, which is enough to find what is broken.
        calibration: how INT8 is made.
        judgements: the least number of judgements by each bundle in the comparison.
        accept_loss: write the bundle even if its verdicts differ too much.

    Raises:
        CalibrationError: INT8 without images.
        InputError: a value is out of bounds.
    """

    precision: LowPrecision
    images: ImageSets | None
    calibration: CalibrationOptions = field(default_factory=CalibrationOptions)
    judgements: int = DEFAULT_JUDGEMENTS
    accept_loss: bool = False

    def __post_init__(self) -> None:
        check_judgements(self.judgements)
        if self.precision == "int8":
            self.images_for_ranges()

    def images_for_ranges(self) -> ImageSets:
        """Return the images that INT8 takes its ranges from.

        Raises:
            CalibrationError: there are none.
        """
        if self.images is None:
            raise CalibrationError(
                "INT8 takes its ranges from images of the kind that will be judged: name their "
                "folder with --calibrate."
            )
        return self.images


def check_judgements(judgements: int) -> None:
    """Refuse a number of judgements that compares nothing.

    Raises:
        InputError: it is below 1.
    """
    if judgements < 1:
        raise InputError(f"judgements must be at least 1, not {judgements}.")
