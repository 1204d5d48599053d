"""The report of ``glass-bench int8``: JSON and tables from one object."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ...calibration.judging.timed import Speed
from ...calibration.judging.yardstick import ERROR_GOOD, SHIFT_GOOD, outcome_of
from ...runtime.bundle.comparison import Comparison, NoiseUnit
from ...runtime.results.tables import markdown_table
from ..measuring.report import BenchReport
from ..measuring.samples import Refusal, counted, refusals_table
from .choices import Group

_UNITS: dict[NoiseUnit, str] = {
    "draws": "the standard deviation of the margin over draws of crops, root mean square over "
    "images",
    "images": "the standard deviation of the margin over images, because draws are alike",
    "least": "the least that counts, because the margin varies by less",
}
_HEADER = (
    *("maker", "times FP32's speed", "error", "shift", "good", "flips", "flips of two draws"),
    *("mean change of P", "largest change of P", "seconds", "products not in INT8"),
)


class Int8Result(msgspec.Struct, frozen=True):
    """What one maker's graphs are worth.

    ``how`` says how they were made, in ``seconds`` from the images' files to graphs of both
    backbones. Of their ``products`` (convolutions and matrix products), ``in_int8`` are in INT8.
    ``comparison`` is with FP32 on the same views; ``speed`` is that of one image's or a batch's
    views, in turns with all others.
    """

    name: str
    group: Group
    how: str
    seconds: float
    products: int
    in_int8: int
    comparison: Comparison
    speed: Speed

    @property
    def good(self) -> bool:
        """Whether the error and the shift are too small to matter."""
        noise = self.comparison.yardstick
        return noise is not None and outcome_of(noise.error, noise.shift) == "good"

    def cells(self) -> list[str]:
        """Return the row of a table."""
        found, noise = self.comparison, self.comparison.yardstick
        shares = ["-"] * 2 if noise is None else [f"{noise.error:.2f}", f"{noise.shift:+.2f}"]
        return [
            self.name,
            str(self.speed),
            *shares,
            "yes" if self.good else "no",
            f"{found.flips} of {found.judgements} ({found.flips / found.judgements:.1%})",
            "-" if noise is None else f"{noise.flips:.1%}",
            f"{found.mean_change:.4f}",
            f"{found.largest_change:.4f}",
            f"{self.seconds:.1f}",
            f"{self.products - self.in_int8} of {self.products}",
        ]


class Int8Report(BenchReport, frozen=True):
    """Everything that a run of the benchmark measured.

    ``calibrated_on`` is the number of images to calibrate on, ``data`` the SHA-256 over their
    hashes, ``judged_on`` the number of other images; ``notes`` are about the images.
    """

    bundle: str
    bundle_digest: str
    backbone: str
    calibrated_on: int
    data: str
    judged_on: int
    notes: tuple[str, ...]
    results: tuple[Int8Result, ...]
    refusals: tuple[Refusal, ...]

    def to_markdown(self) -> str:
        """Return the tables, first of makers, then of the ablation, and how they were made."""
        return self.page(
            "INT8 side by side",
            self._measured(),
            self.makers_table(),
            f"## Ablation\n\n{self.ablation_table()}" if self.ablation else "",
            refusals_table(self.refusals) if self.refusals else "",
            _explained(),
            f"## How they were made\n\n{_bullets(f'{x.name}: {x.how}.' for x in self.results)}",
            f"## Notes\n\n{_bullets(self.notes)}" if self.notes else "",
        )

    @property
    def ablation(self) -> list[Int8Result]:
        """Ours in parts."""
        return [each for each in self.results if each.group == "ablation"]

    def makers_table(self) -> str:
        """Return a row for each maker that users could take."""
        return _table(each for each in self.results if each.group != "ablation")

    def ablation_table(self) -> str:
        """Return a row for each part of ours."""
        return _table(self.ablation)

    def _measured(self) -> str:
        first = self.results[0].comparison
        said = (
            f"{self.bundle} ({self.backbone}) calibrated on "
            f"{counted(self.calibrated_on, 'image')} and judged on "
            f"{counted(self.judged_on, 'other')}, {first.judgements} judgements by each maker's "
            f"graphs ({first.engine}). "
        )
        if first.yardstick is None:
            return f"{said}Neither draws nor images differ, so that there is no yardstick."
        noise = first.yardstick
        return (
            f"{said}Draw noise {noise.noise:.3g}: {_UNITS[noise.unit]}. FP32's verdict differs "
            f"between two draws of an image in {noise.flips:.1%} of cases."
        )


def _table(results: Iterable[Int8Result]) -> str:
    return markdown_table(_HEADER, (each.cells() for each in results))


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _explained() -> str:
    return (
        "All judge the same crops of the same images in turns with FP32, in one process. Error "
        "and shift are the root mean square and the mean change of the margin (logit of fake minus "
        f"real), in draw noise; good is an error of at most {ERROR_GOOD} and a shift of at most "
        f"{SHIFT_GOOD}. Flips are verdicts unlike FP32's on the same crops, beside those between "
        "two draws. Speeds are medians (quartiles) of rounds in which all judge the same batch in "
        "turns. Seconds are from image files to graphs of both backbones, loading libraries "
        "left out. Products are convolutions and matrix products of both backbones."
    )
