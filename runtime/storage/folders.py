"""Where a collection's plan and results lie: a folder of this machine, or one on object storage."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from ..finding.files import did_you_mean, readable_path
from ..machine.errors import InputError, OutputError
from .remote_folder import RemoteFolder
from .urls import is_url

_NO_LINKS = frozenset(
    getattr(errno, name)
    for name in ("EPERM", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "EMLINK", "EXDEV", "EINVAL")
    if hasattr(errno, name)
)
"""What file systems without hard links say."""


class Folder(Protocol):
    """A flat folder of files, each of which is there whole or not at all.

    Attributes:
        address: as users name it.
    """

    address: str

    def names(self) -> Iterator[str]:
        """Yield the names of the files directly in it, in no order; none if it is not there.

        Raises:
            InputError: it cannot be listed.
        """
        ...

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading; seeking works.

        Raises:
            InputError: it is not there, or cannot be read.
        """
        ...

    def put(self, name: str, file: Path) -> None:
        """Let the content of ``file`` appear under ``name``, whole, in place of what was there.

        Raises:
            OutputError: it cannot be written.
        """
        ...

    def put_new(self, name: str, content: bytes) -> bool:
        """Let ``content`` appear under ``name``, whole, if nothing is there; return whether it did.

        Raises:
            OutputError: it cannot be written.
        """
        ...


class LocalFolder:
    """A folder of this machine; it is made when the first file is put there.

    While a file is written it has a hidden name that ends in ``.partial``. What a killed process
    leaves under such a name is never read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self.address = readable_path(path)

    def names(self) -> Iterator[str]:
        try:
            with os.scandir(self._path) as entries:
                yield from (entry.name for entry in entries if entry.is_file())
        except FileNotFoundError:
            return
        except NotADirectoryError:
            raise InputError(f"{self.address} is a file: name a folder.") from None
        except OSError as error:
            raise InputError(f"{self.address} cannot be read: {error.strerror}.") from None

    def open(self, name: str) -> BinaryIO:
        path = self._path / name
        try:
            return path.open("rb")
        except FileNotFoundError:
            raise InputError(f"there is no {readable_path(path)}.{did_you_mean(path)}") from None
        except OSError as error:
            raise InputError(f"{readable_path(path)} cannot be read: {error.strerror}.") from None

    def put(self, name: str, file: Path) -> None:
        path = self._path / name
        with _told(readable_path(path)), self._scratch() as scratch:
            shutil.copyfile(file, scratch)
            _synchronise(scratch)
            scratch.replace(path)

    def put_new(self, name: str, content: bytes) -> bool:
        path = self._path / name
        with _told(readable_path(path)), self._scratch() as scratch:
            scratch.write_bytes(content)
            _synchronise(scratch)
            return put_new(scratch, path)

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        """Give an empty file that nobody else writes, and remove it if it is left."""
        self._path.mkdir(parents=True, exist_ok=True)
        scratch = self._path / f".glass-{secrets.token_hex(8)}.partial"
        try:
            scratch.touch(exist_ok=False)
            yield scratch
        finally:
            with suppress(OSError):
                scratch.unlink()


def folder_at(address: str) -> Folder:
    """Return the folder at a path, or at an address of object storage.

    Raises:
        InputError: the address is of a kind that is not read, or a library for it is missing.
    """
    return RemoteFolder(address) if is_url(address) else LocalFolder(address)


def folder_and_name(address: str) -> tuple[Folder, str]:
    """Return the folder that a file at a path or an address lies in, and the file's name in it.

    Raises:
        InputError: it names no file; or see :func:`folder_at`.
    """
    if is_url(address):
        folder, _, name = address.rpartition("/")
    else:
        folder, name = os.path.split(address)
    if not name:
        raise InputError(f"{readable_path(address)} names a folder: name a file.")
    return folder_at(folder or os.curdir), name


@contextmanager
def _told(address: str) -> Iterator[None]:
    """Turn what the system says into one sentence.

    Raises:
        OutputError: what ``address`` names cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(f"{address} cannot be written: {error.strerror or error}.") from None


def put_new(scratch: Path, path: Path) -> bool:
    """Give a file another name, if nothing has that; return whether it did.

    Raises:
        OSError: it cannot.
    """
    try:
        os.link(scratch, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _copied(scratch, path)
    return True


def _synchronise(path: Path) -> None:
    """Have the system put a file on the disk, so that its name never outlives its content."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _copied(scratch: Path, path: Path) -> bool:
    """Copy a file where none can be linked; whoever reads it at once may see a part."""
    try:
        with scratch.open("rb") as content, path.open("xb") as file:
            shutil.copyfileobj(content, file)
    except FileExistsError:
        return False
    return True
