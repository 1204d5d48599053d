"""A file or an object that is there whole at the end, or not at all."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..machine.errors import OutputError
from ..machine.locks import try_lock
from ..storage.folders import put_new
from ..storage.objects import look_at
from ..storage.store import Object
from ..storage.urls import is_url
from ..storage.writing import whole_object
from .output_file import cannot_be_written, exists_already, in_use, is_at

_WRITE = os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)


def whole_file(target: str, *, replace: bool) -> AbstractContextManager[BinaryIO]:
    """Give a file to fill, which appears at a path or an address when the block ends well.

    Args:
        target: where.
        replace: whether what is there is replaced.

    Raises:
        OSError: it cannot be written or put in place.
        InputError: it is there, and may not be replaced; or the address cannot be read.
        OutputError: see :func:`..storage.writing.whole_object`; or another process is writing it.
    """
    if not is_url(target):
        return _whole_local_file(Path(target), replace=replace)
    if not replace and is_there(target):
        raise exists_already(target)
    return whole_object(target)


def is_there(target: str) -> bool:
    """Whether there is something at a path or an address.

    Raises:
        OutputError: there can be no such file.
        InputError: the address cannot be read.
    """
    if is_url(target):
        return isinstance(look_at(target), Object)
    try:
        Path(target).lstat()  # a link that leads nowhere is there, too
    except FileNotFoundError:
        return False
    except OSError as error:  # above all a name that is too long
        raise cannot_be_written(target, error) from None
    return True


@contextmanager
def _whole_local_file(path: Path, *, replace: bool) -> Iterator[BinaryIO]:
    """Write into a hidden scratch file beside ``path``, which takes its place after the block.

    If the block raises, the scratch file is removed, and what was at ``path`` stays. A process that
    is killed leaves the scratch file, which the next one writes over. Only one process at a time
    writes it.

    Args:
        path: a link stays one, and what it leads to is written.
        replace: whether a file that is there is replaced.

    Raises:
        OSError: it cannot be written or put in place.
        InputError: there is such a file, and it may not be replaced.
        OutputError: another process is writing it, or it is a pipe, a device or a folder; or the
            file appeared meanwhile and may not be replaced: the scratch file stays then.
    """
    target = Path(os.path.realpath(path))
    scratch = target.with_name(f".{target.name}.partial")
    file = _locked(scratch, path)
    try:
        _check(path, replace=replace)
        yield file
        file.flush()
        os.fsync(file.fileno())
    except BaseException:
        _discard(file, scratch)
        raise
    with file:
        if replace:
            _put_in_place(file, scratch, target)
        elif not put_new(scratch, target):
            raise OutputError(
                f"{path} appeared while it was written, and is left as it is: what was written "
                f"is whole, in {scratch}."
            )
        else:
            _discard(file, scratch)


def _locked(scratch: Path, path: Path) -> BinaryIO:
    """Open a scratch file that no other process writes, and empty it.

    Raises:
        OutputError: another process is writing it.
    """
    file = os.fdopen(os.open(scratch, _WRITE, 0o666), "wb")
    if not (try_lock(file.fileno()) and is_at(scratch, file.fileno())):  # or put in place just now
        file.close()
        raise in_use(path)
    file.truncate()  # a process that was killed has left it
    return file


def _check(path: Path, *, replace: bool) -> None:
    """Check that a file may be put at ``path``.

    Raises:
        InputError: there is one, which may not be replaced.
        OutputError: there is something else.
    """
    if not replace and os.path.lexists(path):
        raise exists_already(path)
    if path.exists() and not path.is_file():
        raise OutputError(f"{path} is no file that can be replaced: choose another name.")


def _put_in_place(file: BinaryIO, scratch: Path, target: Path) -> None:
    """Rename the scratch file; if that fails, it is removed."""
    try:
        if target.exists():
            shutil.copymode(target, scratch)
        if sys.platform == "win32":  # where no open file can be renamed
            file.close()
        scratch.replace(target)
    except BaseException:
        _discard(file, scratch)
        raise


def _discard(file: BinaryIO, scratch: Path) -> None:
    if sys.platform != "win32":  # where no open file can be removed
        scratch.unlink(missing_ok=True)
    with suppress(OSError):  # the disk is still full
        file.close()
    if sys.platform == "win32":
        scratch.unlink(missing_ok=True)
