"""``glass-batch``: judge whole collections, shard by shard, on one machine or on many."""

from __future__ import annotations

import click

from .batching.merge import merge
from .batching.plan import plan
from .batching.run import run
from .batching.status import status
from .console import GlassGroup
from .options import version_option

_EXAMPLES = """
\b
Examples:
  glass-batch plan photos/ -o plan.jsonl
  glass-batch run plan.jsonl -b gl_vit.glass -o out/    again after a stop of any kind
  glass-batch status out/
  glass-batch merge out/ -o verdicts.parquet
"""


@click.group(
    cls=GlassGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EXAMPLES,
    help="Judge whole collections, shard by shard. A plan says which images make a shard; each "
    "shard that is judged leaves one Parquet file, its part; what has its part is done, whatever "
    "ended the run. Several processes, on one machine or many, can share a plan: with run --share, "
    "or each judges all of it.",
)
@version_option
def main() -> None:
    """Judge whole collections; see ``glass-batch --help``."""


for _command in (plan, run, status, merge):
    main.add_command(_command)
