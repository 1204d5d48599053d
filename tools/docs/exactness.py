"""Blocks on what is checked, and how near a bundle is to its network."""

from __future__ import annotations

import re

from glass_edge.benchmarks.evaluation.report import EvaluationReport
from glass_edge.benchmarks.evaluation.steadiness_report import SteadinessReport, comparisons
from glass_edge.benchmarks.int8.report import Int8Report
from glass_edge.benchmarks.measuring.samples import median_ratio
from glass_edge.benchmarks.run.report import RunReport
from glass_edge.benchmarks.views.decoders import DecodersReport, FormatResult
from glass_edge.benchmarks.views.measure import ViewsReport
from glass_edge.runtime.engines.selftest import TOLERANCES
from glass_edge.runtime.results.tables import markdown_table
from reading import ROOT, TRAINED, read

QUANTISED = TRAINED | {
    "resnet50": "ResNet-50, random weights",
    "vitb16": "ViT-B/16, random weights",
}
"""Of the comparisons of INT8, by file name."""


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


def tolerances() -> str:
    """How far a bundle's logits may be from those stored in it."""
    row = ["share of the largest logit, or of 1", *(f"{value:g}" for value in TOLERANCES.values())]
    return markdown_table(["precision of the bundle", *TOLERANCES], [row])
