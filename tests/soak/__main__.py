"""``python -m soak BUNDLE``: see how a server takes thousands of requests of every kind."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from glass_edge.runtime.results.tables import markdown_table

from .endurance import endure
from .run import Tally

_PHASES = 4


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--exchanges", default=20_000, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Other exchanges.")
@click.option("--slow", default=20, show_default=True, help="Clients that send a byte a second.")
@click.option("--isolate", is_flag=True, help="As the server's option.")
def main(bundle: Path, exchanges: int, seed: int, slow: int, isolate: bool) -> None:
    """Exit with 1 if an answer was wrong or missing, or if the server complained."""
    phases = [exchanges // _PHASES] * _PHASES
    arguments = ["--isolate"] if isolate else []
    outcome = endure(bundle, phases, slow=slow, warm=True, seed=seed, arguments=arguments)
    report(outcome.tally)
    for held in outcome.held:
        click.echo(held)
    click.echo(f"journal: {dict(outcome.statuses)}; exit code {outcome.exit_code}")
    click.echo(outcome.said)
    sys.exit(bool(outcome.tally.complaints or outcome.said or outcome.exit_code))


def report(tally: Tally) -> None:
    """Print how many of each kind were answered how, and what was wrong."""
    rows = [
        [kind, ", ".join(f"{status}: {count}" for status, count in sorted(answers.items()))]
        for kind, answers in sorted(tally.answers.items())
    ]
    click.echo(markdown_table(["kind", "answers"], rows))
    click.echo(f"{tally.exchanges} exchanges, {tally.requests} requests")
    for complaint in tally.complaints:
        click.echo(complaint)


if __name__ == "__main__":
    main()
