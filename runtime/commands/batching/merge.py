"""``glass-batch merge``: put the parts of a run together in one file."""

from __future__ import annotations

import click
import msgspec

from ...machine.errors import InputError
from ...machine.printable import printable
from ...machine.signals import ending_on_sigterm
from ...results.formats import finish, format_of, writer_of_whole
from ...shards.merging import merge as merge_parts
from ...shards.parts import parts_in
from ...shards.settings import plan_of, settings_of
from ...storage.folders import folder_at
from ..console import GlassCommand
from ..options import common_options, force_option
from .options import check_parquet, new_output
from .status import summary_lines

_EXAMPLES = """
\b
Examples:
  glass-batch merge out/ -o verdicts.parquet
  glass-batch merge out/ -o verdicts.jsonl --partial   what there is of a run that goes on
"""


@click.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
    short_help="Put the parts together in one file.",
    help="Write the records of all parts in OUT to one file, in the order of the shards, and sum "
    "them up. The parts stay.",
)
@click.argument("folder", metavar="OUT")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    required=True,
    help="Write records to FILE (.jsonl, .csv or .parquet), a path or an address.",
)
@force_option("FILE")
@click.option("--partial", is_flag=True, help="Do so also while shards are missing.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
@common_options
def merge(folder: str, output: str, force: bool, partial: bool, as_json: bool) -> None:
    """Merge parts; see ``glass-batch merge --help``."""
    check_parquet()
    suffix = format_of(output)
    found = folder_at(folder)
    settings = settings_of(found)
    shards = plan_of(found, settings).shards
    parts = parts_in(found, settings.bundle_sha256, shards)
    if len(parts) < shards and not partial:
        raise InputError(
            f"{shards - len(parts)} of {shards} parts are missing: go on with glass-batch run, or "
            "give --partial to merge what there is."
        )
    with ending_on_sigterm(), new_output(output, force=force) as file:
        writer = writer_of_whole(suffix, file, settings.classes)
        summary = merge_parts(found, [*parts.values()], writer)
        finish(writer)
    if as_json:
        click.echo(msgspec.json.encode(summary))
    else:
        click.echo("\n".join(map(printable, summary_lines(summary))))
