"""What a command works on: a bundle and images."""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import cast

import click

from ..bundle.finding import find_bundle
from ..containers.arguments import Named, images_named
from ..containers.container import ReadOptions
from ..containers.places import images_at
from ..finding.choosing import Reason
from ..finding.files import did_you_mean, readable_path
from ..finding.patterns import is_pattern, is_perhaps_a_name, matching
from ..finding.sources import STANDARD_INPUT, listed_images
from ..images.decode import settle_pillow
from ..images.encoded import DEFAULT_MAX_PIXELS
from ..machine.errors import InputError
from ..machine.printable import printable
from ..machine.stderr import keep_libraries_off_stderr
from ..storage.urls import is_url

_CHUNK = 1 << 16  # bytes
_SHOWN = 3  # matches of a pattern that may have been meant as a name


class PassedOver:
    """Says on standard error what the search of folders passes over.

    When the command ends, a summary counts each kind. With ``listed``, each file and folder is also
    named as soon as the search meets it.
    """

    def __init__(self, *, listed: bool) -> None:
        self._listed = listed
        self._counts: Counter[Reason] = Counter()
        click.get_current_context().call_on_close(self._summarise)

    def __call__(self, path: str, reason: Reason) -> None:
        """Count what is passed over; see :data:`..finding.choosing.Skip`."""
        self._counts[reason] += 1
        if self._listed:
            _say(f"passed over: {readable_path(path)} ({reason.one})")

    def _summarise(self) -> None:
        if self._counts:
            counts = ((reason, self._counts[reason]) for reason in Reason)
            kinds = ", ".join(reason.of(count) for reason, count in counts if count)
            _say(f"passed over: {kinds}{'' if self._listed else ' (--list-skipped names them)'}")


def chosen_bundle(
    named: Path | None, images: Sequence[str] = (), option: str | None = "--bundle"
) -> Path:
    """Return the bundle that was named, else the default one, and say on standard error which.

    Args:
        named: what the user gave.
        images: what will be judged, see :func:`..bundle.finding.find_bundle`.
        option: by which the command takes a bundle, see there.

    Raises:
        InputError: none was named, and there is no default.
    """
    if named is not None:
        return named
    found = find_bundle(Path.cwd(), images, option)
    shown = found.name if found.parent == Path.cwd() else found
    _say(f"bundle: {readable_path(shown)}")
    return found


def chosen_images(
    paths: Sequence[str], passed_over: PassedOver, options: ReadOptions, *, null: bool
) -> Named:
    """Return the images and, where it can be known beforehand, their number.

    Args:
        paths: what the user named.
        passed_over: is told what is passed over in folders.
        options: how archives and tables are read.
        null: whether a list on standard input is separated by NULs.

    Raises:
        InputError: see :func:`..containers.arguments.images_named`; or ``-`` is not alone, or
            ``null`` is given without it.
    """
    if STANDARD_INPUT in paths:
        if len(paths) > 1:
            raise InputError("- (a list on standard input) cannot be combined with other paths.")
        if sys.stdin is None:
            raise InputError("standard input is closed, so there is no list to read.")
        stdin = cast(BufferedReader, sys.stdin.buffer)
        chunks = iter(partial(stdin.read1, _CHUNK), b"")
        listed = listed_images(chunks, null=null)
        images = (image for path in listed for image in images_at(path, passed_over, options))
        return Named(images, None)
    if null:
        raise InputError("-0 is for a list on standard input: give - as the only path.")
    return images_named(paths, passed_over, options)


def settle_decoders(max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
    """Set the whole process up to decode users' images; only a command may do so.

    ``max_pixels`` replaces Pillow's own limit, and image libraries print nothing.
    """
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # the file's record says what is wrong
    settle_pillow(max_pixels)
    keep_libraries_off_stderr()


def note_missing(paths: Sequence[str]) -> None:
    """Say on standard error what the first missing path was perhaps meant to be.

    A missing path becomes an error record, which is easily overlooked. One with brackets is taken
    for a pattern, so that other images may be judged in its place.
    """
    first = next((path for path in paths if _is_missing_name(path)), None)
    if first is None:
        return
    others = matching(first) if is_pattern(first) else [first]
    meant = did_you_mean(first)
    if others != [first]:
        meant = f" As a pattern it matches {', '.join(map(readable_path, others[:_SHOWN]))}"
        meant += f" and {len(others) - _SHOWN} more." if len(others) > _SHOWN else "."
    if meant:
        _say(f"Note: there is no {readable_path(first)}.{meant}")


def _is_missing_name(path: str) -> bool:
    named = path != STANDARD_INPUT and not is_url(path) and is_perhaps_a_name(path)
    return named and not os.path.lexists(path)


def _say(text: str) -> None:
    click.echo(printable(text), err=True)
