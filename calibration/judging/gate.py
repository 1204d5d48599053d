"""The gate: which loss of accuracy is refused, and which is said."""

from __future__ import annotations

from collections.abc import Mapping

from ...runtime.bundle.comparison import Comparison, NoiseUnit
from ..errors import AccuracyError
from .yardstick import ERROR_GOOD, ERROR_REFUSED, SHIFT_GOOD, outcome_of

NOISES: Mapping[NoiseUnit, str] = {
    "draws": "the draws' noise",
    "images": "the margin's spread over images",
    "least": "the least noise that counts",
}
"""Of what errors are shares."""


def check_comparison(comparison: Comparison) -> None:
    """Refuse an error that is no longer small beside what the choice of crops changes anyway.

    Raises:
        AccuracyError: the error is over half of the noise, or there is no noise to compare with.
    """
    found = comparison.yardstick
    if found is None:
        raise AccuracyError(
            "the loss of accuracy cannot be judged: the images to compare on give the same "
            "verdict, whatever crops are drawn. Nothing was written; give more images, and larger "
            "ones, or --accept-loss."
        )
    if outcome_of(found.error, found.shift) == "refused":
        share = comparison.flips / comparison.judgements
        draws = f", and {found.flips:.1%} differ between two draws of an image"
        raise AccuracyError(
            f"the verdicts differ too much from FP32's: the margin's error is {found.error:.2f} "
            f"of {NOISES[found.unit]} ({ERROR_REFUSED} allowed) and its shift {found.shift:.2f}; "
            f"{comparison.flips} of {comparison.judgements} flip ({share:.1%})"
            f"{draws if found.unit == 'draws' else ''}. Nothing was written; --accept-loss writes "
            "the bundle anyway."
        )


def loss_note(comparison: Comparison) -> str | None:
    """Say what to do about an error or a shift that may matter; ``None`` if neither can."""
    found = comparison.yardstick
    if found is None or outcome_of(found.error, found.shift) == "good":
        return None
    what, size, limit = "error", found.error, ERROR_GOOD
    if size <= limit:
        what, size, limit = "shift", abs(found.shift), SHIFT_GOOD
    keeping = "keep more layers with --int8-keep or " if comparison.precision == "int8" else ""
    return (
        f"{comparison.precision.upper()}'s {what} is {size:.2f} of {NOISES[found.unit]}, above "
        f"the {limit} that cannot matter: {keeping}give more images"
    )
