"""Going on with a run that was stopped: what its output holds, and what is left to judge.

Records are appended whole and in order, so whatever ended the run, at most the last line is torn.
Only where the power fails may more be lost: what the system had not yet put on the disk, which
leaves a shorter file, or NULs where lines should be. From there on all is judged again. So are
images whose file has changed since, or could not be read then; their old records are dropped.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from ..finding.choosing import archive_of
from ..finding.files import ImageFile, image_file, readable_path
from ..finding.stored import StoredImage
from ..machine.errors import InputError, OutputError, UnreadableError
from ..storage.urls import is_url
from .output_file import OutputFile
from .records import Failure, Record, Verdict, decode_record

Differences: TypeAlias = Callable[[Verdict], Sequence[str]]
"""Says of a verdict in what other way than now it was made, in the words of options or records."""

Retry: TypeAlias = Literal["read", "all", "none"]
"""Which errors are tried again: those of reading a file, all, or none."""


@dataclass
class Finished:
    """The images that an output file holds records of.

    Attributes:
        count: how many records are kept.
        dropped: how many are dropped, because their images are judged again.
    """

    count: int = 0
    dropped: int = 0
    _files: Counter[bytes] = field(default_factory=Counter)
    _paths: Counter[bytes] = field(default_factory=Counter)
    _real_folder: Callable[[str], str] = field(
        default_factory=lambda: lru_cache(1 << 10)(os.path.realpath)
    )

    def __str__(self) -> str:
        again = f"; {self.dropped} more are made again" if self.dropped else ""
        return f"{self.count} records are there already{again}"

    def add(self, record: Record) -> None:
        """Count a record that is kept."""
        self.count += 1
        path = record.path and self._resolved(record.path)
        self._files[_digest(path, record.file)] += 1
        self._paths[_digest(path)] += 1

    def remaining(self, images: Iterable[str | StoredImage]) -> Iterator[str | StoredImage]:
        """Pass on the images that there is no record of; one named twice needs two.

        Raises:
            InputError: a table's images are others than those of which there are records.
        """
        for image in images:
            if isinstance(image, StoredImage):
                path, file = image.path, image.file
            else:
                path, file = readable_path(image), image_file(image)
            if self._take(self._resolved(path), file):
                continue
            if isinstance(image, StoredImage):
                self._check_column(path)
            yield image

    def _check_column(self, path: str) -> None:
        """Refuse to mix the columns of a table, whose rows have the same paths in each.

        Records of a table that has changed were dropped, so what is left has only another size.
        """
        if self._paths[_digest(self._resolved(path))] and not is_url(path) and archive_of(path):
            raise InputError(
                f"the record of {path} is of an image of another size, perhaps from another "
                "--column: go on with that, or give another --output."
            )

    def _take(self, path: str, file: ImageFile | None) -> bool:
        """Use up a record of a file as it is now, or any of a file that is gone."""
        if file is None:
            return _used(self._paths, _digest(path))
        return _used(self._files, _digest(path, file)) and _used(self._paths, _digest(path))

    def _resolved(self, path: str) -> str:
        """Return a path with its folder resolved; a link to a file stays a name of its own.

        What follows an archive is text that its maker chose, and stays as it is.
        """
        if is_url(path):
            return path
        outside = archive_of(path) or path
        folder, name = os.path.split(outside)
        return f"{self._real_folder(folder)}/{name}{path[len(outside) :]}"


def take_up(output: OutputFile, differences: Differences, retry: Retry = "read") -> Finished:
    """Read what an earlier run wrote, and repair it so that records can be appended.

    Cuts off a torn end. Drops the records of files that have changed since, and of errors that are
    tried again. The file is replaced only when all of it is known to be right.

    Args:
        output: the file, which stays locked.
        differences: what tells verdicts that were made in another way.
        retry: which errors are tried again, if the image's file is there.

    Raises:
        InputError: the file is not what glass-run wrote, or would now be judged otherwise.
        OutputError: it cannot be read or mended.
    """
    finished = Finished()
    try:
        with output.rewriting() as new, open(output.path, "rb") as old:
            for line, record in _records(output.path, old):
                _check(record, differences)
                if _is_obsolete(record, retry):
                    finished.dropped += 1
                else:
                    new.write(line)
                    finished.add(record)
    except OSError as error:
        raise OutputError(f"{output.path} cannot be taken up again: {error.strerror}.") from None
    return finished


def _check(record: Record, differences: Differences) -> None:
    """Refuse to mix records of different bundles or ways to judge in one file.

    Raises:
        InputError: the record was made in another way.
    """
    if isinstance(record, Verdict) and (found := differences(record)):
        raise InputError(
            f"the records there were made with {' and '.join(found)}: go on in the same way, or "
            "give another --output."
        )


def _records(path: Path, lines: Iterable[bytes]) -> Iterator[tuple[bytes, Record]]:
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n") or b"\0" in line:
            return  # torn: its image and those after it are judged again
        try:
            yield line, decode_record(line)
        except msgspec.MsgspecError as error:
            raise InputError(
                f"{path} cannot be taken up again: line {number} is not a record of this version "
                f"({error}). Choose another --output."
            ) from None


def _is_obsolete(record: Record, retry: Retry) -> bool:
    """Whether a record is to be made again: its file is there, and has changed or is retried.

    A name that is not UTF-8 cannot be looked up from the record, and counts as missing. What lies
    at an address is not looked up, because a request for each record would take too long.
    """
    retried = isinstance(record, Failure) and _is_retried(record, retry)
    if record.path and is_url(record.path):
        return retried
    now = _file_now(record)
    return now is not None and (now != record.file or retried)


def _file_now(record: Record) -> ImageFile | None:
    """Return the state of a record's file; what lies in an archive changes with that."""
    if not record.path:
        return None
    archive = archive_of(record.path)
    now = image_file(archive or record.path)
    if archive is None or now is None:
        return now
    return None if record.file is None else ImageFile(record.file.bytes, now.modified)


def _is_retried(failure: Failure, retry: Retry) -> bool:
    return retry == "all" or (retry == "read" and failure.error.type == UnreadableError.__name__)


def _used(counter: Counter[bytes], key: bytes) -> bool:
    there = counter[key] > 0
    if there:
        counter[key] -= 1
    return there


def _digest(path: str | None, file: ImageFile | None = None) -> bytes:
    """Return 16 bytes that stand for a path and state: there may be millions of them."""
    return hashlib.blake2b(msgspec.json.encode([path, file]), digest_size=16).digest()
