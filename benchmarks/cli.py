"""``glass-bench``: measure, side by side, in one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..runtime.bundle.bundle import Bundle
from ..runtime.commands.console import GlassCommand, GlassGroup, check_libraries, needing_libraries
from ..runtime.commands.inputs import PassedOver
from ..runtime.commands.options import (
    backbone_option,
    bundles_option,
    common_options,
    engine_option,
    list_skipped_option,
    version_option,
)
from ..runtime.commands.reports import MARKDOWN, write_report
from ..runtime.finding.sources import find_images
from ..runtime.images.decode import settle_pillow
from ..runtime.judging.options import DEFAULT_BATCH_SIZE
from ..runtime.machine.errors import InputError
from .cli_common import (
    TABLES,
    TABLES_AND_PLOTS,
    check_output,
    checkpoint_option,
    command_line,
    counts,
    cpus_option,
    engines_option,
    megapixels,
    option,
    plots_option,
    positive,
    several,
    tables_option,
    write,
)
from .collections.cli import collections
from .costs.cli import costs
from .detectors.cli import detector
from .int8.cli import int8
from .machines import Machines, read_report
from .reports.cli import report
from .run.plots import plot_run
from .run.report import RunReport
from .run.tables import run_markdown
from .serving.cli import serve
from .views.cli import decoders, views

_COMPARING = "comparing with PyTorch"
_RUN_EXAMPLES = """
\b
Examples:
  glass-bench run images/ --checkpoint gl_vit.pt -b gl_vit.glass
  glass-bench run images/ --checkpoint gl_vit.pt -b gl_vit.glass -b gl_vit.int8.glass \\
      -o report.json -o report.md -o report.png
  glass-bench run images/ --checkpoint gl_vit.pt -b gl_vit.glass \\
      --batches 1,2,4,8,16 --scale-crops 1,2,4,8,16 --scale-megapixels 1,4,12,24,48
"""
_ENGINES_EXAMPLES = """
\b
Examples:
  glass-bench engines gl_vit.pt -b gl_vit.glass
  glass-bench engines gl_vit.pt -b gl_vit.glass -b gl_vit.int8.glass -o report.md
  glass-bench engines gl_vit.pt -b gl_vit.fp16.glass --batch-size 1,8,64 --compile
"""
_PIPELINE_EXAMPLES = """
\b
Examples:
  glass-bench pipeline images/ -b gl_vit.glass
  glass-bench pipeline images/ -b gl_vit.int8.glass --batch-size 32 -o report.md
"""
_SHOW_EXAMPLES = """
\b
Examples:
  glass-bench show report.json -o report.md -o report.png
  glass-bench show jetson.json laptop.json server.json -o machines.md
"""


@click.group(cls=GlassGroup, context_settings={"help_option_names": ["-h", "--help"]})
@version_option
def main() -> None:
    """Measure glass-edge against what would be used instead."""


main.add_command(collections)
main.add_command(costs)
main.add_command(views)
main.add_command(decoders)
main.add_command(int8)
main.add_command(detector)
main.add_command(report)
main.add_command(serve)


@main.command(
    cls=GlassCommand,
    epilog=_ENGINES_EXAMPLES,
    help="Compare the local backbone of CHECKPOINT in PyTorch, in FP32 and under autocast, "
    "with bundles made of it on each engine: time per crop, and the error of the features.",
)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@bundles_option(required=True)
@engines_option
@backbone_option
@option(
    "--batch-size",
    "batch_sizes",
    metavar="N,...",
    default="10",
    callback=counts,
    help="Crops computed at once; several sizes for a row each.",
)
@option("--repeats", type=several, default=11)
@option(
    "--compile/--no-compile",
    "compiled",
    default=False,
    help="Whether torch.compile takes part; it compiles for minutes.",
)
@cpus_option("--threads", "CPU threads of each contender.")
@tables_option
@common_options
def engines(
    checkpoint: Path, paths: tuple[Path, ...], output: tuple[Path, ...], **options: Any
) -> None:
    """Measure engines; see ``glass-bench engines --help``."""
    check_output(output, TABLES)
    bundles = [Bundle.open(path) for path in paths]
    with needing_libraries(_COMPARING, extra="export"):
        from .engines import measure_engines
    report = measure_engines(checkpoint, bundles, **options, command=command_line())
    write(report, report.to_markdown(), output)


@main.command(
    cls=GlassCommand,
    epilog=_RUN_EXAMPLES,
    help="Compare bundles on every engine with PyTorch: as the paper runs it, at its best, and "
    "on every tile of the image; and with what most would write. All judge the same crops of "
    "the same IMAGES (files, folders or patterns), in turns, each in a process of its own.",
)
@click.argument("images", nargs=-1, required=True)
@checkpoint_option
@bundles_option(required=True)
@engines_option
@backbone_option
@click.option("--crops", type=positive, help="Crops per image. Default: the bundles' number.")
@option("--seed", type=int, default=0, help="Which crops are drawn.")
@option(
    "--batch-size",
    type=positive,
    default=DEFAULT_BATCH_SIZE,
    help="The most images that PyTorch takes at once, and a bundle's most views at once.",
)
@option(
    "--batches",
    default="1,4,16",
    callback=counts,
    help="Images in a batch whose views lie ready, to measure the engine only.",
)
@click.option(
    "--scale-crops",
    metavar="N,...",
    callback=counts,
    help="Numbers of crops to measure what one more costs, for example 1,2,4,8,16.",
)
@click.option(
    "--scale-megapixels",
    metavar="N,...",
    callback=megapixels,
    help="Sizes of generated images to measure what one more megapixel costs, for example "
    "1,4,12,24,48.",
)
@option("--rounds", type=several, default=5, help="Rounds that count; one more warms up.")
@option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=0.5,
    help="How long a batch is repeated in each round.",
)
@option(
    "--full-size-images",
    type=click.IntRange(min=0),
    default=2,
    metavar="N",
    help="Images judged by every tile, which is slow; 0 leaves it out.",
)
@option(
    "--compile/--no-compile",
    "compiled",
    default=True,
    help="Whether torch.compile takes part; it compiles for minutes.",
)
@cpus_option(
    "--threads",
    "CPU threads of PyTorch, and of a bundle's engine alone; from files a bundle takes those "
    "of --workers.",
)
@cpus_option("--workers", "Threads or processes that read and decode; in bundles they judge, too.")
@list_skipped_option
@plots_option
@common_options
def run(
    images: tuple[str, ...],
    checkpoint: Path,
    paths: tuple[Path, ...],
    crops: int | None,
    seed: int,
    batch_size: int,
    threads: int,
    workers: int,
    list_skipped: bool,
    output: tuple[Path, ...],
    **options: Any,
) -> None:
    """Measure against PyTorch; see ``glass-bench run --help``."""
    check_output(output, TABLES_AND_PLOTS)
    check_libraries(_COMPARING, ["torch"], extra="export", reports=output)
    settle_pillow()
    found = find_images(images, PassedOver(listed=list_skipped))
    bundles = [Bundle.open(path) for path in paths]
    with needing_libraries(_COMPARING, extra="export"):
        from .contenders.work import Setup
        from .measuring.bundles import common_views
        from .run.measure import measure_run
        from .run.options import RunOptions
    setup = Setup(common_views(bundles, crops), seed, batch_size, threads, workers)
    asked = RunOptions(**options)
    report = measure_run(checkpoint, bundles, found, setup, asked, command=command_line())
    _write_run(report, output)


@main.command(
    cls=GlassCommand,
    epilog=_PIPELINE_EXAMPLES,
    help="Compare the detector on IMAGES (files, folders or patterns) with its two halves alone, "
    "making views and running the engine: how much of what is possible it delivers.",
)
@click.argument("images", nargs=-1, required=True)
@bundles_option(required=True)
@engine_option
@click.option("--crops", type=positive, help="Default: the bundles' number.")
@option("--batch-size", type=positive, default=DEFAULT_BATCH_SIZE)
@click.option("--isolate", is_flag=True, help="Let the whole decode in processes of its own.")
@option("--rounds", type=several, default=7)
@list_skipped_option
@tables_option
@common_options
def pipeline(
    images: tuple[str, ...],
    paths: tuple[Path, ...],
    engine: str,
    crops: int | None,
    batch_size: int,
    isolate: bool,
    rounds: int,
    list_skipped: bool,
    output: tuple[Path, ...],
) -> None:
    """Measure the pipeline; see ``glass-bench pipeline --help``."""
    check_output(output, TABLES)
    settle_pillow()
    bundles = [Bundle.open(path) for path in paths]
    found = find_images(images, PassedOver(listed=list_skipped))
    from .contenders.ours import BundleContender
    from .contenders.work import Setup
    from .measuring.bundles import common_views
    from .pipeline import measure_pipeline

    contenders = [BundleContender(bundle, engine, isolate) for bundle in bundles]
    setup = Setup(common_views(bundles, crops), batch_size=batch_size)
    report = measure_pipeline(contenders, found, setup, rounds, command=command_line())
    write(report, report.to_markdown(), output)


@main.command(
    cls=GlassCommand,
    epilog=_SHOW_EXAMPLES,
    help="Show what glass-bench run measured again, from its JSON. Several FILES are compared in "
    "one table, a column each.",
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@plots_option
@common_options
def show(files: tuple[Path, ...], output: tuple[Path, ...]) -> None:
    """Show reports; see ``glass-bench show --help``."""
    check_output(output, TABLES_AND_PLOTS)
    if len(files) > 1 and any(path.suffix.lower() != MARKDOWN for path in output):
        raise InputError("several reports become one table: give a name that ends in .md.")
    check_libraries("showing reports", [], extra="eval", reports=output)
    reports = [read_report(path) for path in files]
    if len(reports) == 1:
        _write_run(reports[0], output)
        return
    machines = Machines([path.stem for path in files], reports)
    click.echo(machines.to_markdown(), nl=False)
    write_report(output, {MARKDOWN: machines.to_markdown})


def _write_run(report: RunReport, output: tuple[Path, ...]) -> None:
    write(report, run_markdown(report), output, lambda: plot_run(report))
