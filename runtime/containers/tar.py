"""Images in tar archives, compressed or not, in the order they lie there."""

from __future__ import annotations

import sys
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from tarfile import BLOCKSIZE, NUL, ReadError, TarInfo
from threading import Lock
from typing import BinaryIO, cast
from weakref import finalize

from ..finding.choosing import Reason, Skip, reason_to_skip_stored
from ..finding.signatures import SIGNATURE_BYTES
from ..finding.stored import HeldImage, LostImage, StoredImage, check_bytes
from ..machine.errors import ImageError
from .bounded import BoundedFile, Readable, check_expansion, read_whole, reading
from .container import Container, ReadOptions
from .packed import Packing, UnpackedFile, check_packing

_MOST_HEADER = 1 << 18  # bytes; each of its attributes may have 64 KiB
_LONG_HEADER = f"the archive is damaged: a header in it has more than {_MOST_HEADER} bytes."
_END = NUL * BLOCKSIZE


def images_in_tar(
    container: Container, skip: Skip, options: ReadOptions, packing: Packing | None = None
) -> Iterator[StoredImage]:
    """Yield the images in a tar archive; nothing is written to disk.

    Where reading here and there is cheap, an image is read when it is asked for. Otherwise it is
    held: what is compressed or far away is read once, in order.

    Args:
        container: the archive.
        skip: is told what is no image; links and devices are none.
        options: larger images are refused.
        packing: how it is compressed, if it is.

    Raises:
        ImageError: it is no tar archive, it is truncated or damaged, or it is a bomb.
        UnreadableError: it cannot be read.
        InputError: this Python cannot unpack it.
    """
    archive = _Archive(container, packing)
    lazily = container.near and packing is None
    while member := archive.next():
        if member.isdir():
            continue
        name = member.name.removeprefix("./")
        path, content = container.path_of(name), _Content(archive, member)
        reason = _reason_to_skip(name, content)
        if reason:
            skip(path, reason)
            continue
        state = container.state_of(member.size)
        try:
            content.check(options.max_bytes)
        except ImageError as error:
            yield LostImage(path, state, error)
            continue
        if lazily:
            yield _TarImage(path, state, content)
        else:
            yield HeldImage(path, state, content.read())


def _reason_to_skip(name: str, content: _Content) -> Reason | None:
    if not content.member.isreg():
        return Reason.SPECIAL
    return reason_to_skip_stored(name, content.first_bytes)


@dataclass(frozen=True)
class _TarImage(StoredImage):
    """An image in an archive, which is open for as long as there is one."""

    content: _Content = field(repr=False)

    def read(self, max_bytes: int) -> bytes:
        self.content.check(max_bytes)
        return self.content.read()


class _TarFile(tarfile.TarFile):
    """For mypy, whose stubs lack an attribute."""

    members: list[TarInfo]


class _Archive:
    """An open archive, which closes with the last reference to it; any thread may use it.

    Attributes:
        members: how many were found so far.
    """

    def __init__(self, container: Container, packing: Packing | None) -> None:
        self.members = 0
        self._lock = Lock()
        self._packed = packing is not None
        self._size = sys.maxsize if packing else container.file.bytes
        if packing:
            check_packing(container.path, packing)
        with ExitStack() as files, reading(_damaged(0)):
            file: Readable = files.enter_context(container.open())
            if packing:
                file = UnpackedFile(cast(BinaryIO, file), packing, container.file.bytes)
            self._file = BoundedFile(file, _LONG_HEADER)
            self._file.allow(_MOST_HEADER)
            # Names need not be UTF-8, whatever the locale.
            self._tar = _TarFile(
                fileobj=cast(BinaryIO, self._file), encoding="utf-8", errors="surrogateescape"
            )
            finalize(self, files.pop_all().close)

    def next(self) -> TarInfo | None:
        """Return the next member, or ``None`` after the last."""
        with self.reading(_MOST_HEADER, self.members) as tar:
            # At 0 there was none, and Python 3.10 would look for it before the beginning.
            member = tar.next() if tar.offset else None
            tar.members.clear()  # it would keep all
            if member is None:
                self._check_end()
            else:
                self._check_sizes(member)
            if sum(len(key) + len(value) for key, value in tar.pax_headers.items()) > _MOST_HEADER:
                raise ImageError(_LONG_HEADER)  # of all members, and so they add up
            self.members += 1
            return member

    @contextmanager
    def reading(self, size: int, members: int) -> Iterator[_TarFile]:
        """Have the archive for oneself, to read so many bytes behind so many members."""
        with self._lock, reading(_damaged(members)):
            self._file.allow(size)
            yield self._tar

    def _check_end(self) -> None:
        """Check that an archive has an end: tarfile takes a damaged header for one."""
        if self._file.last != _END:
            raise ReadError("there is no end mark" if not self._file.last else "bad header")
        if self._packed:
            self._file.seek(sys.maxsize)  # whose checksum is behind the last member

    def _check_sizes(self, member: TarInfo) -> None:
        """Check that sizes lead forwards, also those of the parts that a sparse member has.

        Otherwise tarfile could read for ever. Nor may a member lead beyond the end of the archive,
        whoever would read it later.
        """
        parts = _parts(member)
        if member.issparse():
            member.sparse = cast(bytes, parts)  # so say mypy's stubs
        forwards = all(
            size >= 0 and offset + size <= following <= sys.maxsize
            for (offset, size), (following, _) in pairwise([(0, 0), *parts, (member.size, 0)])
        )
        if not (forwards and member.offset < self._tar.offset <= sys.maxsize):
            raise ReadError("sizes in a header make no sense")
        if self._tar.offset - BLOCKSIZE >= self._size:  # its last block may be padding but a byte
            raise ReadError("unexpected end of data")


class _Content:
    """What the member has that an archive was just asked for."""

    def __init__(self, archive: _Archive, member: TarInfo) -> None:
        self.member = member
        self._archive = archive
        self._before = archive.members - 1
        self._file: tarfile.ExFileObject | None = None

    def check(self, max_bytes: int) -> None:
        """Check that it may be read.

        Raises:
            ImageError: it is too large, or has much larger holes than content.
        """
        check_bytes(self.member.size, max_bytes)
        if self.member.issparse():
            check_expansion(self.member.size, sum(size for _, size in _parts(self.member)))

    def first_bytes(self) -> bytes:
        """Return what tells whether it is an image; it can be read after that all the same."""
        with self._archive.reading(self.member.size, self._before) as tar:
            return self._opened(tar).peek(SIGNATURE_BYTES)[:SIGNATURE_BYTES]

    def read(self) -> bytes:
        """Return it all."""
        with self._archive.reading(self.member.size, self._before) as tar:
            file = self._opened(tar)
            file.seek(0)
            return read_whole(file, self.member.size)

    def _opened(self, tar: _TarFile) -> tarfile.ExFileObject:
        if self._file is None:
            self._file = cast(tarfile.ExFileObject, tar.extractfile(self.member))
        return self._file


def _damaged(members: int) -> str:
    if not members:
        return "the file is no tar archive, or it is damaged where it begins"
    return f"the archive is truncated or damaged after {members} member{'s' * (members != 1)}"


def _parts(member: TarInfo) -> list[tuple[int, int]]:
    """Return where a sparse member has content and how much; elsewhere it has zeros.

    GNU's headers have empty parts, too, in no order.
    """
    parts = cast("list[tuple[int, int]]", member.sparse or [])
    return [(offset, size) for offset, size in parts if size]
