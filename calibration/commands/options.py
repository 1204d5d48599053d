"""Options for a lower precision, which ``glass-export`` and ``glass-quantize`` share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, get_args

import click
from click.core import ParameterSource

from ...runtime.bundle.manifest import Rest
from ...runtime.commands.inputs import PassedOver, settle_decoders
from ...runtime.commands.options import Folder, list_skipped_option
from ...runtime.machine.errors import InputError
from ...runtime.machine.progress import Progress
from ..images import ImageSets, split_images
from ..options import (
    DEFAULT_BUDGET,
    DEFAULT_IMAGES,
    DEFAULT_JUDGEMENTS,
    CalibrationOptions,
    LowPrecision,
    VariantOptions,
)

if TYPE_CHECKING:
    _Choice = click.Choice[str]
else:
    _Choice = click.Choice  # generic from Click 8.2 on only

_Function = TypeVar("_Function", bound=Callable[..., Any])
LOWER: tuple[LowPrecision, ...] = get_args(LowPrecision)
_MEANT_FOR: Mapping[str, Sequence[LowPrecision]] = {
    "calibrate": LOWER,
    "list_skipped": LOWER,
    "calibration_images": LOWER,
    "int8_budget": ("int8",),
    "int8_keep": ("int8",),
    "int8_rest": ("int8",),
    "judgements": LOWER,
    "accept_loss": LOWER,
}
ReportName: TypeAlias = Literal["layers", "explore"]
_MEANT_FOR_REPORT: Mapping[ReportName, Sequence[str]] = {
    "layers": ("calibrate", "list_skipped", "calibration_images", "int8_rest"),
    "explore": tuple(name for name in _MEANT_FOR if name not in ("accept_loss", "int8_keep")),
}


@dataclass(frozen=True)
class Lowering:
    """What the user chose of the options for a lower precision."""

    calibrate: Path | None
    list_skipped: bool
    calibration_images: int
    int8_budget: float
    int8_keep: int | None
    int8_rest: Rest
    judgements: int
    accept_loss: bool

    def calibration(self) -> CalibrationOptions:
        """Return how INT8 is made.

        Raises:
            InputError: a value is out of bounds.
        """
        return CalibrationOptions(
            self.calibration_images, self.int8_budget, self.int8_rest, self.int8_keep
        )

    def variant(self, precision: LowPrecision, progress: Progress) -> VariantOptions:
        """Return what :func:`..making.quantize.quantize_bundle` takes.

        Raises:
            CalibrationError: there are too few images, or INT8 has none.
            ImageError: a file cannot be read.
            InputError: a value is out of bounds, or there is no such folder.
        """
        calibration = self.calibration()
        images = None if self.calibrate is None else self.images_in(self.calibrate, progress)
        return VariantOptions(precision, images, calibration, self.judgements, self.accept_loss)

    def images_in(self, folder: Path, progress: Progress) -> ImageSets:
        """Search the folder of images; image libraries print nothing from then on.

        Raises:
            CalibrationError: there are too few.
            ImageError: a file cannot be read.
            InputError: there is no such folder.
        """
        settle_decoders()
        skip = PassedOver(listed=self.list_skipped)
        return split_images(folder, self.calibration_images, skip, progress)


def _no_method(context: click.Context, option: click.Parameter, name: str | None) -> None:
    if name is not None:
        raise click.UsageError(
            "--calibration-method is gone: ranges are always clipped where the squared error is "
            "least. Leave it out.",
            context,
        )


_OPTIONS = (
    click.option(
        "--calibrate",
        metavar="DIR",
        type=Folder(),
        help="A folder of images of the kind that will be judged. int8 needs it: ranges, weights "
        "and the layers to keep come from them. fp16 and bf16 use it if it is given. A fifth is "
        "held out for the comparison.",
    ),
    list_skipped_option,
    click.option(
        "--calibration-images",
        type=int,
        default=DEFAULT_IMAGES,
        show_default=True,
        help="The largest number of images to calibrate on.",
    ),
    click.option(
        "--calibration-method",
        hidden=True,
        expose_value=False,
        callback=_no_method,
    ),
    click.option(
        "--int8-budget",
        type=float,
        default=DEFAULT_BUDGET,
        show_default=True,
        metavar="SHARE",
        help="The largest share of layers that int8 may leave in floating point, those "
        "with the most error for their work first, if verdicts would change too much otherwise.",
    ),
    click.option(
        "--int8-keep",
        type=int,
        metavar="N",
        help="Leave exactly so many layers in floating point, those with the most error for their "
        "work first; --explore shows what that buys. Default: as few as the error allows.",
    ),
    click.option(
        "--int8-rest",
        type=click.Choice(get_args(Rest)),
        default="fp32",
        show_default=True,
        help="The type of what int8 leaves in floating point. fp16 is meant for GPUs and makes "
        "smaller bundles. On x86, OpenVINO computes it in FP32 and INT8 layers in INT8; ONNX "
        "Runtime computes everything in FP32.",
    ),
    click.option(
        "--judgements",
        type=int,
        default=DEFAULT_JUDGEMENTS,
        show_default=True,
        help="Judge at least so often with each precision in the comparison; a judgement is one "
        "image with one draw of its crops.",
    ),
    click.option(
        "--accept-loss", is_flag=True, help="Keep the bundle even if its verdicts change too much."
    ),
)


def lowering_options(function: _Function) -> Callable[..., Any]:
    """Add the options for a lower precision; the function takes them as one :class:`Lowering`."""

    @wraps(function)
    def gathered(*arguments: Any, **given: Any) -> Any:
        chosen = {field.name: given.pop(field.name) for field in fields(Lowering)}
        return function(*arguments, **given, lowering=Lowering(**chosen))

    decorated: Callable[..., Any] = gathered
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


class PrecisionChoice(_Choice):
    """The name of a precision in any case; for one like it, that is proposed."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names, case_sensitive=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            self.fail(f"{error.message}{self._hint(str(value).lower())}", param, ctx)

    def _hint(self, name: str) -> str:
        if name == "fp32":
            return " The bundle to start from is in fp32."
        close = get_close_matches(name, list(self.choices), n=1)
        return f" Did you mean {close[0]}?" if close else ""


def check_meant(ctx: click.Context, precision: str) -> None:
    """Refuse options that this precision would ignore, and two that say different things.

    Raises:
        InputError: the user gave such options.
    """
    for name, precisions in _MEANT_FOR.items():
        if precision not in precisions and _given(ctx, name):
            raise InputError(
                f"{_option(name)} means nothing with --precision {precision}: leave it out, or "
                f"choose {' or '.join(precisions)}."
            )
    if _given(ctx, "int8_keep") and _given(ctx, "int8_budget"):
        raise InputError(
            "--int8-keep says how many layers are kept, and --int8-budget how many may be: give "
            "one of the two."
        )


def check_meant_for_report(ctx: click.Context, kind: ReportName) -> None:
    """Refuse options for a bundle that this report would ignore.

    Raises:
        InputError: the user gave one.
    """
    for name in _MEANT_FOR:
        if name not in _MEANT_FOR_REPORT[kind] and _given(ctx, name):
            raise InputError(f"{_option(name)} means nothing with --{kind}: leave it out.")


def _given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is not ParameterSource.DEFAULT


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
