"""The tables of ``glass-bench run``, and their words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...calibration.judging.comparison import Change, compare_scores
from ...runtime.results.tables import markdown_table
from ..measuring.samples import (
    SPREAD,
    Samples,
    counted,
    mark,
    median_ratio,
    refusals_table,
    spread,
    three_digits,
    unsteady_note,
)
from .report import Axis, ContenderResult, EngineOnly, FullSize, Peak, RunReport, Series

STAGES = ("read", "decode", "views", "wait", "infer", "aggregate")


def run_markdown(report: RunReport) -> str:
    """Return a report's tables and how they were measured."""
    parts = [
        _measured(report),
        "## End to end",
        f"From files to P(fake). Best PyTorch: {report.best_pytorch().name}.",
        end_to_end_table(report),
        *_own_crops(report),
        refusals_table(report.refusals) if report.refusals else "",
        *_stages(report),
        *(part for images in report.batches for part in _engine_only(report, images)),
        *_scaling(report),
        *_full_size(report),
        "## Bounds of this machine",
        _bounds(report),
    ]
    return report.page("Against full-size PyTorch", *parts, unsteady_note(*parts))


def _measured(report: RunReport) -> str:
    views = report.views
    pixels = sum(image.width * image.height for image in report.images) / len(report.images)
    rounds = len(report.paper.end_to_end.passages.seconds)
    return (
        f"{report.backbone} of {report.checkpoint}; {len(report.images)} images of "
        f"{pixels / 1e6:.1f} million pixels on average, each with 1 global view and "
        f"{views.num_crops} crops of {views.crop_size}x{views.crop_size}, the same for every "
        f"contender (seed {report.seed}); {report.threads} threads, {report.workers} workers, "
        f"batches of at most {report.batch_size}. Each contender has a process of its own; they "
        f"take turns, {rounds} rounds after one to warm up. Speeds are medians; ratios are medians "
        "of the ratios of neighbouring measurements. Agreement is with PyTorch FP32 on the same "
        "crops: verdicts that flip at P(fake) 0.5, and absolute changes of P(fake)."
        f"{_AUTO if any(each.mean_crops is not None for each in report.contenders) else ''}"
    )


_AUTO = (
    " With auto crops, a bundle takes as many crops of each image as its stopping rule asks for."
)


def end_to_end_table(report: RunReport) -> str:
    """Return a row for each contender: speed, cost and agreement."""
    header = ["contender", "computes in", "images/s", "times PyTorch FP32", "times best PyTorch",
              "peak MB", "CPU s per image", *_AGREEMENT]  # fmt: skip
    rows = [_end_to_end_row(report, each) for each in report.contenders]
    return markdown_table(header, rows)


def _end_to_end_row(report: RunReport, contender: ContenderResult) -> list[str]:
    count, measured = len(report.images), contender.end_to_end
    cpu, peak = measured.cpu_seconds, measured.peak_bytes
    return [
        contender.name,
        contender.precision,
        _speed(count, measured.passages),
        f"{median_ratio(report.paper.end_to_end.passages, measured.passages):.2f}",
        f"{median_ratio(report.best_pytorch().end_to_end.passages, measured.passages):.2f}",
        "" if peak is None else f"{peak / 1e6:.0f}",
        "" if cpu is None else f"{cpu.median / count:.3f}",
        *_agreement(report.agreement(contender)),
    ]


def _own_crops(report: RunReport) -> list[str]:
    """Say how many crops images took where their number is not the same for all."""
    found = [
        f"{each.name}: {each.mean_crops:.2f} crops per image on average."
        for each in report.contenders
        if each.mean_crops is not None
    ]
    return ["\n".join(f"- {line}" for line in found)] if found else []


_AGREEMENT = ("flips", "mean change", "largest change")


def _agreement(change: Change) -> list[str]:
    return [str(change.flips), f"{change.mean_change:.2g}", f"{change.largest_change:.2g}"]


def _speed(images: int, samples: Samples) -> str:
    return f"{three_digits(images / samples.median)}{mark(samples)}"


def _stages(report: RunReport) -> list[str]:
    """Return the table of stages: milliseconds per image."""
    count = len(report.images)
    rows = []
    for contender in report.contenders:
        measured = contender.end_to_end
        cells = [
            f"{measured.stages[stage].median / count * 1e3:.1f}" if stage in measured.stages else ""
            for stage in STAGES
        ]
        rows.append([contender.name, *cells, f"{measured.passages.median / count * 1e3:.1f}"])
    return [
        "Milliseconds per image by stage, summed over threads and processes, which work side by "
        "side; wait is PyTorch's network's for views, a bundle's workers' with nothing to do; an "
        "empty cell is a stage that a contender does not tell apart.",
        markdown_table(["contender", *STAGES, "elapsed"], rows),
    ]


def _engine_only(report: RunReport, images: int) -> list[str]:
    """Return throughput and latency of batches of so many images whose views lie ready."""
    measured = [(each, batch) for each in report.contenders if (batch := each.batch_of(images))]
    if not measured:
        return []
    best = report.best_pytorch(images)
    parts = [
        f"## Engine only, batches of {counted(images, 'image')}",
        f"Views lie ready in memory. Best PyTorch: {best.name}.",
        _throughput_table(report, images, measured),
        "Milliseconds per batch:",
        _latency_table(measured),
    ]
    parts += _gpu_parts(measured)
    return parts


def _throughput_table(
    report: RunReport, images: int, measured: list[tuple[ContenderResult, EngineOnly]]
) -> str:
    paper, best = report.paper.batch_of(images), report.best_pytorch(images).batch_of(images)
    header = ["contender", "images/s", "times PyTorch FP32", "times best PyTorch",
              "10^9 multiply-adds/s", "of the peak"]  # fmt: skip
    rows = []
    for contender, batch in measured:
        speed = images / batch.per_round.median
        share = report.roofline.share(speed, contender.precision)
        rows.append([
            contender.name,
            _speed(images, batch.per_round),
            "" if paper is None else f"{median_ratio(paper.per_round, batch.per_round):.2f}",
            "" if best is None else f"{median_ratio(best.per_round, batch.per_round):.2f}",
            f"{speed * report.roofline.multiply_adds / 1e9:.1f}",
            "" if share is None else f"{share:.0%}",
        ])  # fmt: skip
    return markdown_table(header, rows)


def _latency_table(measured: list[tuple[ContenderResult, EngineOnly]]) -> str:
    rows = [
        [contender.name, *_milliseconds(batch.calls), str(len(batch.calls))]
        for contender, batch in measured
    ]
    return markdown_table(["contender", *SPREAD, "calls"], rows)


def _gpu_parts(measured: list[tuple[ContenderResult, EngineOnly]]) -> list[str]:
    rows = [
        [f"{contender.name}: {part}", *_milliseconds(seconds)]
        for contender, batch in measured
        for part, seconds in batch.parts.items()
    ]
    if not rows:
        return []
    told = "Milliseconds per batch by part, seen by CUPTI in calls that are not timed otherwise:"
    return [told, markdown_table(["contender: part", *SPREAD], rows)]


def _milliseconds(seconds: tuple[float, ...] | list[float]) -> list[str]:
    return [three_digits(value * 1e3) for value in spread(seconds)]


def _scaling(report: RunReport) -> list[str]:
    """Return what an image costs along each axis that has a line."""
    tables = [
        part
        for axis, (told, unit) in _AXES.items()
        if any(series.line for series in report.along(axis))
        for part in (told, scaling_table(report.along(axis), unit))
    ]
    return ["## What an image costs", _LINES, *tables] if tables else []


_AXES: dict[Axis, tuple[str, str]] = {
    "crops": ("By its number of crops, engine only, batches of 1 image:", "crop"),
    "megapixels": ("By its size, from file to P(fake), in megapixels:", "megapixel"),
    "batch": ("By the images in a batch, engine only, milliseconds per batch:", "image"),
}
_LINES = (
    "Milliseconds, medians of the rounds, on generated images where no batch is named. Straight "
    "lines by least squares through the medians: the cost of one more, what there is to pay in "
    "any case, and the share that the line explains."
)


def scaling_table(series: Sequence[Series], unit: str) -> str:
    """Return a row for each contender: costs in milliseconds at each value, and the line."""
    values = sorted({point.at for each in series for point in each.points})
    header = ["contender", *(f"{value:g}" for value in values), f"ms per {unit}", "ms at 0", "R^2"]
    return markdown_table(header, [_scaling_row(each, values) for each in series])


def _scaling_row(series: Series, values: Sequence[float]) -> list[str]:
    costs = {point.at: point.cost for point in series.points}
    cells = [
        f"{three_digits(costs[value].median * 1e3)}{mark(costs[value])}" if value in costs else ""
        for value in values
    ]
    line = series.line
    if line is None:
        return [series.contender, *cells, "", "", ""]
    fit = [three_digits(line.slope * 1e3), three_digits(line.intercept * 1e3), f"{line.r2:.4f}"]
    return [series.contender, *cells, *fit]


def _full_size(report: RunReport) -> list[str]:
    measured = report.full_size
    if measured is None:
        return []
    names = ", ".join(report.images[index].path for index in measured.images)
    return [
        "## Full-size PyTorch",
        f"Every tile of the image at native resolution instead of crops, on {names}; once, in "
        "PyTorch FP32. Agreement is with the same model on crops of the same images.",
        _full_size_table(measured),
    ]


def _full_size_table(measured: FullSize) -> str:
    count = len(measured.images)
    change = compare_scores(np.array(measured.crops_scores), np.array(measured.scores))
    header = ["contender", "images/s", "times PyTorch FP32", "tiles per image", *_AGREEMENT]
    tiles = f"{sum(measured.tiles) / count:.0f}"
    crops = ["PyTorch FP32, crops", f"{count / measured.crops_seconds:.3g}", "1.00"]
    speed, ratio = count / measured.seconds, measured.crops_seconds / measured.seconds
    every = ["PyTorch FP32, every tile", f"{speed:.3g}", f"{ratio:.3g}", tiles]
    return markdown_table(header, [crops + [""] * 4, every + _agreement(change)])


def _bounds(report: RunReport) -> str:
    roofline = report.roofline
    floor = roofline.decode_floor
    rows = [
        [f"multiply-adds/s in {peak.precision}, 10^9", f"{peak.per_second / 1e9:.0f}",
         three_digits(peak.per_second / roofline.multiply_adds), "", peak.measured_by]
        for peak in roofline.peaks
    ]  # fmt: skip
    decoding = ["decoding alone, on all CPUs", "", three_digits(1 / floor.seconds), ""]
    rows.append([*decoding, floor.decoder])
    if report.environment.gpu is None:
        rows += [_bound_of_both(report, peak) for peak in roofline.peaks]
    header = ["bound", "value", "images/s at that speed", "reached end to end", "measured by"]
    missing = [f"No peak in {name}: {why}." for name, why in roofline.left_out.items()]
    cost = (
        f"One image costs {roofline.multiply_adds / 1e9:.2f} thousand million multiply-adds, "
        "counted in the convolutions and matrix products that features need. Speeds of products "
        "are the best seen, not limits: who needs fewer, as Winograd's convolutions do, may be "
        "faster."
    )
    return "\n\n".join([cost, markdown_table(header, rows), *missing])


def _bound_of_both(report: RunReport, peak: Peak) -> list[str]:
    """Decoding and the network each at their best, one after the other on the same CPUs."""
    most = report.roofline.images_per_second(peak)
    speeds = [
        len(report.images) / each.end_to_end.passages.median
        for each in report.contenders
        if each.precision == peak.precision
    ]
    reached = f"{three_digits(max(speeds))} ({max(speeds) / most:.0%})" if speeds else ""
    return [f"decoding, then {peak.precision} at its peak", "", three_digits(most), reached,
            "both above"]  # fmt: skip
