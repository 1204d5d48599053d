"""What several of ``glass-batch``'s subcommands share: values of options, and a check."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import click

from ...finding.files import readable_path
from ...machine.errors import InputError
from ...results.output_file import cannot_be_written
from ...results.whole_file import is_there, whole_file
from ...shards.running import Share
from ..console import check_libraries
from ..running.output import STANDARD_OUTPUT

_UNITS = {"": 1, "b": 1}
_UNITS |= {f"{prefix}b": 1000**power for power, prefix in enumerate("kmgtp", 1)}
_UNITS |= {f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgtp", 1)}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.I | re.A)
_SHARE = re.compile(r"(\d{1,9})/(\d{1,9})", re.A)
_SHOWN = ("bytes", "kB", "MB", "GB", "TB", "PB")


def size(text: str) -> int:
    """Return a number of bytes from text with or without a unit: ``4GB``, ``512MiB``, ``100000``.

    Raises:
        BadParameter: it is none.
    """
    match = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(match[2].lower()) if match else None
    found = int(float(match[1]) * unit) if match and unit else 0
    if found < 1:
        raise click.BadParameter(f"{text!r} is no size: write 4GB, 512MiB or a number of bytes.")
    return found


def size_text(number: int) -> str:
    """Return a number of bytes as people write it: ``12.3 GB``."""
    value, power = float(number), 0
    while value >= 999.5 and power < len(_SHOWN) - 1:
        value, power = value / 1000, power + 1
    return f"{number} bytes" if not power else f"{value:.3g} {_SHOWN[power]}"


def share(text: str) -> Share:
    """Return a share from ``I/N``: of N processes the one with the number I, from 0.

    Raises:
        BadParameter: it is none.
    """
    match = _SHARE.fullmatch(text)
    found = Share(*map(int, match.groups())) if match else Share(0, 0)
    if found.number >= found.of:
        raise click.BadParameter(
            f"{text!r} is no share: of 8 processes the first is 0/8 and the last 7/8."
        )
    return found


def check_parquet() -> None:
    """Refuse before the work what cannot read or write parts.

    Raises:
        InputError: pyarrow is not installed.
    """
    check_libraries("glass-batch", ("pyarrow",), extra="parquet", reports=())


@contextmanager
def new_output(output: str, *, force: bool) -> Iterator[BinaryIO]:
    """Give a file to fill, which appears at a path or an address when the block ends well.

    Raises:
        InputError: it is there already, and ``force`` is not given.
        OutputError: it cannot be written.
    """
    if output == STANDARD_OUTPUT:
        raise InputError("-o - is no file: name one, or an address.")
    if not force and is_there(output):
        raise InputError(
            f"{readable_path(output)} exists already: choose another name, or --force to replace "
            "it."
        )
    try:
        with whole_file(output, replace=force) as file:
            yield file
    except OSError as error:
        raise cannot_be_written(output, error) from None
