"""The pages' figures are those of the reports and of the code, and their links lead somewhere."""

from __future__ import annotations

import re
import runpy
import subprocess

import pytest
from conftest import ROOT
from glass_edge.export.detectors.registry import families

DOCS = runpy.run_path(str(ROOT / "tools" / "docs"))
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]


def test_make_docs_changes_nothing():
    stale = [
        str(path.relative_to(ROOT))
        for path, text in DOCS["documents"]().items()
        if path.read_text(encoding="utf-8") != text
    ]
    assert not stale, "run make docs"


def test_every_block_of_a_page_is_generated():
    for path in PAGES:
        named = set(re.findall(r"<!-- (?!/)(\S+) -->", path.read_text(encoding="utf-8")))
        assert named == set(DOCS["BLOCKS"].get(str(path.relative_to(ROOT)), ())), path


@pytest.mark.parametrize("page", ["", "<!-- A -->\n", "<!-- /A -->\n<!-- A -->\n"])
def test_a_block_needs_both_markers(page):
    with pytest.raises(ValueError, match="needs one <!-- A --> and one <!-- /A --> after it"):
        DOCS["with_blocks"](page, {"A": lambda: "text"})


def test_a_block_is_written_as_it_is():
    page = "before\n<!-- A -->\nold\n<!-- /A -->\nafter\n"
    found = DOCS["with_blocks"](page, {"A": lambda: r"1.23\* \1"})
    assert found == "before\n<!-- A -->\n1.23\\* \\1\n<!-- /A -->\nafter\n"


def test_the_largest_error_named_in_the_readme_is_the_reports():
    report = DOCS["read"]("views", DOCS["ViewsReport"])
    errors = [
        road.max_error
        for image in report.images
        for road in image.roads
        if road.name == "OpenCV INTER_LINEAR"
    ]
    sentence = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"moves the global view by up to {max(errors):.0f} grey levels" in sentence


def test_the_speeds_in_words_are_those_of_the_table():
    cells = [
        line.split("|") for line in DOCS["BLOCKS"]["docs/benchmarks.md"]["SPEED"]().splitlines()[2:]
    ]
    paper, best = ([float(row[column]) for row in cells] for column in (5, 6))
    sentence = " ".join((ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8").split())
    assert f"{min(paper)} to {max(paper)} times as fast as PyTorch as the paper" in sentence
    assert f"{min(best)} to {max(best)} times as fast as PyTorch at its best" in sentence


def anchors(path):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


def test_make_docs_is_a_target():
    done = subprocess.run(
        ["make", "--no-print-directory", "-n", "docs"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.strip().endswith("python tools/docs")


def test_the_page_of_detectors_has_a_row_for_every_family():
    page = (ROOT / "docs" / "detectors.md").read_text(encoding="utf-8")
    rows = {cells[1].strip(" `"): cells for cells in map(cells_of, page.splitlines()) if cells}
    for name, family in families().items():
        assert name in rows
        assert rows[name][-2].strip() in (family.licence, "yours")


def cells_of(line: str) -> list[str]:
    return line.split("|") if line.startswith("| `") else []
