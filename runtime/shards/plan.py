"""A plan: which images of a collection are judged together.

It is a file of JSON lines. The first says what was planned. A line for each shard follows, with the
paths of its images. The last has the totals, a digest of all before, and where each shard's line
begins, so that a shard is read without reading those before it, also from object storage.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Annotated, BinaryIO, TypeVar

import msgspec

from ..machine.errors import InputError
from ..storage.folders import Folder, folder_and_name

VERSION = 1
_BLOCK = 1 << 16  # bytes; the last line of a plan of 5,000 shards
_LONGEST_LINE = 1 << 28  # bytes, of what could still be a plan

Count = Annotated[int, msgspec.Meta(ge=0)]
_Line = TypeVar("_Line", bound="Head | Shard | End")


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first line: what was planned, as the user named it.

    ``column`` is that of tables which has the images; null if it has to be found out.
    """

    glass_plan: int
    sources: tuple[str, ...]
    column: str | None


class Shard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The line of a shard: its number, and the images and archives in it.

    ``images`` is how many images there are, null for an archive; ``bytes`` the size of all of it,
    null if the size of one is not known.
    """

    shard: Count
    images: Count | None
    bytes: Count | None
    paths: tuple[str, ...]


class End(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last line: totals, null where they are not known; ``offsets`` are those of the shards."""

    shards: Count
    images: Count | None
    bytes: Count | None
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    offsets: tuple[Count, ...]


class PlanWriter:
    """Writes a plan shard by shard; without its last line it is none."""

    def __init__(self, file: BinaryIO, sources: Sequence[str], column: str | None) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._position = 0
        self._offsets: list[int] = []
        self._images: int | None = 0
        self._bytes: int | None = 0
        self._write(Head(VERSION, tuple(sources), column))

    def add(self, images: int | None, size: int | None, paths: Sequence[str]) -> None:
        """Write the next shard: how many images it has, how many bytes, and where they lie."""
        number = len(self._offsets)
        self._offsets.append(self._position)
        self._write(Shard(number, images, size, tuple(paths)))
        self._images = added(self._images, images)
        self._bytes = added(self._bytes, size)

    def finish(self) -> End:
        """Write the last line."""
        digest = self._digest.hexdigest()
        offsets = tuple(self._offsets)
        end = End(len(offsets), self._images, self._bytes, digest, offsets)
        self._write(end)
        return end

    def _write(self, line: Head | Shard | End) -> None:
        content = msgspec.json.encode(line) + b"\n"
        self._file.write(content)
        self._digest.update(content)
        self._position += len(content)


class Plan:
    """A plan that is there; of its shards only what is asked for is read.

    Attributes:
        address: as users name it.
        head: what was planned.
        shards: how many there are, numbered from 0.
        images: how many images there are, ``None`` if it is not known.
        digest: SHA-256 of all lines but the last: the same for equal shards.
    """

    def __init__(self, address: str, opened: Callable[[], BinaryIO]) -> None:
        """Read the first line and the last.

        Args:
            address: for messages.
            opened: opens the file; seeking works.

        Raises:
            InputError: it cannot be read, is no plan, or was not finished.
        """
        self.address, self._opened = address, opened
        with _reading(address), opened() as file:
            self.head = self._read_head(file)
            self._end, self._bounds = self._read_end(file)
        self.shards, self.images, self.digest = self._end.shards, self._end.images, self._end.sha256

    @classmethod
    def at(cls, address: str) -> Plan:
        """Open the plan at a path, or at an address of object storage."""
        return cls.within(*folder_and_name(address), address)

    @classmethod
    def within(cls, folder: Folder, name: str, address: str | None = None) -> Plan:
        """Open a plan in a folder."""
        return cls(address or f"{folder.address.rstrip('/')}/{name}", lambda: folder.open(name))

    def shard(self, number: int) -> Shard:
        """Read one shard.

        Raises:
            InputError: there is none of this number, or the plan is damaged or cannot be read.
        """
        if not 0 <= number < self.shards:
            raise InputError(f"{self.address} has no shard {number}: it has {self.shards}.")
        with _reading(self.address), self._opened() as file:
            file.seek(self._bounds[number])
            return self._read_shard(file, number)

    def check(self) -> None:
        """Read all of it.

        Raises:
            InputError: it is not as it was written.
        """
        images: int | None = 0
        size: int | None = 0
        with _reading(self.address), self._opened() as file:
            digest = hashlib.sha256(file.read(self._bounds[0]))
            for number in range(self.shards):
                found = self._read_shard(file, number, digest.update)
                images, size = added(images, found.images), added(size, found.bytes)
        if digest.hexdigest() != self.digest:
            raise self._damaged("its digest is another")
        if (images, size) != (self._end.images, self._end.bytes):
            raise self._damaged("its totals are wrong")

    def copy(self, path: Path) -> None:
        """Write all of it to a file.

        Raises:
            InputError: it cannot be read, or not be copied.
        """
        with _reading(self.address), self._opened() as file, path.open("wb") as copy:
            shutil.copyfileobj(file, copy)

    def _read_shard(
        self, file: BinaryIO, number: int, seen: Callable[[bytes], None] | None = None
    ) -> Shard:
        """Read the shard that begins where the file is."""
        line = file.read(self._bounds[number + 1] - self._bounds[number])
        if seen is not None:
            seen(line)
        found = _decoded(line, Shard)
        if found is None or found.shard != number:
            raise self._damaged(f"shard {number} is not where the last line says")
        return found

    def _read_head(self, file: BinaryIO) -> Head:
        line = file.readline(_LONGEST_LINE)
        found = _decoded(line, Head)
        if found is None:
            raise InputError(f"{self.address} is no plan: make one with glass-batch plan.")
        if found.glass_plan != VERSION:
            raise InputError(
                f"{self.address} is a plan of version {found.glass_plan}, and this glass-edge "
                f"reads version {VERSION}: make the plan anew."
            )
        return found

    def _read_end(self, file: BinaryIO) -> tuple[End, tuple[int, ...]]:
        """Return the last line, and where each shard begins and the last one ends."""
        start, line = _last_line(file)
        found = _decoded(line, End)
        if found is None:
            raise InputError(
                f"{self.address} has no last line, so it is incomplete: run glass-batch plan again."
            )
        bounds = (*found.offsets, start)
        if len(found.offsets) != found.shards or not _rising(bounds):
            raise self._damaged("its last line contradicts itself")
        return found, bounds

    def _damaged(self, what: str) -> InputError:
        return InputError(f"{self.address} is damaged ({what}): make the plan anew.")


def added(total: int | None, more: int | None) -> int | None:
    """Return a sum, which is unknown if one of its parts is."""
    return None if total is None or more is None else total + more


def _decoded(line: bytes, kind: type[_Line]) -> _Line | None:
    """Return a whole line of this kind, or ``None`` if it is none."""
    if not line.endswith(b"\n"):
        return None
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _last_line(file: BinaryIO) -> tuple[int, bytes]:
    """Return where the last line begins, and the line; it is read from behind."""
    size = file.seek(0, os.SEEK_END)
    block = _BLOCK
    while True:
        start = max(0, size - block)
        file.seek(start)
        content = file.read(size - start)
        found = content.rfind(b"\n", 0, -1)
        if found >= 0 or not start or block >= _LONGEST_LINE:
            return start + found + 1, content[found + 1 :]
        block *= 8


def _rising(bounds: Sequence[int]) -> bool:
    return bounds[0] > 0 and all(one < next_ for one, next_ in pairwise(bounds))


@contextmanager
def _reading(address: str) -> Iterator[None]:
    """Turn what the system says while a plan is read into one sentence.

    Raises:
        InputError: it cannot be read.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{address} cannot be read: {error.strerror or error}.") from None
