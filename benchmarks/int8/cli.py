"""``glass-bench int8``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ...calibration.images import ImageSets, digest_of, split_images
from ...calibration.making.source import check_fp32
from ...calibration.options import DEFAULT_IMAGES, CalibrationOptions
from ...runtime.bundle.bundle import Bundle
from ...runtime.commands.console import GlassCommand, check_libraries
from ...runtime.commands.inputs import PassedOver, settle_decoders
from ...runtime.commands.options import Folder, common_options, list_skipped_option
from ...runtime.commands.progress import on_console
from ...runtime.finding.choosing import Skip
from ...runtime.finding.sources import find_images
from ...runtime.machine.errors import InputError
from ...runtime.machine.progress import track
from ...runtime.machine.signals import ending_on_sigterm
from ..cli_common import (
    TABLES_AND_PLOTS,
    check_output,
    command_line,
    option,
    plots_option,
    positive,
    write,
)
from .choices import GROUPS, chosen, group_of

_LIBRARIES = ("onnx", "onnxruntime", "ml_dtypes")
_IMAGES, _JUDGEMENTS = 64, 200
_EXAMPLES = """
\b
Examples:
  glass-bench int8 gl_vit.glass --calibrate photographs/
  glass-bench int8 gl_vit.glass --calibrate train/ --evaluate test/ \\
      -o report.json -o report.md -o report.png
  glass-bench int8 gl_vit.glass --calibrate photographs/ --makers ours,onnxruntime,nncf-mixed
"""


@click.command(
    "int8",
    cls=GlassCommand,
    epilog=_EXAMPLES,
    help="Compare the INT8 of glass-quantize with that of other quantisers, and with its own "
    "parts: error, flips, speed and the time to make it. All take the FP32 BUNDLE and the same "
    "images to calibrate on, and are judged in one run on the same crops of others.",
)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--calibrate",
    required=True,
    metavar="DIR",
    type=Folder(),
    help="Images of the kind that will be judged; a fifth is held out to judge.",
)
@click.option(
    "--evaluate",
    metavar="DIR",
    type=Folder(),
    help="Images to judge instead of those held out.",
)
@option(
    "--makers",
    default=",".join(GROUPS),
    metavar="NAME,...",
    callback=chosen,
    help="Who quantises, by group (ours, nncf, onnxruntime, ablation) or by a name in the report.",
)
@option(
    "--calibration-images",
    type=positive,
    default=DEFAULT_IMAGES,
    help="The largest number of images to calibrate on.",
)
@option(
    "--images",
    "most_images",
    type=positive,
    default=_IMAGES,
    help="The largest number of images to judge, spread evenly over those there are.",
)
@option(
    "--judgements",
    type=positive,
    default=_JUDGEMENTS,
    help="Judge at least so often with each maker's graphs.",
)
@list_skipped_option
@plots_option
@common_options
def int8(
    bundle: Path,
    calibrate: Path,
    evaluate: Path | None,
    makers: tuple[str, ...],
    calibration_images: int,
    most_images: int,
    judgements: int,
    list_skipped: bool,
    output: tuple[Path, ...],
) -> None:
    """Measure INT8; see ``glass-bench int8 --help``."""
    check_output(output, TABLES_AND_PLOTS)
    check_libraries("quantizing", _LIBRARIES, extra="quantize", reports=output)
    if any(group_of(name) == "nncf" for name in makers):
        check_libraries("comparing with NNCF", ["nncf"], extra="nncf", reports=())
    with on_console("checking the bundle"):
        source = Bundle.open(bundle)
    check_fp32(source)
    settle_decoders()
    skip = PassedOver(listed=list_skipped)
    sets = split_images(calibrate, calibration_images, skip, on_console)
    others = sets.held_out if evaluate is None else _others(evaluate, sets, skip)
    images = _spread(others, most_images)
    with on_console("loading libraries"):
        from .measure import measure_int8
        from .plot import plot_int8
        from .registry import makers_named

        chosen_makers = makers_named(makers)
    with ending_on_sigterm():
        report = measure_int8(
            source,
            sets,
            images,
            chosen_makers,
            options=CalibrationOptions(calibration_images),
            judgements=judgements,
            command=command_line(),
            progress=on_console,
        )
    write(report, report.to_markdown(), output, lambda: plot_int8(report))


def _others(folder: Path, sets: ImageSets, skip: Skip) -> Sequence[Path]:
    """Return the images in a folder.

    Raises:
        InputError: one of them is calibrated on, so that it would be judged too well.
    """
    found = [Path(path) for path in find_images([str(folder)], skip)]
    known = set(map(digest_of, sets.calibration))
    for path in track(found, "reading images", len(found), on_console):
        if digest_of(path) in known:
            raise InputError(
                f"{path} is calibrated on, and images to judge must be others: name another folder "
                "with --evaluate, or leave it out to judge images held out of --calibrate."
            )
    return found


def _spread(images: Sequence[Path], most: int) -> list[Path]:
    count = min(most, len(images))
    return [images[place * len(images) // count] for place in range(count)]
