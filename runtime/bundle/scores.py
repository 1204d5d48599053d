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

    @property
    def evidence(self) -> str:
        """What was fitted and what it changed, as people read it."""
        (ece, new_ece), (loss, new_loss) = self.ece, self.log_loss
        return (
            f"temperature {self.temperature:.3f}; expected calibration error {ece:.4f} before, "
            f"{new_ece:.4f} after; log loss {loss:.4f} before, {new_loss:.4f} after; threshold "
            f"{self.threshold:.4f} for {self.chosen_for}. All of it on the same {self.images} "
            "images that it was fitted on"
        )
