"""``glass-bench``: measure, side by side, in one run."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Protocol

import click

from ..runtime.bundle import Bundle
from ..runtime.console import GlassCommand, needing_libraries
from ..runtime.cpus import available_cpus
from ..runtime.engines import ENGINE_NAMES
from ..runtime.errors import ImageError
from ..runtime.options import backbone_option, bundles_option, common_options, report_option
from ..runtime.reports import JSON, MARKDOWN, check_report_files, write_report
from ..runtime.sources import find_images

_FORMATS = (JSON, MARKDOWN)
_EXAMPLES = """
\b
Examples:
  glass-bench views                              generated images of 1, 12, 24 and 48 MP
  glass-bench views photo.jpg -o report.md       your own image; tables to report.md
  glass-bench views --megapixels 12 --repeats 31 -o report.json
"""
_ENGINES_EXAMPLES = """
\b
Examples:
  glass-bench engines gl_vit.pt -b gl_vit.glass
  glass-bench engines gl_vit.pt -b gl_vit.glass -b gl_vit.int8.glass -o report.md
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


_report_option = report_option(
    "Write the report to FILE (.json or .md); may be given twice. The tables are shown in any case."
)


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
@_report_option
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
    _check_output(output)
    with needing_libraries("comparing with PyTorch", extra="export"):
        from .views import generated_images, measure_views
    contents = _read(images) if images else generated_images(megapixels)
    report = measure_views(
        contents,
        crops=crops,
        repeats=repeats,
        threads=[int(count) for count in threads],
        command=_command(),
    )
    _write(report, output)


@main.command(
    cls=GlassCommand,
    help="Compare decoders on every format: time, and the difference to Pillow's pixels.",
)
@click.option(
    "--megapixels", type=click.FloatRange(min=0.01), default=12, show_default=True, metavar="N"
)
@click.option("--repeats", type=click.IntRange(min=2), default=9, show_default=True)
@_report_option
@common_options
def decoders(megapixels: float, repeats: int, output: tuple[Path, ...]) -> None:
    """Measure decoders; see ``glass-bench decoders --help``."""
    _check_output(output)
    with needing_libraries("comparing with PyTorch", extra="export"):
        from .decoders import measure_decoders
    report = measure_decoders(megapixels=megapixels, repeats=repeats, command=_command())
    _write(report, output)


@main.command(
    cls=GlassCommand,
    epilog=_ENGINES_EXAMPLES,
    help="Compare the local backbone of CHECKPOINT in PyTorch, in FP32 and under BF16 autocast, "
    "with bundles made of it on each engine: time per crop, and the error of the features.",
)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@bundles_option(required=True)
@click.option(
    "--engine",
    "engines",
    multiple=True,
    type=click.Choice(ENGINE_NAMES),
    help="An engine; may be given several times. Default: all that are installed.",
)
@backbone_option
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Crops computed at once.",
)
@click.option("--repeats", type=click.IntRange(min=2), default=11, show_default=True)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=available_cpus,
    show_default="all CPUs available",
    help="CPU threads of each contestant.",
)
@_report_option
@common_options
def engines(
    checkpoint: Path,
    paths: tuple[Path, ...],
    engines: tuple[str, ...],
    backbone: str,
    batch_size: int,
    repeats: int,
    threads: int,
    output: tuple[Path, ...],
) -> None:
    """Measure engines; see ``glass-bench engines --help``."""
    _check_output(output)
    bundles = [Bundle.open(path) for path in paths]
    with needing_libraries("comparing with PyTorch", extra="export"):
        from .engines import EnginesOptions, measure_engines
    options = EnginesOptions(backbone, engines, batch_size, repeats, threads)
    _write(measure_engines(checkpoint, bundles, options, command=_command()), output)


class _Report(Protocol):
    def to_json(self) -> bytes: ...

    def to_markdown(self) -> str: ...


def _check_output(output: tuple[Path, ...]) -> None:
    check_report_files(output, _FORMATS, force=True)


def _write(report: _Report, output: tuple[Path, ...]) -> None:
    """Write the report to its files and show its tables."""
    click.echo(report.to_markdown(), nl=False)
    write_report(output, {JSON: report.to_json, MARKDOWN: report.to_markdown})


def _command() -> str:
    return shlex.join(["glass-bench", *sys.argv[1:]])


def _read(images: tuple[str, ...]) -> dict[str, bytes]:
    try:
        return {path: Path(path).read_bytes() for path in find_images(images)}
    except OSError as error:
        raise ImageError(f"{error.filename} cannot be read: {error.strerror}.") from None
