"""Which checkpoint an export reads, and how its bundle appears: whole, or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..runtime.bundle.manifest import MANIFEST_NAME
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


def check_target(target: Path, *, force: bool) -> None:
    """Refuse to overwrite.

    Raises:
        InputError: ``target`` exists and ``force`` is not given, or is no bundle, or the
            folder it shall lie in does not exist.
    """
    if target.exists() and not (target / MANIFEST_NAME).is_file():
        raise InputError(f"{target} exists and is not a bundle; choose another name.")
    if target.exists() and not force:
        raise InputError(f"{target} exists already: choose another name, or --force to replace it.")
    if not target.parent.is_dir():
        raise InputError(f"the folder {target.parent} does not exist.")


@contextmanager
def new_bundle(target: Path, *, force: bool) -> Iterator[Path]:
    """Give an empty folder to make a bundle in; at the end of the block it becomes ``target``.

    It lies in a hidden folder beside ``target``, which is removed at the end.

    Raises:
        InputError: ``target`` may not be replaced, see :func:`check_target`.
        OSError: a folder cannot be written.
    """
    check_target(target, force=force)
    with tempfile.TemporaryDirectory(
        prefix=f".{target.name}.", dir=target.parent, ignore_cleanup_errors=True
    ) as scratch:
        folder = Path(scratch) / target.name
        folder.mkdir()
        yield folder
        if target.exists():
            target.rename(Path(scratch) / "replaced")
        folder.rename(target)
