"""Chooses a stopping rule, with a guarantee that rests on nothing but the number of images.

Rules differ in one number, the scale: an image of the area of ``a`` crops is settled after ``k`` of
them if its margin is at least ``scale * k**-0.75 * a**0.25`` from the threshold. The margin's
deviation from the settled one shrinks rather faster than the ``k**-0.5`` of independent draws,
because no place comes twice, and is larger where there is more to see. Both powers were found on
three networks; they decide how much a rule saves, and never what is guaranteed.

The guarantee is that of Learn then Test (Angelopoulos, Bates, Candès, Jordan and Lei, *Learn then
Test: Calibrating Predictive Algorithms to Achieve Risk Control*, arXiv 2110.01052, section 4.1):
rules are tested in an order that does not depend on the images, the most careful first, each by
the exact binomial test that more images than the risk allows are unlike the settled verdict. The
last rule before the first test that fails is chosen; as the order is fixed, trying many rules
costs nothing. An image counts once, however many draws it has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...runtime.bundle.stopping import size_factor
from ..errors import CalibrationError
from .sequences import Margins, Sequences

CONFIDENCE = 0.95
COUNT_POWER, SIZE_POWER = -0.75, 0.25
SCALES = 2.0 ** np.arange(9, -7, -0.125)
"""From rules that settle little before the last step to ones that settle most at the first."""


@dataclass(frozen=True)
class Spent:
    """What images came to by a rule.

    Attributes:
        margins: at which each was settled, or ended; ``(images, sequences)``.
        crops: how many were looked at, ``(images, sequences)``.
        settled: whether these were enough, ``(images, sequences)``.
    """

    margins: Margins
    crops: npt.NDArray[np.int64]
    settled: npt.NDArray[np.bool_]


def spend(
    sequences: Sequences,
    steps: Sequence[int],
    taus: Sequence[float],
    border: float,
    size_power: float = SIZE_POWER,
) -> Spent:
    """Apply a rule to images whose margins are known, as ``glass-run`` would.

    Args:
        sequences: the margins.
        steps: the rule's numbers of crops, all of them steps of ``sequences``.
        taus: how far from ``border`` a margin must be after each.
        border: the margin from which an image is fake.
        size_power: by which power of an image's area taus grow.
    """
    margins = np.full(sequences.places.shape, np.nan)
    crops = np.zeros(sequences.places.shape, np.int64)
    settled = np.zeros(sequences.places.shape, bool)
    factors = size_factor(sequences.areas, size_power)[:, np.newaxis]
    for step, tau in zip(steps, taus, strict=True):
        now = sequences.after(step)
        exhausted = (sequences.places <= step) & (sequences.places < steps[-1])
        enough = exhausted | (np.abs(now - border) >= tau * factors)
        ends = (crops == 0) & (enough | (step == steps[-1]))
        margins[ends] = now[ends]
        crops[ends] = np.minimum(step, sequences.places)[ends]
        settled[ends] = enough[ends]
    return Spent(margins, crops, settled)


def unlike(margins: Margins, sequences: Sequences, border: float) -> npt.NDArray[np.bool_]:
    """Whether verdicts differ from the settled ones, ``(images, sequences)``."""
    differs: npt.NDArray[np.bool_] = (margins >= border) != (sequences.settled >= border)
    return differs


@dataclass(frozen=True)
class Choice:
    """A rule, and what it was chosen by.

    Attributes:
        steps: after how many crops an image may be settled.
        taus: how far from the threshold its margin must be then.
        images: how many it was chosen on.
        unlike: how many of their verdicts are unlike the settled ones.
        bound: the upper confidence bound for the share of such images.
        spent: what it makes of them.
    """

    steps: tuple[int, ...]
    taus: tuple[float, ...]
    images: int
    unlike: int
    bound: float
    spent: Spent


def choose_rule(
    sequences: Sequences, steps: Sequence[int], risk: float, border: float = 0.0
) -> Choice:
    """Choose the cheapest rule of which it is shown that it keeps the risk.

    Args:
        sequences: one for each image; no two images may show the same.
        steps: the numbers of crops after which an image may be settled.
        risk: the largest share of images whose verdict may be unlike the settled one.
        border: the margin from which an image is fake.

    Raises:
        CalibrationError: there are too few images, or too many change their verdict with the crops
            even if none is settled before the last step.
    """
    images, draws = sequences.places.shape
    if draws != 1:
        raise ValueError(f"images count once: one sequence of crops each is needed, not {draws}")
    check_enough(images, risk)
    chosen = None
    for scale in SCALES:
        tried = _try(sequences, steps, taus_of(float(scale), steps), border)
        if tried.bound > risk:
            break
        chosen = tried
    if chosen is None:
        raise _hopeless(tried, risk)
    return chosen


def taus_of(scale: float, steps: Sequence[int]) -> tuple[float, ...]:
    """Return how far from the threshold the margin of a small image must be after each step."""
    return tuple(scale * step**COUNT_POWER for step in steps)


def _try(
    sequences: Sequences, steps: Sequence[int], taus: tuple[float, ...], border: float
) -> Choice:
    spent = spend(sequences, steps, taus, border)
    images, wrong = len(sequences.places), int(unlike(spent.margins, sequences, border).sum())
    return Choice(tuple(steps), taus, images, wrong, upper_bound(wrong, images), spent)


def upper_bound(count: int, images: int) -> float:
    """Return the upper bound for a share of which ``count`` of ``images`` were seen.

    It is that of Clopper and Pearson (*Biometrika* 26, 1934), one-sided.
    """
    from scipy.special import betaincinv

    return float(betaincinv(count + 1, images - count, CONFIDENCE)) if count < images else 1.0


def images_needed(risk: float) -> int:
    """Return how many images show that a risk is kept, if no verdict of theirs is unlike."""
    return math.ceil(math.log1p(-CONFIDENCE) / math.log1p(-risk))


def check_enough(images: int, risk: float) -> None:
    """Refuse too few images.

    Raises:
        CalibrationError: not even a rule without an error could be shown to keep the risk.
    """
    needed = images_needed(risk)
    if images < needed:
        raise CalibrationError(
            f"{images} different images cannot show that a risk of {risk:g} is kept: at least "
            f"{needed} are needed, and more if some verdicts are unlike the settled ones. Give "
            f"more images, or a larger --risk ({_provable(images):.2g} can be shown with these)."
        )


def _provable(images: int) -> float:
    """Return the least risk that so many images can show, if there are any."""
    return upper_bound(0, images) if images else 1.0


def _hopeless(careful: Choice, risk: float) -> CalibrationError:
    return CalibrationError(
        f"even with {careful.steps[-1]} crops each, {careful.unlike} of {careful.images} verdicts "
        f"are unlike the settled ones, so a risk of {risk:g} cannot be shown: give "
        f"more images, or a larger --risk ({careful.bound:.2g} can be shown with these), or more "
        "--most-crops."
    )
