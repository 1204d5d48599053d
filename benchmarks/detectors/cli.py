"""``glass-bench detector``: a detector of one view beside the script that its users run."""

from __future__ import annotations

from pathlib import Path

import click

from ...export.options import ExportOptions
from ...runtime.bundle.bundle import Bundle
from ...runtime.commands.console import GlassCommand, check_libraries, needing_libraries
from ...runtime.commands.inputs import PassedOver
from ...runtime.commands.options import (
    bundles_option,
    common_options,
    detector_options,
    engine_option,
    list_skipped_option,
)
from ...runtime.finding.sources import find_images
from ...runtime.images.decode import settle_pillow
from ...runtime.judging.options import DEFAULT_BATCH_SIZE
from ..cli_common import (
    TABLES,
    check_output,
    checkpoint_option,
    command_line,
    cpus_option,
    option,
    positive,
    several,
    tables_option,
    write,
)

_COMPARING = "comparing with PyTorch"
_EXAMPLES = """
\b
Examples:
  glass-bench detector images/ --checkpoint commfor.safetensors -b commfor.glass
  glass-bench detector images/ --checkpoint cnnspot.pth -b cnnspot.glass -b cnnspot.int8.glass \\
      -o report.json -o report.md
"""


@click.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
    help="Compare bundles of a detector of one view with the script that its users run: Pillow, "
    "torchvision, a DataLoader and PyTorch. All judge the same IMAGES (files, folders or "
    "patterns), from their files to P(fake), in turns, each in a process of its own.",
)
@click.argument("images", nargs=-1, required=True)
@checkpoint_option
@bundles_option(required=True)
@engine_option
@detector_options
@option("--batch-size", type=positive, default=DEFAULT_BATCH_SIZE, help="Images in a batch.")
@cpus_option("--threads", "CPU threads of PyTorch.")
@cpus_option("--workers", "Processes or threads that read and decode.")
@option("--rounds", type=several, default=5, help="Rounds that count; one more warms up.")
@list_skipped_option
@tables_option
@common_options
def detector(
    images: tuple[str, ...],
    checkpoint: Path,
    paths: tuple[Path, ...],
    engine: str,
    family: str | None,
    preset: str | None,
    backbone: str,
    backbone_weights: Path | None,
    batch_size: int,
    threads: int,
    workers: int,
    rounds: int,
    list_skipped: bool,
    output: tuple[Path, ...],
) -> None:
    """Measure a detector; see ``glass-bench detector --help``."""
    check_output(output, TABLES)
    check_libraries(_COMPARING, ["torch"], extra="export", reports=output)
    settle_pillow()
    found = find_images(images, PassedOver(listed=list_skipped))
    bundles = [Bundle.open(path) for path in paths]
    options = ExportOptions(
        family=family, preset=preset, backbone=backbone, backbone_weights=backbone_weights
    )
    with needing_libraries(_COMPARING, extra="export"):
        from .measure import measure_detector
        from .script import Script
    script = Script(checkpoint, options, batch_size, threads, workers)
    report = measure_detector(script, bundles, engine, found, rounds, command=command_line())
    write(report, report.to_markdown(), output)
