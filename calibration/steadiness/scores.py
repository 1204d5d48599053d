"""Fits what a score is worth on labelled images: a temperature, and a threshold.

The temperature is that of Guo, Pleiss, Sun and Weinberger, *On Calibration of Modern Neural
Networks*, ICML 2017 (section 4.2): logits are divided by it before the softmax, which changes how
sure a verdict is, but not the order of images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from ...runtime.bundle.scores import DEFAULT_THRESHOLD
from ...runtime.bundle.stopping import logit
from ...runtime.machine.errors import InputError
from ..errors import CalibrationError
from .reliability import expected_calibration_error, reliability_bins

Vector: TypeAlias = npt.NDArray[np.float64]
Truth: TypeAlias = npt.NDArray[np.bool_]
"""Whether each image is fake."""
Criterion: TypeAlias = Literal["accuracy", "balanced", "fpr", "fnr"]
_WITH_SHARE = ("fpr", "fnr")
_RANGE: Final = (1e-2, 1e2)
"""Of temperatures."""
_THRESHOLDS: Final = (1e-6, 1.0 - 1e-6)
"""Beyond these no P(fake) in single precision tells images apart."""


@dataclass(frozen=True)
class Goal:
    """What a threshold is chosen for.

    Attributes:
        criterion: the largest ``accuracy``; the largest mean of the two classes' (``balanced``);
            or the fewest other errors with at most a share of real images called fake (``fpr``),
            or of fake ones called real (``fnr``).
        share: that share.
    """

    criterion: Criterion
    share: float | None = None

    def __str__(self) -> str:
        return self.criterion if self.share is None else f"{self.criterion}={self.share:g}"

    @classmethod
    def parse(cls, text: str) -> Goal:
        """Read a goal as users write it: ``accuracy``, ``balanced``, ``fpr=0.01``, ``fnr=0.01``.

        Raises:
            InputError: it is none of these.
        """
        name, equals, value = text.partition("=")
        for criterion in get_args(Criterion):
            if name == criterion and bool(equals) == (criterion in _WITH_SHARE):
                return cls(criterion, _share(text, value) if equals else None)
        raise InputError(
            f"a threshold can be chosen for accuracy, balanced, fpr=SHARE or fnr=SHARE, not "
            f"{text!r}.{_meant(name)}"
        )


def _meant(name: str) -> str:
    close = get_close_matches(name, get_args(Criterion), n=1)
    return "".join(
        f" Did you mean {each}{'=0.01' if each in _WITH_SHARE else ''}?" for each in close
    )


def _share(text: str, value: str) -> float:
    try:
        share = float(value)
    except ValueError:
        share = math.nan
    if not 0.0 < share < 1.0:
        raise InputError(f"the share in {text!r} must lie between 0 and 1, as in fpr=0.01.")
    return share


@dataclass(frozen=True)
class FittedScores:
    """A temperature and a threshold, and what they do to the images that they were fitted on.

    ``ece`` and ``log_loss`` are before and after. ``notes`` are what the user should know.
    """

    temperature: float
    threshold: float
    chosen_for: str
    ece: tuple[float, float]
    log_loss: tuple[float, float]
    notes: tuple[str, ...] = ()


def fit_scores(margins: Vector, truth: Truth, goal: Goal | None) -> FittedScores:
    """Fit a temperature, and choose a threshold if there is a goal; 0.5 stays otherwise.

    Args:
        margins: logit of fake minus that of real, ``(n,)``.
        truth: whether each image is fake, ``(n,)``; both classes must occur.
        goal: what the threshold is chosen for.

    Raises:
        CalibrationError: there are too few images of a class for the goal.
    """
    temperature, notes = 1.0, []
    if ((margins >= 0.0) == truth).all():
        notes.append(
            "every labelled image gets the right verdict, so that no temperature can be fitted: "
            "scores stay as they are."
        )
    else:
        temperature = fit_temperature(margins, truth)
    threshold = DEFAULT_THRESHOLD
    if goal is not None:
        border = choose_border(margins, truth, goal)
        threshold = float(np.clip(_sigmoid(border / temperature), *_THRESHOLDS))
    before = _quality(margins, truth, logit(DEFAULT_THRESHOLD))
    after = _quality(margins / temperature, truth, logit(threshold))
    return FittedScores(
        temperature,
        threshold,
        "0.5, which was not changed" if goal is None else str(goal),
        ece=(before[0], after[0]),
        log_loss=(before[1], after[1]),
        notes=tuple(notes),
    )


def fit_temperature(margins: Vector, truth: Truth) -> float:
    """Return the temperature with the least mean log loss."""
    from scipy.optimize import minimize_scalar

    bounds = tuple(map(math.log, _RANGE))
    found = minimize_scalar(
        lambda power: _log_loss(margins / math.exp(power), truth), bounds=bounds, method="bounded"
    )
    return float(math.exp(found.x))


def choose_border(margins: Vector, truth: Truth, goal: Goal) -> float:
    """Return the margin from which an image shall be called fake.

    It lies in the middle between the margins of two images.

    Raises:
        CalibrationError: there are too few images of a class for the goal.
    """
    from sklearn.metrics import roc_curve

    _check_share(truth, goal)
    false_alarms, found, borders = roc_curve(truth, margins, drop_intermediate=False)
    missed = 1.0 - found
    shares = {"fpr": (false_alarms, missed), "fnr": (missed, false_alarms)}
    if goal.share is not None:
        limited, cost = shares[goal.criterion]
        cost = np.where(limited <= goal.share, cost, np.inf)
    else:
        fake = truth.mean() if goal.criterion == "accuracy" else 0.5
        cost = fake * missed + (1.0 - fake) * false_alarms
    # Of equally good ones the one that changes least.
    finite = np.clip(borders, margins.min() - 1.0, margins.max() + 1.0)
    best = np.lexsort((np.abs(finite), cost))[0]
    below = margins[margins < finite[best]]
    return float((finite[best] + below.max()) / 2) if below.size else float(finite[best]) - 1.0


def _check_share(truth: Truth, goal: Goal) -> None:
    if goal.share is None:
        return
    what, chosen = ("not fake", ~truth) if goal.criterion == "fpr" else ("fake", truth)
    count, needed = int(chosen.sum()), math.ceil(1.0 / goal.share)
    if count < needed:
        raise CalibrationError(
            f"only {count} images are {what}, too few for a share of {goal.share:g}: at least "
            f"{needed} are needed for {goal}."
        )


def _quality(margins: Vector, truth: Truth, border: float) -> tuple[float, float]:
    """Return the expected calibration error and the log loss."""
    fake = _sigmoid(margins)
    called = margins >= border
    confidence = np.where(called, fake, 1.0 - fake)
    bins = reliability_bins(confidence, called == truth)
    return expected_calibration_error(bins), _log_loss(margins, truth)


def _log_loss(margins: Vector, truth: Truth) -> float:
    """Return the mean negative logarithm of the true class's probability."""
    from scipy.special import log_expit

    return float(-log_expit(np.where(truth, margins, -margins)).mean())


def _sigmoid(margins: Vector | float) -> Vector:
    from scipy.special import expit

    found: Vector = expit(margins)
    return found
