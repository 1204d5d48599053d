"""``glass-bench pipeline``: does the whole keep up with its two halves?"""

from __future__ import annotations

from pathlib import Path

import click

from ...runtime.bundle.bundle import Bundle
from ...runtime.commands.console import GlassCommand
from ...runtime.commands.options import bundles_option, common_options, engine_option
from ...runtime.images.decode import settle_pillow
from ...runtime.images.sources import find_images
from ...runtime.judging.options import DEFAULT_BATCH_SIZE, DetectorOptions
from ..cli_common import TABLES, check_output, command_line, tables_option, write_tables

_EXAMPLES = """
\b
Examples:
  glass-bench pipeline images/ -b gl_vit.glass
  glass-bench pipeline images/ -b gl_vit.int8.glass --batch-size 32 -o report.md
"""


@click.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
    help="Compare the detector on IMAGES (files, folders or patterns) with its two halves alone, "
    "making views and running the engine: how much of what is possible it delivers.",
)
@click.argument("images", nargs=-1, required=True)
@bundles_option(required=True)
@engine_option
@click.option("--crops", type=click.IntRange(min=1), help="Default: the bundles' number.")
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=DEFAULT_BATCH_SIZE, show_default=True
)
@click.option("--isolate", is_flag=True, help="Let the whole decode in processes of its own.")
@click.option("--rounds", type=click.IntRange(min=2), default=7, show_default=True)
@tables_option
@common_options
def pipeline(
    images: tuple[str, ...],
    paths: tuple[Path, ...],
    engine: str,
    crops: int | None,
    batch_size: int,
    isolate: bool,
    rounds: int,
    output: tuple[Path, ...],
) -> None:
    """Measure the pipeline; see ``glass-bench pipeline --help``."""
    check_output(output, TABLES)
    settle_pillow()
    bundles = [Bundle.open(path) for path in paths]
    found = find_images(images)
    from .measure import measure_pipeline

    options = DetectorOptions(engine=engine, crops=crops, batch_size=batch_size, isolate=isolate)
    write_tables(measure_pipeline(bundles, found, options, rounds, command=command_line()), output)
