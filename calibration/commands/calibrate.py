"""``glass-calibrate``: find out how many crops verdicts need, and what scores are worth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ...runtime.bundle.bundle import BUNDLE_SUFFIX, Bundle
from ...runtime.bundle.making import check_apart, check_target, variant_place
from ...runtime.commands.console import GlassCommand, check_libraries
from ...runtime.commands.inputs import PassedOver, chosen_bundle, settle_decoders
from ...runtime.commands.options import (
    bundle_option,
    common_options,
    device_option,
    engine_option,
    folder_argument,
    force_option,
    list_skipped_option,
)
from ...runtime.commands.progress import on_console
from ...runtime.commands.reports import PICTURE, check_report_files, typed_command
from ...runtime.machine.errors import InputError
from ...runtime.machine.signals import ending_on_sigterm
from ..steadiness.calibrate import (
    DEFAULT_IMAGES,
    DEFAULT_MOST_CROPS,
    DEFAULT_RISK,
    SteadinessOptions,
    calibrate_bundle,
    check_source,
)
from ..steadiness.images import choose_images
from ..steadiness.scores import Goal
from .reports import FORMATS, finish
from .summary import print_lines

_LIBRARIES = ("scipy", "sklearn")
_EXAMPLES = """
\b
Examples:
  glass-calibrate photographs/                  the bundle here, a risk of 1 %
  glass-calibrate photographs/ -b gl_vit.glass -o sparing.glass --risk 0.05
  glass-calibrate labelled/ -b gl_vit.glass --threshold-for fpr=0.01
  glass-calibrate photographs/ -b gl_vit.glass --report crops.md --report crops.png
"""


@click.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
    help="Make a bundle that knows how many crops a verdict needs, for glass-run --crops auto. "
    "Images of DIR are judged with more and more crops. Of the rules that are shown to keep the "
    "risk, the one that stops soonest is chosen. The risk is the share of images whose verdict "
    "would change with 64 crops. No labels are needed. If DIR has a folder for each class, named "
    "as the bundle names it (fake and real unless exported otherwise), P(fake) is calibrated as "
    "well.",
)
@folder_argument
@bundle_option("The bundle to calibrate.")
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help=f"The bundle to make. Default: the bundle's name with calibrated before {BUNDLE_SUFFIX}, "
    "in the working directory.",
)
@click.option(
    "--risk",
    type=float,
    default=DEFAULT_RISK,
    show_default=True,
    metavar="SHARE",
    help="The largest share of images whose verdict may differ from that with 64 crops. The "
    "smaller it is, the more images are needed: 299 for 0.01, and 59 for 0.05, if none differs.",
)
@click.option(
    "--most-crops",
    type=int,
    default=DEFAULT_MOST_CROPS,
    show_default=True,
    help="The most crops that an image may be judged by.",
)
@click.option(
    "--threshold-for",
    metavar="GOAL",
    help="Choose the threshold of P(fake), too: for accuracy, balanced (the mean of both classes' "
    "accuracies), fpr=SHARE (at most this share of real images called fake) or fnr=SHARE. Needs "
    "labels. Default: it stays 0.5.",
)
@click.option(
    "--images",
    "most_images",
    type=click.IntRange(min=1),
    default=DEFAULT_IMAGES,
    show_default=True,
    help="The largest number of images to use.",
)
@click.option(
    "--report",
    "reports",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write what was found to FILE (.json, .md), or draw it (.png); may be given several "
    "times.",
)
@force_option("the bundle or FILE")
@engine_option
@device_option
@list_skipped_option
@common_options
def main(
    folder: Path,
    bundle: Path | None,
    output: Path | None,
    risk: float,
    most_crops: int,
    threshold_for: str | None,
    most_images: int,
    reports: tuple[Path, ...],
    force: bool,
    engine: str,
    device: str,
    list_skipped: bool,
) -> None:
    """Calibrate a bundle; see ``glass-calibrate --help``."""
    check_report_files(reports, FORMATS, force=force)
    check_libraries("calibrating", _LIBRARIES, extra="calibrate", reports=reports)
    goal = None if threshold_for is None else Goal.parse(threshold_for)
    options = SteadinessOptions(risk, most_crops, goal, engine, device)
    path = chosen_bundle(bundle, [str(folder)])
    target = output or variant_place(path, "calibrated")
    if target.suffix.lower() in FORMATS:
        raise InputError(
            f"{target} is named like a report, and --output names the bundle to make: give "
            f"--report {target} for a report."
        )
    check_target(target, force=force)
    check_apart(path, target)
    settle_decoders()
    with ending_on_sigterm():
        with on_console("checking the bundle"):
            source = Bundle.open(path)
        check_source(source)
        _check_picture(source, reports)
        classes = source.manifest.classes
        skip = PassedOver(listed=list_skipped)
        images = choose_images(folder, classes, most_images, skip, on_console)
        report = calibrate_bundle(
            source,
            target,
            images,
            options,
            command=typed_command("glass-calibrate"),
            force=force,
            progress=on_console,
        )
    print_lines({"source": str(path), **report.lines(), "bundle": str(target)})
    finish(report, reports)


def _check_picture(bundle: Bundle, reports: Sequence[Path]) -> None:
    """Refuse a picture of a stopping rule where there can be none.

    Raises:
        InputError: one is asked for.
    """
    pictures = [path for path in reports if path.suffix.lower() == PICTURE]
    if pictures and not bundle.manifest.views.drawn:
        raise InputError(
            f"{pictures[0]} would show what a stopping rule saves, and this detector draws nothing "
            "that could be stopped: give a name that ends in .md or .json."
        )
