"""Which checkpoint an export reads."""

from __future__ import annotations

from pathlib import Path

from ..runtime.machine.errors import InputError


def find_checkpoint(directory: Path) -> Path:
    """Return the single ``gl_*.pt`` (or ``gl_*.safetensors``) in ``directory``.

    Raises:
        InputError: there are none or several.
    """
    candidates = sorted([*directory.glob("gl_*.pt"), *directory.glob("gl_*.safetensors")])
    if len(candidates) == 1:
        return candidates[0]
    found = ", ".join(path.name for path in candidates) or "none"
    raise InputError(
        "name a checkpoint: without a name, the working directory should hold one gl_*.pt "
        f"(found: {found})."
    )
