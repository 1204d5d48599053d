"""Blocks on what else takes time: images, pages, servers and collections."""

from __future__ import annotations

from glass_edge.benchmarks.collections.report import CollectionsReport
from glass_edge.benchmarks.costs.report import CostsReport
from glass_edge.benchmarks.engines import EnginesReport
from glass_edge.benchmarks.measuring.samples import three_digits, unsteady_note
from glass_edge.benchmarks.reports.report import ReportCosts
from glass_edge.benchmarks.serving.report import ServingReport
from glass_edge.benchmarks.views.decoders import DecodersReport
from glass_edge.benchmarks.views.measure import ViewsReport
from glass_edge.runtime.results.tables import markdown_table
from reading import GPU_NETWORKS, NETWORKS, read

_USUAL_MEGAPIXELS = 12  # of a telephone's photograph
SERVED = {"demo": "EfficientNet-lite0 (the demo), FP32", "resnet50": "ResNet-50, INT8"}
"""Of the reports of servers, by file name."""


def report_costs() -> str:
    """What a report costs a run, and a page a browser."""
    parts = []
    for name in ("report", "report-small"):
        report = read(name, ReportCosts)
        parts += [
            f"**{report.images} photographs of {report.megapixels:.1f} million pixels** on "
            f"{_processor(report.environment.processor)}, {report.environment.cpus} CPUs; medians "
            f"(quartiles) of whole\nprocesses ([report](reports/{name}.md)):",
            report.run_table(),
            report.page_table(),
            f"`{report.command}`",
        ]
    return "\n\n".join(parts)


def serving_costs() -> str:
    """What serving costs and gains, and how servers bear overload."""
    parts = []
    for name, network in SERVED.items():
        report = read(f"serve-{name}", ServingReport)
        parts += [
            f"**{network}**, {report.images} photographs of {report.image_bytes / 1e6:.1f} MB on "
            f"average, {_processor(report.environment.processor)}, {report.environment.cpus} CPUs "
            f"for servers\nand clients together; medians (quartiles) "
            f"([report](reports/serve-{name}.md)):",
            report.speed_table(),
            report.half_table(),
            report.overload_table(),
            report.endurance_table(),
            f"`{report.command}`",
        ]
    return "\n\n".join(parts)


def collections() -> str:
    """What forms of collections, records and clusters cost."""
    report = read("collections", CollectionsReport)
    heavier = read("collections-resnet50", CollectionsReport)
    return "\n\n".join([
        f"**The demo**, {_measured_on(report)} ([report](reports/collections.md)):",
        report.source_table(),
        report.bucket_note(),
        report.output_table(),
        report.sharing_table(),
        report.memory_table(),
        unsteady_note(report.output_table(), report.sharing_table()),
        f"`{report.command}`",
        f"**ResNet-50, INT8**, beside which a request costs less, {_measured_on(heavier)} "
        "([report](reports/collections-resnet50.md)):",
        heavier.source_table(),
        f"`{heavier.command}`",
    ])  # fmt: skip


def _measured_on(report: CollectionsReport) -> str:
    return (
        f"{report.images} images of {report.image_bytes / 1e6:.2f} MB on "
        f"{_processor(report.environment.processor)}, {report.environment.cpus} CPUs;\n"
        "medians (quartiles)"
    )


def costs() -> str:
    """What an image costs by its size, the network, its precision and the crops."""
    report = read("costs", CostsReport)
    return "\n\n".join([
        _whole_collection(report),
        f"One CPU of {_processor(report.environment.processor)} at ${report.budget.price:g} an "
        f"hour, and {report.budget.machines} machines\nwith {report.budget.cpus} of them, which "
        "are round numbers to scale from and nobody's offer; medians (quartiles) of\n"
        f"{report.rounds} rounds ([report](reports/costs.md)):",
        report.cost_table(),
        "From which size decoding takes longer than the engine:",
        report.balance_table(),
        "What all CPUs of this machine do beside one:",
        report.scaling_table(),
        unsteady_note(report.cost_table(), report.scaling_table()),
        f"`{report.command}`",
    ])  # fmt: skip


def _whole_collection(report: CostsReport) -> str:
    """What the cheapest and the dearest way to judge the whole collection come to."""
    budget, images = report.budget, [cost for each in report.bundles for cost in each.images]
    seconds = [cost.seconds.median for cost in images if cost.megapixels == _USUAL_MEGAPIXELS]
    least, most = min(seconds), max(seconds)
    millions = budget.images / 1e6
    dollars = [budget.dollars_per_million(each) * millions for each in (least, most)]
    return (
        f"**{budget.images:,} photographs of {_USUAL_MEGAPIXELS} megapixels** cost "
        f"${three_digits(dollars[0])} to ${three_digits(dollars[1])} here, and take "
        f"{three_digits(budget.days(least))} to {three_digits(budget.days(most))} days on "
        f"{budget.machines}\nmachines, by the network, its precision and the number of crops."
    )


def cpus_for_gpus() -> str:
    """How many CPUs decode as fast as a GPU judges."""
    costs = read("costs", CostsReport).bundles[0]
    crops, images = next(costs.by_crops())
    views = (crops or 0) + 1  # the global view is another crop's work
    rows = []
    for name in GPU_NETWORKS:
        report = read(f"engines-{name}-h200", EnginesReport)
        ours = [each for each in report.contenders if each.bundle_precision == "fp16"]
        per_image = ours[-1].per_crop.median * views
        cpus = [three_digits(cost.preparing / 1e3 / per_image) for cost in images]
        rows.append([NETWORKS[name], three_digits(1 / per_image), *cpus])
    sizes = [f"CPUs at {cost.megapixels:g} MP" for cost in images]
    return markdown_table(["FP16 on an H200", f"images/s with {views} views", *sizes], rows)


def claims() -> str:
    """What it costs to ask files of their origin."""
    return read("report", ReportCosts).claims_table()


def decoders() -> str:
    """Every decoder on every format."""
    report = read("decoders", DecodersReport)
    return (
        f"{report.table()}\n\nMilliseconds for {report.megapixels:g} million pixels, median "
        f"(quartiles), and the largest difference from Pillow's pixels\nin grey levels; "
        f"`{report.command}`\non {_processor(report.environment.processor)}, one thread "
        "([whole report](reports/decoders.md))."
    )


def views() -> str:
    """From file to views: glass-edge, the reference and what most would write."""
    report = read("views", ViewsReport)
    return (
        f"{report.summary()}\n\n{report.threads_table()}\n\n"
        f"`{report.command}` on {_processor(report.environment.processor)}, "
        f"{report.environment.cpus} CPUs; medians ([whole report](reports/views.md))."
    )


def _processor(name: str) -> str:
    return name.partition(" (")[0]
