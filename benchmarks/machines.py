"""Reports of ``glass-bench run`` read again, and machines compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ..runtime.machine.errors import InputError
from ..runtime.results.tables import markdown_table
from .measuring.report import SCHEMA_VERSION
from .measuring.samples import median_ratio, three_digits
from .run.report import ContenderResult, RunReport


def read_report(path: Path) -> RunReport:
    """Read a report from its JSON.

    Raises:
        InputError: unreadable, of another command, or of another schema version.
    """
    try:
        content = path.read_bytes()
        fields = msgspec.json.decode(content)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    except msgspec.DecodeError as error:
        raise InputError(f"{path} is not valid JSON: {error}.") from None
    kind = fields.get("report") if isinstance(fields, dict) else None
    if kind != "run":
        raise InputError(
            f"{path} is no report of glass-bench run: give a file that it wrote with -o FILE.json."
        )
    if fields.get("schema") != SCHEMA_VERSION:
        raise InputError(
            f"{path} has schema version {fields.get('schema')!r}, and this glass-edge reads "
            f"version {SCHEMA_VERSION}: measure again."
        )
    try:
        return msgspec.convert(fields, RunReport)
    except msgspec.ValidationError as error:
        raise InputError(f"{path} does not fit its schema: {error}.") from None


@dataclass(frozen=True)
class Machines:
    """Runs on several machines side by side; a column for each report, named by its file."""

    names: Sequence[str]
    reports: Sequence[RunReport]

    def table(self) -> str:
        """Return rows of the machines and of every contender's speed end to end."""
        machines = [_machine(report) for report in self.reports]
        rows = [[key, *(machine[key] for machine in machines)] for key in machines[0]]
        contenders = dict.fromkeys(
            contender.name for report in self.reports for contender in report.contenders
        )
        rows += [[name, *(_speed(report, name) for report in self.reports)] for name in contenders]
        return markdown_table(["machine", *self.names], rows)

    def best_table(self) -> str:
        """Return the machines, and of each kind of contender the fastest, with agreement."""
        machines = [_machine(report) for report in self.reports]
        rows = [[key, *(each[key] for each in machines)] for key in ("backbone", "images")]
        best = [_best_of_kinds(report) for report in self.reports]
        kinds = dict.fromkeys(kind for each in best for kind in each)
        rows += [[kind, *(each.get(kind, "") for each in best)] for kind in kinds]
        return markdown_table(["", *self.names], rows)

    def to_markdown(self) -> str:
        """Return the tables and how to read them."""
        return "\n\n".join([
            "# Machines compared",
            "Images/s from files to P(fake), in brackets times PyTorch FP32 on the same machine; "
            "flips are verdicts unlike PyTorch FP32's. Columns with different images or settings "
            "compare by their ratios only.",
            self.best_table(),
            self.table() + "\n",
        ])  # fmt: skip


def _machine(report: RunReport) -> dict[str, str]:
    machine, floor = report.environment, report.roofline.decode_floor
    peaks = {peak.precision: f"{peak.per_second / 1e9:.0f}" for peak in report.roofline.peaks}
    pixels = sum(image.width * image.height for image in report.images) / len(report.images)
    return {
        "processor": machine.processor,
        "GPU": machine.gpu or "none",
        "threads": str(report.threads),
        "backbone": report.backbone,
        "images": f"{len(report.images)} of {pixels / 1e6:.1f} MP, {report.views.num_crops} crops",
        "10^9 multiply-adds/s": ", ".join(f"{name} {value}" for name, value in peaks.items()),
        "decoding alone, images/s": three_digits(1 / floor.seconds),
    }


def _best_of_kinds(report: RunReport) -> dict[str, str]:
    """Return the speed of PyTorch, of the naive way, and of the fastest bundle per precision."""
    precisions = {bundle.name: bundle.precision.upper() for bundle in report.bundles}
    found = {
        "PyTorch as the paper runs it": _described(report, report.paper),
        "PyTorch at its best": _described(report, report.best_pytorch()),
    }
    by_speed = sorted(report.contenders, key=lambda each: each.end_to_end.passages.median)
    for contender in sorted(by_speed, key=lambda each: each.kind == "ours"):
        if contender.kind == "naive":
            found.setdefault("naive", _described(report, contender))
        if contender.kind == "ours" and contender.mean_crops is None:
            precision = precisions[contender.name.rpartition(", ")[0]]
            found.setdefault(f"glass-edge {precision}", _described(report, contender))
    return found


def _speed(report: RunReport, name: str) -> str:
    found = next((each for each in report.contenders if each.name == name), None)
    return "" if found is None else _described(report, found)


def _described(report: RunReport, found: ContenderResult) -> str:
    speed = len(report.images) / found.end_to_end.passages.median
    ratio = median_ratio(report.paper.end_to_end.passages, found.end_to_end.passages)
    flips = report.agreement(found).flips
    return f"{three_digits(speed)} ({ratio:.2f}), {flips} flips"
