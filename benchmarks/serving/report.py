"""What serving costs and gains, as one object that is written as JSON or Markdown."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ...runtime.results.tables import markdown_table
from ..measuring.cells import MB, images_per_second, multiple
from ..measuring.report import BenchReport
from ..measuring.samples import Refusal, Samples, median_ratio, refusals_table, three_digits
from .answers import Load
from .cells import (
    listed,
    megabytes,
    milliseconds,
    percentiles,
    summed,
)
from .load import ANSWER_TIMEOUT, MOST_CONNECTIONS
from .slowdown import seconds_alone, slowdown

_PERCENTILES = (50, 90, 99)


class Overload(msgspec.Struct, frozen=True):
    """An open load of several times what the server can do.

    Attributes:
        rate: requests due in a second.
        load: what came of them.
        held: bytes of memory that the server held at the start, each second, and at the end, its
            children's included; empty where that is not known.
        rest_seconds: how long it went on working afterwards.
        after: saturation after that.
    """

    rate: float
    load: Load
    held: tuple[int, ...]
    rest_seconds: float
    after: Load


class ServerResult(msgspec.Struct, frozen=True):
    """What was measured of a server; each tuple has a load of every round.

    Attributes:
        alone: one client.
        saturated: many clients.
        half: an open load of half the saturated rate of the same round.
        overload: ``None`` if the server did not outlive it.
    """

    name: str
    alone: tuple[Load, ...]
    saturated: tuple[Load, ...]
    half: tuple[Load, ...]
    overload: Overload | None

    @property
    def per_image(self) -> Samples:
        """Seconds per image at saturation."""
        return Samples(tuple(1 / load.rate for load in self.saturated))

    @property
    def ratios_of_p99(self) -> tuple[float, ...]:
        """The 99th percentile at half load, as a multiple of one client's in the same round."""
        pairs = zip(self.half, self.alone, strict=True)
        return tuple(half.percentile(99) / alone.percentile(99) for half, alone in pairs)

    @property
    def slowdowns(self) -> tuple[float, ...]:
        """The 99th percentile of the slowdown at half load, of each round."""
        alone = seconds_alone(self.alone)
        return tuple(slowdown(load, alone, 99) for load in self.half)

    @property
    def loads(self) -> Iterator[Load]:
        """Every load."""
        yield from (*self.alone, *self.saturated, *self.half)
        if self.overload is not None:
            yield from (self.overload.load, self.overload.after)


class ServingReport(BenchReport, frozen=True):
    """Everything that a run of the benchmark measured.

    Attributes:
        libraries: the versions of those that serve, and of the load generator's.
        images: how many different ones were sent.
        image_bytes: of a file, on average.
        engine: what executed the graphs in ``glass-run``.
        connections: clients at saturation.
        overload_factor: the overload's rate as a multiple of the saturated rate.
        files: seconds per image of ``glass-run``, one for each round.
        servers: glass-serve first.
    """

    libraries: dict[str, str]
    images: int
    image_bytes: float
    bundle: str
    engine: str
    rounds: int
    seconds: float
    connections: int
    overload_seconds: float
    overload_factor: float
    files: Samples
    servers: tuple[ServerResult, ...]
    refusals: tuple[Refusal, ...]

    def speed_table(self) -> str:
        """Return a row for each server, and one for ``glass-run``."""
        header = [
            "server",
            "one alone, p50: ms",
            "p99: ms",
            "images/s",
            "of glass-run",
            "glass-serve's speed",
        ]
        ours = self.servers[0].per_image
        rows = [
            [
                server.name,
                *(percentiles(server.alone, percent).milliseconds() for percent in (50, 99)),
                images_per_second(server.per_image),
                f"{median_ratio(self.files, server.per_image):.2f}",
                f"{median_ratio(server.per_image, ours):.2f}",
            ]
            for server in self.servers
        ]
        files = [
            "glass-run",
            "",
            "",
            images_per_second(self.files),
            "1.00",
            f"{median_ratio(self.files, ours):.2f}",
        ]
        return markdown_table(header, [*rows, files])

    def half_table(self) -> str:
        """Return a row for each server at half of what it can do."""
        names = [f"p{percent}: ms" for percent in _PERCENTILES]
        header = ["server", "sent/s", *names, "p99 / alone's p99", "p99 of slowdown",
                  "longest: ms", "answers"]  # fmt: skip
        rows = [
            [
                server.name,
                f"{1 / server.per_image.median / 2:.1f}",
                *(percentiles(server.half, percent).milliseconds() for percent in _PERCENTILES),
                multiple(server.ratios_of_p99),
                multiple(server.slowdowns),
                milliseconds(max(load.longest for load in server.half)),
                listed(summed(server.half)),
            ]
            for server in self.servers
        ]
        return markdown_table(header, rows)

    def overload_table(self) -> str:
        """Return a row for each server that outlived the overload: what came of the requests."""
        header = ["server", "sent/s", "images/s", "p50: ms", "p99: ms", "longest: ms", "answers"]
        rows = [
            [
                server.name,
                f"{overload.rate:.1f}",
                f"{overload.load.rate:.1f}",
                *(milliseconds(overload.load.percentile(percent)) for percent in (50, 99)),
                milliseconds(overload.load.longest),
                listed(overload.load.counts),
            ]
            for server in self.servers
            if (overload := server.overload) is not None
        ]
        return markdown_table(header, rows)

    def endurance_table(self) -> str:
        """Return a row for each server that outlived the overload: what it did to the server."""
        header = ["server", "MB at the start", "in the middle", "at the end", "at most",
                  "at work afterwards: s", "images/s then", "of before"]  # fmt: skip
        rows = [
            [
                server.name,
                *megabytes(overload.held),
                f"{overload.rest_seconds:.1f}",
                f"{overload.after.rate:.1f}",
                f"{overload.after.rate * server.per_image.median:.2f}",
            ]
            for server in self.servers
            if (overload := server.overload) is not None
        ]
        return markdown_table(header, rows)

    def to_markdown(self) -> str:
        """Return the tables and how they were measured."""
        return self.page(
            "What serving costs and gains",
            ", ".join(f"{name} {number}" for name, number in self.libraries.items()),
            f"{self.images} images of {self.image_bytes / MB:.2f} MB on average, sent in "
            f"turn as forms; glass-serve and glass-run judge with bundle {self.bundle} on "
            f"{self.engine}. "
            "straightforward: FastAPI, Pillow and ONNX Runtime with their defaults, each image "
            f"judged by itself, with one seed for the crops of all. {self.rounds} rounds in "
            f"turns, of {self.seconds:g} s for each load: median (quartiles); ratios are medians "
            "of those within a round. "
            f"{self._generator()}",
            refusals_table(self.refusals) if self.refusals else "",
            f"One client alone; then images/s with {self.connections} clients, each of which sends "
            "the next image when the last is answered. glass-run judges the same files, with its "
            "start subtracted.",
            self.speed_table(),
            "Images that come at random times, half as many in a second as the server can judge. "
            "A latency counts from the time at which the image was due to be sent. Images differ "
            "in size: slowdown is a latency divided by the median latency of the same image from "
            "one client alone, of the same server in all rounds.",
            self.half_table(),
            f"{self.overload_factor:g} times as many images in a second as the server can judge, "
            f"for {self.overload_seconds:g} s, in at most {MOST_CONNECTIONS} connections; clients "
            f"give up after {ANSWER_TIMEOUT:g} s. images/s, p50 and p99 are of answers of status "
            "200.",
            self.overload_table(),
            "What that leaves behind. Memory is that of the process and its children; images/s are "
            "measured as before, as soon as the server is at rest again.",
            self.endurance_table(),
        )

    def _generator(self) -> str:
        loads = [load for server in self.servers for load in server.loads]
        share = max(load.cpu_share for load in loads)
        each = sum(load.cpu_seconds for load in loads) / sum(load.requests for load in loads)
        return (
            "The load generator is a process on the same machine; it takes "
            f"{three_digits(each * 1e3)} ms of a CPU for a request, and at most {share:.1%} of "
            "one CPU."
        )
