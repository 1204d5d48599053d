"""Blocks on how fast networks are judged."""

from __future__ import annotations

from collections.abc import Mapping

from glass_edge.benchmarks.detectors.report import DetectorReport
from glass_edge.benchmarks.engines import EnginesReport
from glass_edge.benchmarks.measuring.samples import median_ratio, three_digits
from glass_edge.benchmarks.pipeline import PipelineReport
from glass_edge.benchmarks.run.report import RunReport
from glass_edge.benchmarks.run.tables import end_to_end_table
from glass_edge.runtime.results.tables import markdown_table
from reading import GPU_NETWORKS, NETWORKS, read

ONE_VIEW = {
    "commfor": "ViT-S/16 at 384, Community Forensics' shape",
    "cnnspot": "ResNet-50, CNNSpot's shape",
}
"""Of the speeds of one-view detectors, by file name."""


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
