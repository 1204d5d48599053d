"""The options of ``glass-run``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from ...results.resume import Retry
from ..options import (
    bundle_option,
    column_option,
    force_option,
    list_skipped_option,
)

_Function = TypeVar("_Function", bound=Callable[..., Any])

_OPTIONS = (
    click.argument("paths", metavar="PATH...", nargs=-1),
    bundle_option("The bundle."),
    click.option(
        "--bundle-sha256",
        metavar="DIGEST",
        help="Refuse any other bundle than the one whose glass.json has this SHA-256.",
    ),
    click.option(
        "-o",
        "--output",
        metavar="FILE",
        help="Write records to FILE (.jsonl, .csv or .parquet); - for JSON lines on stdout. "
        "Default: a table.",
    ),
    force_option("FILE"),
    click.option(
        "--resume",
        is_flag=True,
        help="Go on with FILE (.jsonl) after a stop of any kind: what it holds is not judged "
        "again, unless an image has changed or could not be read. Bundle, options and engine must "
        "be the same.",
    ),
    click.option(
        "--retry-errors",
        type=click.Choice(get_args(Retry)),
        default="read",
        show_default=True,
        help="With --resume, which images with an error are tried again: those whose file could "
        "not be read, all, or none.",
    ),
    click.option(
        "--add-bom",
        is_flag=True,
        help="Begin FILE (.csv) with a byte-order mark, without which Excel misreads names that "
        "are not ASCII.",
    ),
    click.option(
        "-0",
        "--null",
        is_flag=True,
        help="Paths on standard input end with NULs, as find -print0 writes them, not with line "
        "ends.",
    ),
    column_option,
    list_skipped_option,
    click.option(
        "--report",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Write a page (.html) that shows the images, their crops and what each crop did.",
    ),
    click.option(
        "--timings", is_flag=True, help="Show where the time went, and what bounds the run."
    ),
    click.option("--strict", is_flag=True, help="Exit with 1 if any image could not be judged."),
    click.option(
        "--self-test",
        "tested",
        is_flag=True,
        help="First compare the engine with the bundle's reference views, and print the figures; "
        "without PATH only that.",
    ),
)


def run_options(function: _Function) -> _Function:
    """Add the paths to judge and every option that is ``glass-run``'s own."""
    for each in reversed(_OPTIONS):
        function = each(function)
    return function
