"""``glass-batch status``: how far a run is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import click
import msgspec

from ...machine.printable import printable
from ...shards.parts import Summary, part_summary, parts_in
from ...shards.settings import plan_of, settings_of
from ...storage.folders import folder_at
from ..console import GlassCommand
from ..options import common_options
from .options import check_parquet

_SHOWN = 10  # missing shards that are named
_EXAMPLES = """
\b
Examples:
  glass-batch status out/
  glass-batch status out/ --json | jq .missing
  while glass-batch status out/; [ $? = 1 ]; do sleep 60; done
"""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run is.

    ``left`` is how many images are not judged yet, null if the plan does not know how many there
    are. ``missing`` are the shards that have no part.
    """

    complete: bool
    bundle: str
    shards: int
    missing: list[int]
    left: int | None
    summary: Summary


def status_of(address: str) -> Status:
    """Look at the run in a folder.

    Raises:
        InputError: there is none, or something of it is damaged.
    """
    folder = folder_at(address)
    settings = settings_of(folder)
    plan = plan_of(folder, settings)
    parts = parts_in(folder, settings.bundle_sha256, plan.shards)
    summary = Summary.of(part_summary(folder, name) for name in parts.values())
    return Status(
        complete=len(parts) == plan.shards,
        bundle=settings.bundle,
        shards=plan.shards,
        missing=[shard for shard in range(plan.shards) if shard not in parts],
        left=None if plan.images is None else max(0, plan.images - summary.images),
        summary=summary,
    )


@click.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
    short_help="Say how far a run is.",
    help="Say how far the run in OUT is. Exits with 1 while shards are missing.",
)
@click.argument("output", metavar="OUT")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@common_options
@click.pass_context
def status(ctx: click.Context, output: str, as_json: bool) -> None:
    """Show how far a run is; see ``glass-batch status --help``."""
    check_parquet()
    found = status_of(output)
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        click.echo("\n".join(map(printable, _lines(found))))
    if not found.complete:
        ctx.exit(1)


def _lines(status: Status) -> Iterator[str]:
    done = status.shards - len(status.missing)
    yield f"shards    {done} of {status.shards} done"
    if status.missing:
        more = ", ..." if len(status.missing) > _SHOWN else ""
        left = "" if status.left is None else f" ({status.left} images)"
        yield f"missing   {', '.join(map(str, status.missing[:_SHOWN]))}{more}{left}"
    yield from summary_lines(status.summary)
    yield f"bundle    {status.bundle}"


def summary_lines(summary: Summary) -> Iterator[str]:
    """Yield a line for each thing that is known of the parts."""
    yield f"images    {summary.images}"
    yield f"verdicts  {_counted(summary.verdicts)}"
    yield f"errors    {_counted(summary.errors)}"
    yield f"speed     {summary.images_per_second:.1f} images/s in one process"
    if summary.engines:
        yield f"engines   {_counted(summary.engines)}; {_counted(summary.precisions)}"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
