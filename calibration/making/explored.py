"""The report of ``glass-quantize --explore``: one object that makes JSON, Markdown and a plot."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ...runtime.bundle.comparison import NoiseUnit
from ...runtime.machine.environment import Environment
from ...runtime.results.tables import markdown_table
from ..judging.gate import NOISES
from ..judging.timed import Speed
from ..judging.yardstick import ERROR_GOOD, ERROR_REFUSED, SHIFT_GOOD, Outcome, outcome_of
from ..options import LowPrecision

SCHEMA_VERSION = 1
_HEADER = (
    *("what", "error", "shift", "outcome", "verdicts unlike FP32's", "mean change of P(fake)"),
    *("speed", "MB", "computed in"),
)
_LEGEND = f"""\
- error: root mean square change of the margin on the same crops, as a share of the noise
- shift: its mean, positive towards fake
- outcome: good if the error is at most {ERROR_GOOD} and the shift at most {SHIFT_GOOD} either way,
  which cannot matter; refused if the error is above {ERROR_REFUSED}; fair otherwise
- speed: times FP32's, median and quartiles of rounds in which all take turns
- kept: left in floating point; first the layers that give most error for their work, which
  `glass-quantize --layers` names
- default: what `--precision int8` makes with the same images and options"""


class Choice(msgspec.Struct, frozen=True):
    """A precision that can be chosen, beside FP32 on the same crops.

    ``kept`` is the number of layers that INT8 leaves in floating point, ``None`` in other
    precisions; ``default`` marks what ``--precision int8`` would make. ``error`` and ``shift`` are
    the root mean square and mean change of the margin, as shares of the draw noise. ``flips`` are
    verdicts that differ; changes are of P(fake). ``size`` is the bundle's, in bytes. ``engine`` is
    what was timed, and ``computed`` the type in which it computes; ``simulated`` says whether the
    verdicts are a simulation's, because that is not the type of the choice.
    """

    precision: LowPrecision
    kept: int | None
    default: bool
    error: float
    shift: float
    flips: int
    mean_change: float
    largest_change: float
    speed: Speed
    size: int
    engine: str
    computed: str
    simulated: bool

    @property
    def label(self) -> str:
        """What people call it."""
        return label_of(self.precision, self.kept)

    @property
    def outcome(self) -> Outcome:
        """What the gate would make of it."""
        return outcome_of(self.error, self.shift)


class Exploration(msgspec.Struct, frozen=True):
    """What lower precisions of a bundle buy: error against speed.

    ``images`` is the number of images to calibrate on, and ``data`` the SHA-256 over their hashes.
    ``judgements`` are those on ``compared_images`` others, by each choice. ``noise`` is the
    margin's, of which errors are shares, ``unit`` what noise that is, and ``draw_flips`` the share
    of FP32's verdicts that differ between two draws of an image. ``layers`` is the number of layers
    that INT8 can compute; ``size`` is FP32's, in bytes.
    """

    schema: int
    command: str
    environment: Environment
    bundle: str
    bundle_digest: str
    size: int
    images: int
    data: str
    compared_images: int
    judgements: int
    noise: float
    unit: NoiseUnit
    draw_flips: float
    layers: int
    notes: tuple[str, ...]
    choices: tuple[Choice, ...]

    def to_json(self) -> bytes:
        """Return the whole report."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"

    def to_markdown(self) -> str:
        """Return what each choice costs and gives, how it was measured, and notes."""
        parts = [
            "# What lower precisions buy",
            f"`{self.command}`",
            self.environment.to_markdown(),
            f"{self.summary()} SHA-256 of the bundle {self.bundle_digest}, of the images to "
            f"calibrate on {self.data}.",
            self.table(),
            self.legend(),
        ]
        if self.notes:
            parts += ["## Notes", "\n".join(f"- {note}" for note in self.notes)]
        return "\n\n".join(parts) + "\n"

    def to_png(self) -> bytes:
        """Return a PNG plot of error against speed; needs matplotlib."""
        from .picture import draw  # which imports matplotlib

        return draw(self)

    def summary(self) -> str:
        """Return which bundle, on how many images, and what errors are shares of."""
        draws = self.judgements // self.compared_images
        return (
            f"{self.bundle}: {self.layers} layers that INT8 can compute, calibrated on "
            f"{self.images} images. {self.compared_images} others were judged with {draws} draws "
            f"of each. Errors are shares of {NOISES[self.unit]}, {self.noise:.3g} in the margin; "
            f"{self.draw_flips:.1%} of FP32's verdicts differ between two draws of an image."
        )

    def table(self) -> str:
        """Return a Markdown table with a row for FP32 and for each choice."""
        full = ("FP32", "0", "0", "", "", "", "1", f"{self.size / 1e6:.1f}", "fp32")
        return markdown_table(_HEADER, [full, *map(self._row, self.choices)])

    def legend(self) -> str:
        """Return what the table's words mean."""
        return _LEGEND

    def _row(self, choice: Choice) -> Sequence[str]:
        return (
            f"{choice.label} ← default" if choice.default else choice.label,
            f"{choice.error:.3f}",
            f"{choice.shift:+.3f}",
            choice.outcome,
            f"{choice.flips} of {self.judgements}",
            f"{choice.mean_change:.4f}",
            str(choice.speed),
            f"{choice.size / 1e6:.1f}",
            choice.computed,
        )


def label_of(precision: LowPrecision, kept: int | None) -> str:
    """Return what people call a choice."""
    if kept is None:
        return precision.upper()
    return f"{precision.upper()}, {kept or 'no'} layer{'' if kept == 1 else 's'} kept"
