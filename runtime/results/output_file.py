"""The file that a run writes: one run at a time, and every line whole."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

from ..finding.files import readable_path
from ..machine.errors import InputError, OutputError
from ..machine.locks import try_lock
from ..storage.urls import is_url

JSON_LINES, CSV, PARQUET = ".jsonl", ".csv", ".parquet"
Opening: TypeAlias = Literal["new", "replace", "keep"]
"""What becomes of a file that is there: it is refused, emptied, or appended to."""

_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
_CLOSED = -1


class OutputFile:
    """A file that this process alone writes, and whose every line is whole, whatever happens.

    Attributes:
        path: its name.
    """

    def __init__(self, path: Path, opening: Opening = "new") -> None:
        """Open and lock a file, which is made if it is not there.

        Raises:
            InputError: it exists, and must be new.
            OutputError: it cannot be written, or another process is writing it.
        """
        self.path = path
        self._open(opening)

    def append(self, line: bytes) -> None:
        """Write a line, or nothing of it.

        Raises:
            OutputError: the disk is full or gone.
        """
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            with suppress(OSError):  # a device or pipe has no end to cut off
                os.ftruncate(self._descriptor, self._size)
            raise self._stopped(error, "What it holds is valid") from None
        self._size += len(line)

    @contextmanager
    def rewriting(self) -> Iterator[BinaryIO]:
        """Write into a scratch file what takes the file's place at the end of the block.

        If the block raises, the file stays as it is.

        Raises:
            OSError: the scratch file cannot be written or put in place.
            OutputError: another process has taken the file up in that moment.
        """
        target = Path(os.path.realpath(self.path))  # a link stays one
        scratch = target.with_name(f".{target.name}.partial")
        try:
            with open(scratch, "wb") as new:
                yield new
                new.flush()
                os.fsync(new.fileno())
            shutil.copymode(target, scratch)
            if sys.platform == "win32":  # where no open file can be replaced
                self._release()
            scratch.replace(target)
        except BaseException:
            with suppress(OSError):
                scratch.unlink(missing_ok=True)
            raise
        self._release()
        self._open("keep")

    def close(self) -> None:
        """Have the system write what it holds back, and let others have the file.

        Raises:
            OutputError: it could not, and some of the last lines are lost; or the file is no
                longer there under its name.
        """
        if self._descriptor == _CLOSED:
            return
        try:
            self._synchronise()
            in_place = is_at(self.path, self._descriptor)
        except OSError as error:
            raise self._stopped(error, "Its last records may be lost") from None
        finally:
            self._release()
        if not in_place:
            raise OutputError(
                f"{self.path} was removed or replaced while it was written, so its records are "
                "lost: run again."
            )

    def _open(self, opening: Opening) -> None:
        self._descriptor = _CLOSED
        try:
            exclusive = os.O_EXCL if opening == "new" else 0
            self._descriptor = os.open(self.path, _APPEND | exclusive, 0o666)
            if stat.S_ISREG(os.fstat(self._descriptor).st_mode):  # a pipe may have many writers
                self._lock()
                if opening == "replace":
                    os.ftruncate(self._descriptor, 0)
            self._size = os.fstat(self._descriptor).st_size
        except FileExistsError:
            raise exists_already(self.path) from None
        except OSError as error:
            self._release()
            raise cannot_be_written(self.path, error) from None

    def _lock(self) -> None:
        """Lock the file, unless another one has just taken its place: somebody is at it then."""
        if not (try_lock(self._descriptor) and is_at(self.path, self._descriptor)):
            self._release()
            raise in_use(self.path)

    def _release(self) -> None:
        if self._descriptor != _CLOSED:
            os.close(self._descriptor)
            self._descriptor = _CLOSED

    def _synchronise(self) -> None:
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # what a pipe or a terminal says: it holds nothing back
                raise

    def _stopped(self, error: OSError, state: str) -> OutputError:
        resumable = self.path.suffix.lower() == JSON_LINES
        advice = "go on with --resume" if resumable else "run again with --force"
        return OutputError(
            f"{self.path} cannot be written any more: {error.strerror}. {state}: make room, and "
            f"{advice}."
        )


def exists_already(path: str | Path) -> InputError:
    """Return the error for a file that must not be there."""
    choices = ["another name", "--force to replace it"]
    if Path(path).suffix.lower() == JSON_LINES and not is_url(str(path)):
        choices.append("--resume to go on with it")
    return InputError(f"{path} exists already: choose {', '.join(choices[:-1])}, or {choices[-1]}.")


def in_use(path: Path) -> OutputError:
    """Return the error for a file that another process is writing."""
    return OutputError(
        f"{path} is being written by another process: wait until that is done, or choose "
        "another --output."
    )


def cannot_be_written(target: str | Path, error: OSError) -> OutputError:
    """Return the error for a file that could not be made."""
    folder = Path(target).parent
    if isinstance(error, FileNotFoundError) and not folder.exists():
        reason = f"there is no folder {readable_path(folder)}: make it, or choose another"
    else:
        reason = error.strerror or str(error)
    return OutputError(f"{readable_path(target)} cannot be written: {reason}.")


def is_at(path: Path, descriptor: int) -> bool:
    """Whether an open file is still the one that bears its name."""
    if sys.platform == "win32":  # no open file can be removed or replaced
        return True
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
