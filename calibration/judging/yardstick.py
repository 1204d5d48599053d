"""The yardstick of every approximation: the noise that a detector's own draws of crops have.

The same image judged with other crops gives another margin (logit of fake minus logit of real). An
approximation whose errors are small beside that cannot matter; docs/precision.md derives how small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ...runtime.bundle.comparison import NoiseUnit

Margins: TypeAlias = npt.NDArray[np.float64]
"""Logit of fake minus logit of real, ``(images, draws)``. From 0 on the verdict is fake."""

ERROR_GOOD, SHIFT_GOOD = 0.25, 0.1  # shares of the draw noise
ERROR_REFUSED = 0.5
Outcome: TypeAlias = Literal["good", "fair", "refused"]
"""What the gate makes of a bundle: it is written, written with a note, or refused."""
LEAST = 0.04
"""A smaller noise is counted as this: a quarter of it moves no P(fake) by more than 0.0025. A
network with random weights has less, and so may have one that is sure of everything."""
_ROUNDING = 1e-4
"""Margins that differ by less, or by less than this share of the largest, are equal: an engine's
sums depend on how many views it is given at once."""


@dataclass(frozen=True)
class DrawNoise:
    """How much the margins of the FP32 bundle vary by themselves.

    Attributes:
        size: root mean square over images of the standard deviation of the margin over draws.
            Where all draws of an image are alike, the standard deviation over images; 0 where
            these are alike, too. At least ``LEAST`` otherwise.
        unit: which of these it is.
        flips: the share of verdicts that differ between two draws of the same image.
    """

    size: float
    unit: NoiseUnit
    flips: float


@dataclass(frozen=True)
class Deviation:
    """How far a changed bundle's margins are from FP32's on the same crops.

    Attributes:
        error: root mean square change of the margin, as a share of the draw noise.
        shift: mean change of the margin, as a share of the draw noise.
        flips: the number of verdicts that differ.
        judgements: images times draws.
    """

    error: float
    shift: float
    flips: int
    judgements: int

    @property
    def good(self) -> bool:
        """Whether the change cannot matter beside the draws."""
        return outcome_of(self.error, self.shift) == "good"


def outcome_of(error: float, shift: float) -> Outcome:
    """Say what the gate makes of an error and a shift, as shares of the draw noise."""
    if not error <= ERROR_REFUSED:  # so that NaN is refused
        return "refused"
    return "good" if error <= ERROR_GOOD and abs(shift) <= SHIFT_GOOD else "fair"


def draw_noise(margins: Margins) -> DrawNoise:
    """Measure the draws of the FP32 bundle.

    Args:
        margins: one row for each image; a single draw has no noise.
    """
    images, draws = margins.shape
    rounding = _ROUNDING * max(1.0, float(np.abs(margins).max()))
    flips = 0.0
    if draws > 1:
        fake = (margins >= 0.0).mean(axis=1)
        flips = float((2 * fake * (1 - fake)).mean() * draws / (draws - 1))
        size = float(np.sqrt(margins.var(axis=1, ddof=1).mean()))
        if size > rounding:
            return _at_least(size, "draws", flips)
    spread = float(margins.mean(axis=1).std(ddof=1)) if images > 1 else 0.0
    if spread > rounding:
        return _at_least(spread, "images", flips)
    return DrawNoise(0.0, "images", flips)


def _at_least(size: float, unit: NoiseUnit, flips: float) -> DrawNoise:
    return DrawNoise(size, unit, flips) if size >= LEAST else DrawNoise(LEAST, "least", flips)


def deviation(reference: Margins, candidate: Margins, noise: DrawNoise) -> Deviation:
    """Compare the margins of the same images and draws; without any noise, nothing is good."""
    changes = candidate - reference
    with np.errstate(divide="ignore", invalid="ignore"):
        error = float(np.float64(np.sqrt(np.mean(changes**2))) / noise.size)
        shift = float(np.float64(changes.mean()) / noise.size)
    flips = int(np.count_nonzero((candidate >= 0.0) != (reference >= 0.0)))
    return Deviation(error, shift, flips, changes.size)
