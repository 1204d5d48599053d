"""What the commands of ``glass-bench`` share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click

from ..runtime.commands.options import report_option
from ..runtime.commands.reports import (
    JSON,
    MARKDOWN,
    PICTURE,
    Makers,
    check_report_files,
    typed_command,
    write_report,
)
from ..runtime.engines.registry import engine_names

TABLES = (JSON, MARKDOWN)
TABLES_AND_PLOTS = (JSON, MARKDOWN, PICTURE)
_Function = TypeVar("_Function", bound=Callable[..., Any])


class Report(Protocol):
    """What a measurement found."""

    def to_json(self) -> bytes:
        """Return everything."""
        ...

    def to_markdown(self) -> str:
        """Return the tables."""
        ...


class PlottedReport(Report, Protocol):
    """What a measurement found, with plots."""

    def to_png(self) -> bytes:
        """Return the plots."""
        ...


tables_option = report_option(
    "Write the report to FILE (.json or .md); may be given twice. The tables are shown in any case."
)
plots_option = report_option(
    "Write the report to FILE (.json with every sample, .md) or its plots (.png); may be given "
    "several times. The tables are shown in any case."
)
engines_option = click.option(
    "--engine",
    "engines",
    multiple=True,
    type=click.Choice(engine_names()),
    help="An engine; may be given several times. Default: all that are installed.",
)

checkpoint_option = click.option(
    "--checkpoint",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The checkpoint that the bundles were exported from.",
)


def numbers(context: click.Context, option: click.Parameter, text: str) -> list[float]:
    """Parse ``1,12,24``; return each number once.

    Raises:
        click.BadParameter: it is not a list of positive numbers.
    """
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) <= 0:
        raise click.BadParameter(f"{text!r} is not a list of positive numbers such as 1,12,24.")
    return list(dict.fromkeys(found))


def counts(context: click.Context, option: click.Parameter, text: str) -> tuple[int, ...]:
    """Parse ``1,4,16``; return each number once, sorted.

    Raises:
        click.BadParameter: it is not a list of positive whole numbers.
    """
    found = numbers(context, option, text)
    if any(number != int(number) for number in found):
        raise click.BadParameter(f"{text!r} is not a list of whole numbers such as 1,4,16.")
    return tuple(sorted({int(number) for number in found}))


def command_line() -> str:
    """Return the command as it was typed."""
    return typed_command("glass-bench")


def plotted_makers(report: PlottedReport) -> Makers:
    """Return what makes a report's JSON, tables and plots."""
    return {JSON: report.to_json, MARKDOWN: report.to_markdown, PICTURE: report.to_png}


def write_tables(report: Report, output: tuple[Path, ...]) -> None:
    """Show a report's tables and write it to its files."""
    write_made({JSON: report.to_json, MARKDOWN: report.to_markdown}, output)


def write_made(makers: Makers, output: tuple[Path, ...]) -> None:
    """Show a report's tables and write it to its files in every format that is made."""
    click.echo(makers[MARKDOWN](), nl=False)
    write_report(output, makers)


def check_output(output: tuple[Path, ...], formats: tuple[str, ...]) -> None:
    """Refuse before the work what could not be written after it.

    Raises:
        InputError: see :func:`~glass_edge.runtime.commands.reports.check_report_files`.
    """
    check_report_files(output, formats, force=True)
