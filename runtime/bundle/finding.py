"""Which bundle to use when none is named."""

from __future__ import annotations

import os
from pathlib import Path

from ..machine.errors import InputError
from .bundle import BUNDLE_SUFFIX

BUNDLE_VARIABLE = "GLASS_BUNDLE"


def find_bundle(directory: Path) -> Path:
    """Find the bundle to use when none is named.

    The environment variable ``GLASS_BUNDLE`` decides, else the single ``*.glass`` in
    ``directory``.

    Raises:
        InputError: there are none or several.
    """
    if named := os.environ.get(BUNDLE_VARIABLE):
        return Path(named)
    candidates = sorted(directory.glob(f"*{BUNDLE_SUFFIX}"))
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise InputError(
            f"there is no *{BUNDLE_SUFFIX} in the working directory: name a bundle with --bundle "
            f"or {BUNDLE_VARIABLE}, or make one with glass-export."
        )
    listing = ", ".join(candidate.name for candidate in candidates)
    raise InputError(f"several bundles are here ({listing}): choose one with --bundle.")
