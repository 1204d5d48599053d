"""Parts: the results of a shard, one Parquet file each. A part that is there is done."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec

from ..machine.errors import InputError, UnreadableError
from ..results.parquet import footer_of, records_in
from ..results.records import Failure, Record
from ..storage.folders import Folder

_DIGITS = 12  # of the bundle's digest
_NAME = re.compile(r"part-(\d{6,})-([0-9a-f]{12})\.parquet")
_ABOUT = "glass_part"
"""The key of a part's summary in the metadata of its file."""


class PartSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a part holds, as its file's metadata says.

    ``verdicts`` counts images by class, ``errors`` by the type of the error; ``unreadable`` are the
    errors that may pass if those images are read again. ``seconds`` is how long judging took.
    """

    shard: int
    images: int
    verdicts: dict[str, int]
    errors: dict[str, int]
    unreadable: int
    seconds: float
    engine: str
    precision: str
    bundle: str

    def about(self) -> dict[str, str]:
        """Return it as the metadata of a file."""
        return {_ABOUT: msgspec.json.encode(self).decode()}


@dataclass
class Counts:
    """Counts records as they come."""

    verdicts: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    first_unreadable: str = ""

    def add(self, record: Record) -> None:
        """Count a record."""
        if not isinstance(record, Failure):
            self.verdicts[record.verdict] += 1
            return
        self.errors[record.error.type] += 1
        if record.error.type == UnreadableError.__name__ and not self.first_unreadable:
            message = record.error.message
            named = message.startswith(f"{record.path} ")
            self.first_unreadable = message if named else f"{record.path}: {message}"

    @property
    def images(self) -> int:
        """How many records there were."""
        return self.verdicts.total() + self.errors.total()

    @property
    def unreadable(self) -> int:
        """How many images could not be read."""
        return self.errors[UnreadableError.__name__]


def part_name(shard: int, bundle_sha256: str) -> str:
    """Return the name of a shard's part."""
    return f"part-{shard:06}-{bundle_sha256[:_DIGITS]}.parquet"


def has_parts(folder: Folder) -> bool:
    """Whether there is any part in a folder, of whatever bundle."""
    return any(map(_NAME.fullmatch, folder.names()))


def parts_in(folder: Folder, bundle_sha256: str, shards: int) -> dict[int, str]:
    """Return the names of the parts that are there, by shard in order; other files are ignored."""
    found: dict[int, str] = {}
    for name in folder.names():
        match = _NAME.fullmatch(name)
        if match and int(match[1]) < shards and name == part_name(int(match[1]), bundle_sha256):
            found[int(match[1])] = name
    return dict(sorted(found.items()))


def part_summary(folder: Folder, name: str) -> PartSummary:
    """Read what a part holds, from its footer alone.

    Raises:
        InputError: it cannot be read, or is damaged.
    """
    with folder.open(name) as file, _reading(folder, name):
        rows, about = footer_of(file)
        found = msgspec.json.decode(about.get(_ABOUT, ""), type=PartSummary)
        if rows != found.images:
            raise InputError("it has another number of rows.")
    return found


def part_if_there(folder: Folder, name: str) -> PartSummary | None:
    """Return what a part holds, or ``None`` if it is not there or damaged."""
    try:
        return part_summary(folder, name)
    except InputError:
        return None


def part_records(folder: Folder, name: str) -> Iterator[Record]:
    """Yield the records of a part.

    Raises:
        InputError: it cannot be read, or is damaged.
    """
    with folder.open(name) as file, _reading(folder, name):
        yield from records_in(file)


@contextmanager
def _reading(folder: Folder, name: str) -> Iterator[None]:
    """Say in one sentence which part cannot be read, or is no table of records or not all of one.

    Raises:
        InputError: it is not.
    """
    try:
        yield
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}."
    except (InputError, msgspec.MsgspecError):
        problem = "is damaged: remove it, and run glass-batch run again."
    else:
        return
    raise InputError(f"{name} in {folder.address} {problem}")


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What all parts of a run hold together.

    ``images_per_second`` is that of one process: all images by the sum of all parts' seconds.
    ``engines`` and ``precisions`` count the images that each judged.
    """

    parts: int
    images: int
    verdicts: dict[str, int]
    errors: dict[str, int]
    unreadable: int
    seconds: float
    images_per_second: float
    engines: dict[str, int]
    precisions: dict[str, int]

    @classmethod
    def of(cls, parts: Iterable[PartSummary]) -> Summary:
        """Add parts up."""
        count, images, unreadable, seconds = 0, 0, 0, 0.0
        verdicts, errors, engines, precisions = (Counter[str]() for _ in range(4))
        for part in parts:
            count, images = count + 1, images + part.images
            unreadable, seconds = unreadable + part.unreadable, seconds + part.seconds
            verdicts.update(part.verdicts)
            errors.update(part.errors)
            engines[part.engine] += part.images
            precisions[part.precision] += part.images
        return cls(
            parts=count,
            images=images,
            verdicts=_in_order(verdicts),
            errors=_in_order(errors),
            unreadable=unreadable,
            seconds=round(seconds, 3),
            images_per_second=round(images / seconds, 2) if seconds else 0.0,
            engines=_in_order(engines),
            precisions=_in_order(precisions),
        )


def _in_order(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))
