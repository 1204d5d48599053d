"""``glass-bench``: measure, side by side, in one run."""

from __future__ import annotations

from pathlib import Path

import click

from ..runtime.bundle import Bundle
from ..runtime.console import GlassCommand, needing_libraries
from ..runtime.cpus import available_cpus
from ..runtime.errors import ImageError
from ..runtime.options import backbone_option, bundles_option, common_options
from ..runtime.sources import find_images
from .cli_common import (
    TABLES,
    check_output,
    command_line,
    engines_option,
    numbers,
    tables_option,
    write_tables,
)
from .pipeline_cli import pipeline
from .run_cli import run
from .scaling_cli import scaling
from .show_cli import show

_EXAMPLES = """
\b
Examples:
  glass-bench views                              generated images of 1, 12, 24 and 48 MP
  glass-bench views photo.jpg -o report.md       your own image; tables to report.md
  glass-bench views --megapixels 12 --repeats 31 -o report.json
"""
_ENGINES_EXAMPLES = """
\b
Examples:
  glass-bench engines gl_vit.pt -b gl_vit.glass
  glass-bench engines gl_vit.pt -b gl_vit.glass -b gl_vit.int8.glass -o report.md
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure glass-edge against what would be used instead."""


@main.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
    help="Compare the roads from an image file to the model's views: time by stage, and the error "
    "of the global view. Takes images, or makes some of the sizes given.",
)
@click.argument("images", nargs=-1)
@click.option(
    "--megapixels",
    default="1,12,24,48",
    show_default=True,
    callback=numbers,
    help="Sizes of the images to make when none are given.",
)
@click.option("--crops", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--repeats", type=click.IntRange(min=2), default=15, show_default=True)
@click.option(
    "--threads",
    default="1,2",
    show_default=True,
    callback=numbers,
    help="Numbers of worker threads to compare.",
)
@tables_option
@common_options
def views(
    images: tuple[str, ...],
    megapixels: list[float],
    crops: int,
    repeats: int,
    threads: list[float],
    output: tuple[Path, ...],
) -> None:
    """Measure roads to views; see ``glass-bench views --help``."""
    check_output(output, TABLES)
    with needing_libraries("comparing with PyTorch", extra="export"):
        from .views import generated_images, measure_views
    contents = _read(images) if images else generated_images(megapixels)
    report = measure_views(
        contents,
        crops=crops,
        repeats=repeats,
        threads=[int(count) for count in threads],
        command=command_line(),
    )
    write_tables(report, output)


@main.command(
    cls=GlassCommand,
    help="Compare decoders on every format: time, and the difference to Pillow's pixels.",
)
@click.option(
    "--megapixels", type=click.FloatRange(min=0.01), default=12, show_default=True, metavar="N"
)
@click.option("--repeats", type=click.IntRange(min=2), default=9, show_default=True)
@tables_option
@common_options
def decoders(megapixels: float, repeats: int, output: tuple[Path, ...]) -> None:
    """Measure decoders; see ``glass-bench decoders --help``."""
    check_output(output, TABLES)
    with needing_libraries("comparing with PyTorch", extra="export"):
        from .decoders import measure_decoders
    report = measure_decoders(megapixels=megapixels, repeats=repeats, command=command_line())
    write_tables(report, output)


@main.command(
    cls=GlassCommand,
    epilog=_ENGINES_EXAMPLES,
    help="Compare the local backbone of CHECKPOINT in PyTorch, in FP32 and under BF16 autocast, "
    "with bundles made of it on each engine: time per crop, and the error of the features.",
)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@bundles_option(required=True)
@engines_option
@backbone_option
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Crops computed at once.",
)
@click.option("--repeats", type=click.IntRange(min=2), default=11, show_default=True)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=available_cpus,
    show_default="all CPUs available",
    help="CPU threads of each contestant.",
)
@tables_option
@common_options
def engines(
    checkpoint: Path,
    paths: tuple[Path, ...],
    engines: tuple[str, ...],
    backbone: str,
    batch_size: int,
    repeats: int,
    threads: int,
    output: tuple[Path, ...],
) -> None:
    """Measure engines; see ``glass-bench engines --help``."""
    check_output(output, TABLES)
    bundles = [Bundle.open(path) for path in paths]
    with needing_libraries("comparing with PyTorch", extra="export"):
        from .engines import EnginesOptions, measure_engines
    options = EnginesOptions(backbone, engines, batch_size, repeats, threads)
    write_tables(measure_engines(checkpoint, bundles, options, command=command_line()), output)


for command in (run, pipeline, show, scaling):
    main.add_command(command)


def _read(images: tuple[str, ...]) -> dict[str, bytes]:
    try:
        return {path: Path(path).read_bytes() for path in find_images(images)}
    except OSError as error:
        raise ImageError(f"{error.filename} cannot be read: {error.strerror}.") from None
