"""``glass-bench views`` and ``glass-bench decoders``."""

from __future__ import annotations

from pathlib import Path

import click

from ...runtime.commands.console import GlassCommand, needing_libraries
from ...runtime.commands.inputs import PassedOver
from ...runtime.commands.options import common_options, list_skipped_option
from ...runtime.finding.choosing import Skip
from ...runtime.finding.sources import find_images
from ...runtime.images.decode import settle_pillow
from ...runtime.machine.errors import ImageError
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

_EXAMPLES = """
\b
Examples:
  glass-bench views                              generated images of 1, 12, 24 and 48 MP
  glass-bench views photo.jpg -o report.md       your own image; tables to report.md
  glass-bench views --megapixels 12 --repeats 31 -o report.json
"""


@click.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
    help="Compare the roads from an image file to the model's views: time by stage, and the error "
    "of the global view. Takes images, or makes some of the sizes given.",
)
@click.argument("images", nargs=-1)
@option(
    "--megapixels",
    default="1,12,24,48",
    callback=megapixels,
    help="Sizes of the images to make when none are given.",
)
@option("--crops", type=positive, default=10)
@option("--repeats", type=several, default=15)
@option("--threads", default="1,2", callback=counts, help="Numbers of worker threads to compare.")
@list_skipped_option
@tables_option
@common_options
def views(
    images: tuple[str, ...],
    megapixels: tuple[float, ...],
    crops: int,
    repeats: int,
    threads: tuple[int, ...],
    list_skipped: bool,
    output: tuple[Path, ...],
) -> None:
    """Measure roads to views; see ``glass-bench views --help``."""
    check_output(output, TABLES)
    with needing_libraries("comparing with PyTorch", extra="export"):
        from ..measuring.generated import generated_images
        from .measure import measure_views
    passed_over = PassedOver(listed=list_skipped)
    contents = _read(images, passed_over) if images else generated_images(megapixels)
    report = measure_views(
        contents,
        crops=crops,
        repeats=repeats,
        threads=threads,
        command=command_line(),
    )
    write(report, report.to_markdown(), output)


@click.command(
    cls=GlassCommand,
    help="Compare decoders on every format: time, and the difference to Pillow's pixels.",
)
@option("--megapixels", type=click.FloatRange(min=0.01), default=12, metavar="N")
@option("--repeats", type=several, default=9)
@tables_option
@common_options
def decoders(megapixels: float, repeats: int, output: tuple[Path, ...]) -> None:
    """Measure decoders; see ``glass-bench decoders --help``."""
    check_output(output, TABLES)
    with needing_libraries("comparing with PyTorch", extra="export"):
        from .decoders import measure_decoders
    settle_pillow()
    report = measure_decoders(megapixels=megapixels, repeats=repeats, command=command_line())
    write(report, report.to_markdown(), output)


def _read(images: tuple[str, ...], skip: Skip) -> dict[str, bytes]:
    try:
        return {path: Path(path).read_bytes() for path in find_images(images, skip)}
    except OSError as error:
        raise ImageError(f"{error.filename} cannot be read: {error.strerror}.") from None
