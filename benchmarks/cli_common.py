"""What the commands of ``glass-bench`` share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ..runtime.commands.options import report_option
from ..runtime.commands.reports import (
    JSON,
    MARKDOWN,
    PICTURE,
    check_report_files,
    typed_command,
    write_report,
)
from ..runtime.engines.registry import engine_names
from ..runtime.images.encoded import DEFAULT_MAX_PIXELS
from ..runtime.machine.cpus import available_cpus
from .measuring.report import BenchReport

_Function = TypeVar("_Function", bound=Callable[..., Any])
_MOST_MEGAPIXELS = DEFAULT_MAX_PIXELS / 1e6
TABLES = (JSON, MARKDOWN)
TABLES_AND_PLOTS = (JSON, MARKDOWN, PICTURE)


tables_option = report_option(
    "Write the report to FILE (.json or .md); may be given twice. The tables are shown in any case."
)
plots_option = report_option(
    "Write the report to FILE (.json with every sample, .md) or its plots (.png); may be given "
    "several times. The tables are shown in any case."
)
checkpoint_option = click.option(
    "--checkpoint",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The checkpoint that the bundles were exported from.",
)
engines_option = click.option(
    "--engine",
    "engines",
    multiple=True,
    type=click.Choice(engine_names()),
    help="An engine; may be given several times. Default: all that can run here.",
)


positive = click.IntRange(min=1)
several = click.IntRange(min=2)


def option(*names: str, **settings: Any) -> Callable[[_Function], _Function]:
    """Add an option whose help shows its default."""
    return click.option(*names, **{"show_default": True, **settings})


def cpus_option(name: str, text: str) -> Callable[[_Function], _Function]:
    """Add an option for a number of threads or processes, as many as there are CPUs."""
    return option(
        name, type=positive, default=available_cpus, show_default="all CPUs available", help=text
    )


def numbers(context: click.Context, option: click.Parameter, text: str | None) -> tuple[float, ...]:
    """Parse ``1,12,24``; return each number once, and none of ``None``.

    Raises:
        click.BadParameter: it is not a list of positive numbers.
    """
    if text is None:
        return ()
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) <= 0:
        raise click.BadParameter(f"{text!r} is not a list of positive numbers such as 1,12,24.")
    return tuple(dict.fromkeys(found))


def megapixels(
    context: click.Context, option: click.Parameter, text: str | None
) -> tuple[float, ...]:
    """Parse ``1,12,24`` as :func:`numbers` does.

    Raises:
        click.BadParameter: it is not a list of sizes that an image may have.
    """
    found = numbers(context, option, text)
    if found and max(found) > _MOST_MEGAPIXELS:
        raise click.BadParameter(f"images have at most {_MOST_MEGAPIXELS:g} megapixels.")
    return found


def counts(context: click.Context, option: click.Parameter, text: str | None) -> tuple[int, ...]:
    """Parse ``1,4,16`` as :func:`numbers` does; sort them.

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


def write(
    report: BenchReport,
    tables: str,
    output: tuple[Path, ...],
    plot: Callable[[], bytes] | None = None,
) -> None:
    """Show a report's tables and write it to its files in every format that is made."""
    click.echo(tables, nl=False)
    makers: dict[str, Callable[[], str | bytes]] = {JSON: report.to_json, MARKDOWN: lambda: tables}
    if plot is not None:
        makers[PICTURE] = plot
    write_report(output, makers)


def check_output(output: tuple[Path, ...], formats: tuple[str, ...]) -> None:
    """Refuse before the work what could not be written after it.

    Raises:
        InputError: see :func:`~glass_edge.runtime.commands.reports.check_report_files`.
    """
    check_report_files(output, formats, force=True)
