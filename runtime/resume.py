"""Going on with a run that was stopped: what its output holds, and what is left to judge.

Records are appended whole and in order, so whatever ended the run, at most the last line is
torn. Images whose file has changed since are judged again and their old records dropped.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from .detector import Detector
from .errors import ImageError, InputError, OutputError
from .records import Failure, ImageFile, Record, Verdict
from .sources import image_file, readable_path


class _Status(msgspec.Struct):
    """What tells which kind of record a line is."""

    status: Literal["ok", "error"]


@dataclass
class Finished:
    """The images that an output file holds records of.

    Attributes:
        count: how many records are kept.
        verdict: one of them, to tell what made it.
    """

    count: int = 0
    verdict: Verdict | None = None
    _files: Counter[bytes] = field(default_factory=Counter)
    _paths: Counter[bytes] = field(default_factory=Counter)

    def add(self, record: Record) -> None:
        """Count a record that is kept."""
        self.count += 1
        self._files[_key(record.path, record.file)] += 1
        self._paths[_key(record.path)] += 1
        if self.verdict is None and isinstance(record, Verdict):
            self.verdict = record

    def remaining(self, images: Iterable[str]) -> Iterator[str]:
        """Pass on the images that there is no record of; one named twice needs two."""
        for image in images:
            if not self._take(readable_path(image), image_file(image)):
                yield image

    def _take(self, path: str, file: ImageFile | None) -> bool:
        """Use up a record of a file as it is now, or any of a file that is gone."""
        if file is None:
            return _used(self._paths, _key(path))
        return _used(self._files, _key(path, file)) and _used(self._paths, _key(path))


def take_up(path: Path) -> Finished:
    """Read the output of an earlier run, and repair it so that records can be appended.

    Cuts off a torn last line, and drops the records of files that have changed since.

    Raises:
        InputError: the file is not what glass-run wrote.
        OutputError: it cannot be read or mended.
    """
    finished = Finished()
    if not path.exists():
        return finished
    mended = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(path, "rb") as old, open(mended, "wb") as new:
            for line, record in _records(path, old):
                if not _changed(record):
                    new.write(line)
                    finished.add(record)
            new.flush()
            os.fsync(new.fileno())
        mended.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be taken up again: {error.strerror}.") from None
    finally:
        mended.unlink(missing_ok=True)
    return finished


def check_same_run(finished: Finished, detector: Detector) -> None:
    """Refuse to mix records of different bundles or ways to judge in one file.

    Raises:
        InputError: the records there were made in another way.
    """
    verdict, options = finished.verdict, detector.options
    if verdict is None:
        return
    crops = options.crops or detector.bundle.manifest.views.num_crops
    fake = verdict.verdict == detector.bundle.manifest.fake_class
    wrong = [
        what
        for what, same in (
            (f"--bundle {verdict.bundle}", verdict.bundle == detector.bundle.name),
            (f"--crops {len(verdict.crops)}", len(verdict.crops) == crops),
            ("another --threshold", fake == (verdict.score >= options.threshold)),
            ("another --seed or --fixed-seed", _same_seed(verdict, detector)),
        )
        if not same
    ]
    if wrong:
        raise InputError(
            f"the records there were made with {' and '.join(wrong)}: give the same options, or "
            "another --output."
        )


def _same_seed(verdict: Verdict, detector: Detector) -> bool:
    """Whether an image that is still there gets the seed that it got; if it is gone, yes."""
    if verdict.path is None or _changed(verdict):
        return True
    try:
        return detector.generator_seed(verdict.path) == verdict.seed
    except ImageError:
        return True


def _records(path: Path, lines: Iterable[bytes]) -> Iterator[tuple[bytes, Record]]:
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            return  # torn: its image is judged again
        try:
            status = msgspec.json.decode(line, type=_Status).status
            kind: type[Record] = Verdict if status == "ok" else Failure
            yield line, msgspec.json.decode(line, type=kind)
        except msgspec.MsgspecError as error:
            raise InputError(
                f"{path} cannot be taken up again: line {number} is not a record of this version "
                f"({error}). Choose another --output."
            ) from None


def _changed(record: Record) -> bool:
    """Whether a file is there and not as it was.

    A name that is no UTF-8 cannot be looked up as the record has it, and counts as gone.
    """
    now = image_file(record.path) if record.path else None
    return now is not None and now != record.file


def _used(counter: Counter[bytes], key: bytes) -> bool:
    there = counter[key] > 0
    if there:
        counter[key] -= 1
    return there


def _key(path: str | None, file: ImageFile | None = None) -> bytes:
    """Return a short name for a path and state: there may be millions of them."""
    content = msgspec.json.encode([path, file])
    return hashlib.blake2b(content, digest_size=16).digest()
