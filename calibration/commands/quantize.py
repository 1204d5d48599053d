"""``glass-quantize``: make a faster bundle of an FP32 one, or show what that would cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...runtime.bundle.bundle import BUNDLE_SUFFIX, Bundle
from ...runtime.bundle.making import check_target
from ...runtime.commands.console import GlassCommand, check_libraries
from ...runtime.commands.inputs import chosen_bundle
from ...runtime.commands.options import common_options, force_option
from ...runtime.commands.progress import on_console
from ...runtime.commands.reports import (
    JSON,
    MARKDOWN,
    PICTURE,
    Makers,
    check_report_files,
    typed_command,
    write_report,
)
from ...runtime.machine.errors import InputError
from ...runtime.machine.signals import ending_on_sigterm
from ..making.source import check_apart, check_fp32
from ..options import LowPrecision
from .options import (
    LOWER,
    Lowering,
    PrecisionChoice,
    check_meant,
    check_meant_for_layers,
    lowering_options,
)
from .summary import summarise

if TYPE_CHECKING:
    from ..int8.report import SensitivityReport

_LIBRARIES = ("onnx", "onnxruntime", "ml_dtypes")
_FORMATS = (JSON, MARKDOWN, PICTURE)
_SHOWN = 20  # layers on the screen
_EXAMPLES = """
\b
Examples:
  glass-quantize gl_vit.glass --precision int8 --calibrate photographs/
  glass-quantize --precision fp16                the only *.glass here
  glass-quantize gl_vit.glass --precision bf16 -o server/gl_vit.glass
  glass-quantize gl_vit.glass --layers --calibrate photographs/ -o layers.md -o layers.png
"""


@click.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
    help="Make a faster or smaller bundle of an FP32 one. Its verdicts are compared with FP32's on "
    "images that it was not made with, and it is kept if they agree. With --layers, no bundle is "
    "made: each layer is quantised alone, and all are ranked by how far that moves the logits. "
    "Needs no PyTorch. Default BUNDLE: $GLASS_BUNDLE, else the only *.glass here.",
)
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option(
    "--precision",
    type=PrecisionChoice(LOWER),
    help="The type that the new bundle's graphs compute in.",
)
@click.option(
    "--layers", is_flag=True, help="Report which layers INT8 costs accuracy, and make no bundle."
)
@lowering_options
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="The bundle to make. Default: the bundle's name with the precision before "
    f"{BUNDLE_SUFFIX}, in the working directory. With --layers, a file for the report (.json, .md) "
    "or a plot of it (.png); may be given several times.",
)
@force_option("the bundle or file")
@common_options
@click.pass_context
def main(
    ctx: click.Context,
    bundle: Path | None,
    precision: LowPrecision | None,
    layers: bool,
    lowering: Lowering,
    outputs: tuple[Path, ...],
    force: bool,
) -> None:
    """Quantise a bundle; see ``glass-quantize --help``."""
    if sum((precision is not None, layers)) != 1:
        raise InputError(
            "say what to make, one of the two: --precision "
            f"{', '.join(LOWER)} for a bundle, or --layers for a report."
        )
    with ending_on_sigterm():
        if precision is not None:
            check_meant(ctx, precision)
            _make_bundle(bundle, precision, lowering, outputs, force=force)
        else:
            check_meant_for_layers(ctx)
            _report_layers(bundle, lowering, outputs, force=force)


def _make_bundle(
    named: Path | None,
    precision: LowPrecision,
    lowering: Lowering,
    outputs: tuple[Path, ...],
    *,
    force: bool,
) -> None:
    check_libraries("quantizing", _LIBRARIES, extra="quantize", reports=())
    path = _chosen_source(named, lowering)
    target = _target(path, precision, outputs)
    check_target(target, force=force)
    check_apart(path, target)
    source = _open_fp32(path)
    variant = lowering.variant(precision, on_console)
    # Imported here, so that --help and wrong usage do not wait for ONNX Runtime.
    with on_console("loading ONNX Runtime"):
        from ..making.quantize import quantize_bundle
    made = quantize_bundle(source, target, variant, force=force, progress=on_console)
    summarise(path, made)


def _open_fp32(path: Path) -> Bundle:
    with on_console("checking the bundle"):
        bundle = Bundle.open(path)
    check_fp32(bundle)
    return bundle


def _chosen_source(named: Path | None, lowering: Lowering) -> Path:
    images = [] if lowering.calibrate is None else [str(lowering.calibrate)]
    return chosen_bundle(named, images, option=None)


def _target(source: Path, precision: LowPrecision, outputs: tuple[Path, ...]) -> Path:
    """Return where the new bundle shall be.

    Raises:
        InputError: several places are named, or one that is named like a report.
    """
    if not outputs:
        plain = source.resolve() if source.name in ("", "..") else source
        return Path(f"{plain.name.removesuffix(BUNDLE_SUFFIX)}.{precision}{BUNDLE_SUFFIX}")
    if len(outputs) > 1:
        raise InputError(
            "--precision makes one bundle: give --output once. Only --layers writes several files."
        )
    (target,) = outputs
    if target.suffix.lower() in _FORMATS:
        raise InputError(
            f"{target} is named like a report, and --precision makes a bundle: name a folder such "
            f"as {target.with_suffix(BUNDLE_SUFFIX)}, or ask for --layers instead."
        )
    return target


def _report_layers(
    named: Path | None, lowering: Lowering, outputs: tuple[Path, ...], *, force: bool
) -> None:
    for path in outputs:
        if path.suffix.lower() == BUNDLE_SUFFIX:
            raise InputError(
                f"{path} is named like a bundle, and --layers makes a report: give a name that "
                "ends in .json, .md or .png, or ask for --precision instead."
            )
    check_report_files(outputs, _FORMATS, force=force)
    check_libraries("quantizing", _LIBRARIES, extra="quantize", reports=outputs)
    calibration = lowering.calibration()
    if lowering.calibrate is None:
        raise InputError(
            "--layers measures on images of the kind that will be judged: name their folder with "
            "--calibrate."
        )
    source = _open_fp32(_chosen_source(named, lowering))
    images = lowering.images_in(lowering.calibrate, on_console)
    with on_console("loading ONNX Runtime"):  # here for the same reason as above
        from ..int8.report import measure_sensitivity
    command = typed_command("glass-quantize")
    report = measure_sensitivity(source, images, calibration, command=command, progress=on_console)
    _show(report)
    makers: Makers = {JSON: report.to_json, MARKDOWN: report.to_markdown, PICTURE: report.to_png}
    write_report(outputs, makers)


def _show(report: SensitivityReport) -> None:
    click.echo(f"{report.summary()}\n\n{report.table(_SHOWN)}")
    hidden = len(report.layers) - _SHOWN
    if hidden > 0:
        click.echo(f"\n… and {hidden} more, worth less to keep; -o FILE writes them all.")
    for note in report.notes:
        click.echo(f"Note: {note}", err=True)
