"""``glass-bench run``: against full-size PyTorch."""

from __future__ import annotations

from pathlib import Path

import click

from ...runtime.bundle.bundle import Bundle
from ...runtime.commands.console import GlassCommand, check_libraries, needing_libraries
from ...runtime.commands.options import backbone_option, bundles_option, common_options
from ...runtime.images.decode import settle_pillow
from ...runtime.images.sources import find_images
from ...runtime.judging.options import DEFAULT_BATCH_SIZE
from ...runtime.machine.cpus import available_cpus
from ..cli_common import (
    TABLES_AND_PLOTS,
    check_output,
    checkpoint_option,
    command_line,
    counts,
    engines_option,
    plots_option,
    write_made,
)

_EXAMPLES = """
\b
Examples:
  glass-bench run images/ --checkpoint gl_vit.pt -b gl_vit.glass
  glass-bench run images/ --checkpoint gl_vit.pt -b gl_vit.glass -b gl_vit.int8.glass \\
      -o report.json -o report.md -o report.png
"""
_positive = click.IntRange(min=1)


@click.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
    help="Compare bundles on every engine with PyTorch: as the paper runs it, at its best, and "
    "on every tile of the image; and with what most would write. All judge the same crops of "
    "the same IMAGES (files, folders or patterns), in turns, each in a process of its own.",
)
@click.argument("images", nargs=-1, required=True)
@checkpoint_option
@bundles_option(required=True)
@engines_option
@backbone_option
@click.option("--crops", type=_positive, help="Crops per image. Default: the bundles' number.")
@click.option("--seed", type=int, default=0, show_default=True, help="Which crops are drawn.")
@click.option(
    "--batch-size",
    type=_positive,
    default=DEFAULT_BATCH_SIZE,
    show_default=True,
    help="The most images that PyTorch takes at once, and a bundle's most views at once.",
)
@click.option(
    "--batches",
    default="1,4,16",
    show_default=True,
    callback=counts,
    help="Images in a batch whose views lie ready, to measure the engine only.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=2),
    default=5,
    show_default=True,
    help="Rounds that count; one more warms up.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=0.5,
    show_default=True,
    help="How long a batch is repeated in each round.",
)
@click.option(
    "--full-size-images",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    metavar="N",
    help="Images judged by every tile, which is slow; 0 leaves it out.",
)
@click.option(
    "--compile/--no-compile",
    "compiled",
    default=True,
    show_default=True,
    help="Whether torch.compile takes part; it compiles for minutes.",
)
@click.option(
    "--threads",
    type=_positive,
    default=available_cpus,
    show_default="all CPUs available",
    help="CPU threads of PyTorch, and of a bundle's engine alone; from files a bundle takes those "
    "of --workers.",
)
@click.option(
    "--workers",
    type=_positive,
    default=available_cpus,
    show_default="all CPUs available",
    help="Threads or processes that read and decode; in bundles they judge, too.",
)
@plots_option
@common_options
def run(
    images: tuple[str, ...],
    checkpoint: Path,
    paths: tuple[Path, ...],
    engines: tuple[str, ...],
    backbone: str,
    crops: int | None,
    seed: int,
    batch_size: int,
    batches: tuple[int, ...],
    rounds: int,
    seconds: float,
    full_size_images: int,
    compiled: bool,
    threads: int,
    workers: int,
    output: tuple[Path, ...],
) -> None:
    """Measure against PyTorch; see ``glass-bench run --help``."""
    check_output(output, TABLES_AND_PLOTS)
    check_libraries("comparing with PyTorch", ["torch"], extra="export", reports=output)
    settle_pillow()
    found = list(find_images(images))
    bundles = [Bundle.open(path) for path in paths]
    with needing_libraries("comparing with PyTorch", extra="export"):
        from ..contenders.work import Setup
        from ..measuring.bundles import common_views
        from .makers import run_makers
        from .measure import RunOptions, measure_run
    setup = Setup(common_views(bundles, crops), seed, batch_size, threads, workers)
    options = RunOptions(
        backbone, engines, batches, rounds, seconds, full_size_images, compiled=compiled
    )
    report = measure_run(checkpoint, bundles, found, setup, options, command=command_line())
    write_made(run_makers(report), output)
