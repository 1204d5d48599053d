"""Images in zip archives, in the order of the archive's directory."""

from __future__ import annotations

import stat
import sys
import zipfile
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Lock
from typing import BinaryIO, cast
from weakref import finalize
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipInfo

from ..finding.choosing import Reason, Skip, reason_to_skip_stored
from ..finding.signatures import SIGNATURE_BYTES
from ..finding.stored import HeldImage, LostImage, StoredImage, check_bytes
from ..machine.errors import ImageError, UnreadableError
from .bounded import BoundedFile, check_expansion, read_whole, reading
from .container import Container, ReadOptions

_MOST_DIRECTORY = 64 << 20  # bytes, of which zipfile makes some hundred megabytes
_MOST_MEMBERS = 500_000
_TAIL = 1 << 17  # bytes behind the directory that zipfile looks through for where it begins
_LARGE_DIRECTORY = (
    f"the archive has more than {_MOST_MEMBERS} members, or {_MOST_DIRECTORY >> 20} MiB of their "
    "names; make a tar of them, which is read member by member."
)
_ENTRY = b"PK\1\2"
_LOCAL_HEADER = 30  # bytes, and the name
_ENCRYPTED, _UTF8 = 0x1, 0x800  # in a member's flags


def images_in_zip(container: Container, skip: Skip, options: ReadOptions) -> Iterator[StoredImage]:
    """Yield the images in a zip archive; nothing is written to disk.

    Where reading here and there is cheap, an image is read when it is asked for. Otherwise it is
    held. A damaged member is a lost image, and those behind it are read.

    Args:
        container: the archive.
        skip: is told what is no image; links are none.
        options: larger images are refused.

    Raises:
        ImageError: it is no zip archive, its directory is damaged, or it has too many members.
        UnreadableError: it cannot be read.
    """
    archive = _Archive(container)
    for member in archive.members:
        mode = member.external_attr >> 16
        if stat.S_ISDIR(mode) or member.filename.endswith("/"):
            continue
        name = _name(member)
        path, state = container.path_of(name), container.state_of(member.file_size)
        image = _ZipImage(path, state, archive, member)
        try:
            special = stat.S_IFMT(mode) not in (0, stat.S_IFREG)
            reason = Reason.SPECIAL if special else reason_to_skip_stored(name, image.first_bytes)
        except ImageError as error:  # it may be an image
            yield LostImage(path, state, error)
            continue
        if reason:
            skip(path, reason)
        else:
            yield image if container.near else _held(image, options.max_bytes)


def _name(member: ZipInfo) -> str:
    """Return a member's name; macOS writes UTF-8 and does not say so."""
    if not member.flag_bits & _UTF8:
        try:
            return member.filename.encode("cp437").decode()
        except UnicodeError:
            pass
    return member.filename


@dataclass(frozen=True)
class _ZipImage(StoredImage):
    """An image in an archive, which is open for as long as there is one."""

    archive: _Archive = field(repr=False)
    member: ZipInfo = field(repr=False)

    def first_bytes(self) -> bytes:
        """Return what tells whether it is an image."""
        return self.archive.read(self.member, min(SIGNATURE_BYTES, self.member.file_size))

    def read(self, max_bytes: int) -> bytes:
        check_bytes(self.member.file_size, max_bytes)
        check_expansion(self.member.file_size, self.member.compress_size)
        return self.archive.read(self.member, self.member.file_size)


def _held(image: _ZipImage, max_bytes: int) -> StoredImage:
    try:
        return HeldImage(image.path, image.file, image.read(max_bytes))
    except UnreadableError:  # nor could the others be read
        raise
    except ImageError as error:
        return LostImage(image.path, image.file, error)


class _DirectoryFile(BoundedFile):
    """Counts what zipfile would make objects of; it reads the whole directory in one go."""

    def read(self, size: int = -1) -> bytes:
        content = super().read(size)
        if content.count(_ENTRY) > _MOST_MEMBERS:
            raise ImageError(_LARGE_DIRECTORY)
        return content


class _Archive:
    """An open archive, which closes with the last reference to it; any thread may use it.

    Attributes:
        members: in the directory's order.
    """

    def __init__(self, container: Container) -> None:
        self._lock = Lock()
        with (
            ExitStack() as files,
            reading("the file is no zip archive, or it is truncated or damaged"),
        ):
            file = _DirectoryFile(files.enter_context(container.open()), _LARGE_DIRECTORY)
            file.allow(_MOST_DIRECTORY + _TAIL)
            self._zip = zipfile.ZipFile(cast(BinaryIO, file))
            file.allow(sys.maxsize)
            self.members = self._zip.infolist()
            starts = [member.header_offset for member in self.members]
            self._starts = sorted([*starts, self._zip.start_dir])
            finalize(self, files.pop_all().close)

    def read(self, member: ZipInfo, size: int) -> bytes:
        """Return so many of a member's first bytes; of all its bytes the checksum is compared.

        Raises:
            ImageError: it is damaged, encrypted, or packed in a way that is not read.
            UnreadableError: it cannot be read.
        """
        self._check(member)
        with reading("the file is damaged in the archive"):
            with self._lock:  # zipfile counts its open members without one
                file = self._zip.open(member)
            try:
                content = read_whole(file, size + 1)
            finally:
                with self._lock:
                    file.close()
            if len(content) < size:
                raise BadZipFile("it ends too early")
        return content[:size]

    def _check(self, member: ZipInfo) -> None:
        if member.flag_bits & _ENCRYPTED:
            raise ImageError("the file is encrypted; make an archive of it that is not.")
        if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            # zipfile unpacks bzip2 and LZMA without a bound: 4 KiB may become gigabytes.
            raise ImageError(
                f"the file is packed by method {member.compress_type}, which is not read; "
                "pack it by deflate, as zip does."
            )
        if self._overlaps(member):
            raise ImageError("the file overlaps with another one in the archive, as in a bomb.")

    def _overlaps(self, member: ZipInfo) -> bool:
        """Whether a member reaches into the next or into the directory."""
        end = member.header_offset + _LOCAL_HEADER + member.compress_size
        following = bisect_left(self._starts, member.header_offset) + 1
        return any(start < end for start in self._starts[following : following + 1])
