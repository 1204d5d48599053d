"""``glass-eval``: evaluate bundles on labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from ...runtime.bundle.bundle import Bundle
from ...runtime.commands.console import GlassCommand, check_libraries
from ...runtime.commands.inputs import PassedOver, chosen_bundle, settle_decoders
from ...runtime.commands.options import (
    CropsChoice,
    bundles_option,
    common_options,
    device_option,
    engine_option,
    folder_argument,
    force_option,
    list_skipped_option,
    report_option,
    threads_option,
    threshold_option,
)
from ...runtime.commands.progress import on_console
from ...runtime.commands.reports import (
    JSON,
    MARKDOWN,
    PICTURE,
    Makers,
    check_report_files,
    typed_command,
    write_report,
)
from ...runtime.judging.options import AUTO_CROPS, DEFAULT_BATCH_SIZE
from ...runtime.machine.errors import InputError
from ...runtime.views.sizes import MOST_VIEWS
from .options import EvaluationOptions

_FORMATS = (JSON, MARKDOWN, PICTURE)
_EXAMPLES = """
\b
Examples:
  glass-eval images/                             images/fake and images/real, the bundle here
  glass-eval images/ --seeds 3 -o report.json -o report.md -o reliability.png
  glass-eval images/ -b gl_vit.glass -b gl_vit_int8.glass
  glass-eval images/ -b gl_vit.calibrated.glass --crops auto -o report.md -o crops.png
"""


@click.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
    help="Evaluate bundles on labelled images. DIR holds a folder of images for each class, named "
    "as the bundle names it (fake and real unless exported otherwise) and searched recursively. "
    "Several bundles judge the same crops and are compared with the first.",
)
@folder_argument
@bundles_option(required=False)
@report_option(
    "Write the report to FILE (.json with every score, .md) or its reliability plot (.png); "
    "may be given several times. The table is shown in any case."
)
@force_option("FILE")
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Judge every image with the seeds 0 to N-1.",
)
@threshold_option
@click.option(
    "--crops",
    type=CropsChoice(1, MOST_VIEWS),
    metavar="N|auto",
    help=f"Crops per image, up to {MOST_VIEWS}. Default: the bundles' number. With auto, each "
    "bundle's stopping rule is compared with fixed numbers, on the crops of two seeds; the plot "
    "shows crops spent against verdicts that differ from those with 64 crops.",
)
@engine_option
@device_option
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=DEFAULT_BATCH_SIZE,
    show_default=True,
    help="The most views given to the engine at once, and images in a batch.",
)
@threads_option
@list_skipped_option
@common_options
def main(
    folder: Path,
    paths: tuple[Path, ...],
    output: tuple[Path, ...],
    force: bool,
    seeds: int,
    threshold: float | None,
    crops: int | Literal["auto"] | None,
    engine: str,
    device: str,
    batch_size: int,
    threads: int,
    list_skipped: bool,
) -> None:
    """Evaluate bundles; see ``glass-eval --help``."""
    check_report_files(output, _FORMATS, force=force)
    check_libraries("evaluating", ["sklearn"], extra="eval", reports=output)
    settle_decoders()
    bundles = [Bundle.open(path) for path in paths or [chosen_bundle(None, [str(folder)])]]
    # Imported here, so that --help and wrong usage do not wait for scikit-learn.
    with on_console("loading scikit-learn"):
        from .measure import evaluate
        from .steadiness import evaluate_steadiness
    if crops == AUTO_CROPS and seeds != 1:
        raise InputError("--crops auto judges every image with two seeds: leave --seeds out.")
    options = EvaluationOptions(
        seeds=seeds,
        crops=crops if isinstance(crops, int) else None,
        threshold=threshold,
        engine=engine,
        device=device,
        batch_size=batch_size,
        threads=threads,
    )
    passed_over = PassedOver(listed=list_skipped)
    evaluation = evaluate_steadiness if crops == AUTO_CROPS else evaluate
    report = evaluation(
        folder, bundles, options, command=typed_command("glass-eval"), skip=passed_over
    )
    click.echo(report.to_markdown(), nl=False)
    makers: Makers = {JSON: report.to_json, MARKDOWN: report.to_markdown, PICTURE: report.to_png}
    write_report(output, makers)
