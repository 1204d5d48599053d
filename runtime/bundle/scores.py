"""What a bundle makes of its logits: P(fake), and the verdict that follows."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from .fields import Positive, Sha256, Strict, Text
from .stopping import Open

DEFAULT_THRESHOLD: Final = 0.5


class ScoreCalibration(Strict, frozen=True):
    """How scores were calibrated on labelled images.

    P(fake) is the softmax of the logits divided by ``temperature``. From ``threshold`` on an image
    is called fake; ``chosen_for`` says what it was chosen for. ``ece`` and ``log_loss`` are the
    expected calibration error and the mean negative logarithm of the true class's probability,
    before and after. They were measured on the same ``images`` images that the temperature was
    fitted on; ``data`` is the SHA-256 over these images' hashes.
    """

    temperature: Annotated[float, msgspec.Meta(ge=1e-2, le=1e2)]
    threshold: Open
    chosen_for: Text
    images: Positive
    data: Sha256
    ece: tuple[float, float]
    log_loss: tuple[float, float]
