"""The bundle that a command works with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ..bundle.finding import find_bundle
from ..images.files import readable_path
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
    click.echo(f"bundle: {printable(readable_path(shown))}", err=True)
    return found
