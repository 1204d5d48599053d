"""What ``glass-bench run`` writes down: one object, from which tables and plots are made."""

from __future__ import annotations

import statistics
from typing import Literal

import msgspec
import numpy as np

from ...calibration.judging.comparison import Change, compare_scores
from ...runtime.bundle.bundle import Bundle
from ...runtime.views.spec import ViewSpec
from ..measuring.bundles import file_bytes
from ..measuring.report import BenchReport
from ..measuring.samples import Refusal, Samples

Axis = Literal["crops", "megapixels", "batch"]
Kind = Literal["pytorch", "naive", "ours"]


class BundleInfo(msgspec.Struct, frozen=True):
    """A bundle that took part. ``graphs``: the digest of what engines read of it."""

    name: str
    precision: str
    graphs: str
    file_bytes: int

    @classmethod
    def of(cls, bundle: Bundle) -> BundleInfo:
        """Describe a bundle."""
        return cls(bundle.name, bundle.manifest.precision, bundle.graphs_digest, file_bytes(bundle))


class ImageInfo(msgspec.Struct, frozen=True):
    """An image that was judged; sizes in pixels."""

    path: str
    width: int
    height: int


class EndToEnd(msgspec.Struct, frozen=True):
    """Passages over all images, from files to P(fake).

    ``cpu_seconds`` are of the process and its children. ``peak_bytes`` is the most memory held
    in the first passage, which is not timed, over that before the first image. ``stages`` are
    seconds summed over threads and processes. What the system does not tell is ``None``.
    """

    passages: Samples
    cpu_seconds: Samples | None
    peak_bytes: int | None
    stages: dict[str, Samples]


class EngineOnly(msgspec.Struct, frozen=True):
    """Calls of the network on views of ``images`` images that lie ready, by round.

    ``parts`` are seconds of single calls, measured apart, on a GPU only.
    """

    images: int
    rounds: tuple[tuple[float, ...], ...]
    parts: dict[str, tuple[float, ...]]

    @property
    def calls(self) -> list[float]:
        """The seconds of all calls."""
        return [seconds for calls in self.rounds for seconds in calls]

    @property
    def per_round(self) -> Samples:
        """Each round's median."""
        return Samples(tuple(statistics.median(calls) for calls in self.rounds))


class ContenderResult(msgspec.Struct, frozen=True):
    """One contender. ``scores`` are P(fake) of every image, in the order of the images.

    ``mean_crops`` is how many crops an image took where that is not the same for all.
    """

    name: str
    kind: Kind
    engine: str
    precision: str
    end_to_end: EndToEnd
    engine_only: tuple[EngineOnly, ...]
    scores: tuple[float, ...]
    mean_crops: float | None = None

    def batch_of(self, images: int) -> EngineOnly | None:
        """Return the measurements of batches of so many images, if there are any."""
        return next((each for each in self.engine_only if each.images == images), None)


class FullSize(msgspec.Struct, frozen=True):
    """Every tile of some images against their crops, both in PyTorch FP32, once each.

    ``images`` are positions among the report's images, ``tiles`` their numbers of tiles;
    seconds are of all these images.
    """

    images: tuple[int, ...]
    tiles: tuple[int, ...]
    seconds: float
    crops_seconds: float
    scores: tuple[float, ...]
    crops_scores: tuple[float, ...]


class Peak(msgspec.Struct, frozen=True):
    """The best of repeated matrix products in one type: multiply-adds per second."""

    precision: str
    per_second: float
    measured_by: str


class DecodeFloor(msgspec.Struct, frozen=True):
    """The fastest decoder alone on all CPUs: seconds per image."""

    decoder: str
    seconds: float


class Roofline(msgspec.Struct, frozen=True):
    """Bounds of this machine and what an image costs.

    ``multiply_adds``: of one image, its global view and crops; ``left_out`` says why a type
    has no peak.
    """

    multiply_adds: int
    peaks: tuple[Peak, ...]
    left_out: dict[str, str]
    decode_floor: DecodeFloor

    def images_per_second(self, peak: Peak) -> float:
        """Return what CPUs that first decode and then compute in a type could do."""
        return 1 / (self.decode_floor.seconds + self.multiply_adds / peak.per_second)

    def share(self, images_per_second: float, precision: str) -> float | None:
        """Return the share of the peak that a speed in some type is, if its peak is known."""
        for peak in self.peaks:
            if peak.precision == precision:
                return images_per_second * self.multiply_adds / peak.per_second
        return None


class Point(msgspec.Struct, frozen=True):
    """The cost at one value of the axis, measured once in each round."""

    at: float
    cost: Samples


class Line(msgspec.Struct, frozen=True):
    """A straight line by least squares, in seconds; ``r2`` is the share that it explains."""

    slope: float
    intercept: float
    r2: float


class Series(msgspec.Struct, frozen=True):
    """One contender along one axis."""

    axis: Axis
    contender: str
    points: tuple[Point, ...]

    @property
    def line(self) -> Line | None:
        """The line through the points' medians; of fewer than two points there is none."""
        if len(self.points) < 2:
            return None
        xs = np.array([point.at for point in self.points])
        ys = np.array([point.cost.median for point in self.points])
        slope, intercept = np.polyfit(xs, ys, 1)
        left = float(((ys - (slope * xs + intercept)) ** 2).sum())
        spread = float(((ys - ys.mean()) ** 2).sum())
        return Line(float(slope), float(intercept), 1 - left / spread if spread else 1.0)


class RunReport(BenchReport, frozen=True, tag_field="report", tag="run"):
    """Everything that a run measured. The first contender is PyTorch as the paper runs it.

    ``series`` are of the contenders along the axes that were asked for.
    """

    backbone: str
    checkpoint: str
    checkpoint_sha256: str
    bundles: tuple[BundleInfo, ...]
    views: ViewSpec
    seed: int
    batch_size: int
    batches: tuple[int, ...]
    threads: int
    workers: int
    images: tuple[ImageInfo, ...]
    contenders: tuple[ContenderResult, ...]
    refusals: tuple[Refusal, ...]
    full_size: FullSize | None
    roofline: Roofline
    series: tuple[Series, ...] = ()

    @property
    def paper(self) -> ContenderResult:
        """PyTorch as the paper runs it."""
        return self.contenders[0]

    def best_pytorch(self, images: int | None = None) -> ContenderResult:
        """Return the fastest PyTorch: end to end, or on batches of so many images."""
        return min(
            (each for each in self.contenders if each.kind == "pytorch"),
            key=lambda each: _median(each, images),
        )

    def along(self, axis: Axis) -> list[Series]:
        """Return each contender's costs along an axis; of batches their engine-only times."""
        if axis != "batch":
            return [series for series in self.series if series.axis == axis]
        return [
            Series(
                axis,
                each.name,
                tuple(Point(float(b.images), b.per_round) for b in each.engine_only),
            )
            for each in self.contenders
        ]

    def agreement(self, contender: ContenderResult) -> Change:
        """Compare a contender's P(fake) with PyTorch FP32's on the same crops."""
        return compare_scores(np.array(self.paper.scores), np.array(contender.scores))


def _median(contender: ContenderResult, images: int | None) -> float:
    """Return seconds to choose the fastest by; a batch that was refused is the slowest."""
    if images is None:
        return contender.end_to_end.passages.median
    batch = contender.batch_of(images)
    return float("inf") if batch is None else batch.per_round.median
