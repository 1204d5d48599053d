"""``glass-bench costs``: what a large collection costs by its images, the network and the crops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...runtime.bundle.bundle import Bundle
from ...runtime.commands.console import GlassCommand
from ...runtime.commands.options import bundles_option, common_options, engine_option
from ...runtime.images.decode import settle_pillow
from ..cli_common import (
    TABLES,
    check_output,
    command_line,
    counts,
    megapixels,
    option,
    positive,
    several,
    tables_option,
    write,
)
from .options import Budget, CostsOptions

_EXAMPLES = """
\b
Examples:
  glass-bench costs -b gl_vit.glass
  glass-bench costs -b gl_vit.glass -b gl_vit.int8.glass --crops 4,16 --price 0.05
  glass-bench costs -b gl_vit.glass --collection 2000000 --machines 4 --cpus 16 -o costs.md
"""
_dollars = click.FloatRange(min=0, min_open=True)


@click.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
    help="Judge generated photographs of several sizes on one CPU, and say what a collection of "
    "them would cost: images per second, dollars, days, and whether decoding or the engine takes "
    "longer.",
)
@bundles_option(required=True)
@engine_option
@click.option(
    "--crops", metavar="N,...", callback=counts, help="Crops per image. Default: each bundle's."
)
@option(
    "--megapixels",
    metavar="N,...",
    callback=megapixels,
    default="1,4,12,24",
    help="Sizes of images.",
)
@option("--images", type=positive, default=4, help="Images judged in a passage.")
@option("--rounds", type=several, default=5, help="Rounds that count; one more warms up.")
@option("--price", type=_dollars, default=0.04, help="Dollars that a CPU costs for an hour.")
@option("--collection", type=positive, default=100_000_000, help="Images of the collection.")
@option("--machines", type=positive, default=10, help="Machines that share it.")
@option("--cpus", type=positive, default=32, help="CPUs of each machine.")
@tables_option
@common_options
def costs(
    paths: tuple[Path, ...],
    price: float,
    collection: int,
    machines: int,
    cpus: int,
    output: tuple[Path, ...],
    **options: Any,
) -> None:
    """Measure costs; see ``glass-bench costs --help``."""
    check_output(output, TABLES)
    from .measure import measure_costs

    settle_pillow()
    bundles = [Bundle.open(path) for path in paths]
    asked = CostsOptions(**options, budget=Budget(price, collection, machines, cpus))
    measured = measure_costs(bundles, asked, command=command_line())
    write(measured, measured.to_markdown(), output)
