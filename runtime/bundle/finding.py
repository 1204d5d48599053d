"""Which bundle to use when none is named."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..finding.sources import STANDARD_INPUT, lies_among
from ..machine.errors import InputError
from .bundle import BUNDLE_SUFFIX

BUNDLE_VARIABLE = "GLASS_BUNDLE"


def find_bundle(
    directory: Path, images: Sequence[str] = (), option: str | None = "--bundle"
) -> Path:
    """Find the bundle to use when none is named.

    The environment variable ``GLASS_BUNDLE`` decides, else the single ``*.glass`` in
    ``directory``. That must not lie among the images to judge: whoever gave you these may have
    put it there, and a bundle decides what is called fake.

    Args:
        directory: the working directory.
        images: the files, folders and patterns that are to be judged, as
            :func:`..finding.sources.find_images` takes them, or ``-``.
        option: by which the command is told a bundle; ``None`` if that is its argument.

    Raises:
        InputError: there are none or several, or it may have come with the images.
    """
    if named := os.environ.get(BUNDLE_VARIABLE):
        return Path(named)
    by = f" with {option}" if option else ""
    candidates = sorted(directory.glob(f"*{BUNDLE_SUFFIX}"))
    if not candidates:
        raise InputError(
            f"there is no *{BUNDLE_SUFFIX} in the working directory: name a bundle{by} or set "
            f"{BUNDLE_VARIABLE}, or make one with glass-export."
        )
    if len(candidates) > 1:
        listing = ", ".join(candidate.name for candidate in candidates)
        raise InputError(f"several bundles are here ({listing}): choose one{by}.")
    (found,) = candidates
    if STANDARD_INPUT in images:
        raise _unasked(found, by, "a list on standard input may name images that lie beside it")
    if lies_among(found, images):
        raise _unasked(found, by, "it lies among the images to judge and may have come with them")
    return found


def _unasked(bundle: Path, by: str, reason: str) -> InputError:
    return InputError(
        f"{bundle.name} is not used unasked, because {reason}: if you trust it, name it"
        f"{by and f'{by} {bundle.name}'}."
    )
