"""A folder of object storage, for plans and results."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from ..machine.errors import InputError, OutputError
from .objects import objects_in
from .store import asking, open_object, store_of
from .urls import as_folder, checked
from .writing import upload


class RemoteFolder:
    """A flat folder of objects, each of which is there whole or not at all.

    Attributes:
        address: as users name it.
    """

    def __init__(self, address: str) -> None:
        """Name a folder, which is there as soon as something lies in it; nothing is asked yet.

        Raises:
            InputError: the address is none that is read, or a library is missing.
        """
        self.address = address
        self._url = as_folder(checked(address))
        self._files = store_of(address).files

    def names(self) -> Iterator[str]:
        """Yield the names of the objects directly in it, in order; none if it is not there.

        Raises:
            InputError: the bucket is not there, or cannot be listed.
        """
        return (found.url.removeprefix(self._url) for found in objects_in(self._url))

    def open(self, name: str) -> BinaryIO:
        """Open an object for reading; seeking works.

        Raises:
            InputError: it is not there, or cannot be read; also while it is read.
        """
        return open_object(self._url + name, InputError)

    def put(self, name: str, file: Path) -> None:
        """Let the content of ``file`` appear under ``name``, whole, in place of what was there.

        Raises:
            OutputError: it cannot be written.
        """
        with file.open("rb") as content:
            upload(self._url + name, content)

    def put_new(self, name: str, content: bytes) -> bool:
        """Let ``content`` appear under ``name``, whole, if nothing is there; return whether it did.

        Of several processes that try at once, one succeeds where the store knows conditional
        writes (S3, Google Cloud Storage, MinIO); elsewhere the last one may replace the others'.

        Raises:
            OutputError: it cannot be written.
        """
        url = self._url + name
        return asking(url, partial(self._create, url, content), OutputError)

    def _create(self, url: str, content: bytes) -> bool:
        if self._files.exists(url):  # as some stores ignore the condition
            return False
        try:
            self._files.pipe_file(url, content, mode="create")
        except FileExistsError:
            return False
        return True
