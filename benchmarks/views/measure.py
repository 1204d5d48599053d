"""``glass-bench views``: what it costs to turn an image into views, and how exact it is."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import cv2
import msgspec
import numpy as np
import torch

from ...export.paper import CROP_SIZE, glass_views
from ...runtime.commands.progress import on_console
from ...runtime.images.decode import read_header, settle_pillow
from ...runtime.images.encoded import DecodeOptions
from ...runtime.machine.environment import environment
from ...runtime.machine.progress import track
from ...runtime.machine.timings import Timings
from ...runtime.results.tables import markdown_table
from ...runtime.streaming.orders import Look
from ...runtime.streaming.view_maker import DEFAULT_MEMORY, ViewMaker
from ...runtime.views.batch import Sampling, ViewBatch, plan
from ...runtime.views.spec import ViewSpec
from ..measuring.report import SCHEMA_VERSION, BenchReport
from ..measuring.samples import Samples, median_ratio
from .roads import Run, decoder_roads, view_roads

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_IMAGES_PER_WORKER = 24  # enough that the end, when one thread has nothing left, weighs little


class RoadResult(msgspec.Struct, frozen=True):
    """One road on one image: time in all, time by stage, error of its global view.

    Errors are absolute differences to the reference's global view in grey levels.
    """

    name: str
    total: Samples
    stages: dict[str, Samples]
    mean_error: float | None
    max_error: float | None


class ImageResult(msgspec.Struct, frozen=True):
    """All roads on one image, measured in turns. The reference is the first road."""

    name: str
    width: int
    height: int
    file_bytes: int
    roads: tuple[RoadResult, ...]
    decoders: tuple[RoadResult, ...]

    @property
    def floor(self) -> RoadResult:
        """The fastest decoder alone."""
        return min(self.decoders, key=lambda road: road.total.median)


class ThreadResult(msgspec.Struct, frozen=True):
    """Seconds per image with a number of worker threads, measured in turns."""

    name: str
    threads: int
    per_image: Samples


class ViewsReport(BenchReport, frozen=True):
    """Everything that a run of the benchmark measured."""

    crops: int
    repeats: int
    images: tuple[ImageResult, ...]
    threads: tuple[ThreadResult, ...]

    def summary(self) -> str:
        """Return one table: a row for each image, in milliseconds and grey levels."""
        # OpenCV has none where it does not read the file.
        names = max(([road.name for road in image.roads] for image in self.images), key=len)
        header = ["image", *(f"{name}: ms" for name in names), "times reference's speed",
                  "of the floor", *(f"{name}: largest error" for name in names[1:])]  # fmt: skip
        rows = []
        for image in self.images:
            reference, *_, ours = image.roads
            roads = {road.name: road for road in image.roads}
            found = [roads.get(name) for name in names]
            totals = [f"{road.total.median * 1e3:.1f}" if road else "-" for road in found]
            speed = f"{median_ratio(reference.total, ours.total):.2f}"
            share = f"{median_ratio(ours.total, image.floor.total):.2f}"
            errors = [_levels(road.max_error) if road else "-" for road in found[1:]]
            rows.append([image.name, *totals, speed, share, *errors])
        return markdown_table(header, rows)

    def threads_table(self) -> str:
        """Return a row for each image and number of threads, compared with the fewest."""
        first = {result.name: result for result in reversed(self.threads)}
        rows = [
            [
                result.name,
                str(result.threads),
                result.per_image.milliseconds(),
                f"{1 / result.per_image.median:.1f}",
                f"{median_ratio(first[result.name].per_image, result.per_image):.2f}",
            ]
            for result in self.threads
        ]
        fewest = min((result.threads for result in self.threads), default=1)
        base = "one thread" if fewest == 1 else f"{fewest} threads"
        header = ["image", "threads", "ms per image", "images/s", f"times {base}"]
        return markdown_table(header, rows)

    def to_markdown(self) -> str:
        """Return the tables for people."""
        return self.page(
            "Views: from file to what the model sees",
            f"One thread, {self.crops} crops; milliseconds, median of {self.repeats} repeats in "
            "turns (quartiles); ratios are medians of neighbouring measurements. Errors of the "
            "global view against the reference in grey levels.",
            self.summary(),
            *(_image_section(image) for image in self.images),
            f"## Threads\n\n{self.threads_table()}" if self.threads else "",
        )


def measure_views(
    images: Mapping[str, bytes],
    *,
    crops: int,
    repeats: int,
    threads: Sequence[int],
    command: str,
) -> ViewsReport:
    """Measure every road on every image, in turns, with one thread.

    Each image is measured in a process of its own, because what earlier images leave in the
    allocator speeds some roads up and slows others down.
    """
    spec = glass_views(CROP_SIZE, crops)
    results = [
        _in_own_process(_measure_image, name, content, spec, repeats)
        for name, content in track(images.items(), "measuring roads", len(images), on_console)
    ]
    scaling = [
        result
        for name, content in track(images.items(), "measuring threads", len(images), on_console)
        for result in _in_own_process(_measure_threads, name, content, spec, repeats, threads)
    ]
    return ViewsReport(
        SCHEMA_VERSION, command, environment(), crops, repeats, tuple(results), tuple(scaling)
    )


def _in_own_process(
    function: Callable[_Arguments, _Result], *arguments: _Arguments.args, **named: _Arguments.kwargs
) -> _Result:
    with ProcessPoolExecutor(
        1, mp_context=multiprocessing.get_context("spawn"), initializer=_settle
    ) as process:
        return process.submit(function, *arguments, **named).result()


def _settle() -> None:
    settle_pillow()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def _measure_image(name: str, content: bytes, spec: ViewSpec, repeats: int) -> ImageResult:
    header = read_header(content)
    seed = Sampling(spec).generator_seed(header.decode().rgb)
    places = plan(header.height, header.width, seed, spec)
    to_views, decoders = view_roads(content), decoder_roads(content)
    roads = {**to_views, **decoders}
    runs: dict[str, list[Run]] = {road: [] for road in roads}
    for repeat in range(repeats + 1):  # the first round warms up
        for road, function in roads.items():
            run = function(content, places, spec)
            if repeat:
                runs[road].append(run)
    reference = runs[next(iter(to_views))][0]
    return ImageResult(
        name=name,
        width=header.width,
        height=header.height,
        file_bytes=len(content),
        roads=tuple(_result(road, runs[road], reference) for road in to_views),
        decoders=tuple(_result(road, runs[road], reference) for road in decoders),
    )


def _result(name: str, runs: Sequence[Run], reference: Run) -> RoadResult:
    stages = {
        stage: Samples(tuple(run.seconds[stage] for run in runs)) for stage in runs[0].seconds
    }
    total = Samples(tuple(run.total for run in runs))
    overview, expected = runs[0].overview, reference.overview
    if overview is None or expected is None:
        return RoadResult(name, total, stages, None, None)
    error = np.abs(overview - expected)
    return RoadResult(name, total, stages, float(error.mean()), float(error.max()))


def _measure_threads(
    name: str, content: bytes, spec: ViewSpec, repeats: int, threads: Sequence[int]
) -> list[ThreadResult]:
    seconds: dict[int, list[float]] = {count: [] for count in threads}
    for repeat in range(repeats + 1):
        for count in threads:
            taken = _time_workers(content, spec, count)
            if repeat:
                seconds[count].append(taken)
    return [ThreadResult(name, count, Samples(tuple(seconds[count]))) for count in threads]


def _time_workers(content: bytes, spec: ViewSpec, threads: int) -> float:
    """Return seconds per image of the runtime's own pool, after its buffers have grown."""
    count = threads * _IMAGES_PER_WORKER
    batch = ViewBatch(count, spec)
    look = Look(Sampling(spec))
    maker = ViewMaker(
        threads=threads,
        memory=4 * DEFAULT_MEMORY,
        decode=DecodeOptions(max_pixels=1 << 30),
        timings=Timings(),
    )
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda slot: maker.make(batch, slot, content, look), range(threads)))
        started = time.perf_counter()
        list(pool.map(lambda slot: maker.make(batch, slot, content, look), range(count)))
        return (time.perf_counter() - started) / count


def _levels(error: float | None) -> str:
    """Return an error in grey levels, two digits of it."""
    if error is None:
        return ""
    return f"{error:.0f}" if error >= 10 else f"{error:.2g}"


def _image_section(image: ImageResult) -> str:
    reference, floor = image.roads[0], image.floor
    stages = list(dict.fromkeys(stage for road in image.roads for stage in road.stages))
    header = ["road", "total", *stages, "times reference's speed", "of the floor",
              "mean error", "largest error"]  # fmt: skip
    rows = []
    for road in [*image.roads, *image.decoders]:
        times = [f"{road.stages[s].median * 1e3:.1f}" if s in road.stages else "" for s in stages]
        errors = [_levels(road.mean_error), _levels(road.max_error)]
        speed = f"{median_ratio(reference.total, road.total):.2f}"
        share = f"{median_ratio(road.total, floor.total):.2f}"
        rows.append([road.name, road.total.milliseconds(), *times, speed, share, *errors])
    title = (
        f"## {image.name}: {image.width}x{image.height}, {image.file_bytes / 1e6:.1f} MB "
        f"(floor: {floor.name})"
    )
    return f"{title}\n\n{markdown_table(header, rows)}"
