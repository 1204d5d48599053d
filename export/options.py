"""User-facing options of the export. Needs no torch, so that wrong usage is refused at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..calibration.options import VariantOptions
from ..runtime.bundle.manifest import Normalisation, WhichWeights
from ..runtime.machine.errors import InputError
from ..runtime.views.sizes import LARGEST_SIDE, MOST_VIEWS

AUTO = "auto"
FAKE = "fake"
GLASS = "glass"  # the family
USERS = "the user's"  # source of a normalisation


@dataclass(frozen=True)
class ExportOptions:
    """What to export and how.

    Attributes:
        family: which kind of detector the checkpoint holds; ``None`` tells it from the keys.
        preset: by which of the family's ways views are made; ``None`` takes its first.
        backbone: ``auto``, ``timm/NAME`` or ``torchvision/NAME``.
        backbone_weights: a second file, for a detector whose checkpoint holds only its head.
        weights: which weights to take of a checkpoint that also holds an average of them over
            the training's steps; ``None`` takes the average (EMA) where there is one.
        reference: an ``.npz`` file of views and the logits that the user's own model gives for
            them; the graphs must give the same, see :func:`.own_model.read_own_logits`.
        crops: crops per image; ``None`` takes the paper's number for the family.
        crop_size: the side of the global view and of each crop in pixels; ``None`` takes the
            backbone's own.
        normalisation: that the network was trained with; ``None`` takes timm's configuration for
            a timm backbone, the paper's for any other.
        classes: class names in the order of the logits; ``None`` takes the detector's.
        fake_class: which of them means AI-generated; ``None`` takes the detector's, or with
            ``classes`` the one of this name.
        variant: the lower precision to make of the FP32 bundle, which is then not kept; ``None``
            keeps FP32.
        force: replace an existing bundle.

    Raises:
        InputError: a value is out of bounds, or options contradict each other.
    """

    family: str | None = None
    preset: str | None = None
    backbone: str = AUTO
    backbone_weights: Path | None = None
    weights: WhichWeights | None = None
    reference: Path | None = None
    crops: int | None = None
    crop_size: int | None = None
    normalisation: Normalisation | None = None
    classes: tuple[str, str] | None = None
    fake_class: str | None = None
    variant: VariantOptions | None = None
    force: bool = False

    def __post_init__(self) -> None:
        _check_bounds("number of crops", self.crops, MOST_VIEWS)
        _check_bounds("crop size", self.crop_size, LARGEST_SIDE)
        if self.normalisation is not None:
            _check_normalisation(self.normalisation)
        self._check_classes()

    def _check_classes(self) -> None:
        if self.classes is None:
            return
        if len(set(self.classes)) != 2 or not all(self.classes):
            raise InputError(f"two different class names are needed, not {','.join(self.classes)}.")
        check_fake_class(self.fake_class or FAKE, self.classes)


def check_fake_class(fake: str, classes: tuple[str, str]) -> None:
    """Refuse a fake class that is none of the classes.

    Raises:
        InputError: it is none of them.
    """
    if fake not in classes:
        raise InputError(f"the fake class {fake!r} is not among the classes {','.join(classes)}.")


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
