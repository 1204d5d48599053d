"""``glass-bench show``: reports again, and machines side by side."""

from __future__ import annotations

from pathlib import Path

import click

from ...runtime.commands.console import GlassCommand, check_libraries
from ...runtime.commands.options import common_options
from ...runtime.commands.reports import MARKDOWN, Makers, write_report
from ...runtime.machine.errors import InputError
from ..cli_common import TABLES_AND_PLOTS, check_output, plots_option, plotted_makers, write_made
from ..run.makers import run_makers
from ..run.report import RunReport
from .machines import AnyReport, Machines, read_report

_EXAMPLES = """
\b
Examples:
  glass-bench show report.json -o report.md -o report.png
  glass-bench show jetson.json laptop.json server.json -o machines.md
"""


@click.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
    help="Show what glass-bench run or scaling measured again, from its JSON. Several FILES of "
    "glass-bench run are compared in one table, a column each.",
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
        write_made(_makers(reports[0]), output)
        return
    runs = [report for report in reports if isinstance(report, RunReport)]
    if len(runs) < len(reports):
        raise InputError("only reports of glass-bench run can be compared with each other.")
    machines = Machines([path.stem for path in files], runs)
    click.echo(machines.to_markdown(), nl=False)
    write_report(output, {MARKDOWN: machines.to_markdown})


def _makers(report: AnyReport) -> Makers:
    return run_makers(report) if isinstance(report, RunReport) else plotted_makers(report)
