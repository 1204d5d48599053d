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
from collections.abc import Callable, Iterator
from pathlib import Path

import exactness
import speed
import work
from glass_edge.benchmarks.collections.report import CollectionsReport
from glass_edge.benchmarks.costs.report import CostsReport
from glass_edge.benchmarks.detectors.report import DetectorReport
from glass_edge.benchmarks.engines import EnginesReport
from glass_edge.benchmarks.evaluation.report import EvaluationReport
from glass_edge.benchmarks.evaluation.steadiness_report import SteadinessReport
from glass_edge.benchmarks.int8.report import Int8Report
from glass_edge.benchmarks.pipeline import PipelineReport
from glass_edge.benchmarks.reports.report import ReportCosts
from glass_edge.benchmarks.run.report import RunReport
from glass_edge.benchmarks.run.tables import run_markdown
from glass_edge.benchmarks.serving.report import ServingReport
from glass_edge.benchmarks.views.decoders import DecodersReport
from glass_edge.benchmarks.views.measure import ViewsReport
from glass_edge.calibration.making.explored import Exploration
from glass_edge.calibration.steadiness.report import CalibrationReport
from glass_edge.runtime.results.records import record_schema
from reading import REPORTS, ROOT, read

BLOCKS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {
        "GATES": exactness.gates,
        "INT8": exactness.int8,
        "STEADINESS": exactness.steadiness,
    },
    "docs/benchmarks.md": {"SPEED": speed.speed, "RUNS": speed.runs},
    "docs/bundle.md": {"TOLERANCES": exactness.tolerances},
    "docs/precision.md": {
        "EVALUATION": exactness.evaluations,
        "QUANTISERS": exactness.quantisers,
        "ENGINES": speed.engines,
    },
    "docs/collections.md": {
        "COLLECTIONS": work.collections,
        "COSTS": work.costs,
        "GPU": work.cpus_for_gpus,
    },
    "docs/detectors.md": {"SPEED": speed.detectors},
    "docs/gpu.md": {"GPU": speed.gpu},
    "docs/provenance.md": {"CLAIMS": work.claims},
    "docs/report.md": {"REPORT": work.report_costs},
    "docs/serving.md": {"SERVING": work.serving_costs},
    "docs/steadiness.md": {"STEADINESS": exactness.steadiness_page},
    "docs/throughput.md": {"PIPELINE": speed.pipelines},
    "docs/views.md": {"DECODERS": work.decoders, "VIEWS": work.views},
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
        | CostsReport
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
    "costs": CostsReport,
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
