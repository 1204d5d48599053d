"""What the manifest says of a lower precision: how far its verdicts are from FP32's."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import msgspec

from .fields import Positive, Strict

NoiseUnit = Literal["draws", "images", "least"]


class Yardstick(Strict, frozen=True):
    """A bundle's margins (logit of fake minus logit of real) beside the noise of FP32's own.

    ``noise`` is the root mean square over images of the standard deviation of FP32's margin over
    draws of crops (``unit`` draws). Where all draws of an image are alike, it is the standard
    deviation over images (``unit`` images). A noise too small to matter is counted as 0.04
    (``unit`` least). ``flips`` is the share of FP32's verdicts that differ
    between two draws of the same image. ``error`` is the root mean square change of the margin on
    the same crops, and ``shift`` its mean, which is positive towards fake; both as shares of
    ``noise``.
    """

    noise: Annotated[float, msgspec.Meta(gt=0)]
    unit: NoiseUnit
    flips: Annotated[float, msgspec.Meta(ge=0, le=1)]
    error: Annotated[float, msgspec.Meta(ge=0)]
    shift: float

    @property
    def added(self) -> float:
        """By which share of itself a verdict's noise grows: 0.03 for an error of 0.25."""
        return math.hypot(1.0, self.error) - 1.0

    def sentence(self, precision: str) -> str:
        """Say it as people read it; ``precision`` names what was changed."""
        name, shift = precision.upper(), f"its shift {abs(self.shift):.2f}"
        if self.unit != "draws":
            spread = "the margin's spread over images"
            noise = spread if self.unit == "images" else f"a noise of {self.noise:g} in the margin"
            return f"{name}'s error is {self.error:.2f} of {noise}, {shift}"
        return (
            f"{name} adds {100 * self.added:.1f} % to the noise that the choice of crops has "
            f"anyway: its error is {self.error:.2f} of it, {shift}"
        )


class Comparison(Strict, frozen=True):
    """How a bundle's verdicts differ from those of its FP32 graphs on the same views.

    ``judgements`` are images times draws of crops, none of the images used in calibration;
    ``flips`` are verdicts that changed; changes are absolute differences of P(fake); ``speed`` is
    how many times faster than the FP32 graphs it ran. ``engine`` and ``precision`` say what
    computed the bundle's side. ``moved`` is the share of views that lay elsewhere than FP32's,
    where one stream chooses the places of another's views. ``yardstick`` is ``None`` in bundles
    older than it is, and where neither draws nor images differ.
    """

    engine: str
    precision: str
    images: Positive
    judgements: Positive
    flips: Annotated[int, msgspec.Meta(ge=0)]
    mean_change: float
    largest_change: float
    speed: float
    yardstick: Yardstick | None = None
    moved: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
