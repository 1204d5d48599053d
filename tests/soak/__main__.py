"""``python -m soak BUNDLE``: see how a server takes thousands of requests of every kind."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

import click
from glass_edge.runtime.results.tables import markdown_table

from .polite import MAX_BYTES, MAX_CROPS
from .run import Soak, Tally
from .server import Server

ARGUMENTS = ("--max-bytes", str(MAX_BYTES >> 20), "--max-crops", str(MAX_CROPS),
             "--max-queue", "1000", "--timeout", "300", "--drain-delay", "0")  # fmt: skip
"""Of a server that refuses none of the requests for want of room or time."""


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--exchanges", default=20_000, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Other exchanges.")
@click.option("--isolate", is_flag=True)
@click.option("--slow", default=20, show_default=True, help="Clients that send a byte a second.")
def main(bundle: Path, exchanges: int, seed: int, isolate: bool, slow: int) -> None:
    """Exit with 1 if an answer was wrong or missing, or if the server said anything."""
    arguments = (*ARGUMENTS, *(["--isolate"] if isolate else []))
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder), bundle, *arguments) as server:
        soak = Soak(server.port, seed)
        asyncio.run(_run(soak, server, exchanges, slow))
        alive, said = server.alive(), server.said
        click.echo(f"exit code {server.stop()}", err=True)
    report(soak.tally)
    click.echo(said)
    sys.exit(bool(soak.tally.complaints or said or not alive))


async def _run(soak: Soak, server: Server, exchanges: int, slow: int) -> None:
    trickling = asyncio.create_task(soak.trickle(slow, 3600))
    for _ in range(4):
        await soak.run(exchanges // 4)
        click.echo(await asyncio.to_thread(server.settle), err=True)
    trickling.cancel()


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
