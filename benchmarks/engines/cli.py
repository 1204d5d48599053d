"""``glass-bench engines``: the local backbone in PyTorch and on engines."""

from __future__ import annotations

from pathlib import Path

import click

from ...runtime.bundle.bundle import Bundle
from ...runtime.commands.console import GlassCommand, needing_libraries
from ...runtime.commands.options import backbone_option, bundles_option, common_options
from ...runtime.machine.cpus import available_cpus
from ..cli_common import (
    TABLES,
    check_output,
    command_line,
    engines_option,
    tables_option,
    write_tables,
)

_EXAMPLES = """
\b
Examples:
  glass-bench engines gl_vit.pt -b gl_vit.glass
  glass-bench engines gl_vit.pt -b gl_vit.glass -b gl_vit.int8.glass -o report.md
"""


@click.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
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
        from .measure import EnginesOptions, measure_engines
    options = EnginesOptions(backbone, engines, batch_size, repeats, threads)
    write_tables(measure_engines(checkpoint, bundles, options, command=command_line()), output)
