"""Crops spent against verdicts unlike the settled ones: for fixed numbers, and for rules."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from .rule import SCALES, SIZE_POWER, Spent, spend, taus_of, unlike
from .sequences import Margins, Sequences


class Point(msgspec.Struct, frozen=True):
    """What some way to spend crops comes to.

    Attributes:
        crops: how many an image takes on average.
        unlike: the share of verdicts that are unlike the settled ones.
        flips: the share of images whose verdict differs between two sequences of crops; ``None``
            where each image has one.
    """

    crops: float
    unlike: float
    flips: float | None


def fixed_points(sequences: Sequences, border: float) -> dict[int, Point]:
    """Return what each step comes to as a fixed number of crops.

    These are the first crops of the sequence. Where an image has fewer cells than that, a run with
    a fixed number draws freely instead.

    Args:
        sequences: the margins.
        border: the margin from which an image is fake.
    """
    return {
        step: _point(sequences.after(step), np.minimum(step, sequences.places), sequences, border)
        for step in sequences.steps
    }


def rule_point(spent: Spent, sequences: Sequences, border: float) -> Point:
    """Return what a rule comes to that was applied to these sequences."""
    return _point(spent.margins, spent.crops, sequences, border)


def rule_curve(
    sequences: Sequences, steps: Sequence[int], border: float, size_power: float = SIZE_POWER
) -> tuple[Point, ...]:
    """Return what rules of every scale come to, the most careful first."""
    spent = (
        spend(sequences, steps, taus_of(float(scale), steps), border, size_power)
        for scale in SCALES
    )
    return tuple(dict.fromkeys(rule_point(each, sequences, border) for each in spent))


def _point(
    margins: Margins, crops: npt.NDArray[np.int64], sequences: Sequences, border: float
) -> Point:
    fake = margins >= border
    flips = float((fake[:, 0] != fake[:, 1]).mean()) if fake.shape[1] > 1 else None
    return Point(float(crops.mean()), float(unlike(margins, sequences, border).mean()), flips)
