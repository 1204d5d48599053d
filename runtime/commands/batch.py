"""``glass-batch``: judge whole collections, shard by shard, on one machine or on many."""

from __future__ import annotations

from difflib import get_close_matches

import click

from ..machine.printable import printable
from .batching.merge import merge
from .batching.plan import plan
from .batching.run import run
from .batching.status import status

_EXAMPLES = """
\b
Examples:
  glass-batch plan photos/ -o plan.jsonl
  glass-batch run plan.jsonl -b gl_vit.glass -o out/    again after a stop of any kind
  glass-batch status out/
  glass-batch merge out/ -o verdicts.parquet
"""


class _Group(click.Group):
    """A group that proposes a subcommand for one that it does not have."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name)
        if found is None and not ctx.resilient_parsing:
            close = get_close_matches(cmd_name, self.list_commands(ctx), n=1)
            meant = f"Did you mean {close[0]}?" if close else f"See {ctx.command_path} --help."
            ctx.fail(f"there is no command {printable(cmd_name)}. {meant}")
        return found


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EXAMPLES,
    help="Judge whole collections, shard by shard. A plan says which images make a shard; each "
    "shard that is judged leaves one Parquet file, its part; what has its part is done, whatever "
    "ended the run. Several processes, on one machine or many, can share a plan.",
)
def main() -> None:
    """Judge whole collections; see ``glass-batch --help``."""


for _command in (plan, run, status, merge):
    main.add_command(_command)
