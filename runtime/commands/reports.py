"""Reports: one object that is written as JSON, Markdown or a picture."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from ..finding.files import readable_path
from ..machine.errors import InputError
from ..results.output_file import cannot_be_written

JSON, MARKDOWN, PICTURE = ".json", ".md", ".png"
Makers: TypeAlias = Mapping[str, Callable[[], str | bytes]]
"""For each format what makes a report's content in it."""


def typed_command(program: str) -> str:
    """Return the command as it was typed, in text that any file can hold."""
    return readable_path(shlex.join([program, *sys.argv[1:]]))


def check_report_files(paths: Iterable[Path], formats: Sequence[str], *, force: bool) -> None:
    """Refuse before the work what could not be written after it.

    Raises:
        InputError: a name ends in none of ``formats``, its folder is missing, or it exists
            and ``force`` is not given.
    """
    for path in paths:
        if path.suffix.lower() not in formats:
            *others, last = formats
            raise InputError(
                f"cannot tell the format of {path}: give a name that ends in "
                f"{', '.join(others)} or {last}."
            )
        if not path.parent.is_dir():
            raise InputError(f"{path} cannot be written: there is no folder {path.parent}.")
        if path.exists() and not force:
            raise InputError(
                f"{path} exists already: choose another name, or --force to replace it."
            )


def write_report(paths: Iterable[Path], makers: Makers) -> None:
    """Write a report to each file in the format of its name.

    Raises:
        OutputError: a file cannot be written.
    """
    for path in paths:
        content = makers[path.suffix.lower()]()
        try:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        except OSError as error:
            raise cannot_be_written(path, error) from None
