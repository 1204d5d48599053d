"""``python -m fuzz images``: damage files by the thousand and see what becomes of them."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from glass_edge.runtime.reports import markdown_table

from . import images
from .harness import Child, Tally, keep, run_all
from .seeds import seeds


@click.group()
def main() -> None:
    """Exit with 1 if anything crashed, hung or raised what is no sentence."""


@main.command("images")
@click.option("--files", default=1000, show_default=True, help="Mutations of each format.")
@click.option("--format", "names", multiple=True, help="Only this; may be given several times.")
@click.option("--seed", default=0, show_default=True, help="Other mutations.")
@click.option("--keep", "folder", type=click.Path(path_type=Path), default=Path("build-fuzz"),
              show_default=True, help="Where inputs that were findings are kept.")  # fmt: skip
def images_command(files: int, names: tuple[str, ...], seed: int, folder: Path) -> None:
    """Decode damaged images."""
    known = seeds()
    tallies: dict[str, Tally] = {}
    for name in names or known:
        with Child(images.TARGET, seconds=images.SECONDS, memory=images.MEMORY) as child:
            tallies[name] = run_all(child, images.damaged(name, known[name], files, seed))
        for path in keep(folder, name, tallies[name]):
            click.echo(f"kept {path}", err=True)
        click.echo(f"{name}: {dict(tallies[name].outcomes)}", err=True)
    report(tallies)


def report(tallies: dict[str, Tally]) -> None:
    """Print a table; end with 1 if there were findings."""
    header = ["", "files", "read", "refused", "worst, s", "worst, MB", "findings"]
    click.echo(
        markdown_table(
            header,
            [
                [
                    name,
                    str(tally.outcomes.total()),
                    str(tally.outcomes["read"]),
                    str(tally.outcomes["refused"]),
                    f"{tally.seconds:.2f}",
                    f"{tally.memory / 1e6:.0f}",
                    str(len(tally.findings)),
                ]
                for name, tally in tallies.items()
            ],
        )
    )
    sys.exit(any(tally.findings for tally in tallies.values()))


if __name__ == "__main__":
    main()
