"""``glass-quantize``: make a faster bundle of an FP32 one, or show what that would cost."""

from __future__ import annotations

from pathlib import Path

import click

from ...runtime.bundle.bundle import BUNDLE_SUFFIX
from ...runtime.bundle.making import check_apart, check_target, variant_place
from ...runtime.commands.console import GlassCommand, check_libraries
from ...runtime.commands.options import common_options, force_option
from ...runtime.commands.progress import on_console
from ...runtime.machine.errors import InputError
from ...runtime.machine.signals import ending_on_sigterm
from ..options import LowPrecision
from .options import (
    LOWER,
    Lowering,
    PrecisionChoice,
    check_meant,
    check_meant_for_report,
    lowering_options,
)
from .reports import FORMATS, report_exploration, report_layers
from .sources import LIBRARIES, chosen_source, open_fp32
from .summary import print_notes, summarise

_EXAMPLES = """
\b
Examples:
  glass-quantize gl_vit.glass --precision int8 --calibrate photographs/
  glass-quantize --precision fp16                the only *.glass here
  glass-quantize gl_vit.glass --precision bf16 -o server/gl_vit.glass
  glass-quantize gl_vit.glass --explore --calibrate photographs/ -o explore.md -o explore.png
  glass-quantize gl_vit.glass --layers --calibrate photographs/ -o layers.md -o layers.png
"""


@click.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
    help="Make a faster or smaller bundle of an FP32 one. Its verdicts are compared with FP32's on "
    "images that it was not made with, and it is kept if they agree. Two options make a report and "
    "no bundle. --explore shows error against speed for FP16, BF16, and INT8 with ever more layers "
    "kept in floating point. --layers shows how far the margin moves with each layer "
    "alone in INT8, and ranks layers by that for their work. "
    "Needs no PyTorch. Default BUNDLE: $GLASS_BUNDLE, else the only *.glass here.",
)
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option(
    "--precision",
    type=PrecisionChoice(LOWER),
    help="The type that the new bundle's graphs compute in.",
)
@click.option(
    "--explore",
    is_flag=True,
    help="Report what each precision costs and gives, and make no bundle.",
)
@click.option(
    "--layers",
    is_flag=True,
    help="Report how much accuracy each layer loses in INT8, and make no bundle.",
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
    f"{BUNDLE_SUFFIX}, in the working directory. Of a report: a file for it (.json, .md) or for a "
    "plot of it (.png); may be given several times.",
)
@force_option("the bundle or file")
@common_options
@click.pass_context
def main(
    ctx: click.Context,
    bundle: Path | None,
    precision: LowPrecision | None,
    explore: bool,
    layers: bool,
    lowering: Lowering,
    outputs: tuple[Path, ...],
    force: bool,
) -> None:
    """Quantise a bundle; see ``glass-quantize --help``."""
    if sum((precision is not None, explore, layers)) != 1:
        raise InputError(
            "say what to make, one of the three: --precision "
            f"{', '.join(LOWER)} for a bundle, --explore for a report of what each of these costs "
            "and gives, or --layers for one of what each layer costs."
        )
    with ending_on_sigterm():
        if precision is not None:
            check_meant(ctx, precision)
            _make_bundle(bundle, precision, lowering, outputs, force=force)
        elif explore:
            check_meant_for_report(ctx, "explore")
            report_exploration(bundle, lowering, outputs, force=force)
        else:
            check_meant_for_report(ctx, "layers")
            report_layers(bundle, lowering, outputs, force=force)


def _make_bundle(
    named: Path | None,
    precision: LowPrecision,
    lowering: Lowering,
    outputs: tuple[Path, ...],
    *,
    force: bool,
) -> None:
    check_libraries("quantizing", LIBRARIES, extra="quantize", reports=())
    path = chosen_source(named, lowering)
    target = _target(path, precision, outputs)
    check_target(target, force=force)
    check_apart(path, target)
    source = open_fp32(path, on_console)
    variant = lowering.variant(precision, on_console)
    # Imported here, so that --help and wrong usage do not wait for ONNX Runtime.
    with on_console("loading ONNX Runtime"):
        from ..making.quantize import quantize_bundle
    made = quantize_bundle(source, target, variant, force=force, progress=on_console)
    summarise(path, made)
    if source.manifest.stopping is not None or source.manifest.scores is not None:
        note = "the source's stopping rule and calibrated scores belong to its own numbers: "
        print_notes([f"{note}calibrate the new bundle with glass-calibrate."])


def _target(source: Path, precision: LowPrecision, outputs: tuple[Path, ...]) -> Path:
    """Return where the new bundle shall be.

    Raises:
        InputError: several places are named, or one that is named like a report.
    """
    if not outputs:
        return variant_place(source, precision)
    if len(outputs) > 1:
        raise InputError(
            "--precision makes one bundle: give --output once. Only reports are several files."
        )
    (target,) = outputs
    if target.suffix.lower() in FORMATS:
        raise InputError(
            f"{target} is named like a report, and --precision makes a bundle: name a folder such "
            f"as {target.with_suffix(BUNDLE_SUFFIX)}, or ask for --explore or --layers instead."
        )
    return target
