"""Write every generated part of the documentation again: ``make docs``.

Pages hold blocks between markers::

    <!-- RUNS -->
    <!-- /RUNS -->

``BLOCKS`` names the function that writes each block, from the reports in docs/reports or from the
code. The reports' own Markdown and the records' JSON Schema are generated as well.
tests/test_docs.py fails where a file is not what this script writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
from glass_edge.benchmarks.collections.report import CollectionsReport
from glass_edge.benchmarks.detectors.report import DetectorReport
from glass_edge.benchmarks.engines import EnginesReport
from glass_edge.benchmarks.evaluation.report import EvaluationReport
from glass_edge.benchmarks.evaluation.steadiness_report import SteadinessReport, comparisons
from glass_edge.benchmarks.int8.report import Int8Report
from glass_edge.benchmarks.measuring.samples import median_ratio, three_digits
from glass_edge.benchmarks.pipeline import PipelineReport
from glass_edge.benchmarks.reports.report import ReportCosts
from glass_edge.benchmarks.run.report import RunReport
from glass_edge.benchmarks.run.tables import end_to_end_table, run_markdown
from glass_edge.benchmarks.serving.report import ServingReport
from glass_edge.benchmarks.views.decoders import DecodersReport, FormatResult
from glass_edge.benchmarks.views.measure import ViewsReport
from glass_edge.calibration.making.explored import Exploration
from glass_edge.calibration.steadiness.report import CalibrationReport
from glass_edge.runtime.engines.selftest import TOLERANCES
from glass_edge.runtime.results.records import record_schema
from glass_edge.runtime.results.tables import markdown_table

ROOT = Path(__file__).parent.parent
REPORTS = ROOT / "docs" / "reports"
NETWORKS = {"resnet50": "ResNet-50", "convnext": "ConvNeXt-T", "vit": "ViT-B/16"}
"""Of the speed reports, by file name."""
GPU_NETWORKS = ("vit", "resnet50")
TRAINED = {
    "demo": "EfficientNet-lite0, both backbones trained (the demo)",
    "efficientnet": "EfficientNet-lite0 with ImageNet weights, shared by both views; only the "
    "aggregator was trained",
    "vit": "ViT with 6 layers of width 192, trained from scratch",
}
"""Of the evaluations, by file name."""
QUANTISED = TRAINED | {
    "resnet50": "ResNet-50, random weights",
    "vitb16": "ViT-B/16, random weights",
}
"""Of the comparisons of INT8, by file name."""
SERVED = {"demo": "EfficientNet-lite0 (the demo), FP32", "resnet50": "ResNet-50, INT8"}
"""Of the reports of servers, by file name."""
ONE_VIEW = {
    "commfor": "ViT-S/16 at 384, Community Forensics' shape",
    "cnnspot": "ResNet-50, CNNSpot's shape",
}
"""Of the speeds of one-view detectors, by file name."""
Report = TypeVar("Report")


def read(name: str, kind: type[Report]) -> Report:
    """Read a report from docs/reports."""
    return msgspec.json.decode((REPORTS / f"{name}.json").read_bytes(), type=kind)


def gates() -> str:
    """What is checked, when, and with what result."""
    evaluated = [read(_eval(name), EvaluationReport) for name in TRAINED]
    found = [each.gate for report in evaluated for each in report.bundles if each.gate]
    flips, judgements = sum(each.flips for each in found), sum(each.judgements for each in found)
    largest = max(each.yardstick.error for each in found if each.yardstick)
    roads = [road for image in read("views", ViewsReport).images for road in image.roads]
    errors = {
        road.name: max(each.max_error or 0 for each in roads if each.name == road.name)
        for road in roads
    }
    formats = read("decoders", DecodersReport).formats
    equal = [each for each in formats if not _difference(each)]
    rows = [
        ("what is checked", "when", "result"),
        (":--", ":--", ":--"),
        ("the exported graphs compute what PyTorch computes", "every export",
         f"logits within {_parity()} ([the demo](docs/bundle.md#the-parity-gate))"),
        ("a lower precision changes less than another choice of crops does", "every bundle made",
         f"by {largest:.2f} of it at most, and {flips} of {judgements:,} verdicts "
         f"([{len(found)} bundles](docs/precision.md#what-it-costs))"),
        ("your engine computes what the export computed", "first start",
         f"refused beyond {TOLERANCES['fp32'] * 100:g} % of the largest logit in FP32 "
         "([self-test](docs/bundle.md#the-self-test))"),
        ("views are the reference's", "tests", "crops equal; global view within "
         f"{errors['glass-edge']:.4f} grey levels ([report](docs/reports/views.md))"),
        ("pixels are Pillow's", "tests", f"equal, in {len(equal)} of {len(formats)} kinds of file "
         "([report](docs/reports/decoders.md))"),
        ("only whole images are judged "
         "([exceptions](docs/views.md#an-image-is-whole-or-it-is-an-error)); "
         "any other file is one error sentence", "fuzzing",
         f"{_fuzzed():,} files, no exception ([table](docs/trust.md#images))"),
        ("a run that was killed is resumed without a gap", "slow tests",
         "100 of 100 ([table](docs/trust.md#runs))"),
    ]  # fmt: skip
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _difference(result: FormatResult) -> int | None:
    """How far the decoder that glass-edge takes for a format is from Pillow, in grey levels."""
    (taken,) = (each for each in result.decoders if each.decoder.lower() == result.taken)
    return taken.largest_difference


def _parity() -> str:
    """The demo's figure, from its output in the README, which a test compares with the real one."""
    (figure,) = re.findall(r"in any logit (\S+) \(", (ROOT / "README.md").read_text("utf-8"))
    return str(figure)


def _fuzzed() -> int:
    """The number of damaged images in the table that was copied from ``make fuzz``."""
    page = (ROOT / "docs" / "trust.md").read_text("utf-8").partition("## Bundles")[0]
    return sum(map(int, re.findall(r"^\| [\w, ]+\| +(\d+) \|", page, re.MULTILINE)))


def speed() -> str:
    """One line for each network: INT8 against PyTorch, from files to P(fake)."""
    header = ["network", "PyTorch as the paper runs it", "PyTorch at its best", "glass-edge INT8",
              "times the paper's", "times the best", "flips"]  # fmt: skip
    rows = []
    for name, title in NETWORKS.items():
        report = read(f"run-{name}", RunReport)
        same = [each for each in report.contenders if each.mean_crops is None]
        int8 = [each for each in same if each.precision == "int8"]
        ours = min(int8, key=lambda each: each.end_to_end.passages.median)
        times = [each.end_to_end.passages for each in (report.paper, report.best_pytorch(), ours)]
        count = len(report.images)
        rows.append([
            title,
            *(three_digits(count / each.median) for each in times),
            *(f"{median_ratio(each, times[-1]):.1f}" for each in times[:-1]),
            f"{report.agreement(ours).flips} of {count}",
        ])  # fmt: skip
    return markdown_table(header, rows)


def runs() -> str:
    """Every contender of the three speed reports."""
    parts = []
    for name, title in NETWORKS.items():
        report = read(f"run-{name}", RunReport)
        links = f"[report](reports/run-{name}.md), [plots](reports/run-{name}.png)"
        parts += [f"**{title}** ({links}):", end_to_end_table(report), f"`{report.command}`"]
    return "\n\n".join(parts)


def int8() -> str:
    """One line for each network: what INT8 costs and gives."""
    header = ["network", "times FP32's speed", "error", "flips to FP32", "flips between two draws",
              "made in"]  # fmt: skip
    rows = []
    for name, title in QUANTISED.items():
        ours = read(f"int8-{name}", Int8Report).results[0]
        found, noise = ours.comparison, ours.comparison.yardstick
        if noise is None:
            raise ValueError(f"int8-{name} has no yardstick")
        rows.append([
            title if "random" in title else title.partition(",")[0],
            str(ours.speed),
            f"{noise.error:.2f}" if noise.unit == "draws" else "",
            f"{found.flips / found.judgements:.1%}".replace("%", " %"),
            f"{noise.flips:.1%}".replace("%", " %"),
            f"{ours.seconds:.0f} s",
        ])  # fmt: skip
    return markdown_table(header, rows)


def quantisers() -> str:
    """Our INT8 beside that of libraries, and its parts."""
    parts = []
    for name, title in QUANTISED.items():
        report = read(f"int8-{name}", Int8Report)
        links = f"[report](reports/int8-{name}.md), [plot](reports/int8-{name}.png)"
        parts += [f"**{title}** ({links}):", report.makers_table()]
        if report.ablation:
            parts += ["Its parts:", report.ablation_table()]
        parts.append(f"`{report.command}`")
    return "\n\n".join(parts)


def steadiness() -> str:
    """A fixed number of crops and as many as each image needs, for each network."""
    report = read("steadiness", SteadinessReport)
    titles = {name: title.partition(",")[0] for name, title in TRAINED.items()}
    return report.summary(titles, {name: _times_pytorch(name) for name in TRAINED})


def _times_pytorch(name: str) -> tuple[str, str]:
    """How many times as fast as the paper's PyTorch INT8 is: with its crops, and with a rule's."""
    report = read(f"run-auto-{name}", RunReport)
    fixed, auto = (each for each in report.contenders if each.kind == "ours")
    paper = report.paper.end_to_end.passages
    return (
        f"{median_ratio(paper, fixed.end_to_end.passages):.1f}",
        f"{median_ratio(paper, auto.end_to_end.passages):.1f}",
    )


def steadiness_page() -> str:
    """The same, and what rules of other scales come to."""
    report = read("steadiness", SteadinessReport)
    parts = [steadiness()]
    for bundle in report.bundles:
        title = TRAINED[bundle.short_name].partition(",")[0]
        parts.append("\n".join([f"**{title}**:", "", *(f"- {x}" for x in comparisons(bundle))]))
    parts.append(f"`{report.command}` ([report](reports/steadiness.md))")
    return "\n\n".join(parts)


def evaluations() -> str:
    """Every measure of trained networks in every precision."""
    parts = []
    for name, title in TRAINED.items():
        report = read(_eval(name), EvaluationReport)
        links = f"[report](reports/{_eval(name)}.md), [reliability](reports/{_eval(name)}.png)"
        parts += [f"**{title}**, {len(report.judgements)} judgements ({links}):",
                  report.table(), f"`{report.command}`"]  # fmt: skip
    return "\n\n".join(parts)


def _eval(name: str) -> str:
    return f"eval-{name}"


def engines() -> str:
    """The local backbone alone on every engine."""
    return _engine_tables({f"engines-{name}": title for name, title in NETWORKS.items()})


def gpu() -> str:
    """The local backbone alone on an NVIDIA GPU."""
    return _engine_tables({f"engines-{name}-h200": NETWORKS[name] for name in GPU_NETWORKS})


def _engine_tables(titles: Mapping[str, str]) -> str:
    """Return the tables of reports by file name, with the titles of their networks."""
    parts = []
    for name, title in titles.items():
        report = read(name, EnginesReport)
        link = f"[report](reports/{name}.md)"
        parts += [f"**{title}**, random weights ({link}):", report.table(), f"`{report.command}`"]
    return "\n\n".join(parts)


def detectors() -> str:
    """Detectors of one view beside the script that their users run."""
    parts = []
    for name, title in ONE_VIEW.items():
        report = read(f"detector-{name}", DetectorReport)
        link = f"[report](reports/detector-{name}.md)"
        parts += [f"**{title}**, random weights ({link}):", report.table(), f"`{report.command}`"]
    return "\n\n".join(parts)


def pipelines() -> str:
    """The pipeline against its two halves, and what isolated decoders cost."""
    parts, medians = [], []
    for name in ("pipeline", "pipeline-isolate"):
        report = read(name, PipelineReport)
        parts += [report.table(), f"`{report.command}` ([report](reports/{name}.md))"]
        medians.append(report.bundles[0].whole.median)
    longer = f"{medians[1] / medians[0] - 1:.0%}".replace("%", " %")
    parts.append(
        f"The second table is with `--isolate`, which takes {longer} longer here. That includes "
        "starting the\nprocesses that decode, which a dozen images cannot make up for."
    )
    return "\n\n".join(parts)


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


def tolerances() -> str:
    """How far a bundle's logits may be from those stored in it."""
    row = ["share of the largest logit, or of 1", *(f"{value:g}" for value in TOLERANCES.values())]
    return markdown_table(["precision of the bundle", *TOLERANCES], [row])


BLOCKS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"GATES": gates, "INT8": int8, "STEADINESS": steadiness},
    "docs/benchmarks.md": {"SPEED": speed, "RUNS": runs},
    "docs/bundle.md": {"TOLERANCES": tolerances},
    "docs/precision.md": {
        "EVALUATION": evaluations,
        "QUANTISERS": quantisers,
        "ENGINES": engines,
    },
    "docs/detectors.md": {"SPEED": detectors},
    "docs/gpu.md": {"GPU": gpu},
    "docs/provenance.md": {"CLAIMS": claims},
    "docs/report.md": {"REPORT": report_costs},
    "docs/serving.md": {"SERVING": serving_costs},
    "docs/steadiness.md": {"STEADINESS": steadiness_page},
    "docs/throughput.md": {"PIPELINE": pipelines},
    "docs/views.md": {"DECODERS": decoders, "VIEWS": views},
}


def with_blocks(page: str, blocks: dict[str, Callable[[], str]]) -> str:
    """Return a page with its blocks written anew.

    Raises:
        ValueError: a block has no markers in the page, or more than one pair.
    """
    for name, make in blocks.items():
        block = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)
        if len(block.findall(page)) != 1:
            raise ValueError(f"a page needs one <!-- {name} --> and one <!-- /{name} --> after it")
        page = block.sub((make() + "\n").replace("\\", r"\\"), page)
    return page


def reports() -> Iterator[tuple[Path, str]]:
    """Yield the Markdown of every report."""
    for path in sorted(REPORTS.glob("*.json")):
        kind = path.stem.partition("-")[0]
        if kind == "run":
            text = run_markdown(read(path.stem, RunReport))
        elif kind in _TABLES:
            text = read(path.stem, _TABLES[kind]).to_markdown()
        else:
            continue
        yield path.with_suffix(".md"), text


_TABLES: dict[
    str,
    type[
        CalibrationReport
        | CollectionsReport
        | DecodersReport
        | DetectorReport
        | EnginesReport
        | EvaluationReport
        | Exploration
        | Int8Report
        | PipelineReport
        | ReportCosts
        | ServingReport
        | SteadinessReport
        | ViewsReport
    ],
] = {
    "calibrate": CalibrationReport,
    "collections": CollectionsReport,
    "decoders": DecodersReport,
    "detector": DetectorReport,
    "engines": EnginesReport,
    "eval": EvaluationReport,
    "explore": Exploration,
    "int8": Int8Report,
    "pipeline": PipelineReport,
    "report": ReportCosts,
    "serve": ServingReport,
    "steadiness": SteadinessReport,
    "views": ViewsReport,
}


def documents() -> dict[Path, str]:
    """Return every generated file, and every page with generated blocks, as it should be."""
    schema = json.dumps(record_schema(), indent=2) + "\n"
    written = {ROOT / "docs" / "record.schema.json": schema, **dict(reports())}
    for name, blocks in BLOCKS.items():
        page = (ROOT / name).read_text(encoding="utf-8")
        written[ROOT / name] = with_blocks(page, blocks)
    return written


def main() -> None:
    """Write what changed, and name it."""
    for path, text in documents().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
