"""``python -m fuzz images``: damage files by the thousand and see what becomes of them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
from glass_edge.runtime.results.tables import markdown_table

from . import bundles, images
from .harness import Child, Tally, keep, run_all
from .kinds import kinds


@click.group()
def main() -> None:
    """Exit with 1 if anything crashed, hung or raised what is no sentence."""


_files = click.option("--files", default=1000, show_default=True, help="Mutations of each kind.")
_seed = click.option("--seed", default=0, show_default=True, help="Other mutations.")
_keep = click.option(
    "--keep",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("build-fuzz"),
    show_default=True,
    help="Where inputs that were findings are kept.",
)


@main.command("images")
@_files
@click.option("--kind", "names", multiple=True, help="Only this; may be given several times.")
@_seed
@_keep
def images_command(files: int, names: tuple[str, ...], seed: int, folder: Path) -> None:
    """Decode damaged images."""
    known = kinds()
    tallies: dict[str, Tally] = {}
    for name in names or known:
        kind = known[name]
        with Child(kind.target, seconds=images.SECONDS, memory=images.MEMORY) as child:
            tallies[name] = run_all(child, kind.damage(name, kind.files, files, seed))
        for path in keep(folder, name, tallies[name]):
            click.echo(f"kept {path}", err=True)
        click.echo(f"{name}: {dict(tallies[name].outcomes)}", err=True)
    report(tallies)


@main.command("bundles")
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@_files
@click.option("--engine", "names", multiple=True, type=click.Choice(sorted(bundles.TARGETS)))
@_seed
@_keep
def bundles_command(
    bundle: Path, files: int, names: tuple[str, ...], seed: int, folder: Path
) -> None:
    """Open BUNDLE with damaged graphs, hashes made to fit, on each engine."""
    os.environ[bundles.BUNDLE_VARIABLE] = str(bundle.resolve())
    tallies: dict[str, Tally] = {}
    for name in names or bundles.TARGETS:
        target = bundles.TARGETS[name]
        with Child(target, seconds=bundles.SECONDS, memory=bundles.MEMORY) as child:
            tallies[name] = run_all(child, bundles.damaged(bundle, files, seed))
        for path in keep(folder, name, tallies[name]):
            click.echo(f"kept {path}", err=True)
    report(tallies)


def report(tallies: dict[str, Tally]) -> None:
    """Print a table; end with 1 if there were findings."""
    header = ["", "files", "read", "refused", "worst CPU s", "worst MB", "findings"]
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
