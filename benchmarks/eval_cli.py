"""``glass-eval``: evaluate bundles on labelled images."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import click

from ..runtime.bundle import BUNDLE_VARIABLE, Bundle, find_bundle
from ..runtime.console import GlassCommand, common_options, step
from ..runtime.detector import DEFAULT_BATCH_SIZE, DEFAULT_THRESHOLD
from ..runtime.engines import DEVICE_NAMES, ENGINE_NAMES
from ..runtime.errors import InputError
from ..runtime.reports import JSON, MARKDOWN, PICTURE, Makers, check_report_files, write_report

_FORMATS = (JSON, MARKDOWN, PICTURE)
_EXAMPLES = """
\b
Examples:
  glass-eval images/                             images/fake and images/real, the bundle here
  glass-eval images/ --seeds 3 -o report.json -o report.md -o reliability.png
  glass-eval images/ -b gl_vit.glass -b gl_vit_int8.glass
"""


@click.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
    help="Evaluate bundles on labelled images. DIR holds a folder of images for each class, named "
    "as the bundle names it (fake and real unless exported otherwise) and searched recursively. "
    "Several bundles judge the same crops and are compared with the first.",
)
@click.argument(
    "folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option(
    "-b",
    "--bundle",
    "paths",
    multiple=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help=f"A bundle; may be given several times. Default: ${BUNDLE_VARIABLE}, else the only "
    "*.glass here.",
)
@click.option(
    "-o",
    "--output",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the report to FILE (.json with every score, .md) or its reliability plot (.png); "
    "may be given several times. The table is shown in any case.",
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Judge every image with the seeds 0 to N-1.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0.0, 1.0),
    default=DEFAULT_THRESHOLD,
    show_default=True,
    help="P(fake) from which an image is called fake.",
)
@click.option(
    "--crops", type=click.IntRange(min=1), help="Crops per image. Default: the bundles' number."
)
@click.option(
    "--engine",
    type=click.Choice(["auto", *ENGINE_NAMES]),
    default="auto",
    show_default=True,
    help="What executes the graphs.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", *DEVICE_NAMES]),
    default="auto",
    show_default=True,
    help="Where it executes them.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=DEFAULT_BATCH_SIZE,
    show_default=True,
    help="The most views given to the engine at once, and images in a batch.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    help="The engine's CPU threads. Default: all.",
)
@common_options
def main(
    folder: Path,
    paths: tuple[Path, ...],
    output: tuple[Path, ...],
    force: bool,
    seeds: int,
    threshold: float,
    crops: int | None,
    engine: str,
    device: str,
    batch_size: int,
    threads: int,
) -> None:
    """Evaluate bundles; see ``glass-eval --help``."""
    check_report_files(output, _FORMATS, force=force)
    _check_libraries(output)
    bundles = [Bundle.open(path) for path in paths or [find_bundle(Path.cwd())]]
    # Imported here, so that --help and wrong usage do not wait for scikit-learn.
    with step("loading scikit-learn"):
        from .evaluation import EvaluationOptions, evaluate
    options = EvaluationOptions(
        seeds=seeds,
        crops=crops,
        threshold=threshold,
        engine=engine,
        device=device,
        batch_size=batch_size,
        threads=threads,
    )
    command = shlex.join(["glass-eval", *sys.argv[1:]])
    report = evaluate(folder, bundles, options, command=command)
    click.echo(report.to_markdown(), nl=False)
    makers: Makers = {JSON: report.to_json, MARKDOWN: report.to_markdown, PICTURE: report.to_png}
    write_report(output, makers)


def _check_libraries(output: Sequence[Path]) -> None:
    """Refuse before the work what needs a library that is not there."""
    plots = any(path.suffix.lower() == PICTURE for path in output)
    needed = {"sklearn": "evaluating needs scikit-learn"}
    if plots:
        needed["matplotlib"] = "a plot needs matplotlib"
    for module, what in needed.items():
        if find_spec(module) is None:
            raise InputError(f"{what}, which is not installed: pip install 'glass-edge[eval]'.")
