"""User-facing options of the export. Needs no torch, so that wrong usage is refused at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..calibration.options import DEFAULT_JUDGEMENTS, CalibrationOptions
from ..runtime.bundle.manifest import Normalisation, Precision, WhichWeights
from ..runtime.machine.errors import InputError
from ..runtime.views.spec import LARGEST_CROP_SIZE, MOST_CROPS
from . import paper

AUTO = "auto"
USERS = "the user's"  # source of a normalisation


@dataclass(frozen=True)
class ExportOptions:
    """What to export and how.

    Attributes:
        backbone: ``auto`` or ``timm/NAME``.
        weights: which weights to take of a checkpoint that also holds an average of them over
            the training's steps; ``None`` takes the average (EMA) where there is one.
        reference: an ``.npz`` file of views and the logits that the user's own model gives for
            them; the graphs must give the same, see :func:`.own_model.read_own_logits`.
        precision: the type that the graphs compute in.
        crops: crops per image; ``None`` takes the paper's number for the family.
        crop_size: the side of the global view and of each crop in pixels; ``None`` takes the
            backbone's own.
        normalisation: that the network was trained with; ``None`` takes timm's configuration for
            a timm backbone, the paper's for any other.
        classes: class names in the order of the logits.
        fake_class: which of them means AI-generated.
        calibrate: a folder of images of the kind that will be judged. INT8 takes its ranges
            from them; every low precision is compared with FP32 on a part held out.
        calibration: how INT8 is made.
        judgements: the least number of judgements in that comparison.
        accept_loss: keep a low-precision bundle whose verdicts differ too much.
        force: replace an existing bundle.

    Raises:
        InputError: a value is out of bounds, or options contradict each other.
    """

    backbone: str = AUTO
    weights: WhichWeights | None = None
    reference: Path | None = None
    precision: Precision = "fp32"
    crops: int | None = None
    crop_size: int | None = None
    normalisation: Normalisation | None = None
    classes: tuple[str, str] = paper.CLASSES
    fake_class: str = "fake"
    calibrate: Path | None = None
    calibration: CalibrationOptions = field(default_factory=CalibrationOptions)
    judgements: int = DEFAULT_JUDGEMENTS
    accept_loss: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        _check_bounds("number of crops", self.crops, MOST_CROPS)
        _check_bounds("crop size", self.crop_size, LARGEST_CROP_SIZE)
        if self.normalisation is not None:
            _check_normalisation(self.normalisation)
        self._check_precision()
        self._check_classes()

    def _check_precision(self) -> None:
        if self.judgements < 1:
            raise InputError(f"judgements must be at least 1, not {self.judgements}.")
        if self.precision == "fp32" and self.calibrate is not None:
            raise InputError("FP32 needs no images: choose a lower precision, or do not calibrate.")
        if self.precision == "int8" and self.calibrate is None:
            raise InputError(
                "INT8 takes its ranges from images of the kind that will be judged: name their "
                "folder with --calibrate."
            )

    def _check_classes(self) -> None:
        if len(set(self.classes)) != 2 or not all(self.classes):
            raise InputError(f"two different class names are needed, not {','.join(self.classes)}.")
        if self.fake_class not in self.classes:
            raise InputError(
                f"the fake class {self.fake_class!r} is not among the classes "
                f"{','.join(self.classes)}."
            )


def _check_bounds(what: str, value: int | None, largest: int) -> None:
    if value is not None and not 1 <= value <= largest:
        raise InputError(f"the {what} must be at least 1 and at most {largest}, not {value}.")


def _check_normalisation(normalisation: Normalisation) -> None:
    """Refuse what cannot be meant for pixels in [0, 1], such as a mean of 123.675."""
    for mean, std in zip(normalisation.mean, normalisation.std, strict=True):
        if not (0.0 <= mean <= 1.0 and 0.0 < std <= 1.0):
            raise InputError(
                "mean and standard deviation are those of values between 0 and 1, and no deviation "
                f"is 0: divide by 255 what was meant for 0 to 255 (given: {normalisation})."
            )
