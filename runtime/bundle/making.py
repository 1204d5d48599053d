"""How a new bundle appears: whole, or not at all."""

from __future__ import annotations

import glob
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from ..machine.errors import InputError, OutputError
from .bundle import BUNDLE_SUFFIX
from .manifest import MANIFEST_NAME

_LOCK = "lock"  # in the hidden folder; held while whoever fills it lives
_REPLACED = "replaced"  # in the hidden folder; the bundle that was there before


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


def variant_place(source: Path, what: str) -> Path:
    """Return where a bundle made from another shall be: the working directory, ``a.what.glass``."""
    plain = source.resolve() if source.name in ("", "..") else source
    return Path(f"{plain.name.removesuffix(BUNDLE_SUFFIX)}.{what}{BUNDLE_SUFFIX}")


def check_apart(source: Path, target: Path) -> None:
    """Refuse to make a bundle where the one that it comes from lies.

    Raises:
        InputError: the two are the same folder, or one lies in the other.
    """
    first, second = source.resolve(), target.resolve()
    if first.is_relative_to(second) or second.is_relative_to(first):
        raise InputError(
            f"{target} cannot be made from {source}, because it would replace or change that: "
            "choose another name."
        )


@contextmanager
def new_bundle(target: Path, *, force: bool) -> Iterator[Path]:
    """Give an empty folder to make a bundle in; at the end of the block it becomes ``target``.

    It lies in a hidden folder, see :func:`hidden_folder`.

    Args:
        target: the bundle's path.
        force: replace a bundle at ``target``.

    Raises:
        InputError: ``target`` may not be replaced, see :func:`check_target`.
        OutputError: ``target`` or something in the folder cannot be written.
    """
    with hidden_folder(target) as folder:
        check_target(target, force=force)
        yield folder
        check_target(target, force=force)  # it may have appeared meanwhile
        put_in_place(folder, target, folder.parent, force=force)


@contextmanager
def hidden_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder of the target's name for the length of the block.

    It lies in a hidden folder beside ``target``, which is removed however the block ends. What a
    program that was killed left there is removed by the next one with the same target.

    Raises:
        OutputError: the block, or what is done here, raised an OSError.
    """
    try:
        _remove_leftovers(target)
        with ExitStack() as stack:
            hidden = tempfile.TemporaryDirectory(
                prefix=f".{target.name}.", dir=target.parent, ignore_cleanup_errors=True
            )
            scratch = Path(stack.enter_context(hidden))
            with suppress(NotImplementedError):  # a file system without locks
                stack.enter_context(FileLock(scratch / _LOCK))
            folder = scratch / target.name
            folder.mkdir()
            yield folder
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror or error}.") from None


def put_in_place(folder: Path, target: Path, scratch: Path, *, force: bool) -> None:
    """Rename a finished bundle to ``target``.

    Args:
        folder: the bundle.
        target: where it shall be.
        scratch: where what is replaced is moved to; it comes back if the bundle cannot be renamed.
        force: replace what is at ``target``.

    Raises:
        OutputError: something else appeared at ``target`` at the same time, so that the old bundle
            got another name, which the message says.
        OSError: the bundle cannot be renamed, or something is at ``target``.
    """
    old = scratch / _REPLACED
    try:
        if force and target.exists():
            target.rename(old)
        folder.rename(target)
    except BaseException as error:  # a signal may come at any point
        if old.exists() and not target.exists():
            old.rename(target)
        elif old.exists() and folder.exists():
            kept = target.with_name(scratch.name.lstrip("."))
            old.rename(kept)
            raise OutputError(
                f"{target} cannot be replaced, because another program wrote to it: the bundle "
                f"that was there is {kept} now."
            ) from error
        raise


def _remove_leftovers(target: Path) -> None:
    """Remove what programs that were killed left for this target; put back what they replaced.

    A hidden folder is filled only after its lock is held, so that nobody who lives loses his own.
    """
    for hidden in target.parent.glob(f".{glob.escape(target.name)}.*"):
        old = hidden / _REPLACED
        if (hidden / target.name).is_dir() or old.is_dir():
            # Where its maker lives, waiting for the lock is a Timeout, which is an OSError.
            with suppress(OSError, NotImplementedError), FileLock(hidden / _LOCK, timeout=0):
                if old.is_dir() and not target.exists():
                    old.rename(target)
                shutil.rmtree(hidden, ignore_errors=True)
