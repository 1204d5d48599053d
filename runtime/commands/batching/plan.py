"""``glass-batch plan``: say which images of a collection are judged together."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from io import BufferedReader
from itertools import chain
from typing import cast

import click

from ...containers.container import ReadOptions
from ...containers.formats import TABLE, check, suffix_of
from ...containers.places import container_at
from ...finding.files import readable_path
from ...finding.sources import STANDARD_INPUT, listed_images
from ...machine.errors import InputError
from ...machine.printable import printable
from ...machine.signals import ending_on_sigterm
from ...shards.plan import End, PlanWriter
from ...shards.planning import (
    DEFAULT_BYTES,
    DEFAULT_IMAGES,
    Item,
    Limits,
    item_at,
    listed,
    listed_in,
    write_plan,
)
from ..console import GlassCommand
from ..inputs import PassedOver
from ..options import column_option, common_options, force_option, list_skipped_option
from .options import new_output, size, size_text

_CHUNK = 1 << 16  # bytes
_EXAMPLES = """
\b
Examples:
  glass-batch plan photos/ -o plan.jsonl                a folder, searched recursively
  glass-batch plan 'shards/*.tar' -o plan.jsonl         archives, one to a shard
  glass-batch plan s3://bucket/photos/ -o plan.jsonl    object storage
  glass-batch plan --inventory keys.csv.gz -o plan.jsonl
  find /data -name '*.jpg' | glass-batch plan - -o plan.jsonl --images 2000
"""


@click.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
    short_help="Divide a collection into shards.",
    help="Divide a collection into shards: folders (searched recursively), glob patterns, archives "
    "(.tar, .zip), tables (.parquet), addresses (s3://bucket/prefix), or - for a list of images, "
    "archives and tables on standard input. A folder without images, but with archives or tables, "
    "stands for those.",
)
@click.argument("sources", metavar="SOURCE...", nargs=-1)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    required=True,
    help="Write the plan to FILE, a path or an address.",
)
@click.option(
    "--images",
    metavar="N",
    type=click.IntRange(min=1),
    default=DEFAULT_IMAGES,
    show_default=True,
    help="The most images in a shard. An archive or a table is a shard of its own.",
)
@click.option(
    "--bytes",
    "most_bytes",
    metavar="SIZE",
    type=size,
    default=size_text(DEFAULT_BYTES),
    show_default=True,
    help="The most bytes in a shard, as 4GB or 512MiB; whichever limit is reached first.",
)
@click.option(
    "--inventory",
    "inventories",
    metavar="FILE",
    multiple=True,
    help="A list of what the collection holds: .txt, a path or an address on each line; .csv or "
    ".csv.gz as S3 Inventory writes it, or with a header that names bucket, key and size; "
    ".parquet with columns bucket, key and size, or path. May be given several times.",
)
@column_option
@force_option("FILE")
@list_skipped_option
@common_options
def plan(
    sources: tuple[str, ...],
    output: str,
    images: int,
    most_bytes: int,
    inventories: tuple[str, ...],
    column: str | None,
    force: bool,
    list_skipped: bool,
) -> None:
    """Plan; see ``glass-batch plan --help``."""
    if not sources and not inventories:
        raise click.UsageError("Missing argument 'SOURCE...' or option '--inventory'.")
    items = _items(sources, inventories, PassedOver(listed=list_skipped))
    named = [readable_path(each) for each in (*sources, *inventories)]
    options = ReadOptions(column)
    with ending_on_sigterm(), new_output(output, force=force) as file:
        writer = PlanWriter(file, named, column)
        end = write_plan(_checked(items, options), Limits(images, most_bytes), writer)
    click.echo(printable(f"{_totals(end)}: {readable_path(output)}"), err=True)


def _checked(items: Iterable[Item], options: ReadOptions) -> Iterator[Item]:
    """Pass on what is planned, and look into the first table.

    Raises:
        InputError: it has no such column; or a column is named, and there is no table.
    """
    tables = False
    for item in items:
        if not tables and item.container and suffix_of(item.path) == TABLE:
            tables = True
            if container := container_at(item.path):
                check(container, options)
        yield item
    if options.column is not None and not tables:
        raise InputError("--column is for .parquet tables, and there is none: leave it out.")


def _items(
    sources: Sequence[str], inventories: Sequence[str], passed_over: PassedOver
) -> Iterator[Item]:
    if STANDARD_INPUT in sources and len(sources) > 1:
        raise InputError("- (a list on standard input) cannot be combined with other sources.")
    named = (
        _listed_on_stdin() if source == STANDARD_INPUT else listed(source, passed_over)
        for source in sources
    )
    in_inventories = (listed_in(inventory, passed_over) for inventory in inventories)
    return chain.from_iterable(chain(named, in_inventories))


def _listed_on_stdin() -> Iterator[Item]:
    if sys.stdin is None:
        raise InputError("standard input is closed, so there is no list to read.")
    stdin = cast(BufferedReader, sys.stdin.buffer)
    yield from map(item_at, listed_images(iter(partial(stdin.read1, _CHUNK), b"")))


def _totals(end: End) -> str:
    images = "an unknown number of" if end.images is None else str(end.images)
    total = "" if end.bytes is None else f", {size_text(end.bytes)}"
    noun = "shard" if end.shards == 1 else "shards"
    return f"{end.shards} {noun}, {images} {'image' if end.images == 1 else 'images'}{total}"
