"""What a command works on: a bundle and images."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from ..bundle.finding import find_bundle
from ..images.files import did_you_mean, readable_path
from ..images.sources import STANDARD_INPUT, find_images, listed_images
from ..machine.errors import InputError
from .printable import printable


def chosen_bundle(named: Path | None, images: Sequence[str] = ()) -> Path:
    """Return the bundle that was named, else the default one, and say on standard error which.

    Args:
        named: what the user gave.
        images: what will be judged, see :func:`..bundle.finding.find_bundle`.

    Raises:
        InputError: none was named, and there is no default.
    """
    if named is not None:
        return named
    found = find_bundle(Path.cwd(), images)
    shown = found.name if found.parent == Path.cwd() else found
    _say(f"bundle: {readable_path(shown)}")
    return found


def chosen_images(paths: Sequence[str]) -> tuple[Iterable[str], int | None]:
    """Return the images and, where it can be known beforehand, their number.

    Raises:
        InputError: see :func:`..images.sources.find_images`; or ``-`` is not alone.
    """
    if STANDARD_INPUT in paths:
        if len(paths) > 1:
            raise InputError("- (a list on standard input) cannot be combined with other paths.")
        return listed_images(sys.stdin.buffer), None
    found = find_images(paths)
    return found, len(found)


def note_missing(paths: Sequence[str]) -> None:
    """Say on standard error what the first path that is not there was perhaps meant to be.

    It becomes a record of an error, which is easily overlooked.
    """
    missing = (
        path
        for path in paths
        if not (path == STANDARD_INPUT or glob.has_magic(path) or os.path.lexists(path))
    )
    if (first := next(missing, None)) and (hint := did_you_mean(first)):
        _say(f"Note: there is no {readable_path(first)}.{hint}")


def _say(text: str) -> None:
    click.echo(printable(text), err=True)
