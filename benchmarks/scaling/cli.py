"""``glass-bench scaling``: what an image costs."""

from __future__ import annotations

from pathlib import Path

import click

from ...runtime.bundle.bundle import Bundle
from ...runtime.commands.console import GlassCommand, check_libraries, needing_libraries
from ...runtime.commands.options import backbone_option, bundles_option, common_options
from ...runtime.images.decode import settle_pillow
from ..cli_common import (
    TABLES_AND_PLOTS,
    check_output,
    checkpoint_option,
    command_line,
    counts,
    engines_option,
    numbers,
    plots_option,
    plotted_makers,
    write_made,
)

_EXAMPLES = """
\b
Examples:
  glass-bench scaling --checkpoint gl_vit.pt -b gl_vit.glass
  glass-bench scaling --checkpoint gl_vit.pt -b gl_vit.glass --megapixels 1,12,48 -o scaling.png
"""


@click.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
    help="Measure what an image costs PyTorch FP32 and bundles by its number of crops, by its "
    "size, and in batches; with a straight line through each series. Images are generated.",
)
@checkpoint_option
@bundles_option(required=True)
@engines_option
@backbone_option
@click.option(
    "--crops", default="1,2,4,8,16", show_default=True, callback=counts, help="Numbers of crops."
)
@click.option(
    "--megapixels",
    default="1,4,12,24,48",
    show_default=True,
    callback=numbers,
    help="Sizes of images.",
)
@click.option(
    "--batches",
    default="1,2,4,8,16",
    show_default=True,
    callback=counts,
    help="Images in a batch.",
)
@click.option("--rounds", type=click.IntRange(min=2), default=5, show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=0.2,
    show_default=True,
    help="How long a batch is repeated in each round.",
)
@plots_option
@common_options
def scaling(
    checkpoint: Path,
    paths: tuple[Path, ...],
    engines: tuple[str, ...],
    backbone: str,
    crops: tuple[int, ...],
    megapixels: list[float],
    batches: tuple[int, ...],
    rounds: int,
    seconds: float,
    output: tuple[Path, ...],
) -> None:
    """Measure scaling; see ``glass-bench scaling --help``."""
    check_output(output, TABLES_AND_PLOTS)
    check_libraries("comparing with PyTorch", ["torch"], extra="export", reports=output)
    settle_pillow()
    bundles = [Bundle.open(path) for path in paths]
    with needing_libraries("comparing with PyTorch", extra="export"):
        from ..contenders.work import Setup
        from ..measuring.bundles import common_views
        from .measure import ScalingOptions, measure_scaling
    options = ScalingOptions(backbone, engines, crops, tuple(megapixels), batches, rounds, seconds)
    setup = Setup(common_views(bundles, None))
    report = measure_scaling(checkpoint, bundles, setup, options, command=command_line())
    write_made(plotted_makers(report), output)
