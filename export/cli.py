"""``glass-export``: export a trained GLASS, or another detector, to a bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeAlias, get_args

import click

from ..calibration.commands.options import (
    Lowering,
    PrecisionChoice,
    check_meant,
    lowering_options,
)
from ..calibration.commands.summary import print_notes
from ..runtime.bundle.bundle import BUNDLE_SUFFIX
from ..runtime.bundle.making import check_target
from ..runtime.bundle.manifest import Normalisation, Precision, WhichWeights
from ..runtime.commands.console import GlassCommand, needing_libraries
from ..runtime.commands.options import (
    common_options,
    detector_options,
    force_option,
)
from ..runtime.commands.progress import on_console
from ..runtime.machine.errors import InputError
from ..runtime.machine.signals import ending_on_sigterm
from .files import find_checkpoint
from .options import USERS, ExportOptions
from .summary import summarise

_Triple: TypeAlias = tuple[float, float, float]
_EXAMPLES = """
\b
Examples:
  glass-export gl_vit.pt -o gl_vit.glass
  glass-export                                   the only gl_*.pt here
  glass-export mine.safetensors --backbone timm/tf_efficientnet_lite0 --crops 4
  glass-export gl_vit.pt --precision fp16 -o gl_vit.fp16.glass
  glass-export commfor.safetensors -o commfor.glass    recognised by its keys, see docs/detectors.md
  glass-export fc_weights.pth --backbone-weights clip.safetensors -o univfd.glass
  glass-export gl_vit.pt --precision int8 --calibrate photographs/ -o gl_vit.int8.glass
"""


def _triple(ctx: click.Context, option: click.Parameter, text: str | None) -> _Triple | None:
    if text is None:
        return None
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"give three numbers separated by commas, not {text!r}.") from None
    return red, green, blue


@click.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
    help="Export a trained PyTorch GLASS, or another detector of AI-generated images, to a bundle "
    "that glass-run judges with. CHECKPOINT is a state dict saved by torch.save, a safetensors "
    "file, an index of shards, or a folder as Hugging Face saves models. The export compares the "
    "graphs with PyTorch on real photographs and fails if they do not agree.",
)
@click.argument("checkpoint", required=False, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The bundle to make. Default: the checkpoint's name with "
    f"{BUNDLE_SUFFIX}, in the working directory.",
)
@click.option(
    "--precision",
    type=PrecisionChoice(get_args(Precision)),
    default="fp32",
    show_default=True,
    help="The type that the graphs compute in. All but fp32 are made of the fp32 bundle as by "
    "glass-quantize, and their verdicts compared with its.",
)
@lowering_options
@detector_options
@click.option(
    "--weights",
    type=click.Choice(get_args(WhichWeights)),
    help="Which weights to take if the checkpoint also holds an average of them (EMA). Default: "
    "the average, if there is one.",
)
@click.option(
    "--reference",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="An .npz file of views and the logits of your own model for them (docs/checkpoints.md "
    "shows how to write it). The export fails if its graphs give other logits.",
)
@click.option(
    "--crops", type=int, help="Crops per image. Default: the paper's number for the family."
)
@click.option(
    "--crop-size",
    type=int,
    metavar="PIXELS",
    help="The side of the global view and of each crop. Default: the backbone's own; for a timm "
    "backbone, that of timm's configuration.",
)
@click.option(
    "--mean",
    metavar="R,G,B",
    callback=_triple,
    help="What the training subtracted from pixels between 0 and 1. Default: the paper's; for a "
    "timm backbone, timm's configuration.",
)
@click.option(
    "--std",
    metavar="R,G,B",
    callback=_triple,
    help="What the training divided them by then. Given together with --mean.",
)
@click.option(
    "--classes",
    metavar="A,B",
    help="Class names in the order of the logits. Default: the detector's; a GLASS has fake,real.",
)
@click.option(
    "--fake-class",
    metavar="NAME",
    help="Which class means AI-generated. Default: the detector's, or fake.",
)
@force_option("the bundle")
@common_options
@click.pass_context
def main(
    ctx: click.Context,
    checkpoint: Path | None,
    output: Path | None,
    precision: Precision,
    lowering: Lowering,
    family: str | None,
    preset: str | None,
    backbone: str,
    backbone_weights: Path | None,
    weights: WhichWeights | None,
    reference: Path | None,
    crops: int | None,
    crop_size: int | None,
    mean: _Triple | None,
    std: _Triple | None,
    classes: str | None,
    fake_class: str | None,
    force: bool,
) -> None:
    """Export a checkpoint; see ``glass-export --help``."""
    check_meant(ctx, precision)
    options = ExportOptions(
        family=family,
        preset=preset,
        backbone=backbone,
        backbone_weights=backbone_weights,
        weights=weights,
        reference=reference,
        crops=crops,
        crop_size=crop_size,
        normalisation=_normalisation(mean, std),
        classes=_two_names(classes),
        fake_class=fake_class,
        force=force,
    )
    source = checkpoint or find_checkpoint(Path.cwd())
    target = output or Path(source.absolute().with_suffix(BUNDLE_SUFFIX).name)
    check_target(target, force=force)
    if precision != "fp32":
        options = replace(options, variant=lowering.variant(precision, on_console))
    # Imported here, so that --help and wrong usage do not wait for torch.
    with on_console("loading PyTorch"), needing_libraries("exporting", extra="export"):
        from .exporter import export_bundle
    with ending_on_sigterm():
        bundle = export_bundle(source, target, options, on_console, _note)
    summarise(source, bundle)


def _note(sentence: str) -> None:
    print_notes([sentence])


def _two_names(classes: str | None) -> tuple[str, str] | None:
    """Return the names of classes that the user gave.

    Raises:
        InputError: they are not two.
    """
    if classes is None:
        return None
    names = tuple(name.strip() for name in classes.split(","))
    if len(names) != 2:
        raise InputError(f"--classes takes two names separated by a comma, not {classes!r}.")
    return names[0], names[1]


def _normalisation(mean: _Triple | None, std: _Triple | None) -> Normalisation | None:
    """Return what the user gave.

    Raises:
        InputError: one of the two is missing.
    """
    if mean is None and std is None:
        return None
    if mean is None or std is None:
        raise InputError("--mean and --std belong together: give both, or neither.")
    return Normalisation(mean, std, USERS)
