"""What sources, outputs and clusters cost, as one object that is written as JSON or Markdown."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ...runtime.results.tables import markdown_table
from ..measuring.cells import MB, images_per_second, multiple
from ..measuring.report import BenchReport
from ..measuring.samples import Samples, mark, three_digits, unsteady_note


class SourceCost(msgspec.Struct, frozen=True):
    """Passages over one form of the collection.

    Attributes:
        name: what tables call it.
        bytes: what it takes on disk; ``None`` in a bucket, where the same files lie.
        seconds: of each passage.
        cpu_seconds: what the detector's process took of the CPUs in each.
        server_cpu_seconds: what the bucket's server took of the same CPUs in each; ``None``
            without one.
    """

    name: str
    bytes: int | None
    seconds: Samples
    cpu_seconds: Samples
    server_cpu_seconds: Samples | None = None


class OutputCost(msgspec.Struct, frozen=True):
    """Passages over the folder whose records are written.

    Attributes:
        suffix: of the file, which tells the format.
        seconds: of each passage, with the writing.
        alone: seconds in which the writer writes ``records`` that lie ready.
        records: how many those are.
    """

    suffix: str
    seconds: Samples
    alone: Samples
    records: int


class PeakCurve(msgspec.Struct, frozen=True):
    """The peak memory of a process along an archive.

    Attributes:
        name: what is done with the images.
        images: how many there are.
        seconds: that it took.
        peaks: bytes, the most that was held so far, after equal numbers of images; Linux only.
    """

    name: str
    images: int
    seconds: float
    peaks: tuple[int, ...]


class Memory(msgspec.Struct, frozen=True):
    """Curves along one tar of small images, whose longer side has so many pixels."""

    members: int
    bytes: int
    side: int
    curves: tuple[PeakCurve, ...]


class WayToShare(msgspec.Struct, frozen=True):
    """Runs of ``glass-batch`` over the same shards.

    ``judging`` is the time from the start of the first shard to the end of the last, ``wall`` that
    of the commands, both in seconds.
    """

    name: str
    judging: Samples
    wall: Samples


class Sharing(msgspec.Struct, frozen=True):
    """Ways to share shards, the first of which is what the others are compared with."""

    shards: int
    members: int
    ways: tuple[WayToShare, ...]


class CollectionsReport(BenchReport, frozen=True):
    """Everything that a run of the benchmark measured."""

    libraries: dict[str, str]
    images: int
    image_bytes: float
    bundle: str
    engine: str
    rounds: int
    sources: tuple[SourceCost, ...]
    outputs: tuple[OutputCost, ...]
    memory: Memory | None
    sharing: Sharing | None

    def source_table(self) -> str:
        """Return a row for each form of the collection."""
        header = ["images in", "MB", "images/s", "of the folder's speed", "CPU s",
                  "server's CPU s"]  # fmt: skip
        rows = [
            [
                source.name,
                "" if source.bytes is None else f"{source.bytes / MB:.1f}",
                self._speed(source.seconds),
                multiple(_ratios(self.sources[0].seconds, source.seconds)),
                three_digits(source.cpu_seconds.median),
                _median(source.server_cpu_seconds),
            ]
            for source in self.sources
        ]
        return markdown_table(header, rows)

    def bucket_note(self) -> str:
        """Say what a server on the same machine does to the figures, if there is one."""
        if all(each.server_cpu_seconds is None for each in self.sources):
            return ""
        return (
            "The bucket is on this machine: moto's server, which is written in Python, takes CPUs "
            "away from the detector. Its CPU seconds are in the last column, and no server would "
            "take them from a machine that judges. For each part of a tar it reads the whole tar."
        )

    def output_table(self) -> str:
        """Return a row for each format of records."""
        header = ["records to", "images/s", "times as long", "writer alone, µs per record"]
        rows = [
            [
                each.suffix,
                self._speed(each.seconds),
                multiple(_ratios(each.seconds, self.outputs[0].seconds)),
                three_digits(each.alone.median / each.records * 1e6) + mark(each.alone),
            ]
            for each in self.outputs
        ]
        return markdown_table(header, rows)

    def memory_table(self) -> str:
        """Return a row for each curve; empty where there are none."""
        if self.memory is None:
            return ""
        header = ["images", "how many", "images/s", "peak MB after a tenth", "after half",
                  "after all"]  # fmt: skip
        rows = [
            [
                each.name,
                f"{each.images:,}",
                f"{each.images / each.seconds:.0f}",
                *_tenths(each.peaks),
            ]
            for each in self.memory.curves
        ]
        return markdown_table(header, rows)

    def sharing_table(self) -> str:
        """Return a row for each way to share the shards; empty where there is none."""
        if self.sharing is None:
            return ""
        header = ["shards judged by", "images/s of judging", "of the first row's speed",
                  "seconds in all", "of the first row's speed in all"]  # fmt: skip
        first = self.sharing.ways[0]
        rows = [
            [
                way.name,
                self._speed(way.judging),
                multiple(_ratios(first.judging, way.judging)),
                three_digits(way.wall.median) + mark(way.wall),
                multiple(_ratios(first.wall, way.wall)),
            ]
            for way in self.sharing.ways
        ]
        return markdown_table(header, rows)

    def to_markdown(self) -> str:
        """Return the tables and how they were measured."""
        sources, outputs, sharing = self.source_table(), self.output_table(), self.sharing_table()
        return self.page(
            "Collections",
            f"{self.images} images of {self.image_bytes / MB:.2f} MB on average; bundle "
            f"{self.bundle} on {self.engine}; {self.rounds} rounds after one that warms up. In "
            "each round everyone is measured once, and begins at another place. Figures are "
            "medians (quartiles); ratios are those within a round.",
            ", ".join(f"{name} {version}" for name, version in self.libraries.items()),
            "## Where images come from",
            "One detector, opened once, judges the same images in every form, with the same "
            "verdicts.",
            self.bucket_note(),
            sources,
            "## Where records go",
            "The same over the folder, with the records written; and each writer alone, given "
            f"{self.outputs[0].records:,} records that lie ready, those of the images again and "
            "again.",
            outputs,
            *self._memory_part(),
            *self._sharing_part(sharing),
            unsteady_note(sources, outputs, sharing),
        )

    def _memory_part(self) -> Sequence[str]:
        if self.memory is None:
            return ()
        return (
            "## Memory along an archive",
            f"A tar of {self.memory.members:,} images of at most {self.memory.side} pixels a side, "
            f"{self.memory.bytes / MB:.0f} MB. Each row is a process of its own that takes so many "
            "of its first images: the most memory that it has held so far, also between two looks "
            "(VmHWM).",
            self.memory_table(),
        )

    def _sharing_part(self, table: str) -> Sequence[str]:
        if self.sharing is None:
            return ()
        return (
            "## A cluster",
            f"`glass-batch run` with {self.sharing.shards} shards and one worker for each CPU: "
            f"{self.sharing.members} plain processes that share the plan, each pinned to a CPU, "
            f"and a Ray cluster of this machine with {self.sharing.members} CPUs, which runs "
            "already and pins nothing. Judging begins with the first shard and ends with the last; "
            "in all, commands start, load their libraries and end.",
            table,
        )

    def _speed(self, samples: Samples) -> str:
        per_image = Samples(tuple(each / self.images for each in samples.seconds))
        return f"{images_per_second(per_image)}{mark(samples)}"


def _ratios(one: Samples, other: Samples) -> list[float]:
    """Return the ratios of measurements of the same round."""
    return [a / b for a, b in zip(one.seconds, other.seconds, strict=True)]


def _median(samples: Samples | None) -> str:
    return "" if samples is None else three_digits(samples.median)


def _tenths(peaks: Sequence[int]) -> list[str]:
    """Return the megabytes after the first, the middle and the last mark."""
    if not peaks:
        return [""] * 3
    return [f"{peak / MB:.1f}" for peak in (peaks[0], peaks[len(peaks) // 2 - 1], peaks[-1])]
