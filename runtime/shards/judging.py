"""Judges shards, each from its plan to its part."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

import msgspec

from ..bundle.bundle import Bundle
from ..containers.container import ReadOptions
from ..containers.places import images_at_each
from ..finding.choosing import in_silence, is_archive
from ..finding.stored import StoredImage
from ..judging.detector import Detector
from ..judging.options import DetectorOptions
from ..machine.errors import (
    BundleError,
    EngineError,
    FaultError,
    GlassError,
    InputError,
    OutputError,
    UnreadableError,
)
from ..machine.progress import Progress, silent
from ..results.parquet import ParquetWriter
from ..results.records import Failure, Record
from ..storage.folders import Folder, folder_at
from ..storage.scratch import scratch_file
from .parts import Counts, PartSummary, part_if_there, part_name
from .plan import Plan, Shard
from .settings import PLAN_NAME


def _installed() -> str:
    """Return the version of glass-edge on this machine."""
    return version("glass-edge")


@dataclass(frozen=True)
class JudgeSettings:
    """What judges shards; it can be pickled, and means the same on every machine of a cluster.

    Attributes:
        bundle: its folder.
        bundle_sha256: the digest that it must have.
        options: how to judge.
        output: the path or address of the run's folder, which holds the plan and takes the parts.
        column: of tables, which has the images; ``None`` if it has to be found out.
        retry_errors: judge shards again of which some images could not be read.
        glass_edge: the version that must judge, by default the one installed here.
    """

    bundle: Path
    bundle_sha256: str
    options: DetectorOptions
    output: str
    column: str | None = None
    retry_errors: bool = False
    glass_edge: str = field(default_factory=_installed)


class Outcome(msgspec.Struct, frozen=True):
    """What became of a shard: the summary of its part, or the sentence why there is none."""

    shard: int
    part: PartSummary | None = None
    error: str | None = None


class ShardJudge:
    """Judges shards one after the other; its detector is opened once, at the first call."""

    def __init__(self, settings: JudgeSettings) -> None:
        """Judge with these settings; nothing is opened yet."""
        self._settings = settings
        self._opened: tuple[Detector, Folder, Plan] | None = None

    def open(self, progress: Progress = silent) -> Detector:
        """Open the bundle and the plan now, and return the detector.

        Args:
            progress: is told how far the building of engines is, which can take minutes.

        Raises:
            BundleError: the bundle is damaged, or another than it should be.
            EngineError: the engine cannot run it as asked.
            InputError: the options do not fit the bundle, the plan cannot be read, or glass-edge
                is of another version than where the settings were made.
        """
        return self._open(progress)[0]

    def judge(self, number: int, judged: Callable[[int], None] = lambda images: None) -> Outcome:
        """Judge a shard and write its part, unless it has one by now.

        Args:
            number: of the shard.
            judged: is told after each image how many there were.

        Raises:
            BundleError: the bundle cannot be opened, so that no shard can be judged.
            EngineError: the engine failed, as it would with other shards.
            OutputError: the part cannot be made or written, nor could others.
        """
        try:
            return Outcome(number, part=self._part(number, judged))
        except (BundleError, EngineError, OutputError):
            raise
        except GlassError as error:
            return Outcome(number, error=str(error))
        except OSError as error:  # of temporary files: all others have become GlassErrors
            where = f"{error.filename}: " if error.filename else ""
            raise OutputError(
                f"no part can be made here ({where}{error.strerror or error}): is there room for "
                "temporary files?"
            ) from error
        except Exception as error:
            return Outcome(number, error=str(FaultError.of(error)))

    def _open(self, progress: Progress = silent) -> tuple[Detector, Folder, Plan]:
        if self._opened is None:
            settings = self._settings
            if settings.glass_edge != _installed():
                raise InputError(
                    f"glass-edge {_installed()} is installed, but {settings.glass_edge} where the "
                    "run was started: install the same."
                )
            folder = folder_at(settings.output)
            plan = Plan.within(folder, PLAN_NAME)
            bundle = Bundle.open(settings.bundle, settings.bundle_sha256)
            self._opened = Detector(bundle, settings.options, progress), folder, plan
        return self._opened

    def _part(self, number: int, judged: Callable[[int], None]) -> PartSummary:
        """Return what a shard's part holds, which is made if it is not there.

        Raises:
            UnreadableError: fewer of its images can be read than when its part was made.
        """
        detector, folder, plan = self._open()
        name = part_name(number, detector.bundle.digest)
        old = part_if_there(folder, name)
        if old is not None and not (self._settings.retry_errors and old.unreadable):
            return old
        with scratch_file() as (file, path):
            new = self._write(detector, plan.shard(number), file, judged)
            if old is not None and new.unreadable > old.unreadable:
                raise UnreadableError(
                    f"{new.unreadable} of its images cannot be read now, and {old.unreadable} "
                    "could not before, so its part stays as it is."
                )
            if old is not None and new.unreadable == old.unreadable:
                return old  # whose verdicts may be others'
            file.flush()
            folder.put(name, path)
        return new

    def _write(
        self, detector: Detector, shard: Shard, file: BinaryIO, judged: Callable[[int], None]
    ) -> PartSummary:
        """Judge a shard's images and write their records.

        Raises:
            UnreadableError: not one of them could be read, or not all of an archive.
        """
        counts, started = Counts(), time.perf_counter()
        with detector.stream(self._images(shard)) as records:
            writer = ParquetWriter(file)
            for record in records:
                writer.write(record)
                counts.add(record)
                _check_whole(record, shard)
                judged(counts.images)
            if counts.images and counts.unreadable == counts.images:
                raise UnreadableError(
                    f"none of its {counts.images} images could be read: {counts.first_unreadable}"
                )
            summary = PartSummary(
                shard=shard.shard,
                images=counts.images,
                verdicts=dict(sorted(counts.verdicts.items())),
                errors=dict(sorted(counts.errors.items())),
                unreadable=counts.unreadable,
                seconds=round(time.perf_counter() - started, 3),
                engine=detector.engine,
                precision=detector.precision,
                bundle=detector.bundle.name,
            )
            writer.close(summary.about())
        return summary

    def _images(self, shard: Shard) -> Iterator[str | StoredImage]:
        return images_at_each(shard.paths, in_silence, ReadOptions(self._settings.column))


def _check_whole(record: Record, shard: Shard) -> None:
    """Check that a record is not what stands for the rest of an archive.

    Raises:
        UnreadableError: it is, for a reason that may pass.
    """
    if not isinstance(record, Failure) or record.error.type != UnreadableError.__name__:
        return
    if record.path and is_archive(record.path) and record.path in shard.paths:
        raise UnreadableError(f"{record.path}: {record.error.message}")
