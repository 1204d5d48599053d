"""``glass-bench``: measure, side by side, in one run."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from ..runtime.console import GlassCommand, common_options
from ..runtime.errors import ImageError, InputError
from ..runtime.sources import find_images

_EXAMPLES = """
\b
Examples:
  glass-bench views                              generated images of 1, 12, 24 and 48 MP
  glass-bench views photo.jpg -o report.md       your own image; tables to report.md
  glass-bench views --megapixels 12 --repeats 31 -o report.json
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure glass-edge against what would be used instead."""


def _numbers(context: click.Context, option: click.Parameter, text: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) <= 0:
        raise click.BadParameter(f"{text!r} is not a list of positive numbers such as 1,12,24.")
    return numbers


@main.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
    help="Compare the roads from an image file to the model's views: time by stage, and the error "
    "of the global view. Takes images, or makes some of the sizes given.",
)
@click.argument("images", nargs=-1)
@click.option(
    "--megapixels",
    default="1,12,24,48",
    show_default=True,
    callback=_numbers,
    help="Sizes of the images to make when none are given.",
)
@click.option("--crops", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--repeats", type=click.IntRange(min=2), default=15, show_default=True)
@click.option(
    "--threads",
    default="1,2",
    show_default=True,
    callback=_numbers,
    help="Numbers of worker threads to compare.",
)
@click.option(
    "-o",
    "--output",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the report to FILE (.json or .md); may be given twice. The tables are shown "
    "in any case.",
)
@common_options
def views(
    images: tuple[str, ...],
    megapixels: list[float],
    crops: int,
    repeats: int,
    threads: list[float],
    output: tuple[Path, ...],
) -> None:
    """Measure roads to views; see ``glass-bench views --help``."""
    for path in output:
        if path.suffix not in (".json", ".md"):
            raise InputError(f"{path} must end in .json or .md.")
    try:
        from .views import generated_images, measure_views
    except ModuleNotFoundError as error:
        raise InputError(
            f"the benchmark compares with PyTorch and needs {error.name}: "
            "pip install 'glass-edge[export]'."
        ) from None
    contents = _read(images) if images else generated_images(megapixels)
    report = measure_views(
        contents,
        crops=crops,
        repeats=repeats,
        threads=[int(count) for count in threads],
        command=shlex.join(["glass-bench", *sys.argv[1:]]),
    )
    for path in output:
        content = report.to_json() if path.suffix == ".json" else report.to_markdown().encode()
        path.write_bytes(content)
    click.echo(report.to_markdown(), nl=False)


def _read(images: tuple[str, ...]) -> dict[str, bytes]:
    try:
        return {path: Path(path).read_bytes() for path in find_images(images)}
    except OSError as error:
        raise ImageError(f"{error.filename} cannot be read: {error.strerror}.") from None
