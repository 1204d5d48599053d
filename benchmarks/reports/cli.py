"""``glass-bench report``: what a report costs a run, and a page a browser."""

from __future__ import annotations

from pathlib import Path

import click

from ...runtime.bundle.bundle import Bundle
from ...runtime.commands.console import GlassCommand, check_libraries
from ...runtime.commands.inputs import PassedOver, chosen_bundle
from ...runtime.commands.options import bundle_option, common_options, list_skipped_option
from ...runtime.finding.sources import find_images
from ..cli_common import (
    TABLES,
    check_output,
    command_line,
    option,
    positive,
    several,
    tables_option,
    write,
)
from .browser import find_browser
from .measure import PAGES, measure_reports

_EXAMPLES = """
\b
Examples:
  glass-bench report photographs/ -b gl_vit.glass
  glass-bench report photographs/ -b gl_vit.glass -o report.json -o report.md
"""


@click.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
    help="Time glass-run on IMAGES (files, folders or patterns) with and without --report and "
    "--provenance, in turns; then time the making of large pages, and their opening in Chromium "
    "if that is installed.",
)
@click.argument("images", nargs=-1, required=True)
@bundle_option("The bundle.")
@option("--rounds", type=several, default=5, help="Rounds that count; one more warms up.")
@option(
    "--rows",
    type=positive,
    multiple=True,
    default=[rows for rows, _ in PAGES],
    help="Images in a page; the first page embeds their thumbnails, others keep them in a folder.",
)
@list_skipped_option
@tables_option
@common_options
def report(
    images: tuple[str, ...],
    bundle: Path | None,
    rounds: int,
    rows: tuple[int, ...],
    list_skipped: bool,
    output: tuple[Path, ...],
) -> None:
    """Measure reports; see ``glass-bench report --help``."""
    check_output(output, TABLES)
    check_libraries("a report", ["jinja2"], extra="report", reports=output)
    if find_browser() is not None:
        check_libraries("opening pages", ["playwright"], extra="test", reports=output)
    found = [
        str(Path(path).resolve()) for path in find_images(images, PassedOver(listed=list_skipped))
    ]
    opened = Bundle.open(chosen_bundle(bundle, images))
    pages = [(count, number > 0) for number, count in enumerate(rows)]
    measured = measure_reports(found, opened, rounds, pages=pages, command=command_line())
    write(measured, measured.to_markdown(), output)
