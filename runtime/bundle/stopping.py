"""The stopping rule of a bundle: after how many crops an image's verdict is settled.

``glass-calibrate`` chooses it on the user's images; docs/steadiness.md says how, and what it
guarantees.
"""

from __future__ import annotations

import math
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt

from ..views.sizes import Count
from .fields import Positive, Sha256, Strict

Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Open = Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)]
"""A share that is neither 0 nor 1."""
Tau = Annotated[float, msgspec.Meta(ge=0.0, le=1e6)]

_LARGEST_AREA = 64.0  # crops; larger images count as this large


class Stopping(Strict, frozen=True):
    """After how many crops of its sequence an image is settled, and how sure that is.

    After each of ``steps`` crops an image is settled if its margin, the logit of fake minus that of
    real, is at least the step's tau away from ``threshold``; after the last step no more are looked
    at in any case. Crops of a large image differ more, so that its taus are larger, see
    :meth:`tau`.

    ``bound`` is the upper end of a confidence interval, at the level ``confidence``, for the share
    of images whose verdict is unlike the settled one, which is that of ``settled_crops`` crops; it
    lies below ``risk``, which the user chose. It was found on ``images`` images, of which
    ``unlike`` were so and which took ``mean_crops`` crops on average. ``data`` is the SHA-256 over
    the images' hashes.
    """

    steps: Annotated[tuple[Count, ...], msgspec.Meta(min_length=1, max_length=32)]
    taus: Annotated[tuple[Tau, ...], msgspec.Meta(min_length=1, max_length=32)]
    size_power: Share
    threshold: Open
    risk: Open
    confidence: Open
    bound: Share
    settled_crops: Count
    images: Positive
    unlike: Annotated[int, msgspec.Meta(ge=0)]
    mean_crops: Annotated[float, msgspec.Meta(ge=1.0)]
    data: Sha256

    @property
    def most_crops(self) -> int:
        """The most crops that an image is judged by."""
        return self.steps[-1]

    @property
    def evidence(self) -> str:
        """What the images have shown, as people read it."""
        return (
            f"{self.unlike} of {self.images} verdicts differ from those with {self.settled_crops} "
            f"crops; among all such images at most {self.bound:.2%} do, with {self.confidence:.0%} "
            f"confidence ({self.risk:.2%} allowed)"
        )

    def tau(self, step: int, area: float) -> float:
        """Return how far from the threshold a margin must be after so many crops.

        ``area`` is the image's, in areas of a crop. It counts up to 64.
        """
        return self.taus[self.steps.index(step)] * float(size_factor(area, self.size_power))

    def step_after(self, step: int) -> int:
        """Return the next step; there must be one."""
        return self.steps[self.steps.index(step) + 1]

    @property
    def fault(self) -> str | None:
        """Say what contradicts itself here, if anything."""
        if len(self.steps) != len(self.taus):
            return f"{len(self.steps)} steps and {len(self.taus)} taus"
        if list(self.steps) != sorted(set(self.steps)):
            return f"steps that do not rise: {list(self.steps)}"
        if self.settled_crops < self.most_crops:
            return f"{self.most_crops} crops, and {self.settled_crops} for the settled verdict"
        if self.unlike > self.images:
            return f"{self.unlike} different verdicts of {self.images} images"
        return None


def size_factor(areas: npt.ArrayLike, power: float) -> npt.NDArray[np.float64]:
    """Return by what images' sizes multiply taus; ``areas`` are in areas of a crop, any shape."""
    factors: npt.NDArray[np.float64] = np.clip(areas, 1.0, _LARGEST_AREA) ** power
    return factors


def logit(share: float) -> float:
    """Return the margin at which P(fake) is ``share``."""
    return math.log(share) - math.log1p(-share)
