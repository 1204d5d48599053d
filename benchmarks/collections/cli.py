"""``glass-bench collections``: where images come from, where records go, and a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...runtime.bundle.bundle import Bundle
from ...runtime.commands.console import GlassCommand, check_libraries
from ...runtime.commands.inputs import PassedOver, chosen_bundle
from ...runtime.commands.options import (
    bundle_option,
    common_options,
    engine_option,
    list_skipped_option,
)
from ...runtime.finding.sources import find_images
from ...runtime.images.decode import settle_pillow
from ..cli_common import (
    TABLES,
    check_output,
    command_line,
    option,
    positive,
    several,
    tables_option,
    write,
)

_EXAMPLES = """
\b
Examples:
  glass-bench collections photographs/ -b gl_vit.glass --repeat 20 --cluster
  glass-bench collections photographs/ -b gl_vit.glass -o collections.json -o collections.md
"""


@click.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
    help="Judge the same IMAGES (files, folders or patterns) from a folder, archives, a table and "
    "object storage, and write records in every format, in turns; then follow the memory along a "
    "long archive.",
)
@click.argument("images", nargs=-1, required=True)
@bundle_option("The bundle.")
@engine_option
@option("--rounds", type=several, default=5, help="Rounds that count; one more warms up.")
@option(
    "--repeat",
    type=positive,
    default=10,
    help="How often each image is there, under different names; a passage should take seconds.",
)
@option(
    "--bucket/--no-bucket",
    default=True,
    help="Whether object storage takes part: moto's server, on this machine.",
)
@option(
    "--cluster",
    is_flag=True,
    help="Also compare two processes of glass-batch with two actors on a Ray cluster of this "
    "machine.",
)
@option("--records", type=positive, default=10_000, help="Records that each writer is given.")
@option(
    "--read-images",
    type=click.IntRange(min=0),
    default=100_000,
    help="Small images in the archive along which memory is measured; 0 leaves that out.",
)
@option(
    "--memory-images",
    "judged_images",
    type=click.IntRange(min=0),
    default=2_000,
    help="How many of those are judged, too.",
)
@list_skipped_option
@tables_option
@common_options
def collections(
    images: tuple[str, ...],
    bundle: Path | None,
    list_skipped: bool,
    output: tuple[Path, ...],
    **options: Any,
) -> None:
    """Measure collections; see ``glass-bench collections --help``."""
    check_output(output, TABLES)
    check_libraries("a table of images", ["pyarrow"], extra="parquet", reports=output)
    if options["bucket"]:
        needed = ["fsspec", "s3fs", "moto", "flask"]
        check_libraries("a bucket of this machine", needed, extra="test", reports=output)
    if options["cluster"]:
        check_libraries("--cluster", ["ray"], extra="ray", reports=output)
    from .cluster import own_cpus
    from .measure import measure_collections
    from .options import CollectionsOptions

    if options["cluster"]:
        own_cpus()  # refused before anything is measured
    settle_pillow()
    found = find_images(images, PassedOver(listed=list_skipped))
    opened = Bundle.open(chosen_bundle(bundle, images))
    measured = measure_collections(
        found, opened, CollectionsOptions(**options), command=command_line()
    )
    write(measured, measured.to_markdown(), output)
